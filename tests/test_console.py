"""Words are shown as people named things, cost nothing but themselves where they fail, and are not those of others."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from broken import wait_until
from rich.table import Table
from specs import spec_of
from tiny import TinyData, make_tiny
from written import Fate, write_search

import search.doctor
import search.promote
import search.report
import search.reporting.console
import search.run
from search.config.settings import Site
from search.engine.search_run import run_search
from search.reporting.console import SafeConsole, libraries_logged, open_console
from search.reporting.summary import ConsoleReporter

ODD = "/data/[old]/[/b]/:key:/x.root"


def test_lines_and_tables_show_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console = open_console()
    table = Table(ODD, title=ODD)
    table.add_row(ODD)
    console.print(table)
    console.print(ODD)
    assert capsys.readouterr().out.count(ODD) == 4


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (search.run.main, ["zdc", "--trials", "1", "--data", ODD]),
        (search.report.main, [ODD]),
        (search.promote.main, [ODD]),
        (search.doctor.main, ["--workload", ODD]),
    ],
)
def test_errors_show_it_too(
    command: Callable[[list[str]], int],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SEARCH_STORAGE", str(tmp_path))
    assert command(words) in (1, 2)
    assert ODD in capsys.readouterr().out


# ---------------------------------------------------------------- output that fails


@pytest.fixture(params=["closed pipe", "full disk", "closed file", "none"])
def failing(request: pytest.FixtureRequest) -> Iterator[io.TextIOWrapper | None]:
    """An output that cannot be written to."""
    if request.param == "none":
        yield None
        return
    if request.param == "closed pipe":
        reading, writing = os.pipe()
        os.close(reading)
        stream = os.fdopen(writing, "w")
    else:
        stream = Path("/dev/full").open("w")  # noqa: SIM115
    if request.param == "closed file":
        stream.close()
    yield stream
    stream.close()  # flushes, and must not raise


def test_what_cannot_be_printed_is_in_the_log(failing: io.TextIOWrapper | None, tmp_path: Path) -> None:
    console = SafeConsole(failing, width=80)
    console.print("before the log is open")
    console.log_file.open(tmp_path / "log", "python -m search.run zdc --storage s3://user:secret@host/x")
    console.print(Table("a table", title="its title"))
    console.stream("a part of a text")
    text = (tmp_path / "log").read_text()
    assert text.splitlines()[1] == "before the log is open"
    assert text.startswith("--- ")
    assert "a table" in text
    assert "secret" not in text


def test_an_output_that_takes_nothing_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.reporting.console._PATIENCE_S", 0.2)
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream, os.fdopen(reading, "rb", buffering=0) as reader:
        console = SafeConsole(stream, width=120)
        console.log_file.open(tmp_path / "log", "")
        lines = [f"{number} " + 100 * "x" for number in range(3_000)]
        before = time.monotonic()
        for line in lines:
            console.print(line)
        assert time.monotonic() - before < 30
        assert (tmp_path / "log").read_text().splitlines()[1:] == lines
        os.set_blocking(reading, False)
        while reader.read(1 << 16):
            pass
        console.print("read again")
        shown = reader.read(1 << 16) or b""
        assert b"is in the log" in shown
        assert shown.decode().split()[-2:] == ["read", "again"]


@pytest.mark.parametrize("stopped", ["Ctrl-S", "a window that hangs"])
def test_a_terminal_that_takes_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: str
) -> None:
    """It says that it has room as soon as it has some for a single character."""
    monkeypatch.setattr("search.reporting.console._PATIENCE_S", 0.2)
    keyboard, terminal = os.openpty()
    with os.fdopen(terminal, "w") as stream, os.fdopen(keyboard, "r+b", buffering=0) as window:
        console = SafeConsole(stream, width=120)
        console.log_file.open(tmp_path / "log", "")
        if stopped == "Ctrl-S":
            window.write(b"\x13")
        lines = [f"{number} " + 100 * "x" for number in range(1_000)]
        writer = threading.Thread(target=lambda: [console.print(line) for line in lines], daemon=True)
        writer.start()
        writer.join(60)
        held = writer.is_alive()
        os.set_blocking(keyboard, False)
        window.write(b"\x11")
        shown = _all_of(window)
        assert not held, "the search waits for its terminal"
        assert (tmp_path / "log").read_text().splitlines()[1:] == lines
        console.print("read again")
        shown += _all_of(window)
        assert b"is in the log" in shown
        assert shown.decode().split()[-2:] == ["read", "again"]
        assert os.get_blocking(terminal), "a setting that the shell would inherit"


def _all_of(window: io.RawIOBase) -> bytes:
    """Read what a terminal shows until nothing more comes."""
    shown, until = b"", time.monotonic() + 1
    while time.monotonic() < until:
        if part := window.read(1 << 16):
            shown, until = shown + part, time.monotonic() + 1
        time.sleep(0.01)
    return shown


def test_an_output_of_which_there_is_no_copy_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.reporting.console._PATIENCE_S", 0.2)
    reading, writing = os.pipe()
    text = 200_000 * "x"
    with os.fdopen(writing, "w") as stream:
        writer = threading.Thread(target=SafeConsole(stream).stream, args=(text,))
        writer.start()
        writer.join(1)
        assert writer.is_alive()
        read = 0
        while read < len(text):
            read += len(os.read(reading, 1 << 16))
        writer.join(30)
    os.close(reading)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_characters_that_the_output_cannot_spell_are_escaped(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "printed"
    with file.open("w", encoding=encoding) as stream:
        console = SafeConsole(stream, width=80)
        console.log_file.open(tmp_path / "log", "")
        console.print("Prüfung \u2192 \udcfc", soft_wrap=True)
    escaped = {"ascii": r"Pr\xfcfung \u2192 \udcfc", "latin-1": "Prüfung \\u2192 \\udcfc", "utf-8": "Prüfung → \\udcfc"}
    assert file.read_text(encoding=encoding).strip() == escaped[encoding]
    assert "Prüfung → \\udcfc" in (tmp_path / "log").read_text(encoding="utf-8")


def test_a_log_that_cannot_be_written_delays_nothing_and_loses_nothing(tmp_path: Path) -> None:
    printed = io.StringIO()
    console = SafeConsole(printed, width=80)
    console.log_file.open(tmp_path / "later" / "log", "")
    console.print("first")
    (tmp_path / "later").mkdir()
    console.print("second")
    assert printed.getvalue() == "first\nsecond\n"
    assert (tmp_path / "later" / "log").read_text().splitlines()[1:] == ["first", "second"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "output", "code"),
    [
        (["search.run", "--help"], "full disk", 0),
        (["search.run", "zdc", "--trails", "3"], "closed pipe", 2),
        (["search.report", "nothing"], "no output", 2),
        (["search.doctor", "--only", "disks"], "closed pipe", 0),
        (["trainables.zdc.simulate", "sample.root", "--events", "5"], "full disk", 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_whose_output_fails_has_its_usual_exit_code(
    words: list[str], output: str, code: int, tmp_path: Path
) -> None:
    findings = tmp_path / "findings.json"
    reading, pipe = os.pipe()
    os.close(reading)
    full = os.open("/dev/full", os.O_WRONLY)
    ended = subprocess.run(
        [sys.executable, "-m", *words, *(["--json", str(findings)] if words[0] == "search.doctor" else [])],
        env=os.environ | {"SEARCH_STORAGE": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1])},
        cwd=tmp_path, stdout=full if output == "full disk" else pipe, stderr=subprocess.STDOUT, timeout=300,
        preexec_fn=(lambda: [os.close(1), os.close(2)]) if output == "no output" else None, check=False,
    )  # fmt: skip
    os.close(pipe)
    os.close(full)
    if words[0] == "search.doctor":
        code = json.loads(findings.read_text())["exit_code"]
    assert ended.returncode == code
    assert "sample.root" not in words or (tmp_path / "sample.root").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code", "written"),
    [
        ("search.run zdc --trials 0 --presets none", 2, ""),  # whole searches: test_endings.py
        ("search.doctor --only machine disks --json findings.json", 0, "findings.json"),
        ("search.report one two", 0, "reports/one--two.html"),
        ("search.submit zdc --to slurm -- --name sent --storage /shared", 0, "sent.sbatch"),
        ("search.promote zdc --list", 0, "mlflow/mlflow.db"),
    ],
)
def test_a_reader_that_takes_one_line_changes_no_exit_code(
    command: str, code: int, written: str, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        write_search(tmp_path, name, [Fate(), Fate("diverged", epochs=1)])
    ended = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m {command} 2>&1 | head -1; exit ${{PIPESTATUS[0]}}"],
        env=os.environ | {"SEARCH_STORAGE": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1])},
        cwd=tmp_path, stdout=subprocess.PIPE, timeout=300, check=False, text=True,
    )  # fmt: skip
    assert len(ended.stdout.splitlines()) == 1
    if written == "findings.json":
        code = json.loads((tmp_path / written).read_text())["exit_code"]
    assert ended.returncode == code, ended.stdout
    assert not written or (tmp_path / written).stat().st_size > 0


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"])
def test_a_signal_ends_a_command_without_a_traceback(name: str) -> None:
    code = "import os, signal\nfrom search.reporting.console import run_command\n"
    code += f"run_command(lambda: os.kill(os.getpid(), signal.{name}) or 0)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, f"interrupted by {name}\n", "")


def test_a_signal_that_whoever_started_the_command_ignores_stays_ignored() -> None:
    code = "import os, signal\nfrom search.reporting.console import run_command\n"
    code += "run_command(lambda: os.kill(os.getpid(), signal.SIGHUP) or 7)"
    assert subprocess.run(["nohup", sys.executable, "-c", code], capture_output=True, check=False).returncode == 7


# ---------------------------------------------------------------- words of others, and silence


def test_what_libraries_log_is_in_the_log_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = logging.getLogger("a_library")
    printing = logging.StreamHandler(sys.stderr)
    library.addHandler(printing)
    library.propagate = False
    console = open_console()
    console.log_file.open(tmp_path / "log", "")
    with warnings.catch_warnings(), libraries_logged(console.log_file), libraries_logged(console.log_file):
        warnings.simplefilter("always")
        library.warning("migrating the tables")
        logging.getLogger("another").error("retrying")
        warnings.warn("deprecated", stacklevel=1)
        console.print("ours")
    assert capsys.readouterr() == ("ours\n", "")
    text = (tmp_path / "log").read_text()
    for words in ("a_library: migrating the tables", "another: retrying", "UserWarning: deprecated", "ours"):
        assert words in text
    assert (library.handlers, library.propagate) == ([printing], False)
    library.warning("as before")
    assert capsys.readouterr().err == "as before\n"


class Seen(io.StringIO):
    """An output that says when a text has been written to it."""

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 120
        while text not in self.getvalue():
            assert time.monotonic() < deadline, f"silence instead of: {text}"
            time.sleep(0.01)


class EnoughSeenError(Exception):
    """Ends a search before it needs Ray."""


def test_slow_steps_before_the_first_trial_say_what_they_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(search.reporting.console, "SLOW_S", 0.05)
    seen = Seen()

    def load_data(*_: object) -> TinyData:
        seen.wait_for("data     reading")
        return TinyData()

    def baselines(_: object) -> dict[str, dict[str, float]]:
        seen.wait_for("naive    computing")
        raise EnoughSeenError

    workload = replace(make_tiny(known={"x": 0.1}), load_data=load_data, baselines=baselines)
    site = Site(name="slow", storage=str(tmp_path), tracking_uri="journal")
    with pytest.raises(EnoughSeenError):
        run_search(spec_of(workload, site=site), SafeConsole(seen, width=120))


def test_a_fast_step_says_nothing() -> None:
    lines = io.StringIO()
    before = threading.active_count()
    with ConsoleReporter(SafeConsole(lines, width=80)).announcing("what is done at once"):
        pass
    wait_until(lambda: threading.active_count() <= before, "the timer ends")
    assert lines.getvalue() == ""
