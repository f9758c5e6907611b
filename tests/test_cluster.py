"""A real cluster of three hosts: searches are sent to it, a node dies under them, and nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from finished import Finished
from hosts import LOCAL, Host
from proxy import FaultyProxy, free_port
from ray_cluster import RayCluster, running_cluster
from server import MLFLOW
from zdc_files import flat_branches, showers, write

from search.cluster import ray_jobs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

EPOCHS, TRIALS = 15, 3
SMALL = (
    "--epochs", str(EPOCHS), "--trials", str(TRIALS), "--presets", "none", "--scheduler", "none",
    "--gpus-per-trial", "0", "--set", "hidden_dim=4", "gan=false", "batch_size=128", "--retries", "2",
)  # fmt: skip


@dataclass(frozen=True)
class Setup:
    """A running cluster and what its nodes share."""

    cluster: RayCluster
    folder: Path
    data: str

    @property
    def storage(self) -> Path:
        return self.folder / "results"

    def words(self, name: str, *more: str) -> list[str]:
        where = ["--address", self.cluster.address, "--", "--storage", str(self.storage), "--data", self.data]
        where += ["--cache", f"{LOCAL}/cache"]
        return ["zdc", "--to", "ray", *where, "--name", name, *SMALL, *more]

    def start(self, name: str, *more: str) -> subprocess.Popen[str]:
        """Submit, and stay to show the output."""
        how = {key: value for key, value in self.cluster.how.items() if key != "capture_output"}
        return subprocess.Popen(
            self.cluster.command(*self.words(name, *more)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **how
        )

    def about(self, do: str, id: str) -> str:
        done = self.cluster.submit(do, id, "--address", self.cluster.address)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@dataclass(frozen=True)
class Ran:
    """A search that has ended."""

    code: int
    text: str
    done: Finished
    killed: str = ""  # the host that died meanwhile

    @property
    def epochs_by_host(self) -> dict[str, int]:
        return _epochs_by_host(self.done.folder)


def _epochs_by_host(folder: Path) -> dict[str, int]:
    """As the journal has them; it says where a trial runs only when that changes."""
    counts, place = dict[str, int](), dict[int, str]()
    journal = folder / "search.journal"
    for line in journal.read_text().splitlines() if journal.exists() else ():
        entry = json.loads(line)
        if entry["event"] == "epoch_ended":
            place[entry["number"]] = entry.get("host") or place[entry["number"]]
            counts[place[entry["number"]]] = counts.get(place[entry["number"]], 0) + 1
    return counts


def wait(until: Callable[[], bool], what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, f"{what}: not in {seconds:g} s"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    """Data and their cache lie on the head's own disk, which no worker sees."""
    folder = tmp_path_factory.mktemp("cluster")
    data = write(folder / "zdc.root", "mytree", flat_branches("mytree", showers(3000)))
    with running_cluster(folder, workers=2) as cluster:
        cluster.run_job("mv", data, f"{LOCAL}/zdc.root")
        yield Setup(cluster, folder, f"{LOCAL}/zdc.root")


def _run_and_kill(setup: Setup, name: str, *more: str, doomed: Host) -> Ran:
    """One search, in the middle of which a node's power is cut."""
    folder = setup.storage / "searches" / name
    workers = {host.name for host in setup.cluster.workers}
    before = sum(_epochs_by_host(folder).values())

    def has_begun_everywhere() -> bool:
        epochs = _epochs_by_host(folder)
        return process.poll() is not None or (workers <= epochs.keys() and sum(epochs.values()) >= before + 6)

    with setup.start(name, *more) as process:
        try:
            wait(has_begun_everywhere, "epochs on all workers")
            doomed.kill()
            setup.cluster.workers.remove(doomed)
            text = process.communicate(timeout=600)[0]
        finally:
            process.kill()
    return Ran(process.returncode, text, Finished(0, text, setup.storage, name, "zdc"), doomed.name)


# --- one node dies


@pytest.fixture(scope="module")
def survivor(setup: Setup) -> Ran:
    return _run_and_kill(setup, "survivor", doomed=setup.cluster.workers[0])


def test_a_search_outlives_a_node(survivor: Ran) -> None:
    assert survivor.code == 0, survivor.text
    assert survivor.done.board["outcomes"] == {"complete": TRIALS}
    assert len(survivor.epochs_by_host) == 2
    assert survivor.epochs_by_host[survivor.killed] < TRIALS * EPOCHS / 2


def test_its_output_is_shown_while_it_runs_and_its_exit_code_is_passed_on(survivor: Ran) -> None:
    first = survivor.text.splitlines()[0]
    assert first.startswith("job      survivor.")
    assert "outcomes 3 complete" in survivor.text
    assert "Traceback" not in survivor.text


def _require_nothing_lost(done: Finished) -> None:
    """Each trial is one run and one trial of the study, with every epoch once."""
    assert len(done.children) == TRIALS
    assert {run.info.status for run in done.runs} == {"FINISHED"}
    for label, trial in done.trials.items():
        assert [step for step, _ in done.curve(label, "mse_high")] == list(range(1, EPOCHS + 1))
        assert trial.state.name == "COMPLETE"
        assert trial.values == [done.curve(label, "mse_high")[-1][1]]


def test_nothing_is_lost_and_nothing_is_there_twice(survivor: Ran) -> None:
    _require_nothing_lost(survivor.done)


def test_the_trial_of_the_dead_node_went_on_from_its_checkpoint(survivor: Ran) -> None:
    """The epochs before the last checkpoint were not trained again."""
    attempts = {label: run.data.tags.get("attempts") for label, run in survivor.done.children.items()}
    lines = (survivor.done.folder / "search.journal").read_text().splitlines()
    epochs = [json.loads(line) for line in lines if '"epoch_ended"' in line]
    seen: dict[int, list[int]] = {}
    for entry in epochs:
        seen.setdefault(entry["number"], []).append(entry["epoch"])
    for number, steps in seen.items():
        repeated = len(steps) - len(set(steps))
        assert repeated <= 3, (number, steps, attempts)


def test_no_token_is_in_anything_that_is_left(setup: Setup, survivor: Ran) -> None:
    token = setup.cluster.token.encode()
    assert token.decode() not in survivor.text
    for file in setup.storage.rglob("*"):
        assert not file.is_file() or token not in file.read_bytes(), file


@pytest.mark.filterwarnings("ignore:ssl=None is deprecated")  # Ray's client to aiohttp
@pytest.mark.parametrize("how", ["silent", "refused"])
def test_all_output_is_shown_where_the_stream_of_it_fails(
    setup: Setup, how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in setup.cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ray_jobs, "_STREAM_TIMEOUT_S", 1.0)
    job = setup.cluster.start_job("sh", "-c", "echo first; sleep 5; echo last; exit 3")
    with FaultyProxy(setup.cluster.address) as proxy:
        if how == "silent":
            proxy.hang(600, path="/logs/tail")
        else:
            proxy.answer_error(501, path="/logs/tail")  # as of a proxy that knows no websockets
        assert ray_jobs.JobServer(proxy.uri).follow(job, partial(print, end="", flush=True)) == 3
        assert proxy.faults[f"/api/jobs/{job}/logs/tail"] >= 2
    printed = capsys.readouterr().out.splitlines()  # among words of Ray's own
    assert [line for line in printed if line in ("first", "last")] == ["first", "last"]


def test_without_the_token_nothing_is_taken(setup: Setup, tmp_path: Path) -> None:
    wrong = dict(setup.cluster.how["env"])  # type: ignore[call-overload]
    for token in ("", "another"):
        mode = {"RAY_AUTH_TOKEN": token, "RAY_AUTH_MODE": "token" if token else "disabled", "HOME": str(tmp_path)}
        how = setup.cluster.how | {"env": wrong | mode}
        refused = subprocess.run(setup.cluster.command(*setup.words("thief")), timeout=120, check=False, **how)
        assert refused.returncode == 2, refused.stdout
        assert "refuses the token" in refused.stdout
        assert "Traceback" not in refused.stderr


# --- a tracking server that only the head reaches; stopped, gone on with, and one node dies again


@pytest.fixture(scope="module")
def server(setup: Setup) -> tuple[str, str]:
    """URI as the head sees it, and of its database."""
    port, database = free_port(), f"sqlite:///{setup.folder}/server.db"
    command = [*MLFLOW, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database, "--artifacts-destination", str(setup.folder / "served")]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    setup.cluster.start_on_head(command, "mlflow", quiet)
    setup.cluster.head.run([sys.executable, "-m", "search.cluster.node", "answers", f"127.0.0.1:{port}", "120"])
    return f"http://127.0.0.1:{port}", database


@pytest.fixture(scope="module")
def stopped(setup: Setup, server: tuple[str, str]) -> tuple[str, str, Ran]:
    """A search that was sent without waiting, asked for, and stopped in its epochs; what each of those said."""
    if len(setup.cluster.workers) < 2:
        setup.cluster.add_workers(1)
    words = setup.words("served", "--tracking-uri", server[0])
    sent = setup.cluster.submit(*words[:3], "--no-wait", *words[3:])
    assert sent.returncode == 0, sent.stdout + sent.stderr
    folder = setup.storage / "searches" / "served"
    wait(lambda: sum(_epochs_by_host(folder).values()) >= 6, "epochs")
    while_running = setup.about("status", "served")
    setup.about("stop", "served")
    wait(lambda: "RUNNING" not in setup.about("status", "served"), "its end")
    logs = setup.cluster.submit("logs", "served", "--address", setup.cluster.address)
    return (
        while_running,
        setup.about("status", "served"),
        Ran(logs.returncode, logs.stdout, Finished(0, logs.stdout, setup.storage, "served", "zdc", uri=server[1])),
    )


def test_status_and_stop_tell_what_becomes_of_a_job(stopped: tuple[str, str, Ran]) -> None:
    while_running, after, ran = stopped
    assert "RUNNING" in while_running
    assert "STOPPED" in after
    assert ran.code == 130
    assert "SIGTERM: closing the running trials" in ran.text
    assert "Go on with" in ran.text


@pytest.fixture(scope="module")
def served(setup: Setup, server: tuple[str, str], stopped: tuple[str, str, Ran]) -> Ran:
    """The same search again, with --resume; a node dies."""
    assert stopped
    ran = _run_and_kill(setup, "served", "--tracking-uri", server[0], "--resume", doomed=setup.cluster.workers[0])
    return Ran(ran.code, ran.text, Finished(0, ran.text, setup.storage, "served", "zdc", uri=server[1]), ran.killed)


def test_a_stopped_search_goes_on_outlives_a_node_and_a_server_of_the_head_alone_has_all_of_it(served: Ran) -> None:
    assert served.code == 0, served.text
    assert served.done.board["outcomes"] == {"complete": TRIALS}
    _require_nothing_lost(served.done)
    assert len(served.epochs_by_host) >= 2
    assert not (served.done.storage / "mlflow" / "artifacts" / "zdc" / served.done.parent.info.run_id).exists()


def test_what_is_not_there_is_named(setup: Setup, served: Ran) -> None:
    assert served
    missing = setup.cluster.submit("status", "nothing", "--address", setup.cluster.address)
    assert missing.returncode == 2
    assert "No job 'nothing'" in missing.stdout
    assert "served." in missing.stdout
