"""Ctrl-C in a search of its own process, as a terminal sends it: nothing that was reached is lost."""

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
from optuna.trial import TrialState
from tiny import TinyConfig, expected_loss

pytestmark = pytest.mark.slow

EPOCHS = 10_000


def start(storage: Path, *flags: str, **environment: str) -> subprocess.Popen[str]:
    """A search in a process group of its own."""
    command = [sys.executable, str(Path(__file__).parent / "alone.py"), "tiny", "--storage", str(storage)]
    return subprocess.Popen(
        [*command, *flags], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | environment, start_new_session=True,
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
    deadline = time.monotonic() + 90
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline, "no checkpoint in 90 s"
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, list[psutil.Process]]:
    """A search interrupted while the third preset was in its epochs; Ray wants its token, as it does by default."""
    storage = tmp_path_factory.mktemp("cut")
    process = start(
        storage, "--name", "cut", "--epochs", str(EPOCHS), "--trials", "3", "--scheduler", "none",
        "--presets", "fails,slow", "--max-concurrent", "1", "--set", "epoch_seconds=0.05",
        RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="a-token-of-this-test-alone",
    )  # fmt: skip
    wait_for(storage, "searches/cut/00001_*/checkpoint_00000[3-9]/state.pt", process)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    text = end(process, 60)
    return Finished(process.returncode, text, storage, "cut"), family


def test_the_exit_code_is_130(cut: tuple[Finished, list[psutil.Process]]) -> None:
    assert cut[0].code == 130, cut[0].text


def test_the_screen_says_what_happened_and_what_stays(cut: tuple[Finished, list[psutil.Process]]) -> None:
    done = cut[0]
    assert "slow: stopped early (interrupted) after epoch" in done.text
    assert "interrupted: " in done.text.splitlines()[-1]
    assert str(done.folder) in done.text


def test_neither_a_failed_trial_nor_ctrl_c_shows_a_traceback(
    cut: tuple[Finished, list[psutil.Process]],
) -> None:
    assert "fails: failed (RuntimeError: the disk of this node is on fire) after epoch 0" in cut[0].text
    assert "Traceback" not in cut[0].text
    assert "\x1b[" not in cut[0].text


def test_the_message_says_how_to_go_on(cut: tuple[Finished, list[psutil.Process]]) -> None:
    last = cut[0].text.splitlines()[-1]
    assert "go on" in last or "continue" in last


def test_every_run_is_closed(cut: tuple[Finished, list[psutil.Process]]) -> None:
    done = cut[0]
    assert done.parent.info.status in ("FINISHED", "KILLED")
    assert set(done.children) == {"fails", "slow"}
    assert {label: run.info.status for label, run in done.children.items()} == {
        "fails": "FAILED",
        "slow": "KILLED",
    }
    assert done.children["slow"].data.tags["outcome"] == "stopped_early"
    assert done.children["slow"].data.tags["reason"] == "interrupted"


def test_no_trial_of_the_study_is_left_open(cut: tuple[Finished, list[psutil.Process]]) -> None:
    done = cut[0]
    trials = [trial for trial in done.study.get_trials() if trial.state != TrialState.WAITING]
    assert all(trial.state.is_finished() for trial in trials)
    slow = done.trials["slow"]
    assert slow.state == TrialState.PRUNED
    assert slow.user_attrs["reason"] == "interrupted"
    assert len(slow.intermediate_values) == done.rows["slow"]["epoch"]


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
    _, alive = psutil.wait_procs(cut[1], timeout=20)
    assert alive == []


def test_with_rays_token_a_search_of_ones_own_machine_works(
    cut: tuple[Finished, list[psutil.Process]],
) -> None:
    """Pitfall 16: the fixture's Ray asks for a token."""
    assert cut[0].rows["slow"]["epoch"] > 0


def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path) -> None:
    process = start(
        tmp_path, "--name", "twice", "--epochs", "1000", "--trials", "0", "--presets", "slow",
        "--set", "epoch_seconds=0.2",
    )  # fmt: skip
    wait_for(tmp_path, "searches/twice/*/checkpoint_*/state.pt", process)
    os.kill(process.pid, signal.SIGINT)
    assert process.stdout is not None
    while "Ctrl-C again" not in (line := process.stdout.readline()):
        assert line, "it ended without a word"
    os.kill(process.pid, signal.SIGINT)
    text = end(process, 20)
    assert process.returncode == 130, text
    assert "Traceback" not in text
