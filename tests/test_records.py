"""Laws of the records: whatever Tune repeats, confuses or leaves out, each trial's life is told once and truly."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyarrow.fs import LocalFileSystem

from search.storage.location import StoragePath
from search.storage.trial_record import TrialRecord
from search.tuning.recorder import Recorder
from search.tuning.stopping import StopController


class Told:
    """A listener that writes down what it hears, as it was at that moment."""

    def __init__(self) -> None:
        self.words: list[tuple[Any, ...]] = []

    def trial_started(self, trial: TrialRecord) -> None:
        self.words.append(("started", trial.label))

    def trial_resumed(self, trial: TrialRecord) -> None:
        self.words.append(("resumed", trial.label))

    def trial_retried(self, trial: TrialRecord) -> None:
        self.words.append(("retried", trial.attempts))

    def epoch_ended(self, trial: TrialRecord) -> None:
        self.words.append(("epoch", trial.epoch, trial.metrics["loss"]))

    def checkpoint_saved(self, trial: TrialRecord) -> None: ...

    def trial_ended(self, trial: TrialRecord) -> None:
        self.words.append(("ended", trial.outcome, trial.reason))


def tune_trial(folder: Path | None = None, **hyperparameters: Any) -> Any:
    """As much of Tune's trial as the records look at."""
    return SimpleNamespace(
        trial_id="abc", last_result={}, get_error=lambda: None,
        error_file=str(folder / "error.txt") if folder else None,
        config={"number": 3, "preset": None, "hyperparameters": {"epochs": 4, **hyperparameters}},
    )  # fmt: skip


def result(epoch: int, outcome: str = "running", **more: Any) -> dict[str, Any]:
    return {
        "epoch": epoch, "outcome": outcome, "metrics": {"loss": 1 / epoch}, "progress_percent": 25.0 * epoch,
        "best": {"epoch": epoch, "value": 1 / epoch}, "epoch_seconds": 2.0, "host": "here", "device": "cpu", **more,
    }  # fmt: skip


class Life:
    """A trial as Tune tells of it."""

    def __init__(
        self, trial: Any | None = None, mutable: tuple[str, ...] = (), known: tuple[TrialRecord, ...] = ()
    ) -> None:
        self.trial = trial or tune_trial()
        self.told = Told()
        self.recorder = Recorder([self.told], mutable, known)

    def _hear(self, event: str, **more: Any) -> Life:
        getattr(self.recorder, event)(iteration=1, trials=[self.trial], trial=self.trial, **more)
        return self

    def start(self) -> Life:
        return self._hear("on_trial_start")

    def result(self, epoch: int, outcome: str = "running", **more: Any) -> Life:
        last = result(epoch, outcome, **more)
        self._hear("on_trial_result", result=last)
        self.trial.last_result = last
        return self

    def checkpoint(self, name: str) -> Life:
        return self._hear("on_checkpoint", checkpoint=SimpleNamespace(filesystem=LocalFileSystem(), path=name))

    def complete(self) -> Life:
        return self._hear("on_trial_complete")

    def recover(self) -> Life:
        return self._hear("on_trial_recover")

    def error(self) -> Life:
        return self._hear("on_trial_error")

    @property
    def words(self) -> list[tuple[Any, ...]]:
        return self.told.words

    @property
    def record(self) -> TrialRecord:
        return self.recorder.records[3]


def test_a_complete_trial() -> None:
    life = Life().start().result(1).result(2, "complete").checkpoint("the last one").complete()
    assert life.words == [
        ("started", "trial-003"),
        ("epoch", 1, 1.0),
        ("epoch", 2, 0.5),
        ("ended", "complete", ""),
    ]
    assert life.record.checkpoint == StoragePath(LocalFileSystem(), "the last one")
    assert life.record.ended is not None


def test_a_trial_stopped_by_the_scheduler_is_not_complete() -> None:
    """Pitfall 3: Tune calls both complete."""
    assert Life().start().result(1).complete().words[-1] == ("ended", "stopped_early", "scheduler")


def test_a_diverged_epoch_tells_no_number() -> None:
    """Pitfalls 1 and 2."""
    life = Life().start().result(1)
    life.result(2, "diverged", reason="not_finite", evidence={"loss": float("nan")}, metrics={}).complete()
    assert life.words[-2:] == [("epoch", 1, 1.0), ("ended", "diverged", "not_finite in epoch 2: loss = nan")]
    assert life.record.epoch == 1
    assert life.record.seconds == 4.0


def test_a_retry_is_the_same_trial_and_starts_once() -> None:
    """Pitfall 10: Tune starts it twice."""
    life = Life().start().result(1).recover().start().result(2, "complete").complete()
    assert [word[0] for word in life.words] == ["started", "epoch", "retried", "epoch", "ended"]
    assert life.record.attempts == 2
    assert life.record.outcome == "complete"


def test_epochs_repeated_after_a_restart_are_told_once_and_paid_twice() -> None:
    life = Life().start().result(1).result(2).recover().start().result(2).result(3, "complete").complete()
    assert [word[1] for word in life.words if word[0] == "epoch"] == [1, 2, 3]
    assert life.record.seconds == 8.0


def test_a_failed_trial_says_the_exception_and_not_its_traceback(tmp_path: Path) -> None:
    trial = tune_trial(tmp_path)
    attempts = ["Failure # 1", "Traceback:", "  File x", "OSError: first"]
    attempts += ["Failure # 2", "Traceback:", "  File y", "OSError: no space left", "", ""]
    text = "\n".join(attempts)
    (tmp_path / "error.txt").write_text(text)
    trial.get_error = lambda: text
    life = Life(trial).start().error()
    assert life.words[-1] == ("ended", "failed", "OSError: no space left")


def test_the_reason_of_a_failure_is_short_whatever_the_error(tmp_path: Path) -> None:
    trial = tune_trial(tmp_path)
    (tmp_path / "error.txt").write_text("x" * 10_000)
    trial.get_error = lambda: "x" * 10_000
    assert len(Life(trial).start().error().record.reason) <= 400


def test_a_trial_ends_once() -> None:
    life = Life().start().result(1, "complete").complete().complete().error()
    life.recorder.close("stopped_early", "time limit")
    assert [word for word in life.words if word[0] == "ended"] == [("ended", "complete", "")]


def test_what_tune_left_open_is_closed_with_the_reason() -> None:
    life = Life().start().result(1)
    life.recorder.close("stopped_early", "time limit")
    assert life.words[-1] == ("ended", "stopped_early", "time limit")


def test_an_interrupted_trial_goes_on_as_the_same_trial() -> None:
    first = Life().start().result(1).result(2).checkpoint("of epoch 2")
    first.recorder.close("interrupted", "interrupted")
    later = tune_trial()
    later.trial_id = "another id of Tune's"
    second = Life(later, known=(first.record,)).start().result(3).result(4, "complete").complete()
    assert [word[:2] for word in second.words] == [
        ("resumed", "trial-003"),
        ("epoch", 3),
        ("epoch", 4),
        ("ended", "complete"),
    ]
    assert second.record.seconds == 8.0
    assert second.record.reason == ""


def test_values_that_change_within_a_run_are_metrics() -> None:
    """Pitfall 11."""
    life = Life(tune_trial(x=0.5), mutable=("x", "absent")).start().result(1)
    life.trial.config["hyperparameters"]["x"] = 0.4
    life.result(2)
    assert life.record.metrics["hyperparameter_x"] == 0.4
    assert "hyperparameter_absent" not in life.record.metrics


def test_a_name_is_the_presets_or_the_number() -> None:
    trial = tune_trial()
    assert Life(trial).start().record.label == "trial-003"
    trial.config["preset"] = "test26-lr4"
    assert Life(trial).start().record.label == "test26-lr4"


def test_tunes_snapshot_of_the_recorder_holds_no_threads_or_connections() -> None:
    recorder = Life().start().recorder
    assert pickle.loads(pickle.dumps(recorder)).__dict__ == {}


def test_every_open_trial_is_ended_whatever_a_listener_raises() -> None:
    class Raising(Told):
        def trial_ended(self, trial: TrialRecord) -> None:
            raise KeyError(trial.label)

    trials = [
        TrialRecord(trial_id=str(number), number=number, preset=None, hyperparameters={}, epochs=4, started=0.0)
        for number in range(3)
    ]
    told = Told()
    with pytest.raises(KeyError):
        Recorder([Raising(), told], known=trials).close("interrupted", "")
    assert [trial.outcome for trial in trials] == ["interrupted"] * 3
    assert told.words == [("ended", "interrupted", "")] * 3


ERRORS = [OSError(28, "full"), SystemExit(1), KeyboardInterrupt(), KeyError("view")]
BEFORE = ["", "time limit", "5 of 5 trials failed"]
FIRST_INTERRUPT = "", ERRORS[2]  # ends the search in good order, and nothing is raised


@pytest.mark.parametrize(
    ("before", "error"), [pair for pair in itertools.product(BEFORE, ERRORS) if pair != FIRST_INTERRUPT]
)
def test_whatever_is_raised_leaves_the_trials_for_a_resume(before: str, error: BaseException) -> None:
    stop_controller = StopController(None)
    if before:
        stop_controller.request_stop(before)
    with pytest.raises(type(error)), stop_controller.resumable():
        raise error
    assert stop_controller.reason == "interrupted"


def test_a_first_interrupt_ends_a_search_in_good_order() -> None:
    stop_controller = StopController(None)
    with stop_controller.resumable():
        raise KeyboardInterrupt
    assert stop_controller.reason == "interrupted"


def test_reasons_of_the_stop_controller_close_trials_for_good() -> None:
    stop_controller = StopController(1e-9)
    with stop_controller.resumable():
        assert stop_controller.due()
    assert stop_controller.reason == "time limit"
