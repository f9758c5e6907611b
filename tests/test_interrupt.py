"""Ctrl-C and a batch system's signals in a search of its own process: nothing that was reached is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from finished import Finished
from forked import ForkedPython
from optuna.trial import TrialState
from tiny import TinyConfig, expected_loss

pytestmark = pytest.mark.slow

EPOCHS = 300
FLAGS = (
    "--name", "cut", "--epochs", str(EPOCHS), "--trials", "2", "--scheduler", "none", "--presets", "fails,slow",
    "--max-concurrent", "1",
)  # fmt: skip


def start(storage: Path, *flags: str, **environment: str) -> subprocess.Popen[str]:
    """A search in a process group of its own."""
    command = [sys.executable, str(Path(__file__).parent / "alone.py"), "tiny", "--storage", str(storage)]
    return ForkedPython(
        [*command, *flags], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | {"TINY_EPOCH_SECONDS": "0.1", "ALONE_FORKS": "1"} | environment, start_new_session=True,
    )  # fmt: skip


def end(process: subprocess.Popen[str], seconds: float) -> str:
    """What it printed; no process of its group outlives the test."""
    try:
        return process.communicate(timeout=seconds)[0]
    finally:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()


def wait_for(folder: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline, "no checkpoint in 300 s"
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, list[psutil.Process]]:
    """A search interrupted while the third preset was in its epochs; Ray wants its token, as it does by default."""
    storage = tmp_path_factory.mktemp("cut")
    process = start(storage, *FLAGS, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="a-token-of-this-test-alone")
    wait_for(storage, "searches/cut/00001_*/checkpoint_00000[3-9]/state.pt", process)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    text = end(process, 180)
    return Finished(process.returncode, text, storage, "cut"), family


def test_the_exit_code_is_130(cut: tuple[Finished, list[psutil.Process]]) -> None:
    assert cut[0].code == 130, cut[0].text


def test_the_screen_says_what_happened_and_what_stays(cut: tuple[Finished, list[psutil.Process]]) -> None:
    done = cut[0]
    assert "slow: interrupted" in done.text
    assert str(done.folder) in done.text


def test_neither_a_failed_trial_nor_ctrl_c_shows_a_traceback(
    cut: tuple[Finished, list[psutil.Process]],
) -> None:
    assert "fails: failed (RuntimeError: the disk of this node is on fire) after epoch 0" in cut[0].text
    assert "Traceback" not in cut[0].text
    assert "\x1b[" not in cut[0].text


def test_the_message_says_how_to_go_on(cut: tuple[Finished, list[psutil.Process]]) -> None:
    *_, before, last = cut[0].text.splitlines()
    assert "Go on with:" in before
    assert last.startswith("python -m search.run tiny")
    assert last.endswith("--resume")
    assert "--name cut" in last


def test_every_run_is_closed(cut: tuple[Finished, list[psutil.Process]]) -> None:
    done = cut[0]
    assert done.parent.info.status in ("FINISHED", "KILLED")
    assert set(done.children) == {"fails", "slow"}
    assert {label: run.info.status for label, run in done.children.items()} == {
        "fails": "FAILED",
        "slow": "KILLED",
    }
    assert done.children["slow"].data.tags["outcome"] == "interrupted"


def test_the_study_knows_which_trial_was_interrupted(cut: tuple[Finished, list[psutil.Process]]) -> None:
    done = cut[0]
    slow = done.trials["slow"]
    assert slow.user_attrs["outcome"] == "interrupted"
    assert slow.state != TrialState.COMPLETE
    assert len(slow.intermediate_values) == done.rows["slow"]["epoch"]
    assert done.trials["fails"].state == TrialState.FAIL


def test_what_was_logged_stays_without_a_gap(cut: tuple[Finished, list[psutil.Process]]) -> None:
    done = cut[0]
    config, epochs = TinyConfig(x=0.1), done.rows["slow"]["epoch"]
    assert 3 <= epochs < EPOCHS
    assert done.curve("slow", "loss") == [
        (step, pytest.approx(expected_loss(config, step))) for step in range(1, epochs + 1)
    ]


def test_the_running_trial_left_a_checkpoint_of_its_last_epoch(
    cut: tuple[Finished, list[psutil.Process]],
) -> None:
    done = cut[0]
    state = max(done.folder.glob("00001_*/checkpoint_*/state.pt"))
    saved = torch.load(state, weights_only=True)
    assert saved["training"]["epoch"] in (done.rows["slow"]["epoch"], done.rows["slow"]["epoch"] - 1)


def test_nothing_is_left_running(cut: tuple[Finished, list[psutil.Process]]) -> None:
    _, alive = psutil.wait_procs(cut[1], timeout=60)
    assert alive == []


def test_with_rays_token_a_search_of_ones_own_machine_works(
    cut: tuple[Finished, list[psutil.Process]],
) -> None:
    """Pitfall 16: the fixture's Ray asks for a token."""
    assert cut[0].rows["slow"]["epoch"] > 0


@pytest.fixture(scope="module")
def resumed(cut: tuple[Finished, list[psutil.Process]]) -> Finished:
    """The same command again with --resume; the epochs now take no time."""
    process = start(cut[0].storage, *FLAGS, "--resume", TINY_EPOCH_SECONDS="0")
    text = end(process, 120)
    return Finished(process.returncode, text, cut[0].storage, "cut")


def test_resumed_trials_and_those_never_begun_are_all_run(resumed: Finished) -> None:
    assert resumed.code == 0, resumed.text
    assert set(resumed.children) == {"fails", "slow", "trial-002", "trial-003"}
    assert resumed.board["outcomes"] == {"failed": 1, "complete": 3}
    assert resumed.parent.info.status == "FINISHED"


def test_a_resumed_trial_is_one_run_and_one_trial_without_a_gap_or_a_repetition(
    cut: tuple[Finished, list[psutil.Process]], resumed: Finished
) -> None:
    before, config = cut[0].rows["slow"]["epoch"], TinyConfig(x=0.1)
    assert resumed.curve("slow", "loss") == [
        (step, pytest.approx(expected_loss(config, step))) for step in range(1, EPOCHS + 1)
    ]
    assert resumed.trials["slow"].state == TrialState.COMPLETE
    assert len(resumed.trials["slow"].intermediate_values) == EPOCHS
    assert resumed.children["slow"].info.status == "FINISHED"
    assert resumed.children["slow"].data.tags["outcome"] == "complete"
    went_on_at = {int(value) for _, value in resumed.curve("slow", "resumed_at")}
    assert went_on_at <= {0, before, before - 1}
    assert len(went_on_at) == 2  # from its checkpoint, not from the start


def test_after_a_resume_no_trial_is_open(resumed: Finished) -> None:
    assert all(trial.state.is_finished() for trial in resumed.study.get_trials())
    assert len(resumed.study.get_trials()) == 4


def test_a_finished_search_that_is_resumed_says_so_and_tells_its_result_again(resumed: Finished) -> None:
    """A batch script that is submitted twice ends well twice, and does nothing the second time."""
    before = (resumed.folder / "search.journal").read_text()
    process = start(resumed.storage, *FLAGS, "--resume")
    text = end(process, 180)
    assert process.returncode == 0, text
    assert "all its trials have ended; --trials +N adds more" in text
    assert "trial-003" in text
    assert "Traceback" not in text
    assert (resumed.folder / "search.journal").read_text() == before


def test_a_finished_search_is_not_begun_again(resumed: Finished) -> None:
    process = start(resumed.storage, *FLAGS)
    text = end(process, 180)
    assert process.returncode == 2, text
    assert "'cut' exists already" in text
    assert "--resume" in text


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> list[Finished]:
    """One search under three batch jobs of the same script: two are warned or ended, the third has time enough."""
    storage, done = tmp_path_factory.mktemp("batch"), []
    flags = ("--name", "job", "--epochs", "40", "--trials", "0", "--scheduler", "none", "--presets", "slow")
    for number, epoch in ((signal.SIGTERM, 3), (signal.SIGUSR1, 9)):
        process = start(storage, *flags, "--resume", "auto")
        wait_for(storage, f"searches/job/00000_*/checkpoint_00000{epoch}/state.pt", process)
        os.kill(process.pid, number)
        text = end(process, 180)
        done.append(Finished(process.returncode, text, storage, "job"))
    process = start(storage, *flags, "--resume", "auto", TINY_EPOCH_SECONDS="0")
    text = end(process, 120)
    return [*done, Finished(process.returncode, text, storage, "job")]


@pytest.mark.parametrize(("place", "name"), [(0, "SIGTERM"), (1, "SIGUSR1")])
def test_a_batch_systems_signal_leaves_a_search_that_can_go_on(batch: list[Finished], place: int, name: str) -> None:
    assert batch[place].code == 130, batch[place].text
    assert f"{name}: closing the running trials" in batch[place].text
    assert "slow: interrupted" in batch[place].text
    assert "Traceback" not in batch[place].text


def test_the_same_batch_script_goes_on_until_the_search_has_ended(batch: list[Finished]) -> None:
    done, config = batch[-1], TinyConfig(x=0.1)
    assert done.code == 0, done.text
    assert done.board["outcomes"] == {"complete": 1}
    assert done.curve("slow", "loss") == [(step, pytest.approx(expected_loss(config, step))) for step in range(1, 41)]
    assert len(set(done.curve("slow", "resumed_at"))) == 40
    assert len({value for _, value in done.curve("slow", "resumed_at")}) == 3
    assert {run.info.status for run in done.runs} == {"FINISHED"}


def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path) -> None:
    process = start(
        tmp_path, "--name", "twice", "--epochs", "1000", "--trials", "0", "--presets", "slow",
    )  # fmt: skip
    wait_for(tmp_path, "searches/twice/*/checkpoint_*/state.pt", process)
    os.kill(process.pid, signal.SIGINT)
    assert process.stdout is not None
    while "Ctrl-C to leave at once" not in (line := process.stdout.readline()):
        assert line, "it ended without a word"
    os.kill(process.pid, signal.SIGINT)
    text = end(process, 60)
    assert process.returncode == 130, text
    assert "Traceback" not in text
