"""Everything of a search that goes to MLflow; the only module that imports it."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # compute nodes often have no way out
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from filelock import FileLock
from mlflow import MlflowClient as MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities import Run as Run
from mlflow.exceptions import MlflowException as MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from search.errors import TrackingError, first_line, without_passwords
from search.leaderboard import Leaderboard, Row
from search.provenance import git_commit, user, versions
from search.records import TrialRecord
from search.writer import Writer
from trainables.goal import Goal
from trainables.trainable import BEST_FILE, LAST_FILE, REPORT_FOLDER

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.WARNING)

_STATUS = {
    "complete": "FINISHED",
    "stopped_early": "KILLED",
    "interrupted": "KILLED",
    "diverged": "FAILED",
    "failed": "FAILED",
}
_EXPERIMENT = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens with runs, not with chat traces


def embedded_uri(storage: Path) -> str:
    """URI of the database that serves where no server is named."""
    return f"sqlite:///{storage / 'mlflow' / 'mlflow.db'}"


@dataclass(frozen=True)
class Experiment:
    """A workload's experiment on one server or database."""

    client: MlflowClient
    id: str


@contextmanager
def _impatient() -> Iterator[None]:
    """MLflow retries a server that is away for minutes; whoever just started a command wants to know now."""
    names = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def open_experiment(uri: str | None, storage: Path, workload: str) -> Experiment:
    """The workload's experiment, made if need be.

    To be called before any worker starts: first-time migrations of a new database race with each other.

    Raises
    ------
    TrackingError
        The server or database cannot be used.
    """
    artifacts = None
    if uri is None:
        uri = embedded_uri(storage)
        artifacts = (storage / "mlflow" / "artifacts" / workload).as_uri()
        (storage / "mlflow").mkdir(parents=True, exist_ok=True)
    try:
        with _impatient(), FileLock(storage / ".tracking.lock"):
            client = MlflowClient(uri)
            experiment = client.get_experiment_by_name(workload)
            if experiment is not None and experiment.lifecycle_stage == "deleted":
                raise TrackingError(
                    f"Experiment {workload!r} was deleted in MLflow. Bring it back with: "
                    f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
                )
            if experiment is not None:
                return Experiment(client, str(experiment.experiment_id))
            new = client.create_experiment(workload, artifact_location=artifacts, tags=_EXPERIMENT)
            return Experiment(client, str(new))
    except TrackingError:
        raise
    except Exception as error:  # whatever a store or its database driver raises
        raise TrackingError(
            f"The MLflow tracking at {without_passwords(uri)} cannot be used: {first_line(error)}\n"
            f"Start the server, correct --tracking-uri (or $MLFLOW_TRACKING_URI), or leave it out to use a database "
            f"in {storage}."
        ) from error


def log_texts(experiment: Experiment, run_id: str, texts: Mapping[str, str]) -> list[str]:
    """Add text files to a run that has ended; returns what did not work."""
    failures = []
    for file, text in texts.items():
        try:
            experiment.client.log_text(run_id, text, file)
        except Exception as error:  # the server's fault must not end a search
            failures.append(f"{type(error).__name__}: {first_line(error)}")
    return failures


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class SearchRun:
    """The parent run of one search; with ``run_id`` that of an earlier process, which goes on."""

    def __init__(
        self,
        experiment: Experiment,
        *,
        name: str,
        settings: Mapping[str, Any],
        tags: Mapping[str, str],
        fingerprint: str,
        source: str,
        run_id: str | None = None,
    ) -> None:
        self.client, self.experiment_id = experiment.client, experiment.id
        self.interrupted = False  # by Ctrl-C: to be gone on with
        self.dataset = DatasetInput(
            Dataset(name="events", digest=fingerprint[:36], source_type="root", source=source[:60_000]),
            [InputTag("mlflow.data.context", "training")],
        )
        try:
            self.run_id = self._reopen(run_id) if run_id else self._create(name, settings, tags)
        except MlflowException as error:
            where = without_passwords(self.client.tracking_uri)
            again = "; --resume needs the --tracking-uri that the search began with" if run_id else ""
            raise TrackingError(f"The MLflow tracking at {where} refused: {first_line(error)}{again}.") from error
        self.writer = Writer()
        uri = self.client.tracking_uri
        self._system = SystemMetricsMonitor(self.run_id, tracking_uri=uri, resume_logging=bool(run_id))
        self._system.start()

    def _reopen(self, run_id: str) -> str:
        self.client.update_run(run_id, status="RUNNING")
        return run_id

    def _create(self, name: str, settings: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        run = self.client.create_run(
            self.experiment_id,
            run_name=name,
            tags={
                "kind": "search",
                "mlflow.user": user(),
                "mlflow.source.type": "LOCAL",
                "mlflow.source.name": without_passwords(" ".join(["python -m search.run", *sys.argv[1:]]))[:5_000],
                "mlflow.source.git.commit": git_commit(),
                "host": platform.node(),
                **versions(),
                **tags,
            },
        )
        params = [Param(key, str(value)[:6_000]) for key, value in settings.items() if value is not None]
        self.client.log_batch(run.info.run_id, params=params)
        self.client.log_inputs(run.info.run_id, [self.dataset])
        return str(run.info.run_id)

    def log_text(self, text: str, file: str) -> None:
        self.writer.put(lambda: self.client.log_text(self.run_id, text, file))

    @property
    def failures(self) -> Sequence[str]:
        """What could not be written."""
        return self.writer.failures

    def __enter__(self) -> SearchRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the run once all is written."""
        self._system.finish()
        status = "FAILED" if error else "KILLED" if self.interrupted else "FINISHED"
        self.writer.put(lambda: self.client.set_terminated(self.run_id, status))
        self.writer.close()


class TrialLogger:
    """The listener that writes one child run for each trial's whole life."""

    def __init__(self, search: SearchRun, goal: Goal, tags: Mapping[str, str]) -> None:
        self._search, self._client = search, search.client
        self._tags = {"kind": "trial", **tags}
        self._goal = goal
        self._run_ids: dict[int, str] = {}  # by number of the trial; for the writer's thread alone

    def trial_started(self, trial: TrialRecord) -> None:
        first = replace(trial, hyperparameters=dict(trial.hyperparameters))  # as now: the thread comes to it later
        self._search.writer.put(lambda: self._create(first))

    def _create(self, trial: TrialRecord) -> str:
        tags = self._tags | {
            "mlflow.parentRunId": self._search.run_id,
            "mlflow.source.name": "search.run",
            "mlflow.source.git.commit": git_commit(),
            "mlflow.user": user(),
            "trial_number": str(trial.number),
        }
        if trial.preset:
            tags["preset"] = trial.preset
        started_ms = int(trial.started * 1000)
        run = self._client.create_run(
            self._search.experiment_id, start_time=started_ms, tags=tags, run_name=trial.label
        )
        self._run_ids[trial.number] = run.info.run_id
        params = [Param(key, str(value)) for key, value in trial.hyperparameters.items()]
        self._client.log_batch(run.info.run_id, params=params)
        self._client.log_inputs(run.info.run_id, [self._search.dataset])
        return str(run.info.run_id)

    def trial_resumed(self, trial: TrialRecord) -> None:
        def write() -> None:
            run_id = self._run_id(trial)
            self._client.update_run(run_id, status="RUNNING")
            for tag in ("outcome", "reason"):
                self._client.delete_tag(run_id, tag)

        self._search.writer.put(write)

    def _run_id(self, trial: TrialRecord) -> str:
        """The trial's run: known, or of an earlier process, or made now where the server was away when it began."""
        return self._find(trial.number) or self._create(trial)

    def _find(self, number: int) -> str | None:
        if number not in self._run_ids:
            query = f"tags.`mlflow.parentRunId` = '{self._search.run_id}' and tags.trial_number = '{number}'"
            runs = self._client.search_runs([self._search.experiment_id], query, max_results=1)
            if not runs:
                return None
            self._run_ids[number] = runs[0].info.run_id
        return self._run_ids[number]

    def trial_retried(self, trial: TrialRecord) -> None:
        self._tag(trial, {"attempts": trial.attempts})

    def epoch_ended(self, trial: TrialRecord) -> None:
        now, step = _now_ms(), trial.epoch
        first = self._goal.objective  # with which the UI's plots begin
        names = sorted(trial.metrics, key=lambda name: name != first)
        batch = [Metric(name, float(trial.metrics[name]), now, step) for name in names]
        self._search.writer.put(lambda: self._client.log_batch(self._run_id(trial), metrics=batch))

    def trial_ended(self, trial: TrialRecord) -> None:
        assert trial.outcome is not None
        tags = {"outcome": trial.outcome, "reason": trial.reason, "host": trial.host, "device": trial.device}
        tags |= {"attempts": str(trial.attempts), "epoch": str(trial.epoch)}
        if trial.best:
            tags |= {
                "best_epoch": str(trial.best["epoch"]),
                f"best_{self._goal.objective}": f"{trial.best['value']:.6g}",
            }
        if trial.outcome == "complete" and self._goal.limits:
            tags["keeps_limits"] = str(self._goal.violation(trial.metrics) == 0).lower()
        self._tag(trial, {key: value for key, value in tags.items() if value})
        if trial.outcome == "complete":
            self._search.writer.put(lambda: self._log_files(trial))
        status, ended_ms = _STATUS[trial.outcome], int((trial.ended or time.time()) * 1000)
        self._search.writer.put(lambda: self._client.set_terminated(self._run_id(trial), status, end_time=ended_ms))

    def log_result(self, leaderboard: Leaderboard) -> None:
        """The best trial's name, run and scores, for the search's own run; a mark for each trial of a front."""
        best = leaderboard.best
        if best is None:
            return
        front = leaderboard.front if leaderboard.goal.several else []
        names = [*leaderboard.objectives, *(name for name in best.beside if name in best.metrics)]
        metrics = [Metric(name, best.metrics[name], _now_ms(), 0) for name in dict.fromkeys(names)]

        def write() -> None:
            tags = [RunTag("best_trial", best.label), RunTag("best_run", self._run_of(best))]
            self._client.log_batch(self._search.run_id, metrics=metrics, tags=tags)
            for row in front:
                self._client.set_tag(self._run_of(row), "front", "true")

        self._search.writer.put(write)

    def _run_of(self, row: Row) -> str:
        assert row.number is not None
        return self._find(row.number) or ""

    def log_comparison(self, trial: TrialRecord | None, folder: Path) -> None:
        """Figures of one trial among others, or, without a trial, of the whole search."""

        def write() -> None:
            run_id = self._run_id(trial) if trial else self._search.run_id
            self._client.log_artifacts(run_id, str(folder), "comparison")

        self._search.writer.put(write)

    def flush(self) -> None:
        """Return when all is written."""
        self._search.writer.flush()

    def _tag(self, trial: TrialRecord, tags: Mapping[str, object]) -> None:
        batch = [RunTag(key, str(value)[:5_000]) for key, value in tags.items()]
        self._search.writer.put(lambda: self._client.log_batch(self._run_id(trial), tags=batch))

    def _log_files(self, trial: TrialRecord) -> None:
        if trial.checkpoint is None:
            return
        run_id = self._run_id(trial)
        with trial.checkpoint.as_directory() as folder:
            if (report := Path(folder) / REPORT_FOLDER).exists():
                self._client.log_artifacts(run_id, str(report), REPORT_FOLDER)
            for file in filter(Path.exists, (Path(folder) / name for name in (BEST_FILE, LAST_FILE))):
                self._client.log_artifact(run_id, str(file), "checkpoint")
        self._client.log_text(run_id, json.dumps(trial.hyperparameters, indent=2), "hyperparameters.json")
