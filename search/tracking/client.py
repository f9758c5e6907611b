"""Open MLflow for a search: server or database, experiment, and the search's own run.

This module imports MLflow before any other does, because MLflow reads its settings at that moment.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # "View run ..." at each end of a run
# One more try for each request, because longer waits happen in our own code; ``finalize`` deletes duplicated runs.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from filelock import FileLock
from mlflow import MlflowClient as MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, ViewType
from mlflow.entities import Metric as Metric
from mlflow.entities import Param as Param
from mlflow.entities import Run as Run
from mlflow.entities import RunTag as RunTag
from mlflow.entities.model_registry import ModelVersion as ModelVersion
from mlflow.exceptions import MlflowException as MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from search.config.redaction import first_line, without_passwords
from search.config.settings import JOURNAL, absolute_database, quoted_in_uri
from search.errors import TrackingError, UsageError
from search.tracking.artifact_location import artifact_folder
from search.tracking.http_client import redirection
from search.tracking.run_info import OwnRun, RunFacts
from search.tracking.server_calls import NEVER, status_of

LEVELS = {name: logging.getLogger(name).level for name in ("mlflow", "alembic")}  # of these loggers otherwise
for _name in LEVELS:
    logging.getLogger(_name).setLevel(logging.WARNING)

CHAMPION = "champion"  # alias of the promoted version of a registered model
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}  # of databases, where a URI names none
_PAUSES_S = (0.2, 1.0, 3.0)  # between attempts of requests without which a search cannot begin
_EXPERIMENT = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens with runs, not with chat traces


def embedded_uri(storage: Path) -> str:
    """Return the URI of the database that is used where no server is named.

    SQLAlchemy reads ``%`` and ``?`` of a path as parts of a URI, so they are quoted. MLflow would make a folder of the
    quoted name; it does not where the URI names the driver.
    """
    path = str(storage / "mlflow" / "mlflow.db")
    quoted = quoted_in_uri(path)
    return f"sqlite:///{path}" if quoted == path else f"sqlite+pysqlite:///{quoted}"


@dataclass(frozen=True)
class Experiment:
    """A workload's experiment on one server or database."""

    client: MlflowClient
    id: str


def open_experiment(uri: str | None, storage: Path, workload: str) -> Experiment:
    """Open the workload's experiment, or create it.

    Call this before any worker starts, because the first migrations of a new database race with each other.

    Raises
    ------
    TrackingError
        The server or database cannot be used.
    UsageError
        The URI is the word ``journal``: no server is named.
    """
    _refuse_journal(uri)
    if uri is None:
        uri = embedded_uri(storage)
        (storage / "mlflow").mkdir(parents=True, exist_ok=True)
    _require_scheme(uri)
    uri = absolute_database(uri)
    try:
        _require_database(uri)
        with FileLock(storage / ".tracking.lock"):
            client = MlflowClient(uri)
            return Experiment(client, _find_or_create(client, workload, artifact_folder(uri, storage, workload)))
    except TrackingError:
        raise
    except Exception as error:  # whatever a store or its database driver raises
        raise TrackingError(
            f"The MLflow tracking at {without_passwords(uri)} cannot be used: {first_line(error)}{_elsewhere(uri)}\n"
            f"Start the server, correct --tracking-uri (or $MLFLOW_TRACKING_URI), or leave it out to use a database "
            f"in {storage}. What is in between, as proxies and certificates: python -m search.doctor --only tracking"
        ) from error


def _find_or_create(client: MlflowClient, workload: str, artifacts: str | None) -> str:
    """Return the id of the workload's experiment."""
    experiment = _retry(lambda: client.get_experiment_by_name(workload))
    if experiment is None:
        return str(_retry(lambda: _create(client, workload, artifacts)))
    if experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"Experiment {workload!r} was deleted in MLflow. Bring it back with: "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        )
    return str(experiment.experiment_id)


def _create(client: MlflowClient, workload: str, artifacts: str | None) -> str:
    """Create the experiment, unless another process, or a request whose answer was lost, has created it."""
    experiment = client.get_experiment_by_name(workload)
    if experiment is not None:
        return str(experiment.experiment_id)
    return str(client.create_experiment(workload, artifact_location=artifacts, tags=_EXPERIMENT))


def _retry(call: Callable[[], Any]) -> Any:
    """Return what a call returns, after a few more attempts if the server fails for a moment."""
    for pause_s in _PAUSES_S:
        try:
            return call()
        except Exception as error:
            if status_of(error) in NEVER:
                raise
        time.sleep(pause_s)
    return call()


def _require_scheme(uri: str) -> None:
    """Refuse what MLflow would take for a folder."""
    if re.match(r"[\w.+-]*://|databricks|file:", uri.strip()) or not uri.strip():
        return
    bare = uri.rpartition("@")[2]  # without a password
    guess = "" if re.match(r"[./~]", bare) else f" Did you mean http://{bare}?"  # a path is no address
    raise TrackingError(
        f"--tracking-uri {bare} (or $MLFLOW_TRACKING_URI) cannot be used: expected http://HOST:PORT, https://HOST or a "
        f"database such as sqlite:///FILE.{guess}"
    )


def _elsewhere(uri: str) -> str:
    """Say that a server sends its clients to another address, as from http to https; empty: it does not."""
    new = redirection(uri) if urlsplit(uri).scheme in ("http", "https") else ""
    return f" (it redirects to {new}: name that address, if it is MLflow's)" if new else ""


def _require_database(uri: str) -> None:
    """Fail at once where a database does not open, because MLflow would try for minutes."""
    parts = urlsplit(uri)
    scheme = parts.scheme.partition("+")[0]
    if scheme not in ("sqlite", *_PORTS):
        return
    from sqlalchemy import NullPool, create_engine, make_url

    if parts.hostname and scheme in _PORTS:  # a driver itself may wait for minutes
        socket.create_connection((parts.hostname, parts.port or _PORTS[scheme]), timeout=10).close()
    folder = Path(make_url(uri).database or "").parent
    if scheme != "sqlite" or folder.is_dir():  # else MLflow makes the folder, or fails at once
        create_engine(uri, poolclass=NullPool).connect().close()


def _refuse_journal(uri: str | None) -> None:
    if uri == JOURNAL:
        raise UsageError(
            "--tracking-uri journal (or $MLFLOW_TRACKING_URI) names no server, and this needs one. Name it. A search "
            "that ran without is exported there first: python -m search.run --sync NAME --tracking-uri URI"
        )


def client_of(uri: str | None, storage: Path) -> MlflowClient:
    """Return a client, whether its server answers or not."""
    _refuse_journal(uri)
    return MlflowClient(uri or embedded_uri(storage))


def find_champion(client: MlflowClient, workload: str) -> ModelVersion | None:
    """Return the promoted version of a workload's registered model, if there is one."""
    try:
        return client.get_model_version_by_alias(workload, CHAMPION)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no such model, no alias
            raise
        return None


def find_runs(client: MlflowClient, experiment_id: str, query: str, *, deleted: bool = False) -> list[Run]:
    """Return all runs that match a query, oldest first, from all pages of the answer; also deleted ones if asked."""
    kind = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], query, kind, max_results=1_000, order_by=["attributes.start_time ASC"], page_token=token
        )
        found += page
        token = page.token
        if not token:
            return found


def create_search_run(experiment: Experiment, own: OwnRun, facts: RunFacts) -> RunFacts:
    """Create the search's own run, unless a killed process has created it with this token; return facts with its id.

    Raises
    ------
    TrackingError
        The server refuses it, or does not answer.
    """
    client = experiment.client

    def find_or_create() -> Run:
        found = client.search_runs([experiment.id], f"tags.token = '{own.token}'", max_results=1)
        if found:
            return found[0]
        return client.create_run(experiment.id, run_name=own.name, start_time=own.started_ms, tags=dict(own.tags))

    try:
        run = _retry(find_or_create)
        params = [Param(key, value) for key, value in own.params.items()]
        _retry(lambda: client.log_batch(run.info.run_id, params=params))
        _retry(lambda: client.log_inputs(run.info.run_id, [dataset(facts.fingerprint, facts.source)]))
    except MlflowException as error:
        where = without_passwords(client.tracking_uri)
        raise TrackingError(
            f"The MLflow tracking at {where} refused: {first_line(error)}{_elsewhere(where)}."
        ) from error
    return replace(facts, run_id=str(run.info.run_id), experiment_id=experiment.id)


def require_run(client: MlflowClient, facts: RunFacts) -> None:
    """Raise UsageError where a server answers that does not have the search's own run."""
    try:
        client.get_run(facts.run_id)
    except Exception as error:
        if status_of(error) == 404:  # the exporter waits for the end of any other error
            raise UsageError(
                f"The MLflow tracking at {without_passwords(client.tracking_uri)} has no run {facts.run_id}: this "
                "search was exported to another server first, and stays there. Name that one with --tracking-uri."
            ) from error


def dataset(fingerprint: str, source: str) -> DatasetInput:
    return DatasetInput(
        Dataset(name="events", digest=fingerprint[:36], source_type="root", source=source[:60_000]),
        [InputTag("mlflow.data.context", "training")],
    )


@contextmanager
def system_metrics(experiment: Experiment | None, run_id: str, resumed: bool) -> Iterator[None]:
    """Log CPU, memory and GPUs of the driver's machine while the search runs and the server answers."""
    if experiment is None:
        yield
        return
    uri = experiment.client.tracking_uri
    try:
        monitor = SystemMetricsMonitor(run_id, tracking_uri=uri, resume_logging=resumed)
    except Exception:  # the monitor asks the server for its last step of an earlier process
        monitor = None
    if monitor:
        monitor.start()
    try:
        yield
    finally:
        if monitor:
            monitor.finish()
