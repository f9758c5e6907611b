"""Laws of the retention: whose checkpoints stay, and that the others lose all but their small tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from finished import Finished
from fsspec.implementations.local import LocalFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import fs

from search.storage.location import StoragePath
from search.storage.retention import CheckpointRetention, RetentionPolicy, largest_checkpoint_bytes
from search.storage.trial_record import Outcome, TrialRecord
from trainables.base.checkpoint import FIGURE_DATA
from trainables.base.objectives import Constraint, Goal

LOSS = Goal({"loss": "min"})
WEIGHTS = {"state.pt", "best.pt", "last.pt"}
TABLES = {"report/losses.csv", "report/error.txt"}
FIGURES = {"report/response.png"}


class Trials:
    """Trials with real files, and the listener that keeps or deletes their checkpoints."""

    def __init__(
        self,
        folder: Path,
        policy: RetentionPolicy = RetentionPolicy(best=2),  # noqa: B008  # it is frozen
        goal: Goal = LOSS,
        files: fs.FileSystem | None = None,
        **more: Any,
    ) -> None:
        self.folder, self.lines = folder, list[str]()
        place = StoragePath(files or fs.LocalFileSystem(), str(folder))
        self.retention = CheckpointRetention(goal, policy, place, self.lines.append, **more)

    def begin(self, number: int, tune_id: str = "abc", checkpoints: int = 2) -> TrialRecord:
        record = TrialRecord(tune_id, number, None, {}, epochs=9, started=0.0)
        self.retention.trial_started(record)
        for index in range(checkpoints):
            self.save(record, index)
        return record

    def save(self, record: TrialRecord, index: int) -> None:
        folder = self.folder / f"{record.number:05d}_{record.trial_id}" / f"checkpoint_{index:06d}"
        write(folder, WEIGHTS | TABLES | {"report/response.png"})
        record.checkpoint = StoragePath(fs.LocalFileSystem(), str(folder))
        self.retention.checkpoint_saved(record)

    def end(self, record: TrialRecord, outcome: Outcome = "complete", **metrics: float) -> TrialRecord:
        record.outcome, record.metrics = outcome, metrics
        self.retention.trial_ended(record)
        return record

    def run(self, number: int, loss: float) -> TrialRecord:
        return self.end(self.begin(number), loss=loss)

    def kept(self) -> set[int]:
        """Trials that have their weights."""
        return {int(path.parents[1].name[:5]) for path in self.folder.glob("*/checkpoint_*/state.pt")}


def write(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x" * 100)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# ---------------------------------------------------------------- which trials


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 99), min_size=1, max_size=9, unique=True), st.integers(0, 4))
def test_the_best_stay_whatever_the_order_in_which_they_end(
    tmp_path_factory: pytest.TempPathFactory, losses: list[int], keep: int
) -> None:
    trials = Trials(tmp_path_factory.mktemp("search"), RetentionPolicy(keep))
    for number, loss in enumerate(losses):
        trials.run(number, float(loss))
        best = sorted(losses[: number + 1])[:keep]
        assert trials.kept() == {losses.index(loss) for loss in best}


def test_limits_go_before_the_objective(tmp_path: Path) -> None:
    trials = Trials(tmp_path, RetentionPolicy(best=1), goal=Goal({"loss": "min"}, (Constraint("size", 1.0),)))
    trials.end(trials.begin(0), loss=0.1, size=2.0)
    trials.end(trials.begin(1), loss=0.9, size=0.5)
    assert trials.kept() == {1}


def test_the_whole_front_stays_and_is_filled_up(tmp_path: Path) -> None:
    goal = Goal({"loss": "min", "size": "min"})
    trials = Trials(tmp_path, RetentionPolicy(best=2), goal=goal)
    for number, (loss, size) in enumerate([(1, 9), (9, 1), (5, 5), (6, 6)]):
        trials.end(trials.begin(number), loss=loss, size=size)
    assert trials.kept() == {0, 1, 2}
    trials.end(trials.begin(4), loss=0.5, size=0.5)
    assert trials.kept() == {4, 0}


@pytest.mark.parametrize("outcome", ["stopped_early", "diverged", "failed"])
def test_a_trial_that_ends_without_being_complete_keeps_nothing(tmp_path: Path, outcome: Outcome) -> None:
    trials = Trials(tmp_path)
    trials.end(trials.begin(0), outcome, loss=0.0)
    assert trials.kept() == set()


def test_running_and_interrupted_trials_keep_all_they_have(tmp_path: Path) -> None:
    trials = Trials(tmp_path, RetentionPolicy(best=0))
    trials.begin(0)
    trials.end(trials.begin(1), "interrupted", loss=0.0)
    trials.retention.close()
    assert len(list(tmp_path.glob("*/checkpoint_*/state.pt"))) == 4


# ---------------------------------------------------------------- which files


def test_of_the_best_the_last_checkpoint_stays_as_it_is(tmp_path: Path) -> None:
    record = Trials(tmp_path).run(0, 1.0)
    assert record.checkpoint is not None
    assert [path.name for path in Path(record.checkpoint.path).parent.iterdir()] == ["checkpoint_000001"]
    assert files(Path(record.checkpoint.path)) == WEIGHTS | TABLES | {"report/response.png"}


def test_of_the_others_the_small_tables_stay(tmp_path: Path) -> None:
    record = Trials(tmp_path, RetentionPolicy(best=0)).run(0, 1.0)
    assert record.checkpoint is not None
    assert files(Path(record.checkpoint.path)) == TABLES


def test_a_checkpoint_without_a_report_goes_as_a_whole_but_not_the_error_of_the_trial(tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    quiet, loud = trials.begin(0, checkpoints=0), trials.begin(1, checkpoints=0)
    for record in (quiet, loud):
        write(tmp_path / f"{record.number:05d}_abc" / "checkpoint_000003", ["state.pt"])  # half written: of no record
    write(tmp_path / "00001_abc", ["error.txt"])
    trials.end(quiet, "failed")
    trials.end(loud, "failed")
    assert files(tmp_path) == {"00001_abc/error.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["00001_abc"]


def test_a_second_name_of_a_file_is_not_touched(tmp_path: Path) -> None:
    """What waits for MLflow are hard links."""
    trials = Trials(tmp_path / "search", RetentionPolicy(best=0))
    record = trials.begin(0)
    assert record.checkpoint is not None
    (tmp_path / "staged.pt").hardlink_to(Path(record.checkpoint.path) / "best.pt")
    trials.end(record, loss=1.0)
    assert (tmp_path / "staged.pt").read_text() == "x" * 100


# ---------------------------------------------------------------- later processes


def test_the_folder_before_a_resume_goes_with_the_first_new_checkpoint(tmp_path: Path) -> None:
    record = Trials(tmp_path).begin(7, "before")
    trials = Trials(tmp_path, known=[record])
    record.trial_id = "after"
    trials.retention.trial_resumed(record)
    assert (tmp_path / "00007_before").exists()
    trials.save(record, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["00007_after"]
    trials.save(record, 1)
    trials.end(record, loss=1.0)
    assert trials.kept() == {7}


def test_the_folder_before_a_resume_stays_while_it_holds_the_last_checkpoint(tmp_path: Path) -> None:
    record = Trials(tmp_path).begin(7, "before")
    record.outcome = "interrupted"
    trials = Trials(tmp_path, known=[record])
    assert trials.kept() == {7}
    record.trial_id = "after"
    trials.end(record, loss=1.0)  # its last epoch was already done
    assert files(tmp_path / "00007_before" / "checkpoint_000001") >= WEIGHTS


def test_trials_of_an_earlier_process_are_rivals_and_what_it_left_undone_is_done(tmp_path: Path) -> None:
    before = Trials(tmp_path, RetentionPolicy(best=9))
    known = [before.run(number, float(number)) for number in range(4)]
    write(tmp_path / "00001_much-earlier" / "checkpoint_000000", WEIGHTS)
    trials = Trials(tmp_path, RetentionPolicy(best=2), known=known)
    assert trials.kept() == {0, 1}
    assert not (tmp_path / "00001_much-earlier").exists()
    trials.run(4, 0.5)
    assert trials.kept() == {0, 4}


def test_in_a_population_nothing_goes_before_the_end(tmp_path: Path) -> None:
    trials = Trials(tmp_path, RetentionPolicy(best=1, only_at_end=True))
    trials.run(0, 2.0)
    trials.run(1, 1.0)
    trials.end(trials.begin(2), "failed")
    assert trials.kept() == {0, 1, 2}
    trials.retention.close()
    assert trials.kept() == {1}


# ---------------------------------------------------------------- what cannot be deleted


class Stubborn(LocalFileSystem):  # type: ignore[misc]
    """A file system that refuses to delete."""

    def rm(self, path: str, **_how: Any) -> None:
        raise PermissionError(13, "Permission denied", path)


def test_what_cannot_be_deleted_is_reported_and_stops_nothing(tmp_path: Path) -> None:
    trials = Trials(tmp_path, RetentionPolicy(best=0), files=fs.PyFileSystem(fs.FSSpecHandler(Stubborn())))
    trials.run(0, 1.0)
    assert any(line.startswith(f"warning  not deleted: {tmp_path}") for line in trials.lines)
    assert trials.kept() == {0}


def test_of_a_running_trial_the_last_few_stay_where_tune_does_not_see_to_that(tmp_path: Path) -> None:
    trials = Trials(tmp_path, RetentionPolicy(best=2, per_running_trial=2))
    record = trials.begin(0, checkpoints=5)
    assert record.checkpoint is not None
    trials.retention.close()
    assert sorted(path.name for path in Path(record.checkpoint.path).parent.iterdir()) == [
        "checkpoint_000003",
        "checkpoint_000004",
    ]


def test_older_ones_stay_while_a_later_process_would_not_find_the_newer_ones(tmp_path: Path) -> None:
    safe = False
    trials = Trials(tmp_path, RetentionPolicy(best=2, per_running_trial=1), safe=lambda: safe)
    record = trials.begin(0, checkpoints=3)
    safe = True
    trials.save(record, 3)
    trials.retention.close()
    assert [path.parent.name for path in tmp_path.glob("*/*/state.pt")] == ["checkpoint_000003"]
    trials = Trials(tmp_path, RetentionPolicy(best=2, per_running_trial=1), safe=lambda: False)
    trials.begin(1, checkpoints=3)
    trials.retention.close()
    assert len([*tmp_path.glob("00001_*/*/state.pt")]) == 3


def test_a_folder_that_is_gone_is_no_trouble(tmp_path: Path) -> None:
    trials = Trials(tmp_path / "never made", RetentionPolicy(best=0))
    trials.end(trials.begin(0, checkpoints=0), "failed")
    trials.end(trials.begin(1, checkpoints=0), loss=1.0)
    assert trials.lines == []


def test_the_size_of_a_checkpoint_is_that_of_the_largest_that_runs(tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    records = [trials.begin(0), trials.begin(1), trials.begin(2, checkpoints=0), trials.run(3, 1.0)]
    assert records[1].checkpoint is not None
    write(Path(records[1].checkpoint.path), ["more.pt"])
    assert largest_checkpoint_bytes(records) == 700
    assert largest_checkpoint_bytes([]) == 0


# ---------------------------------------------------------------- a real search


@pytest.mark.slow
def test_a_search_keeps_the_best_and_draws_from_the_tables_of_all(run_tiny: Callable[..., Finished]) -> None:
    presets: dict[str, dict[str, Any]] = {f"p{number}": {"x": 0.3 + number / 10, "y": 0.0} for number in range(5)}
    presets["fails"] = {"x": 0.2, "y": 0.0, "crash_epoch": 3}
    done = run_tiny("bounded", "--trials", "0", "--epochs", "4", "--keep", "2", "--presets", "all", presets=presets)
    assert done.code == 0, done.text
    numbers = {label: done.trials[label].number for label in presets}
    kept = {int(path.parents[1].name[:5]) for path in done.folder.glob("*/checkpoint_*/last.pt")}
    assert kept == {numbers["p0"], numbers["p1"]}
    assert {path.parents[1].name[:5] for path in done.folder.glob("*/checkpoint_*/state.pt")} == {
        f"{number:05d}" for number in kept
    }
    for label in ("p0", "p1", "p2", "p3", "p4"):
        run = done.children[label]
        assert {"checkpoint/best.pt", "checkpoint/last.pt", "report/value.csv"} <= set(done.files(run)), label
        best = torch.load(done.client.download_artifacts(run.info.run_id, "checkpoint/best.pt"), weights_only=True)
        assert best["x"].item() == pytest.approx(presets[label]["x"])
        assert set(done.artifact(run, "comparison/labels.txt").split()) == {"p0", "p1", "p2", "p3", "p4"}
    assert f"files    {done.folder} (" in done.text


def test_a_trial_that_lost_its_place_loses_what_its_figures_need_unless_it_is_a_preset(tmp_path: Path) -> None:
    trials = Trials(tmp_path, RetentionPolicy(best=1))
    lost, preset, best = (trials.begin(number, checkpoints=1) for number in range(3))
    preset.preset = "known"
    for record in (lost, preset, best):
        assert record.checkpoint is not None
        write(Path(record.checkpoint.path), {f"report/{FIGURE_DATA}"})
    for loss, record in ((3.0, lost), (2.0, preset), (1.0, best)):
        trials.end(record, loss=loss)
    assert [trials.retention.keeps(record) for record in (lost, preset, best)] == [False, False, True]
    held = [files(Path(record.checkpoint.path)) for record in (lost, preset, best) if record.checkpoint]
    assert held == [TABLES, TABLES | {f"report/{FIGURE_DATA}"}, WEIGHTS | TABLES | FIGURES | {f"report/{FIGURE_DATA}"}]
