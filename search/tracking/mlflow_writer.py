"""Delivers the journal of a search to MLflow: every entry may come twice, and leaves the same behind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from search.config.redaction import first_line
from search.storage.trial_record import TrialRecord
from search.tracking.client import NEVER, Metric, MlflowClient, Param, Run, RunTag, dataset, find_runs, status_of
from search.tracking.exporter import Away, PendingEvent
from search.tracking.mlflow_ui import LONGEST, NOTE, above, colour, with_links
from search.tracking.outbox import Outbox
from search.tracking.run_info import RunFacts
from trainables.base.objectives import Goal

_STATUS = {
    "complete": "FINISHED",
    "stopped_early": "KILLED",
    "interrupted": "KILLED",
    "diverged": "FAILED",
    "failed": "FAILED",
}
_KINDS = {"search": "trial", "finalists": "finalist"}  # of the search's own run: of its trials' runs
_ROWS = 1_000  # metrics that MLflow takes in one request


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """The server will never take this."""


class MlflowWriter:
    """Delivers journal entries: one run for the search, one child run for each trial's whole life.

    Each entry may come again, after a lost answer or in another process, and leaves the same behind.
    """

    def __init__(self, client: MlflowClient, facts: RunFacts, goal: Goal, outbox: Outbox) -> None:
        self._client, self._facts, self._goal, self._outbox = client, facts, goal, outbox
        self._tags = {**facts.tags, "kind": _KINDS[facts.tags.get("kind", "search")]}
        self._runs: dict[int, str] = {}  # by number of the trial
        self._rows: dict[int, list[Metric]] = defaultdict(list)  # metrics that are still to be written
        self._unsure = True  # runs may be there already: of an earlier process, or an answer was lost
        self._distrust = False  # rows may be there already, with other times
        self._present: dict[int, set[tuple[str, int]]] = {}  # metric and step of those rows, by number of the trial
        self.refused: list[str] = []

    def deduplicate(self) -> None:
        self._distrust = True

    def deliver(self, parcels: Sequence[PendingEvent]) -> None:
        self._rows.clear()
        try:
            if self._unsure:
                self._look_around()
            for parcel in parcels:
                self._deliver(parcel)
            for number in list(self._rows):
                self._write_rows(number)
        except Away:
            self._unsure = True
            raise
        for parcel in parcels:
            if parcel.entry.event == "files":
                self._outbox.delivered(parcel.entry.content["parcel"])

    def finalize(self) -> None:
        self._delete_doubles()
        self._outbox.clear()

    def _deliver(self, parcel: PendingEvent) -> None:
        try:
            getattr(self, f"_{parcel.entry.event}")(parcel)
        except _Refused as refused:  # a run for it
            self.refused.append(str(refused))

    # --- trials

    def _trial_started(self, parcel: PendingEvent) -> None:
        assert parcel.trial is not None
        run_id = self._runs.get(parcel.trial.number) or self._create(parcel.trial)
        params = [Param(key, str(value)) for key, value in parcel.trial.hyperparameters.items()]
        self._try(lambda: self._client.log_batch(run_id, params=params))
        events = dataset(self._facts.fingerprint, self._facts.source)
        self._try(lambda: self._client.log_inputs(run_id, [events]))

    def _trial_resumed(self, parcel: PendingEvent) -> None:
        run_id = self._known_run(parcel)
        self._try(lambda: self._client.update_run(run_id, status="RUNNING"))
        present = self._ask(lambda: self._client.get_run(run_id)).data.tags
        for tag in {"outcome", "reason"} & present.keys():
            self._try(lambda tag=tag: self._client.delete_tag(run_id, tag))  # type: ignore[misc]

    def _trial_retried(self, parcel: PendingEvent) -> None:
        assert parcel.trial is not None
        self._tag(self._known_run(parcel), {"attempts": parcel.trial.attempts})

    def _epoch_ended(self, parcel: PendingEvent) -> None:
        content = parcel.entry.content
        names = sorted(content["metrics"], key=self._place)
        rows = [Metric(name, float(content["metrics"][name]), parcel.entry.at_ms, content["epoch"]) for name in names]
        self._known_run(parcel)
        self._rows[content["number"]] += rows

    def _place(self, metric: str) -> int:
        """Among a run's metrics: the objectives, with which the pages begin, then their errors and floors, the rest."""
        goals = self._goal.objectives
        return 0 if metric in goals else 1 if metric.startswith(tuple(f"{name}_" for name in goals)) else 2

    def _checkpoint_saved(self, parcel: PendingEvent) -> None: ...

    def _trial_ended(self, parcel: PendingEvent) -> None:
        trial = parcel.trial
        assert trial is not None
        assert trial.outcome is not None
        run_id = self._known_run(parcel)
        self._write_rows(trial.number)
        tags = {"outcome": trial.outcome, "reason": trial.reason, "host": trial.host, "device": trial.device}
        tags |= {"attempts": str(trial.attempts), "epoch": str(trial.epoch)}
        if trial.best:
            tags |= {
                "best_epoch": str(trial.best["epoch"]),
                f"best_{self._goal.objective}": f"{trial.best['value']:.6g}",
            }
        if trial.outcome == "complete" and self._goal.limits:
            tags["keeps_limits"] = str(self._goal.violation(trial.metrics) == 0).lower()
        self._tag(run_id, {key: value for key, value in tags.items() if value})
        status, ended_ms = _STATUS[trial.outcome], int((trial.ended or 0) * 1000)
        self._try(lambda: self._client.set_terminated(run_id, status, end_time=ended_ms))

    # --- the search itself

    def _search_opened(self, parcel: PendingEvent) -> None:
        """In the experiment, as far as nobody has written anything there."""
        content, experiment_id = parcel.entry.content, self._facts.experiment_id
        present = self._ask(lambda: self._client.get_experiment(experiment_id)).tags
        ours = {NOTE: with_links(content["note"], experiment_id, {}), **content["views"]}
        self._tag_experiment({key: value for key, value in ours.items() if not present.get(key)})

    def _search_described(self, parcel: PendingEvent) -> None:
        content, run_id = parcel.entry.content, self._facts.run_id
        present = self._ask(lambda: self._client.get_run(run_id)).data.tags.get(NOTE, "")
        note = with_links(content["note"], self._facts.experiment_id, self._runs)
        self._tag(run_id, {NOTE: above(note, present)})
        self._tag_experiment(content["views"])

    def _tag_experiment(self, tags: Mapping[str, str]) -> None:
        experiment_id = self._facts.experiment_id
        for key, value in tags.items():
            self._try(lambda key=key, value=value: self._client.set_experiment_tag(experiment_id, key, value))  # type: ignore[misc]

    def _search_resumed(self, parcel: PendingEvent) -> None:
        self._try(lambda: self._client.update_run(self._facts.run_id, status="RUNNING"))

    def _files(self, parcel: PendingEvent) -> None:
        number, folder = parcel.entry.content["number"], self._outbox.path / parcel.entry.content["parcel"]
        run_id = self._facts.run_id if number is None else self._runs.get(number)
        if folder.exists() and run_id:  # else it was delivered by a process that could not say so any more
            self._try(lambda: self._client.log_artifacts(run_id, str(folder)))

    def _search_result(self, parcel: PendingEvent) -> None:
        content = parcel.entry.content
        metrics = [Metric(name, value, parcel.entry.at_ms, 0) for name, value in content["metrics"].items()]
        if best_run := self._runs.get(content["number"]):
            self._tag(self._facts.run_id, {"best_trial": content["label"], "best_run": best_run})
        self._try(lambda: self._client.log_batch(self._facts.run_id, metrics=metrics))
        for number, in_front in content["front"]:
            if run_id := self._runs.get(number):
                self._tag(run_id, {"front": str(in_front).lower()})  # one that is resumed may lose its place

    def _search_ended(self, parcel: PendingEvent) -> None:
        run_id, status, at_ms = self._facts.run_id, parcel.entry.content["status"], parcel.entry.at_ms
        self._try(lambda: self._client.set_terminated(run_id, status, end_time=at_ms))

    # --- runs

    def _known_run(self, parcel: PendingEvent) -> str:
        assert parcel.trial is not None
        return self._runs.get(parcel.trial.number) or self._create(parcel.trial)

    def _look_around(self) -> None:
        """Find the runs that are there; of two for one trial the one that was written to."""
        for run in sorted(self._children(), key=lambda run: len(run.data.metrics)):
            self._runs[int(run.data.tags["trial_number"])] = run.info.run_id
        self._unsure = False

    def _children(self) -> list[Run]:
        return self._find(f"tags.`mlflow.parentRunId` = '{self._facts.run_id}'")

    def _find(self, query: str) -> list[Run]:
        found: list[Run] = self._ask(lambda: find_runs(self._client, self._facts.experiment_id, query))
        return found

    def _create(self, trial: TrialRecord) -> str:
        tags = self._tags | {
            "mlflow.parentRunId": self._facts.run_id,
            "mlflow.source.name": "search.run",
            "mlflow.runColor": colour(trial.number),  # MLflow's own, made of the run's id, are often the same
            "trial_number": str(trial.number),
        }
        tags |= {"mlflow.source.git.commit": trial.commit} if trial.commit else {}
        tags |= {"preset": trial.preset} if trial.preset else {}
        started_ms = int(trial.started * 1000)
        run = self._ask(
            lambda: self._client.create_run(
                self._facts.experiment_id, start_time=started_ms, tags=tags, run_name=trial.label
            )
        )
        run_id = self._runs[trial.number] = str(run.info.run_id)  # its parameters come with its first entry
        return run_id

    def _delete_doubles(self) -> None:
        """Runs that were made although no answer came, by MLflow's own client too: the one that was written to stays.

        Of each trial, and of the search.
        """
        try:
            token = self._ask(lambda: self._client.get_run(self._facts.run_id)).data.tags.get("token", "")
            doubles = [run for run in self._find(f"tags.token = '{token}'") if run.info.run_id != self._facts.run_id]
            for run in self._children():
                number = int(run.data.tags["trial_number"])
                if run.info.run_id != self._runs.setdefault(number, run.info.run_id):
                    doubles.append(run)
        except _Refused as refused:  # somebody has deleted the search's own run
            self.refused.append(str(refused))
            return
        for run in doubles:
            self._try(lambda run=run: self._client.delete_run(run.info.run_id))  # type: ignore[misc]

    # --- writing

    def _write_rows(self, number: int) -> None:
        rows, run_id = self._rows.pop(number, []), self._runs[number]
        if rows and self._distrust:
            present = self._present_rows(number)
            rows = [row for row in rows if (row.key, row.step) not in present]
        for first in range(0, len(rows), _ROWS):
            self._write_batch(run_id, rows[first : first + _ROWS])

    def _present_rows(self, number: int) -> set[tuple[str, int]]:
        if number not in self._present:
            run_id = self._runs[number]
            names = self._ask(lambda: self._client.get_run(run_id)).data.metrics
            histories = [self._ask(lambda name=name: self._client.get_metric_history(run_id, name)) for name in names]  # type: ignore[misc]
            self._present[number] = {(row.key, row.step) for history in histories for row in history}
        return self._present[number]

    def _write_batch(self, run_id: str, rows: list[Metric]) -> None:
        """One row that is refused must not cost the others."""
        try:
            self._ask(lambda: self._client.log_batch(run_id, metrics=rows))
        except _Refused as refused:
            if len(rows) == 1:
                self.refused.append(f"metric {rows[0].key} of step {rows[0].step}: {refused}")
                return
            half = len(rows) // 2
            self._write_batch(run_id, rows[:half])
            self._write_batch(run_id, rows[half:])

    def _tag(self, run_id: str, tags: Mapping[str, object]) -> None:
        batch = [RunTag(key, str(value)[:LONGEST]) for key, value in tags.items()]
        self._try(lambda: self._client.log_batch(run_id, tags=batch))

    def _try(self, write: Callable[[], object]) -> None:
        """What the server will never take is put down and left."""
        try:
            self._ask(write)
        except _Refused as refused:
            self.refused.append(str(refused))

    def _ask(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            if status_of(error) in NEVER:
                raise _Refused(first_line(error)) from error
            raise Away(first_line(error)) from error
