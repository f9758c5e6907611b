"""Whatever ends a driver leaves its trials for a resume; output that fails ends nothing."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import sys
import termios
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from broken import REPEATABLE, Alone, entries, kill, require_nothing_lost, wait_until
from finished import Finished
from optuna.trial import TrialState

from search.tracking.events import EventRecorder, StagedFiles

pytestmark = pytest.mark.slow

TRIALS, EPOCHS = 3, 8


def start(storage: Path, name: str, output: Any, *flags: str, **environment: str) -> subprocess.Popen[bytes]:
    """A search whose words go to a file or a pipe that may fail."""
    command = [sys.executable, str(Path(__file__).parent / "alone.py"), "tiny", "--storage", str(storage)]
    return subprocess.Popen(
        [*command, "--name", name, *REPEATABLE, *flags],
        stdout=output,
        stderr=subprocess.STDOUT,
        env=os.environ | environment,
        start_new_session=True,
    )


def log_of(done: Finished) -> str:
    return (done.folder / "search.log").read_text()


# ---------------------------------------------------------------- output that fails


@pytest.mark.parametrize("output", ["closed pipe", "full disk", "ascii", "view"])
def test_a_search_whose_output_fails_ends_well_and_its_log_has_every_word(output: str, tmp_path: Path) -> None:
    storage = tmp_path / ("Prüfung" if output == "ascii" else "here")
    spelled = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"} if output == "ascii" else {}
    broken = {"ALONE_FAULT": "view"} if output == "view" else {}
    printed = Path("/dev/full") if output == "full disk" else tmp_path / "printed"
    with printed.open("ab") as file:
        target: int | BinaryIO = subprocess.PIPE if output == "closed pipe" else file
        life = start(storage, "deaf", target, "--trials", "2", "--epochs", "3", **spelled, **broken)
    if life.stdout is not None:
        life.stdout.readline()
        life.stdout.close()  # as ``| head -1`` does
    try:
        life.wait(300)
    finally:
        if life.poll() is None:
            kill(life)
    done = Finished(life.returncode, "", storage, "deaf")
    words = log_of(done)
    assert done.code == 0, words
    require_nothing_lost(done, 2, 3)
    assert "search   deaf: tiny" in words
    assert "outcomes 2 complete" in words
    assert str(done.folder / "report.html") in words
    if output == "ascii":
        assert r"Pr\xfcfung" in printed.read_text()
    if output == "view":
        assert "KeyError: 'the view'" in words
        assert "KeyError" not in printed.read_text()


# ---------------------------------------------------------------- other ends of the driver


@dataclass(frozen=True)
class Ended:
    """What one life has left."""

    code: int
    printed: str
    log: str
    board: dict[str, Any]
    status: dict[str, str]  # of the runs, by name
    states: list[TrialState]
    epochs: int  # of the trial that ran

    @classmethod
    def of(cls, done: Finished, printed: str) -> Ended:
        status = {run.info.run_name: run.info.status for run in done.runs}
        states = [trial.state for trial in done.study.get_trials()]
        return cls(done.code, printed, log_of(done), done.board, status, states, done.rows["trial-001"]["epoch"])


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    return Alone(tmp_path_factory.mktemp("ends"), "ends", TRIALS, EPOCHS)


@pytest.fixture(scope="module")
def lives(search: Alone) -> dict[str, Ended]:
    """One search, ended in its second trial: a listener raises, the interpreter is left, the terminal closes."""
    lives = {}
    for fault in ("KeyError:1:2", "SystemExit:1:4"):
        life = Alone(search.storage, search.name, TRIALS, EPOCHS, environment={"ALONE_FAULT": fault}).start(
            *(["--resume"] if lives else []), epoch_s=0.02
        )
        done = search.end(life)
        lives[fault.partition(":")[0]] = Ended.of(done, done.text)
    lives["closed terminal"] = Ended.of(closed_terminal(search), "")
    return lives


def closed_terminal(search: Alone) -> Finished:
    """The next life, in a terminal that closes after some epochs: SIGHUP for its processes, EIO for its words."""
    ours, theirs = pty.openpty()
    before = entries(search.journal)
    life = subprocess.Popen(
        [
            sys.executable, str(Path(__file__).parent / "alone.py"), "tiny", "--storage", str(search.storage),
            "--name", search.name, "--trials", str(TRIALS), "--epochs", str(EPOCHS), *REPEATABLE, "--resume",
        ],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env=os.environ | {"TINY_EPOCH_SECONDS": "0.5", "TERM": "xterm"},
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # no thread runs here
    )  # fmt: skip
    os.close(theirs)
    with Drained(ours):
        wait_until(lambda: life.poll() is not None or entries(search.journal) >= before + 5, "an epoch in the terminal")
    return search.end(life)


class Drained:
    """Reads what a terminal shows, so that nothing waits for that; closes the terminal at the end."""

    def __init__(self, terminal: int) -> None:
        self._reader = subprocess.Popen(["cat"], stdin=terminal, stdout=subprocess.DEVNULL)
        os.close(terminal)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self._reader.kill()
        self._reader.wait()


@pytest.mark.parametrize(("end", "code"), [("KeyError", 1), ("SystemExit", 7), ("closed terminal", 130)])
def test_what_has_not_ended_is_interrupted_everywhere(lives: dict[str, Ended], end: str, code: int) -> None:
    life = lives[end]
    assert life.code == code, life.printed + life.log
    assert life.board["outcomes"] == {"complete": 1, "interrupted": 1}
    assert life.status == {"ends": "KILLED", "trial-000": "FINISHED", "trial-001": "KILLED"}
    assert life.states == [TrialState.COMPLETE, TrialState.RUNNING]


@pytest.mark.parametrize("end", ["KeyError", "SystemExit", "closed terminal"])
def test_the_command_that_resumes_it_is_the_last_word(lives: dict[str, Ended], end: str) -> None:
    life = lives[end]
    words = life.printed or life.log
    _, _, last = words.rpartition("Go on with:\n")
    assert last.startswith("python -m search.run tiny")
    assert last.splitlines()[0].endswith("--resume")
    assert "Go on with:" in life.log


def test_each_life_has_gone_on_where_the_last_one_ended(lives: dict[str, Ended]) -> None:
    assert lives["KeyError"].epochs == 2
    assert lives["SystemExit"].epochs == 4
    assert 4 < lives["closed terminal"].epochs < EPOCHS


def test_only_an_exception_that_is_a_fault_of_ours_shows_a_traceback(lives: dict[str, Ended]) -> None:
    assert "Traceback" in lives["KeyError"].printed
    assert "Traceback" not in lives["SystemExit"].printed
    assert "KeyError" in lives["KeyError"].log


def test_the_last_life_has_every_epoch_once(search: Alone, lives: dict[str, Ended]) -> None:
    assert len(lives) == 3
    done = search.end(search.start("--resume"))
    assert done.code == 0, done.text
    require_nothing_lost(done, TRIALS, EPOCHS)


# ---------------------------------------------------------------- a signal before the first trial, and after the last


@pytest.fixture(scope="module")
def struck(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, dict[str, str]]]:
    """Four lives of one search: a signal as soon as its run is in MLflow, a moment later, at its figures; none."""
    search, lives = Alone(tmp_path_factory.mktemp("struck"), "struck", 1, 2), {}
    for fault in ("SIGTERM@open_event_log", "SIGUSR1@_log_start", "SIGHUP@_draw", ""):
        life = Alone(search.storage, search.name, 1, 2, environment={"ALONE_FAULT": fault})
        done = life.end(life.start(*(["--resume"] if lives else [])))
        status = {run.info.run_name: run.info.status for run in done.runs}
        lives[fault.partition("@")[0]] = (done.code, done.text, status)
    return lives


@pytest.mark.parametrize(("end", "trials"), [("SIGTERM", {}), ("SIGUSR1", {}), ("SIGHUP", {"trial-000": "FINISHED"})])
def test_a_signal_outside_the_trials_leaves_a_search_that_is_closed_in_mlflow_and_goes_on(
    struck: dict[str, tuple[int, str, dict[str, str]]], end: str, trials: dict[str, str]
) -> None:
    code, text, status = struck[end]
    assert code == 130, text
    assert status == {"struck": "KILLED"} | trials
    assert "Traceback" not in text
    assert text.rstrip().endswith("--resume")
    assert struck[""][0] == 0, struck[""][1]
    assert struck[""][2] == {"struck": "FINISHED", "trial-000": "FINISHED"}


def test_what_a_finished_search_could_not_export_at_its_end_is_exported_by_a_resume(tmp_path: Path) -> None:
    search = Alone(tmp_path, "late", 1, 1)
    done = search.end(search.start())
    events = EventRecorder(search.journal, StagedFiles(done.folder))
    events.log_text("as if it had been killed before this was exported", "late.txt")
    events.search_ended("FINISHED")
    assert "late.txt" not in done.files(done.parent)
    again = search.end(search.start("--resume"))
    assert again.code == 0, again.text
    assert "all its trials have ended" in again.text
    assert "late.txt" in again.files(again.parent)
