"""Laws of figures that are drawn beside the trials: they arrive, once, for the trials that are kept."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pyarrow import fs

from search.reporting.draw_pool import DrawPool
from search.reporting.draw_process import DrawProcess
from search.reporting.trial_figures import TrialFigures
from search.storage.event_log import read_entries
from search.storage.history import SearchHistory
from search.storage.location import StoragePath, local_path
from search.storage.names import EVENT_LOG
from search.storage.trial_record import TrialRecord
from search.tracking.events import EventRecorder, StagedFiles
from search.workloads import WORKLOADS
from trainables.base.checkpoint import FIGURE_DATA, REPORT_ERROR, REPORT_FOLDER
from trainables.zdc.config import ZDCConfig
from trainables.zdc.simulate import simulate_data
from trainables.zdc.train import ZDCTraining

FIGURES = {"mse_vs_energy.png", "masks.png", "input_distributions.png", "losses.png", "excess_by_epoch.png"}
TABLES = {"mse_vs_energy.csv", "losses.csv", "excess_by_epoch.csv"}


@pytest.fixture(scope="module")
def training() -> ZDCTraining:
    torch.set_num_threads(1)
    config = ZDCConfig(hidden_dim=4, batch_size=64, epochs=2, gan=False)
    training = ZDCTraining(config, simulate_data(500, 1), torch.device("cpu"))
    training.train_epoch()
    training.validate()
    return training


class Searching:
    """A search's folder in which trials end, and what draws their figures."""

    def __init__(self, folder: Path, training: ZDCTraining, pool: DrawPool) -> None:
        self.folder, self.training, self.pool, self.lines = folder, training, pool, list[str]()
        self.lost: set[int] = set()
        self.events = EventRecorder(folder / EVENT_LOG, StagedFiles(folder))
        self.begin()

    def begin(self, *known: TrialRecord) -> None:
        self.figures = TrialFigures(self.pool, self.events, self.lines.append)
        self.figures.follow(lambda trial: trial.number not in self.lost, known)

    def trial(self, number: int, preset: str | None = None) -> TrialRecord:
        """Let a trial write its checkpoint, as it does after its last epoch."""
        checkpoint = self.folder / f"{number:05d}_abc" / "checkpoint_000001"
        (checkpoint / REPORT_FOLDER).mkdir(parents=True)
        self.training.write_tables(checkpoint / REPORT_FOLDER)
        place = StoragePath(fs.LocalFileSystem(), str(checkpoint))
        return TrialRecord("abc", number, preset, {}, 2, 0.0, outcome="complete", epoch=2, checkpoint=place)

    def end(self, number: int, preset: str | None = None) -> TrialRecord:
        trial = self.trial(number, preset)
        self.figures.trial_ended(trial)
        return trial

    def report(self, trial: TrialRecord) -> set[str]:
        assert trial.checkpoint is not None
        return {path.name for path in Path(trial.checkpoint.path, REPORT_FOLDER).iterdir()}

    def exported(self, trial: TrialRecord) -> set[str]:
        """Return what the event log has of the trial's report for MLflow."""
        found = set[str]()
        for entry in read_entries(self.folder / EVENT_LOG):
            if entry.event == "files" and entry.content["number"] == trial.number:
                folder = self.folder / "outbox" / entry.content["parcel"]
                found |= {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        return found


class _Shared(DrawPool):
    """A pool for several searches, because its process takes seconds to start."""

    def close(self) -> None:
        """Stay open."""


@pytest.fixture(scope="module")
def pool() -> Iterator[DrawPool]:
    shared = _Shared(WORKLOADS["zdc"])
    yield shared
    DrawPool.close(shared)


@pytest.fixture
def one(tmp_path: Path, training: ZDCTraining, pool: DrawPool) -> Searching:
    return Searching(tmp_path, training, pool)


def test_a_trial_leaves_its_tables_and_what_its_figures_show_beyond_them(one: Searching) -> None:
    assert one.report(one.trial(1)) == TABLES | {FIGURE_DATA}


def test_figures_come_into_the_checkpoint_and_to_mlflow_for_the_trials_that_are_kept(one: Searching) -> None:
    one.lost = {2, 3}
    kept, lost, preset = one.end(1), one.end(2), one.end(3, "test26-lr4")
    one.figures.finish()
    assert one.report(kept) == TABLES | FIGURES
    assert one.exported(kept) == one.exported(preset) == {f"{REPORT_FOLDER}/{name}" for name in FIGURES}
    assert one.report(lost) == TABLES | {FIGURE_DATA}
    assert one.exported(lost) == set()
    assert one.report(preset) == TABLES  # its place in the checkpoint is lost
    assert one.lines == []


def test_they_are_the_pictures_that_the_whole_report_has(one: Searching, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    one.training.write_report(whole)
    trial = one.end(1)
    one.figures.finish()
    assert trial.checkpoint is not None
    assert {path.name for path in whole.iterdir()} == TABLES | FIGURES
    for file in whole.iterdir():
        assert file.read_bytes() == Path(trial.checkpoint.path, REPORT_FOLDER, file.name).read_bytes(), file.name


def test_what_a_search_that_ended_has_not_drawn_the_next_one_draws_and_nothing_twice(one: Searching) -> None:
    trial = one.trial(1)
    one.figures.close()
    one.begin(trial)
    one.figures.finish()
    assert one.report(trial) == TABLES | FIGURES
    entries = sum(1 for _ in read_entries(one.folder / EVENT_LOG))
    one.figures.close()
    one.begin(trial)
    one.figures.finish()
    assert sum(1 for _ in read_entries(one.folder / EVENT_LOG)) == entries


def test_a_drawing_that_fails_is_recorded_and_costs_nothing(one: Searching) -> None:
    trial, other = one.trial(1), one.trial(2)
    assert trial.checkpoint is not None
    Path(trial.checkpoint.path, REPORT_FOLDER, "mse_vs_energy.csv").write_text("no table\n")
    one.figures.trial_ended(trial)
    one.figures.trial_ended(other)
    one.figures.finish()
    assert one.report(trial) == TABLES | {REPORT_ERROR}
    assert "Traceback" in Path(trial.checkpoint.path, REPORT_FOLDER, REPORT_ERROR).read_text()
    assert one.exported(trial) == {f"{REPORT_FOLDER}/{REPORT_ERROR}"}
    assert one.report(other) == TABLES | FIGURES


def test_what_cannot_be_put_into_the_checkpoint_is_drawn_again_by_a_resume(one: Searching) -> None:
    trial = one.end(1)
    one.pool.finish(one.figures._pending)  # drawn, not placed yet
    assert trial.checkpoint is not None
    place, trial.checkpoint = trial.checkpoint, StoragePath(_Full(fs.LocalFileSystem()), trial.checkpoint.path)
    one.figures.finish()
    assert "No space left" in "".join(one.lines)
    trial.checkpoint = place
    assert FIGURE_DATA in one.report(trial)
    one.figures.close()
    one.begin(trial)
    one.figures.finish()
    assert one.report(trial) == TABLES | FIGURES


class _Full:
    """A file system that has no room."""

    type_name = "local"

    def __init__(self, files: fs.FileSystem) -> None:
        self._files = files

    def __getattr__(self, name: str) -> object:
        return getattr(self._files, name)

    def open_output_stream(self, path: str) -> object:
        raise OSError(28, "No space left on device")


def test_a_process_that_dies_costs_one_trial_its_figures_and_no_other(one: Searching) -> None:
    first = one.end(1)
    one.figures.finish()
    for process in one.pool._processes:
        process.close()
    second = one.end(2)
    one.figures.finish()
    assert one.report(first) == one.report(second) == TABLES | FIGURES


def test_the_drawing_process_ends_with_its_search() -> None:
    program = """
import os, signal, time
from search.reporting.draw_process import DrawProcess
process = DrawProcess("zdc", beside_trials=True)
print(process._process.pid, flush=True)
process.wait_until_ready()
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    pid, until = int(done.stdout), time.monotonic() + 60
    while time.monotonic() < until and _runs(pid):
        time.sleep(0.1)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_workload_that_no_other_process_finds_is_drawn_here(one: Searching) -> None:
    one.pool = DrawPool(replace(WORKLOADS["zdc"], name="nobody-knows-it"))
    one.begin()
    trial = one.end(1)
    one.figures.finish()
    assert one.report(trial) == TABLES | FIGURES
    one.figures.close()


def test_a_process_says_that_it_does_not_find_a_workload() -> None:
    process = DrawProcess("nobody-knows-it", beside_trials=False)
    with pytest.raises(LookupError, match="nobody-knows-it"):
        process.wait_until_ready()
    process.close()


@pytest.mark.slow
def test_a_search_that_is_killed_before_its_figures_are_drawn_draws_them_when_it_is_resumed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "search.run", "zdc", "--trials", "0", "--presets", "regression-only"]
    command += ["--epochs", "1", "--storage", str(tmp_path), "--name", "killed", "--max-concurrent", "1"]
    folder = tmp_path / "searches" / "killed"
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 240
    while not list(folder.glob(f"*/checkpoint_*/{REPORT_FOLDER}/{FIGURE_DATA}")):
        assert time.monotonic() < until
        assert running.poll() is None
        time.sleep(0.02)
    history = SearchHistory(folder / EVENT_LOG, local_path(folder))
    while not any(record.outcome == "complete" for record in history.records()):
        assert time.monotonic() < until
        time.sleep(0.02)
    running.kill()
    running.wait()
    assert not list(folder.glob("*/checkpoint_*/report/*.png"))
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (report,) = folder.glob(f"*/checkpoint_*/{REPORT_FOLDER}")
    assert {path.name for path in report.iterdir()} == TABLES | FIGURES
    artifacts = {path.name for path in (tmp_path / "mlflow").rglob("report/*.png")}
    assert artifacts == FIGURES
    assert json.loads((folder / "leaderboard.json").read_text())
    assert (folder / "report.html").exists()


def test_no_process_starts_for_trials_that_have_drawn_their_figures_themselves(one: Searching) -> None:
    one.pool = DrawPool(WORKLOADS["zdc"])
    one.begin()
    trial = one.trial(1)
    assert trial.checkpoint is not None
    Path(trial.checkpoint.path, REPORT_FOLDER, FIGURE_DATA).unlink()
    one.figures.trial_ended(trial)
    one.figures.finish()
    assert not one.pool.started
    assert one.report(trial) == TABLES
