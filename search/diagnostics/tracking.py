"""Whether MLflow can be reached and written to, from here and from the nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from packaging.version import Version

from search.config.environment import changed_environment
from search.config.redaction import first_line
from search.config.settings import JOURNAL
from search.diagnostics.context import Setup
from search.diagnostics.database import check_database
from search.diagnostics.finding import Finding, alike, fine, warning, wrong
from search.diagnostics.probes.network import reach, reach_port
from search.tracking.client import MlflowClient, MlflowException, embedded_uri
from search.workloads import WORKLOADS

_LOGIN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or write ~/.mlflow/credentials (mlflow/README.md)"
_ONE_SHORT_TRY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def check(setup: Setup) -> Iterator[Finding]:
    """A server by its address, or a database by its own; without either the one in the storage."""
    uri, scheme = setup.server, urlsplit(setup.server or "").scheme.partition("+")[0]
    if uri is None:
        yield from _embedded(setup)
    elif uri == JOURNAL:
        yield fine("tracking", "no server is asked; what happens waits in the search's journal until --sync")
    elif scheme in ("http", "https"):
        yield from _server(setup, uri.rstrip("/"))
    elif scheme in _DATABASES:
        yield from check_database(uri)
        yield from _from_nodes(setup, _public(uri))
    else:
        mend = "mlflow server (mlflow/README.md), and its address with --tracking-uri"
        yield wrong("tracking", uri, "http://..., https://... or a database", mend)


def _embedded(setup: Setup) -> Iterator[Finding]:
    if not setup.folder:
        mend = "name a server with --tracking-uri, see mlflow/README.md"
        yield wrong("tracking", f"no server, and {setup.storage} is no folder for a database", "one of both", mend)
        return
    uri = embedded_uri(setup.folder)
    if Path(uri.removeprefix("sqlite:///")).exists():
        yield from check_database(uri)
    else:
        yield fine("tracking", f"a database in {setup.storage}, which the first search makes")


def _server(setup: Setup, uri: str) -> Iterator[Finding]:
    status, told = reach(f"{_public(uri)}/health")
    if not status:
        mend = "start it (mlflow/README.md), or correct --tracking-uri (or $MLFLOW_TRACKING_URI)"
        yield wrong(f"server {uri}", f"no answer ({told})", "MLflow", mend)
        return
    with changed_environment(_ONE_SHORT_TRY):
        login = _login(uri)
        yield login
        if login.level == "fine":
            yield from _version(uri)
    yield from _from_nodes(setup, _public(uri))


def _public(uri: str) -> str:
    """The address without a name and a password that may stand in it."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _login(uri: str) -> Finding:
    """Read; then write a tag that is there once more, which changes nothing."""
    client, doing = MlflowClient(uri), "reading"
    try:
        experiments = [client.get_experiment_by_name(name) for name in WORKLOADS]
        for experiment in filter(None, experiments):
            doing = f"writing to experiment {experiment.name}"
            for key, value in list(experiment.tags.items())[:1]:
                client.set_experiment_tag(experiment.experiment_id, key, value)
    except MlflowException as error:
        return _refused(uri, error, doing)
    may = "may be read and written" if any(experiments) else "may be read; no experiment of ours is there yet"
    return fine("tracking", f"{uri} {may}")


def _refused(uri: str, error: MlflowException, doing: str) -> Finding:
    where, status, said = f"server {uri}", error.get_http_status_code(), first_line(error)
    if status == 401:
        user = os.environ.get("MLFLOW_TRACKING_USERNAME")
        who = f"for user {user}" if user else "without a name"
        return wrong(where, f"401, {who}", "a name and a password that it knows", _LOGIN)
    if "Host header" in said:
        mend = "add that name to MLFLOW_ALLOWED_HOSTS of the server (mlflow/README.md), or use one that is there"
        return wrong(where, "403, Invalid Host header", "a name of the server that it answers to", mend)
    if status == 403:
        return wrong(
            where, f"403: {doing} is not allowed", "the permission EDIT", "ask the server's administrator for it"
        )
    return wrong(where, f"{status}: {said}", "MLflow", "is this its address? look into the server's log")


def _version(uri: str) -> Iterator[Finding]:
    from mlflow.utils.credentials import get_default_host_creds  # with the name and password that its client uses
    from mlflow.utils.rest_utils import http_request

    answer = http_request(get_default_host_creds(uri), "/version", "GET", raise_on_status=False)
    there, here = answer.text.strip(), version("mlflow")
    if answer.status_code == 200 and Version(here).release[:2] > Version(there).release[:2]:
        mend = "upgrade the server (mlflow/README.md), or pip install mlflow=={} here"
        yield warning(f"MLflow of {uri}", there, f"{here} as here, or newer", mend.format(there))


def _from_nodes(setup: Setup, uri: str) -> Iterator[Finding]:
    """Trials never talk to it; a search that is run on a node, as Ray's jobs are, does. No password is sent."""
    parts = urlsplit(uri)
    if not setup.cluster or not parts.hostname:
        return
    if parts.scheme in ("http", "https"):
        answers = setup.cluster.ask(reach, f"{uri}/health", limit_s=setup.patience_s)
    elif parts.port:
        answers = setup.cluster.ask(reach_port, parts.hostname, parts.port, limit_s=setup.patience_s)
    else:
        return
    problems = answers.silent | {node: reason for node, (status, reason) in answers.of.items() if not status}
    for reason, nodes in alike(problems).items():
        found = f"no way to {uri} ({reason})"
        mend = "give the server an address that the nodes reach; trials run without, but no search may be started there"
        yield warning(f"tracking from {nodes}", found, "that it answers there too", mend)
    if len(problems) < len(setup.cluster.nodes):
        yield fine(
            "tracking", f"reached from {len(setup.cluster.nodes) - len(problems)} of {len(setup.cluster.nodes)} nodes"
        )
