"""Hold what a search has found before its first trial, and what is open while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search.storage.event_log import EventLog
from search.tracking.events import EventRecorder, StagedFiles
from search.tracking.exporter import PATIENCE_S, MlflowExporter, NullExporter

SHORT_PATIENCE_S = 5.0  # with an MLflow server that is away, after an interrupt

if TYPE_CHECKING:
    from search.engine.upstream_in_directories import UpstreamModels
    from search.engine.warm_start import WarmStart
    from search.reporting.summary import ConsoleReporter
    from search.storage.search_dir import SearchDir
    from search.storage.trial_record import TrialRecord
    from search.tracking.client import Experiment
    from search.tuning.stopping import StopController
    from search.workload import Data


@dataclass(frozen=True)
class PreparedSearch:
    """What a search has found before Ray is needed."""

    resumed: bool
    known: list[TrialRecord]  # of an earlier process
    data: Data
    experiment: Experiment | None  # None: no server is contacted
    upstream: UpstreamModels
    warm: WarmStart


@dataclass(frozen=True)
class SearchContext:
    """What is open while one search runs; what the search is asked to do is in its ``SearchSpec``."""

    directory: SearchDir
    reporter: ConsoleReporter
    stop_controller: StopController
    events: EventRecorder
    exporter: MlflowExporter | NullExporter

    @property
    def interrupted(self) -> bool:
        """Whether the search was asked to leave its trials for a resume."""
        return self.stop_controller.reason == "interrupted"

    @contextmanager
    def exporting(self) -> Iterator[None]:
        """Export events to MLflow while it is reachable; at the end log how the search ended."""
        self.exporter.start()
        status = "FAILED"
        try:
            yield
            status = "KILLED" if self.interrupted else "FINISHED"
        finally:
            self.events.search_ended(status)
            self.exporter.close(SHORT_PATIENCE_S if status == "KILLED" else PATIENCE_S)


def open_event_log(directory: SearchDir) -> tuple[EventRecorder, bool]:
    """Open the event log of a search; also return whether it has entries of an earlier process."""
    log = EventLog(directory.event_log)
    return EventRecorder(log, StagedFiles(directory.path)), bool(log.entry_count)
