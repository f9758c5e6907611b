"""What a search cannot begin without in MLflow: server or database, experiment, the search's own run.

MLflow is imported here first, for it reads its settings then.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # compute nodes often have no way out
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# One more try for each request: what is longer away is waited for here. A run that this makes twice is found later.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from filelock import FileLock
from mlflow import MlflowClient as MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.entities import Metric as Metric
from mlflow.entities import Param as Param
from mlflow.entities import Run as Run
from mlflow.entities import RunTag as RunTag
from mlflow.entities.model_registry import ModelVersion as ModelVersion
from mlflow.exceptions import MlflowException as MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from search.config.settings import JOURNAL
from search.errors import TrackingError, UsageError, first_line, without_passwords
from search.tracking.run_info import OwnRun, RunFacts

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.WARNING)

CHAMPION = "champion"  # alias of the promoted version of a registered model
NEVER = {400, 404, 409, 413, 422}  # answers that trying again will not change
_PAUSES_S = (0.2, 1.0, 3.0)  # between attempts of what a search cannot begin without
_EXPERIMENT = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens with runs, not with chat traces


def embedded_uri(storage: Path) -> str:
    """URI of the database that serves where no server is named."""
    return f"sqlite:///{storage / 'mlflow' / 'mlflow.db'}"


@dataclass(frozen=True)
class Experiment:
    """A workload's experiment on one server or database."""

    client: MlflowClient
    id: str


def open_experiment(uri: str | None, storage: Path, workload: str) -> Experiment:
    """The workload's experiment, made if need be.

    To be called before any worker starts: first-time migrations of a new database race with each other.

    Raises
    ------
    TrackingError
        The server or database cannot be used.
    UsageError
        No server is named, only the journal.
    """
    _refuse_journal(uri)
    artifacts = None
    if uri is None:
        uri = embedded_uri(storage)
        artifacts = (storage / "mlflow" / "artifacts" / workload).as_uri()
        (storage / "mlflow").mkdir(parents=True, exist_ok=True)
    try:
        _require_listener(uri)
        with FileLock(storage / ".tracking.lock"):
            client = MlflowClient(uri)
            experiment = _persist(lambda: client.get_experiment_by_name(workload))
            if experiment is not None and experiment.lifecycle_stage == "deleted":
                raise TrackingError(
                    f"Experiment {workload!r} was deleted in MLflow. Bring it back with: "
                    f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
                )
            if experiment is not None:
                return Experiment(client, str(experiment.experiment_id))
            new = _persist(
                lambda: (
                    _experiment_id(client, workload)
                    or client.create_experiment(workload, artifact_location=artifacts, tags=_EXPERIMENT)
                )
            )
            return Experiment(client, str(new))
    except TrackingError:
        raise
    except Exception as error:  # whatever a store or its database driver raises
        raise TrackingError(
            f"The MLflow tracking at {without_passwords(uri)} cannot be used: {first_line(error)}\n"
            f"Start the server, correct --tracking-uri (or $MLFLOW_TRACKING_URI), or leave it out to use a database "
            f"in {storage}."
        ) from error


def _experiment_id(client: MlflowClient, workload: str) -> str | None:
    """If somebody else, or a request whose answer was lost, has made it."""
    experiment = client.get_experiment_by_name(workload)
    return str(experiment.experiment_id) if experiment else None


def _persist(call: Callable[[], Any]) -> Any:
    """What a call returns, which a server that stumbles may spoil a few times."""
    for pause_s in _PAUSES_S:
        try:
            return call()
        except Exception as error:
            if status_of(error) in NEVER:
                raise
        time.sleep(pause_s)
    return call()


def status_of(error: Exception) -> int:
    """HTTP status that an error stands for; 503 where it has none: a connection, a lock, a disk."""
    if isinstance(error, MlflowException):
        return int(error.get_http_status_code())
    status = getattr(getattr(error, "response", None), "status_code", None)
    return int(status) if status else 503


def _require_listener(uri: str) -> None:
    """MLflow tries for minutes to reach a database that is not there; whoever just started a command wants to know."""
    parts = urlsplit(uri)
    if parts.scheme.partition("+")[0] in ("postgresql", "mysql", "mssql") and parts.hostname and parts.port:
        socket.create_connection((parts.hostname, parts.port), timeout=10).close()


def _refuse_journal(uri: str | None) -> None:
    if uri == JOURNAL:
        raise UsageError(
            "--tracking-uri journal (or $MLFLOW_TRACKING_URI) names no server, and this needs one. Name it. A search "
            "that ran without is delivered there first: python -m search.run --sync NAME --tracking-uri URI"
        )


def client_of(uri: str | None, storage: Path) -> MlflowClient:
    """A client, whether its server answers or not."""
    _refuse_journal(uri)
    return MlflowClient(uri or embedded_uri(storage))


def log_texts(experiment: Experiment, run_id: str, texts: Mapping[str, str]) -> list[str]:
    """Add text files to a run that has ended; returns what did not work."""
    failures = []
    for file, text in texts.items():
        try:
            experiment.client.log_text(run_id, text, file)
        except Exception as error:  # the server's fault must not end a search
            failures.append(f"{type(error).__name__}: {first_line(error)}")
    return failures


def find_runs(client: MlflowClient, experiment_id: str, query: str) -> list[Run]:
    """All of them, oldest first, however many pages they fill."""
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], query, max_results=1_000, order_by=["attributes.start_time ASC"], page_token=token
        )
        found += page
        token = page.token
        if not token:
            return found


def create_search_run(experiment: Experiment, own: OwnRun, facts: RunFacts) -> RunFacts:
    """Make the search's own run, or find the one with this token, if a killed process has made it; facts with its id.

    Raises
    ------
    TrackingError
        The server refused it, or is away.
    """
    client = experiment.client

    def find_or_create() -> Run:
        made = client.search_runs([experiment.id], f"tags.token = '{own.token}'", max_results=1)
        how: dict[str, Any] = {"run_name": own.name, "start_time": own.started_ms, "tags": dict(own.tags)}
        return made[0] if made else client.create_run(experiment.id, **how)

    try:
        run = _persist(find_or_create)
        params = [Param(key, value) for key, value in own.params.items()]
        _persist(lambda: client.log_batch(run.info.run_id, params=params))
        _persist(lambda: client.log_inputs(run.info.run_id, [dataset(facts.fingerprint, facts.source)]))
    except MlflowException as error:
        where = without_passwords(client.tracking_uri)
        raise TrackingError(f"The MLflow tracking at {where} refused: {first_line(error)}.") from error
    return replace(facts, run_id=str(run.info.run_id), experiment_id=experiment.id)


def find_champion(client: MlflowClient, workload: str) -> ModelVersion | None:
    """Return the promoted version of a workload's registered model, if there is one."""
    try:
        return client.get_model_version_by_alias(workload, CHAMPION)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no such model, no alias
            raise
        return None


def require_run(client: MlflowClient, facts: RunFacts) -> None:
    """Raise UsageError where a server answers that has never heard of the search's own run."""
    try:
        client.get_run(facts.run_id)
    except Exception as error:
        if status_of(error) == 404:  # any other: whoever delivers waits for it
            raise UsageError(
                f"The MLflow tracking at {without_passwords(client.tracking_uri)} has no run {facts.run_id}: this "
                "search was told to another server first, and stays there. Name that one with --tracking-uri."
            ) from error


def dataset(fingerprint: str, source: str) -> DatasetInput:
    return DatasetInput(
        Dataset(name="events", digest=fingerprint[:36], source_type="root", source=source[:60_000]),
        [InputTag("mlflow.data.context", "training")],
    )


@contextmanager
def system_metrics(experiment: Experiment | None, run_id: str, resumed: bool) -> Iterator[None]:
    """CPU, memory and GPUs of the driver's machine, logged while the search runs and the server answers."""
    if experiment is None:
        yield
        return
    uri = experiment.client.tracking_uri
    try:
        monitor = SystemMetricsMonitor(run_id, tracking_uri=uri, resume_logging=resumed)
    except Exception:  # it asks the server how far an earlier process was
        monitor = None
    if monitor:
        monitor.start()
    try:
        yield
    finally:
        if monitor:
            monitor.finish()
