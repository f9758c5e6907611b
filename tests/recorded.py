"""A search without Ray: its events go through a real event log to a real MLflow."""

from __future__ import annotations

import time
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow.entities import Run

from search.config.provenance import command_line
from search.reporting.mlflow_notes import opening_note
from search.storage.event_log import TRIAL_EVENTS, apply_entry, read_entries
from search.storage.trial_record import TrialRecord
from search.tracking.client import Experiment, create_search_run
from search.tracking.events import EventRecorder, StagedFiles
from search.tracking.exporter import MlflowExporter, PendingEvent
from search.tracking.mlflow_writer import MlflowWriter
from search.tracking.run_info import RunFacts, new_facts, new_run
from trainables.base.objectives import Goal


def record(number: int = 0, **more: Any) -> TrialRecord:
    return TrialRecord(
        trial_id=f"id-{number}", number=number, preset=None, hyperparameters={"x": 0.5, "epochs": 4}, epochs=4,
        started=1_000.0 + number, **more,
    )  # fmt: skip


def facts_of(experiment: Experiment, token: str = "a-word", name: str = "a-search", **more: Any) -> RunFacts:
    """Facts of the search's own run, which is created if there is none with this token."""
    usual: dict[str, Any] = {
        "settings": {"trials": 3, "time_limit": None},
        "tags": {"search": name, "objective": "loss", "objective_version": "tiny-1"},
        "fingerprint": "f" * 64,
        "source": "two lines\nof words",
    }
    about = usual | more
    facts = new_facts(about["tags"], about["fingerprint"], about["source"])
    note = opening_note(command_line(), facts.source)
    return create_search_run(experiment, new_run(name, token, about["settings"], facts, note), facts)


@dataclass
class RecordedSearch:
    """One search: its recorder writes events, ``export`` writes them to MLflow."""

    experiment: Experiment
    facts: RunFacts
    folder: Path
    lines: list[str] = field(default_factory=list)  # said to people

    def __post_init__(self) -> None:
        self.staged = StagedFiles(self.folder)
        self.event_recorder = self.log = EventRecorder(self.folder / "search.journal", self.staged)

    def writer(self) -> MlflowWriter:
        return MlflowWriter(self.experiment.client, self.facts, Goal({"loss": "min"}), self.staged)

    def export(self) -> MlflowWriter:
        """Export all that is not in MLflow yet, as another process would do it."""
        writer = self.writer()
        exporter = MlflowExporter(self.log.path, writer, self.lines.append)
        exporter.start()
        assert exporter.close(), self.lines
        return writer

    def events(self) -> list[PendingEvent]:
        """Everything that was ever recorded, each event with its trial as it was then."""
        return events_of(self.log.path)

    def runs(self) -> list[Run]:
        """Those of trials, by number."""
        query = f"tags.`mlflow.parentRunId` = '{self.facts.run_id}'"
        found = self.experiment.client.search_runs([self.experiment.id], query)
        return sorted(found, key=lambda run: int(run.data.tags["trial_number"]))

    def rows(self, run: Run, metric: str = "loss") -> list[tuple[int, float]]:
        """(step, value) of each row that MLflow holds, in order of steps."""
        history = self.experiment.client.get_metric_history(run.info.run_id, metric)
        return sorted((row.step, row.value) for row in history)

    # --- a life

    def live(self, trial: TrialRecord, *losses: float, outcome: Any = "complete", reason: str = "") -> TrialRecord:
        """One trial from its start to its end, an epoch for each loss."""
        self.event_recorder.trial_started(trial)
        for loss in losses:
            self.epoch(trial, loss)
        trial.outcome, trial.reason, trial.ended = outcome, reason, time.time()
        self.event_recorder.trial_ended(trial)
        return trial

    def epoch(self, trial: TrialRecord, loss: float, **metrics: float) -> None:
        trial.epoch, trial.metrics = trial.epoch + 1, {**metrics, "loss": loss}
        self.event_recorder.epoch_ended(trial)


def events_of(log: Path) -> list[PendingEvent]:
    """All entries of an event log, each with its trial as it was then."""
    records: dict[int, TrialRecord] = {}
    return [
        PendingEvent(entry, copy(apply_entry(records, entry)) if entry.event in TRIAL_EVENTS else None)
        for entry in read_entries(log)
    ]
