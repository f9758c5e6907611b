"""Write the events of a search to MLflow; writing an event again has no further effect."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from search.storage.event_log import Entry
from search.storage.trial_record import TrialRecord
from search.tracking.artifacts import ArtifactQueue
from search.tracking.client import Metric, MlflowClient, Param, RunTag, dataset
from search.tracking.events import StagedFiles
from search.tracking.exporter import PendingEvent
from search.tracking.mlflow_ui import LONGEST, NOTE, with_links, with_result
from search.tracking.run_info import RunFacts
from search.tracking.server_calls import RefusedError, UnavailableError, call_server
from search.tracking.trial_runs import TrialRuns
from trainables.base.objectives import Goal

_STATUS = {
    "complete": "FINISHED",
    "stopped_early": "KILLED",
    "interrupted": "KILLED",
    "diverged": "FAILED",
    "failed": "FAILED",
}
_ROWS = 1_000  # metrics that MLflow takes in one request


class MlflowWriter:
    """Write one run for the search, and one child run for the whole life of each trial.

    An event may come again, after a lost answer or in another process, and leaves the same behind.
    """

    def __init__(self, client: MlflowClient, facts: RunFacts, goal: Goal, staged: StagedFiles) -> None:
        self._client, self._facts, self._goal, self._staged = client, facts, goal, staged
        self._runs = TrialRuns(client, facts)
        self._rows: dict[int, list[Metric]] = defaultdict(list)  # metrics to be written, by number of the trial
        self._runs_may_exist = True  # of an earlier process, or of a request whose answer was lost
        self._rows_may_exist = False  # with other times
        self._existing_rows: dict[int, set[tuple[str, int]]] = {}  # metric and step, by number of the trial
        self._artifacts = ArtifactQueue(client, staged, facts.run_id, self._runs.get)
        self._labels: dict[int, str] = {}  # of trials, by number
        self._current: int | None = None  # number of the trial that is written; None: the search itself
        self.refused: list[str] = []
        self.incomplete: set[int | None] = set()
        self._handlers: Mapping[str, Callable[[PendingEvent], None]] = {
            "trial_started": self._start_trial,
            "trial_resumed": self._resume_trial,
            "trial_retried": self._retry_trial,
            "epoch_ended": self._log_epoch,
            "checkpoint_saved": lambda _event: None,
            "trial_ended": self._end_trial,
            "files": self._log_files,
            "search_opened": self._describe_experiment,
            "search_resumed": self._resume_search,
            "search_described": self._describe_search,
            "search_result": self._log_result,
            "search_ended": self._end_search,
        }

    def deduplicate(self) -> None:
        self._rows_may_exist = True

    def write(self, events: Sequence[PendingEvent]) -> None:
        self._rows.clear()
        try:
            self._find_runs()
            for event in events:
                self._handle(event)
            for number in list(self._rows):
                self._write_rows(number)
        except UnavailableError:
            self._runs_may_exist = True
            raise

    def finalize(self) -> None:
        """Delete second runs of the search and of its trials, which lost answers leave; MLflow's client retries, too.

        The run that was written to stays: the one with more metrics, where another process has written them.
        """
        self._current = None
        try:
            self._find_runs()
            duplicates = self._runs.duplicates()
        except RefusedError as refused:
            self._note(refused)
            return
        for run_id in duplicates:
            self._try(lambda run_id=run_id: self._client.delete_run(run_id))  # type: ignore[misc]

    def _find_runs(self) -> None:
        """Find the runs of an earlier process, or of a request whose answer was lost."""
        if self._runs_may_exist:
            self._runs.find()
            self._runs_may_exist = False

    def _handle(self, event: PendingEvent) -> None:
        self._current = event.trial.number if event.trial else None
        if event.trial:
            self._labels[event.trial.number] = event.trial.label
        try:
            self._handlers[event.entry.event](event)
        except RefusedError as refused:  # a run for the trial
            self._note(refused)

    # --- files

    def lacks(self, entry: Entry) -> bool:
        return entry.event == "files" and self._staged.folder_of(entry).exists()

    def location_problem(self) -> str:
        """Say why no file will arrive where MLflow keeps artifacts; empty: files arrive, or nobody knows yet."""
        return self._artifacts.location_problem()

    @property
    def missing(self) -> Sequence[str]:
        return [*self.refused, *self._artifacts.missing]

    @property
    def first_refusal(self) -> str:
        return self.refused[0] if self.refused else self._artifacts.first_refusal

    def settle(self, patience_s: float) -> None:
        self._artifacts.settle(patience_s)

    def close(self) -> None:
        self._artifacts.close()

    def _log_files(self, event: PendingEvent) -> None:
        number = event.entry.content["number"]
        self._artifacts.add(event.entry, self._owner(number))

    # --- trials

    def _start_trial(self, event: PendingEvent) -> None:
        trial, run_id = _trial(event), self._run_of(event)
        params = [Param(key, str(value)) for key, value in trial.hyperparameters.items()]
        self._try(lambda: self._client.log_batch(run_id, params=params))
        events = dataset(self._facts.fingerprint, self._facts.source)
        self._try(lambda: self._client.log_inputs(run_id, [events]))

    def _resume_trial(self, event: PendingEvent) -> None:
        run_id = self._run_of(event)
        self._try(lambda: self._client.update_run(run_id, status="RUNNING"))
        present = call_server(lambda: self._client.get_run(run_id)).data.tags
        for tag in {"outcome", "reason"} & present.keys():
            self._try(lambda tag=tag: self._client.delete_tag(run_id, tag))  # type: ignore[misc]

    def _retry_trial(self, event: PendingEvent) -> None:
        self._tag(self._run_of(event), {"attempts": _trial(event).attempts})

    def _log_epoch(self, event: PendingEvent) -> None:
        content = event.entry.content
        names = sorted(content["metrics"], key=self._order)
        rows = [Metric(name, float(content["metrics"][name]), event.entry.at_ms, content["epoch"]) for name in names]
        self._run_of(event)
        self._rows[content["number"]] += rows

    def _order(self, metric: str) -> int:
        """Order a run's metrics: objectives first, because the pages begin with them, then their errors, the rest."""
        goals = self._goal.objectives
        return 0 if metric in goals else 1 if metric.startswith(tuple(f"{name}_" for name in goals)) else 2

    def _end_trial(self, event: PendingEvent) -> None:
        trial, run_id = _trial(event), self._run_of(event)
        assert trial.outcome is not None
        self._write_rows(trial.number)
        tags = {"outcome": trial.outcome, "reason": trial.reason, "host": trial.host, "device": trial.device}
        tags |= {"attempts": str(trial.attempts), "epoch": str(trial.epoch)}
        if trial.best:
            tags |= {
                "best_epoch": str(trial.best["epoch"]),
                f"best_{self._goal.objective}": f"{trial.best['value']:.6g}",
            }
        if trial.outcome == "complete" and self._goal.constraints:
            tags["keeps_limits"] = str(self._goal.violation(trial.metrics) == 0).lower()
        self._tag(run_id, {key: value for key, value in tags.items() if value})
        status, ended_ms = _STATUS[trial.outcome], int((trial.ended or 0) * 1000)
        self._try(lambda: self._client.set_terminated(run_id, status, end_time=ended_ms))

    # --- the search itself

    def _describe_experiment(self, event: PendingEvent) -> None:
        """Write description and views of the experiment, unless there are some already."""
        content, experiment_id = event.entry.content, self._facts.experiment_id
        present = call_server(lambda: self._client.get_experiment(experiment_id)).tags
        ours = {NOTE: with_links(content["note"], experiment_id, {}), **content["views"]}
        self._tag_experiment({key: value for key, value in ours.items() if not present.get(key)})

    def _describe_search(self, event: PendingEvent) -> None:
        content, run_id = event.entry.content, self._facts.run_id
        present = call_server(lambda: self._client.get_run(run_id)).data.tags.get(NOTE, "")
        note = with_links(content["note"], self._facts.experiment_id, self._runs.ids)
        self._tag(run_id, {NOTE: with_result(note, present)})
        self._tag_experiment(content["views"])

    def _tag_experiment(self, tags: Mapping[str, str]) -> None:
        experiment_id = self._facts.experiment_id
        for key, value in tags.items():
            self._try(lambda key=key, value=value: self._client.set_experiment_tag(experiment_id, key, value))  # type: ignore[misc]

    def _resume_search(self, event: PendingEvent) -> None:
        self._try(lambda: self._client.update_run(self._facts.run_id, status="RUNNING"))

    def _log_result(self, event: PendingEvent) -> None:
        content = event.entry.content
        metrics = [Metric(name, value, event.entry.at_ms, 0) for name, value in content["metrics"].items()]
        if best_run := self._runs.get(content["number"]):
            self._tag(self._facts.run_id, {"best_trial": content["label"], "best_run": best_run})
        self._try(lambda: self._client.log_batch(self._facts.run_id, metrics=metrics))
        for number, in_front in content["front"]:
            if run_id := self._runs.get(number):
                self._current = number
                self._tag(run_id, {"front": str(in_front).lower()})  # False, too: a resumed search may move the front

    def _end_search(self, event: PendingEvent) -> None:
        run_id, status, at_ms = self._facts.run_id, event.entry.content["status"], event.entry.at_ms
        self._try(lambda: self._client.set_terminated(run_id, status, end_time=at_ms))

    def _run_of(self, event: PendingEvent) -> str:
        """Return the id of the trial's run, which is created if need be."""
        return self._runs.of(_trial(event))

    # --- requests

    def _write_rows(self, number: int) -> None:
        rows, run_id, self._current = self._rows.pop(number, []), self._runs.ids[number], number
        if rows and self._rows_may_exist:
            existing = self._find_rows(number)
            rows = [row for row in rows if (row.key, row.step) not in existing]
        for first in range(0, len(rows), _ROWS):
            self._write_batch(run_id, rows[first : first + _ROWS])

    def _find_rows(self, number: int) -> set[tuple[str, int]]:
        if number not in self._existing_rows:
            run_id = self._runs.ids[number]
            names = call_server(lambda: self._client.get_run(run_id)).data.metrics
            rows = call_server(lambda: [self._client.get_metric_history(run_id, name) for name in names])
            self._existing_rows[number] = {(row.key, row.step) for history in rows for row in history}
        return self._existing_rows[number]

    def _write_batch(self, run_id: str, rows: list[Metric]) -> None:
        """Write rows; halve the batch when the server refuses it, so that one bad row does not lose the others."""
        try:
            call_server(lambda: self._client.log_batch(run_id, metrics=rows))
        except RefusedError as refused:
            if len(rows) == 1 or self._runs.is_deleted(run_id):
                self._note(refused, f"metric {rows[0].key} of step {rows[0].step}: ")
                return
            half = len(rows) // 2
            self._write_batch(run_id, rows[:half])
            self._write_batch(run_id, rows[half:])

    def _tag(self, run_id: str, tags: Mapping[str, object]) -> None:
        batch = [RunTag(key, str(value)[:LONGEST]) for key, value in tags.items()]
        self._try(lambda: self._client.log_batch(run_id, tags=batch))

    def _try(self, write: Callable[[], object]) -> None:
        """Write, or note what the server will never accept."""
        try:
            call_server(write)
        except RefusedError as refused:
            self._note(refused)

    def _note(self, refused: RefusedError, what: str = "") -> None:
        """Remember what the server refused, and that it lacks something of the trial or the search."""
        self.incomplete.add(self._current)
        owner, run_id = self._owner(self._current), self._runs.get(self._current)
        line = f"{what}{refused} ({owner})"
        if run_id and self._runs.is_deleted(run_id):
            line = f"{owner}: it was deleted there. To complete it: mlflow runs restore --run-id {run_id}, then --sync"
        if line not in self.refused:
            self.refused.append(line)

    def _owner(self, number: int | None) -> str:
        return "the search" if number is None else self._labels.get(number, f"trial-{number:03d}")


def _trial(event: PendingEvent) -> TrialRecord:
    assert event.trial is not None
    return event.trial
