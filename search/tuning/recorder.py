"""Turn Ray Tune's events into a few plain events of trials, each reported once to every listener.

Tune reports a trial that a scheduler stopped like a complete one, starts a retried trial twice, repeats epochs after
a restart, and reports nothing for trials that a time limit ended. All of that is corrected here and nowhere else; the
study, the tracking and the live view only listen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from search.storage.location import StoragePath
from search.storage.trial_record import Outcome, TrialListener, TrialRecord
from search.tuning.failures import reason_of


class Recorder(tune.Callback):  # type: ignore[misc]
    """The Tune callback that keeps a record of every trial and notifies the listeners, in their order."""

    def __init__(
        self,
        listeners: Iterable[TrialListener],
        mutable: Iterable[str] = (),
        known: Iterable[TrialRecord] = (),
        commit: str = "",
    ) -> None:
        self.records: dict[int, TrialRecord] = {record.number: record for record in known}
        self._listeners = tuple(listeners)
        self._mutable, self._commit = frozenset(mutable), commit

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks once at the start; listeners hold threads and connections

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._record(trial)  # a retry and the end of a pause come here too

    def _record(self, trial: Trial) -> TrialRecord:
        config = trial.config
        record = self.records.get(config["number"])
        if record is None:
            record = self.records[config["number"]] = TrialRecord(
                trial_id=trial.trial_id,
                number=config["number"],
                preset=config["preset"],
                hyperparameters=dict(config["hyperparameters"]),
                epochs=config["hyperparameters"]["epochs"],
                started=time.time(),
                commit=self._commit,
                repeats=config.get("repeats"),
                name=config.get("name", ""),
            )
            self._notify(lambda listener: listener.trial_started(record))
        elif record.outcome == "interrupted":
            record.trial_id, record.outcome, record.reason, record.ended = trial.trial_id, None, "", None
            self._notify(lambda listener: listener.trial_resumed(record))
        return record

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        record = self._record(trial)
        record.attempts += 1
        self._notify(lambda listener: listener.trial_retried(record))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        record = self._record(trial)
        record.seconds += result["epoch_seconds"]
        record.host, record.device = result["host"], result["device"]
        if result["outcome"] == "diverged" or result["epoch"] <= record.epoch:
            return  # diverged: there is no number to report; known: the epoch was repeated after a restart
        record.epoch, record.metrics, record.best = (
            result["epoch"],
            dict(result["metrics"]),
            dict(result["best"]),
        )
        if self._mutable:
            record.perturbed |= record.hyperparameters != trial.config["hyperparameters"]
            record.hyperparameters = dict(trial.config["hyperparameters"])
            record.metrics |= self._changed(record.hyperparameters)
        self._notify(lambda listener: listener.epoch_ended(record))

    def _changed(self, now: Mapping[str, Any]) -> dict[str, float]:
        """Return hyperparameters that may change within a run, as metrics: MLflow takes a parameter only once."""
        return {f"hyperparameter_{name}": now[name] for name in sorted(self._mutable & now.keys())}

    def on_checkpoint(self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Any, **info: Any) -> None:
        record = self._record(trial)
        record.checkpoint = StoragePath(checkpoint.filesystem, checkpoint.path)
        self._notify(lambda listener: listener.checkpoint_saved(record))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        record = self._record(trial)
        if record.outcome:
            return
        result = trial.last_result or {}
        match result.get("outcome"):
            case "complete":
                self._end(record, "complete", "")
            case "diverged":
                numbers = ", ".join(f"{name} = {value:.4g}" for name, value in result["evidence"].items())
                self._end(record, "diverged", f"{result['reason']} in epoch {result['epoch']}: {numbers}")
            case _:
                self._end(record, "stopped_early", "scheduler")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        record = self._record(trial)
        if record.outcome:
            return
        self._end(record, "failed", reason_of(_error_text(trial)))

    def catch_up(self, ended: Mapping[int, tuple[Outcome, str]]) -> None:
        """Report again the ends of trials that the event log has lost."""
        for number, (outcome, reason) in ended.items():
            self._end(self.records[number], outcome, reason)

    def close(self, outcome: Outcome, reason: str) -> None:
        """End the trials that Tune left open when it was stopped: by a time limit, by Ctrl-C."""
        with ExitStack() as ends:  # every trial is ended, whatever a listener raises
            for record in reversed(self.records.values()):
                if record.outcome is None and record.epoch == record.epochs:
                    ends.callback(self._end, record, "complete", "")  # only its last checkpoint was missing
                elif record.outcome is None:
                    ends.callback(self._end, record, outcome, reason)

    def _end(self, record: TrialRecord, outcome: Outcome, reason: str) -> None:
        record.outcome, record.reason, record.ended = outcome, reason, time.time()
        self._notify(lambda listener: listener.trial_ended(record))

    def _notify(self, event: Callable[[TrialListener], object]) -> None:
        with ExitStack() as calls:  # every listener is called, whatever another one raises
            for listener in reversed(self._listeners):
                calls.callback(event, listener)


def _error_text(trial: Trial) -> str:
    """Return what Ray wrote about all failures of a trial, tracebacks included."""
    file = Path(trial.error_file or "")  # on this machine; Tune copies it to the storage only later
    return file.read_text(errors="replace") if file.is_file() else str(trial.get_error() or "")
