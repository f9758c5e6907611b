"""Hold what a search has found before its first trial, and what is open while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search.tracking.events import EventRecorder, StagedFiles
from search.tracking.exporter import PATIENCE_S, MlflowExporter, NullExporter
from search.tuning.resources import Nodes, ray_session

SHORT_PATIENCE_S = 5.0  # with an MLflow server that is away, after an interrupt

if TYPE_CHECKING:
    from search.config.provenance import CodeState
    from search.engine.upstream_in_directories import UpstreamModels
    from search.engine.warm_start import WarmStart
    from search.reporting.summary import ConsoleReporter
    from search.reporting.trial_figures import TrialFigures
    from search.storage.search_dir import SearchDir
    from search.storage.trial_record import TrialRecord
    from search.tracking.client import Experiment
    from search.tuning.stack_servers import StackServers
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
    code: CodeState | None  # of a workload from outside


@dataclass(frozen=True)
class SearchContext:
    """What is open while one search runs; what the search is asked to do is in its ``SearchSpec``."""

    directory: SearchDir
    reporter: ConsoleReporter
    stop_controller: StopController
    events: EventRecorder
    exporter: MlflowExporter | NullExporter
    figures: TrialFigures
    stacks: StackServers | None = None  # None: each trial trains in its own process

    @property
    def interrupted(self) -> bool:
        """Whether the search was asked to leave its trials for a resume."""
        return self.stop_controller.reason == "interrupted"

    def close_stacks(self) -> None:
        """Stop the servers of stacks, if there are any."""
        if self.stacks:
            self.stacks.close(self.reporter.print_line)

    @contextmanager
    def exporting(self) -> Iterator[None]:
        """Export events to MLflow while it is reachable; at the end log how the search ended.

        Whatever is raised inside leaves the search interrupted, for a resume.
        """
        self.exporter.start()
        status, patience_s = "KILLED", SHORT_PATIENCE_S
        try:
            yield
            if not self.interrupted:
                status, patience_s = "FINISHED", PATIENCE_S
        finally:
            try:
                self.events.search_ended(status)
            finally:
                with self.reporter.announcing("mlflow   exporting what still waits ..."):
                    self.exporter.close(patience_s)


@contextmanager
def open_ray(address: str | None, reporter: ConsoleReporter) -> Iterator[Nodes]:
    """Join the cluster at ``address``, or start one on this machine; yield the resources of each node."""
    what = f"joining the cluster at {address}" if address else "starting Ray on this machine"
    with ExitStack() as session:
        with reporter.announcing(f"ray      {what} ..."):
            nodes = session.enter_context(ray_session(address))
        yield nodes


def open_event_log(directory: SearchDir) -> tuple[EventRecorder, bool]:
    """Open the event log of a search; also return whether it has entries of an earlier process."""
    events = EventRecorder(directory.event_log, StagedFiles(directory.path))
    return events, bool(events.entry_count)
