"""Laws of the doctor on a real cluster: a healthy one is ready, and each fault of a node is found there alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from hosts import Host, Network, require_ray, running_network
from server import MlflowServer
from test_checks import plant_version
from zdc_files import flat_branches, showers, write

import search.doctor

ROOT = Path(__file__).parents[1]
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
TOKEN = "0123456789abcdef" * 2
RAY = (sys.executable, "-c", "from ray.scripts.scripts import main; main()")
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}


@dataclass(frozen=True)
class Visit:
    """What the doctor said."""

    code: int
    text: str
    findings: list[dict[str, str]]

    @property
    def lines(self) -> list[str]:
        """Without those that say that a check takes long."""
        return [line for line in self.text.splitlines() if not re.fullmatch(r"checking \w+ \.\.\.", line)]

    def bad(self, what: str = "") -> list[dict[str, str]]:
        return [one for one in self.findings if one["level"] != "fine" and what in one["what"]]

    def the_one(self, what: str) -> dict[str, str]:
        (finding,) = self.bad(what)
        return finding


@dataclass(frozen=True)
class Practice:
    """A cluster whose head node the doctor visits."""

    network: Network
    folder: Path
    server: MlflowServer
    data: str

    @property
    def head(self) -> Host:
        return self.network.hosts[0]

    @property
    def address(self) -> str:
        return f"{self.head.address}:6379"

    def start(self, host: Host, words: str, environment: dict[str, str], *flags: str) -> None:
        """A raylet on a host, after some words of shell."""
        command = [*RAY, "start", f"--node-ip-address={host.address}", "--num-cpus=1", "--block", *flags]
        command += ["--object-store-memory=100000000", "--disable-usage-stats"]
        log = self.folder / f"{host.name}.log"
        process = host.start(["sh", "-c", f'{words} exec "$@"', "sh", *command], log, ENVIRONMENT | environment)
        process.wait_until(partial(require_ray, log), 120)

    def visit(self, *flags: str) -> Visit:
        """python -m search.doctor on the head node, among its processes."""
        report = self.folder / "findings.json"
        command = [sys.executable, "-m", "search.doctor", "--address", self.address, "--json", str(report)]
        command += ["--storage", str(self.folder / "results"), "--data", self.data, "--tracking-uri", self.server.uri]
        first = self.head._processes[0]._process.pid
        inside = next(child for child in psutil.Process(first).children(recursive=True) if child.name() == "sh")
        enter = ["nsenter", "--target", str(inside.pid), "--net", "--pid", "--mount", "--uts"]
        enter.append(f"--wd={self.folder / 'elsewhere'}")
        done = subprocess.run(
            [*enter, *command, *flags],
            env={**os.environ, **ENVIRONMENT, "COLUMNS": "80"},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        print(done.stdout)  # pytest shows it beside a test that fails
        assert "Traceback" not in done.stdout + done.stderr
        return Visit(done.returncode, done.stdout, json.loads(report.read_text())["findings"])


@pytest.fixture(scope="module")
def practice() -> Iterator[Practice]:
    """A head node with a dashboard that it shows to everybody, and a host that is no node yet."""
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:  # a short name: Ray's sockets are in it
        yield from _practice(Path(folder))


def _practice(folder: Path) -> Iterator[Practice]:
    for name in ("results", "elsewhere", "data"):
        (folder / name).mkdir()
    file = write(folder / "data" / "a.root", "mytree", flat_branches("mytree", showers()))
    with running_network(2) as network:
        command = ["server", "--host", network.gateway, "--port", "{port}", "--workers", "1", "--allowed-hosts", "*"]
        command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", "{folder}/a"]
        server = MlflowServer(folder / "server", "", command=command)
        server.uri = f"http://{network.gateway}:{server.port}"
        try:
            server.start()
            made = Practice(network, folder, server, file)
            flags = ["--head", "--port=6379", "--include-dashboard=true", "--dashboard-host=0.0.0.0"]
            made.start(made.head, "", {}, *flags, f"--temp-dir={folder}/ray")
            yield made
        finally:
            server.kill()


@pytest.fixture(scope="module")
def healthy(practice: Practice) -> Visit:
    return practice.visit()


@pytest.fixture(scope="module")
def ailing(practice: Practice, healthy: Visit) -> tuple[Visit, str]:
    """A visit after a node has joined that has everything at once; and the name of that node."""
    assert healthy.code == search.doctor.FINE, healthy.text
    planted, sick = practice.folder / "planted", practice.network.hosts[1]
    planted.mkdir()
    plant_version(planted, "pydantic", "2.5.0")
    (planted / "mlflow").mkdir()
    (planted / "mlflow" / "__init__.py").touch()
    for name in ("search", "spaces", "trainables"):
        shutil.copytree(ROOT / name, planted / name, ignore=shutil.ignore_patterns("__pycache__", "sample"))
    changed = planted / "trainables" / "data" / "files.py"
    changed.write_text(changed.read_text() + "# changed\n")
    words = "ulimit -n 2000 && export OMP_NUM_THREADS=1000 &&"
    words += f"mount -t tmpfs -o size=2m tmpfs {practice.folder}/results &&"
    words += f"mount -t tmpfs tmpfs {practice.folder}/data &&"
    words += f"ip route add unreachable {practice.network.gateway} &&"
    environment = {"PYTHONPATH": str(planted)}
    if FAKETIME.exists():  # which is of no use to what runs before Ray
        words += f"export LD_PRELOAD={FAKETIME} FAKETIME=+90s;"
    practice.start(sick, words, environment, f"--address={practice.address}", "--num-gpus=1")
    return practice.visit(), sick.name


# --- a cluster that is ready


@pytest.mark.slow
def test_a_healthy_cluster_is_ready(healthy: Visit) -> None:
    assert not [one for one in healthy.bad() if one["check"] != "ports"], healthy.text
    assert healthy.code == search.doctor.FINE
    assert healthy.lines[-1].startswith("ready, ")
    reported = " ".join(healthy.lines)
    for words in (
        "Ray refuses connections without one",
        "the same code, Python",
        "can be written and read, here and on 1 node",
        "read as zdc here and on 1 of 1 nodes",
        "may be read; no experiment of ours is there yet",
        "reached from 1 of 1 nodes",
        "one epoch of zdc on 1 node (CPU)",
        "answers, and asks for the token",
    ):
        assert words in reported


@pytest.mark.slow
def test_each_finding_is_one_line_of_the_log(healthy: Visit) -> None:
    assert healthy.lines[0].startswith("fine     cluster: at ")
    assert len(healthy.lines) == len(healthy.findings) + 1
    assert all(re.match("(fine|warning|wrong) +[A-Za-z]", line) for line in healthy.lines[:-1])


@pytest.mark.slow
def test_nothing_is_left_in_the_storage(practice: Practice, ailing: tuple[Visit, str]) -> None:
    assert ailing
    assert list((practice.folder / "results").iterdir()) == []


@pytest.mark.slow
def test_a_dashboard_that_is_shown_to_everybody_is_reported(practice: Practice, healthy: Visit) -> None:
    reported = healthy.the_one("dashboard")
    assert reported["level"] == "warning"
    assert practice.head.name in reported["what"]
    assert "0.0.0.0:8265" in reported["found"]


# --- tokens


@pytest.mark.slow
@pytest.mark.parametrize(
    ("token", "mode", "found"),
    [("f" * 32, "token", "is refused"), ("", "token", "no token on this machine"), ("", "disabled", "none is sent")],
)
def test_a_token_that_is_wrong_or_missing_is_reported_as_such(
    practice: Practice,
    healthy: Visit,
    token: str,
    mode: str,
    found: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    assert healthy
    began = time.monotonic()
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray looks for one besides
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    code, findings = visit_from_here(tmp_path, "--address", practice.address, "--only", "cluster")
    (reported,) = findings
    assert code == search.doctor.WRONG
    assert reported["level"] == "wrong"
    assert found in reported["found"]
    assert "auth_token" in reported["fix"]
    assert not token or token not in json.dumps(findings)
    assert time.monotonic() - began < 200


@pytest.mark.slow
def test_the_job_server_is_asked_with_the_token(
    practice: Practice, healthy: Visit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert healthy
    address = f"http://{practice.head.address}:8265"
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    code, findings = visit_from_here(tmp_path, "--address", address, "--only", "cluster")
    assert code == search.doctor.FINE
    assert "takes jobs from here" in findings[0]["found"]
    assert "--address auto" in findings[1]["fix"]
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 32)
    code, findings = visit_from_here(tmp_path, "--address", address, "--only", "cluster")
    assert code == search.doctor.WRONG
    assert "refuses the token" in findings[0]["found"]


def visit_from_here(folder: Path, *flags: str) -> tuple[int, list[dict[str, str]]]:
    """In this process, which never joins."""
    report = folder / "findings.json"
    code = search.doctor.main([*flags, "--storage", str(folder), "--json", str(report)])
    return code, json.loads(report.read_text())["findings"]


@pytest.mark.slow
def test_a_ray_that_asks_for_no_token_is_reported(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "search.doctor", "--only", "cluster", "--storage", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        words, env=environment | {"RAY_AUTH_MODE": "disabled"}, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == search.doctor.WRONG, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("wrong")]
    assert "takes commands from anybody" in line
    assert "unset RAY_AUTH_MODE" in line


# --- a node that has everything


@pytest.mark.slow
def test_the_healthy_node_is_not_accused(practice: Practice, ailing: tuple[Visit, str]) -> None:
    visit, sick = ailing
    assert visit.code == search.doctor.WRONG
    assert not [one for one in visit.bad() if one["check"] != "ports" and practice.head.name in json.dumps(one)]
    silent = [one for one in visit.bad() if sick not in one["what"] and one["check"] != "ports"]
    assert not silent, visit.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "level", "found", "fix"),
    [
        ("open files of {}", "warning", "at most 2000", "ulimit -n"),
        ("OMP_NUM_THREADS on {}", "warning", "more threads", "unset"),
        ("the project on {}", "wrong", "code ", "pip install"),
        ("pydantic on {}", "wrong", "2.5.0", "pip install"),
        ("import mlflow on {}", "wrong", "planted/mlflow", "PYTHONPATH"),
        ("GPUs of {}", "wrong", "1 for Ray, 0 for torch", "--num-gpus 0"),
        ("results on {}", "wrong", "another folder of that name", "mount"),
        ("storage of {}", "wrong", "2.1 MB free of 2.1 MB", "--storage"),
        (
            "data on {}",
            "warning",
            r"a.root: cannot be read \(No such file",
            "only the head reads them",
        ),
        ("tracking from {}", "warning", "no way to http://", "an address that the nodes reach"),
        ("trial of zdc on {}", "wrong", "CUDA|NVIDIA", "ray logs"),
    ],
)
def test_each_fault_of_a_node_is_found(ailing: tuple[Visit, str], what: str, level: str, found: str, fix: str) -> None:
    visit, sick = ailing
    reported = visit.the_one(what.format(sick))
    assert reported["level"] == level
    assert re.search(found, reported["found"])
    assert fix in reported["fix"]


@pytest.mark.slow
@pytest.mark.skipif(not FAKETIME.exists(), reason="libfaketime is not installed: apt-get install libfaketime")
def test_a_clock_that_is_ahead_is_found(ailing: tuple[Visit, str]) -> None:
    visit, sick = ailing
    reported = visit.the_one(f"clock of {sick}")
    assert reported["level"] == "wrong"
    assert reported["found"] == "90.0 s ahead of this machine"
    assert "within" in next(one["found"] for one in visit.findings if one["what"] == "clocks")


# --- the command


@pytest.mark.parametrize(
    ("flags", "reported"),
    [
        (["--workload", "zcd"], "There are: zdc, pt-energy"),
        (["--time-limit", "5 minutes"], "90s, 30m, 1h30m or 2d"),
        (["--only", "stoarge"], "storage"),
        (["--cpus-per-trial", "0"], "expected a number above 0"),
        (["--adress", "auto"], "--address"),
        (["--json", "/proc/findings.json"], "cannot be written"),
    ],
)
def test_wrong_words_end_with_code_2(flags: list[str], reported: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: Any = search.doctor.main(flags)
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    assert code == search.doctor.WRONG_USAGE
    assert reported in re.sub(r"[\s│╭╮╰╯─]+", " ", out + err)


def test_a_log_hears_of_a_check_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from search.diagnostics.console import FindingPrinter
    from search.diagnostics.finding import fine

    monkeypatch.setattr("search.reporting.console.SLOW_S", 0.2)
    console = Console(force_terminal=False, width=60, record=True)
    printer = FindingPrinter(console)
    printer.show_status("clocks")
    printer.show_status("a [cluster] whose nodes are slow to answer, as far as anybody can tell")
    time.sleep(1)
    printer.print(fine("cluster", "it answers"))
    printer.print_summary()
    assert console.export_text().splitlines() == [
        "checking a [cluster] whose nodes are slow to answer, as far as anybody can tell ...",
        "fine     cluster: it answers",
        "ready, 1 fine",
    ]


def test_a_terminal_gets_each_finding_in_a_column() -> None:
    from rich.console import Console

    from search.diagnostics.console import FindingPrinter
    from search.diagnostics.finding import fine, wrong

    console = Console(force_terminal=True, width=60, record=True, color_system=None)
    printer = FindingPrinter(console)
    printer.show_status("clocks")
    printer.print(fine("clocks", "within 0.01 s of this machine on 2 of 2 nodes, which is rather good"))
    printer.print(wrong("clock of node2", "90.0 s ahead", "less than 1 s", "chronyc makestep [there]"))
    printer.print_summary()
    lines = [line.rstrip() for line in console.export_text().splitlines() if line.strip()]
    assert lines[0].startswith("fine     clocks: within")
    assert lines[1].startswith("         ")
    assert "         fix: chronyc makestep [there]" in lines
    assert lines[-1] == "1 wrong, 1 fine"
