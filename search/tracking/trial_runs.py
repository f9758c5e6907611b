"""Find and create the MLflow runs of a search's trials: one for the whole life of each trial."""

from __future__ import annotations

from search.storage.trial_record import TrialRecord
from search.tracking.client import MlflowClient, Run, find_runs
from search.tracking.mlflow_ui import colour
from search.tracking.run_info import RunFacts
from search.tracking.server_calls import call_server

_TRIAL_KINDS = {"search": "trial", "finalists": "finalist"}  # kind of the search's run: kind of its trials' runs


class TrialRuns:
    """The runs as far as they are known to exist.

    Its methods raise ``RefusedError`` and ``UnavailableError``.
    """

    def __init__(self, client: MlflowClient, facts: RunFacts) -> None:
        self._client, self._facts = client, facts
        self._tags = {**facts.tags, "kind": _TRIAL_KINDS[facts.tags.get("kind", "search")]}
        self.ids: dict[int, str] = {}  # by number of the trial

    def get(self, number: int | None) -> str | None:
        """Return the id of a trial's run, of the search's own run without a number, or None where there is none."""
        return self._facts.run_id if number is None else self.ids.get(number)

    def of(self, trial: TrialRecord) -> str:
        """Return the id of a trial's run, which is created if need be."""
        return self.ids.get(trial.number) or self._create(trial)

    def find(self) -> None:
        """Find the runs that exist; of two for one trial the one that is not deleted, or has more metrics.

        A run that was deleted is not replaced: it is completed once it is restored.
        """
        for run in sorted(self._search(self._of_trials, deleted=True), key=lambda run: (_active(run), _size(run))):
            self.ids[int(run.data.tags["trial_number"])] = run.info.run_id

    def duplicates(self) -> list[str]:
        """Return the ids of second runs of the search and of its trials."""
        token = call_server(lambda: self._client.get_run(self._facts.run_id)).data.tags.get("token", "")
        found = [run.info.run_id for run in self._search(f"tags.token = '{token}'")]
        second = [run_id for run_id in found if run_id != self._facts.run_id]
        for run in self._search(self._of_trials):
            run_id = str(run.info.run_id)
            if run_id != self.ids.setdefault(int(run.data.tags["trial_number"]), run_id):
                second.append(run_id)
        return second

    def is_deleted(self, run_id: str) -> bool:
        """Return whether somebody has deleted a run; False where the server does not say."""
        try:
            return not _active(self._client.get_run(run_id))
        except Exception:  # whatever a store raises: then its refusal is reported as it is
            return False

    @property
    def _of_trials(self) -> str:
        return f"tags.`mlflow.parentRunId` = '{self._facts.run_id}'"

    def _search(self, query: str, *, deleted: bool = False) -> list[Run]:
        found: list[Run] = call_server(
            lambda: find_runs(self._client, self._facts.experiment_id, query, deleted=deleted)
        )
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
        if trial.repeats is not None:  # of a race: not in the views of trials
            tags |= {"kind": "race", "race_of": trial.label.rpartition(".")[0], "race_of_number": str(trial.repeats)}
        started_ms = int(trial.started * 1000)
        run = call_server(
            lambda: self._client.create_run(
                self._facts.experiment_id, start_time=started_ms, tags=tags, run_name=trial.label
            )
        )
        run_id = self.ids[trial.number] = str(run.info.run_id)  # its parameters come with its first event
        return run_id


def _active(run: Run) -> bool:
    return str(run.info.lifecycle_stage) == "active"


def _size(run: Run) -> int:
    return len(run.data.metrics)
