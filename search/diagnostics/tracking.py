"""Whether MLflow can be reached and written to, from here and from the nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import version
from urllib.parse import urlsplit

from packaging.version import Version

from search.config.environment import changed_environment
from search.config.redaction import first_line
from search.config.settings import JOURNAL
from search.diagnostics.context import DiagnosticContext
from search.diagnostics.database import check_database
from search.diagnostics.finding import Finding, fine, nodes_by_text, warning, wrong
from search.diagnostics.probes.network import reach_port
from search.tracking.artifact_location import REMEDY, find_problem, server_folder, takes_files
from search.tracking.client import MlflowClient, MlflowException, embedded_uri
from search.tracking.http_client import get, proxy_of, reach_server, redirection
from search.tracking.server_calls import RefusedError, UnavailableError
from search.workloads import WORKLOADS

_LOGIN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or write ~/.mlflow/credentials (mlflow/README.md)"
_ONE_SHORT_TRY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def check(context: DiagnosticContext) -> Iterator[Finding]:
    """Check a server or a database by its URI, or else the database in the storage."""
    uri, scheme = context.server, urlsplit(context.server or "").scheme.partition("+")[0]
    if uri is None:
        yield from _check_embedded(context)
    elif uri == JOURNAL:
        yield fine("tracking", "no server is asked; what happens waits in the search's journal until --sync")
    elif scheme in ("http", "https"):
        yield from _check_server(context, uri.rstrip("/"))
    elif scheme in _DATABASES:
        yield from check_database(uri)
        yield from _check_from_nodes(context, _without_login(uri))
    else:
        fix = "mlflow server (mlflow/README.md), and its address with --tracking-uri"
        yield wrong("tracking", uri, "http://..., https://... or a database", fix)


def _check_embedded(context: DiagnosticContext) -> Iterator[Finding]:
    if not context.folder:
        found = f"no server, and {context.storage} is no folder for a database"
        yield wrong("tracking", found, "one of both", "name a server with --tracking-uri, see mlflow/README.md")
        return
    uri = embedded_uri(context.folder)
    if (context.folder / "mlflow" / "mlflow.db").exists():
        yield from check_database(uri)
    else:
        yield fine("tracking", f"a database in {context.storage}, which the first search makes")


def _check_server(context: DiagnosticContext, uri: str) -> Iterator[Finding]:
    with changed_environment(_ONE_SHORT_TRY):
        status, message = reach_server(uri)
        if not status:
            yield _silence(uri, message)
            return
        if new := redirection(uri):
            fix = f"--tracking-uri {new} (or $MLFLOW_TRACKING_URI), if that is MLflow itself and no login"
            yield wrong(
                f"server {uri}", f"that it redirects to {new}, and what is written gets lost there", "MLflow", fix
            )
            return
        login = _check_login(uri)
        yield login
        if login.level == "fine":
            yield from _check_version(uri)
            yield from _check_artifacts(uri)
    yield from _check_from_nodes(context, _without_login(uri))


def _silence(uri: str, reason: str) -> Finding:
    """Report a server that does not answer, with the fix for the most probable cause."""
    host, proxy = urlsplit(uri).hostname, proxy_of(uri)
    if proxy:
        found = f"no answer through the proxy {proxy} ({reason})"
        fix = f"export no_proxy=$no_proxy,{host} if the server is reached without it; else correct --tracking-uri"
        return wrong(f"server {uri}", found, "MLflow", fix)
    fix = "start it (mlflow/README.md), or correct --tracking-uri (or $MLFLOW_TRACKING_URI)"
    if "certificate" in reason:
        fix = "export MLFLOW_TRACKING_SERVER_CERT_PATH=FILE, the certificate of the authority that signed the server's"
    return wrong(f"server {uri}", f"no answer ({reason})", "MLflow", fix)


def _without_login(uri: str) -> str:
    """The address without a name and password."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _check_login(uri: str) -> Finding:
    """Read the experiments, and write a tag with the value that it has, which changes nothing."""
    client, action = MlflowClient(uri), "reading"
    try:
        experiments = [client.get_experiment_by_name(name) for name in WORKLOADS]
        for experiment in filter(None, experiments):
            action = f"writing to experiment {experiment.name}"
            for key, value in list(experiment.tags.items())[:1]:
                client.set_experiment_tag(experiment.experiment_id, key, value)
    except MlflowException as error:
        return _refusal(uri, error, action)
    allowed = "may be read and written" if any(experiments) else "may be read; no experiment of ours is there yet"
    through = f", through the proxy {proxy}" if (proxy := proxy_of(uri)) else ""
    return fine("tracking", f"{uri} {allowed}{through}")


def _refusal(uri: str, error: MlflowException, action: str) -> Finding:
    what, status, message = f"server {uri}", error.get_http_status_code(), first_line(error)
    if status == 401:
        user = os.environ.get("MLFLOW_TRACKING_USERNAME")
        found = f"401, for user {user}" if user else "401, without a name"
        return wrong(what, found, "a name and a password that the server accepts", _LOGIN)
    if "Host header" in message:
        fix = "add that name to MLFLOW_ALLOWED_HOSTS of the server (mlflow/README.md), or use one that is there"
        return wrong(what, "403, Invalid Host header", "a name of the server that it answers to", fix)
    if status == 403:
        found = f"403: {action} is not allowed"
        return wrong(what, found, "the permission EDIT", "ask the server's administrator for it")
    proxy = f" Is the proxy {proxy_of(uri)} in between? Then export no_proxy" if proxy_of(uri) else ""
    found = message if status == 500 else f"{status}: {message}"  # MLflow's client calls much that it meets 500
    return wrong(what, found, "MLflow", f"is this its address? look into the server's log.{proxy}")


def _check_version(uri: str) -> Iterator[Finding]:
    response = get(uri, "/version")
    there, here = response.text.strip(), version("mlflow")
    if response.status_code == 200 and Version(here).release[:2] > Version(there).release[:2]:
        fix = f"upgrade the server (mlflow/README.md), or pip install mlflow=={there} here"
        yield warning(f"MLflow of {uri}", there, f"{here} as here, or newer", fix)


def _check_artifacts(uri: str) -> Iterator[Finding]:
    """Test experiments whose files MLflow's client would write by itself; 0: the server's default."""
    client = MlflowClient(uri)
    found = [client.get_experiment_by_name(name) for name in WORKLOADS]
    for experiment in list(filter(None, found)) or client.search_experiments(filter_string="name = 'Default'"):
        location = experiment.artifact_location
        folder = server_folder(uri, location)
        if takes_files(location):
            continue
        what, expected = f"artifacts of experiment {experiment.name}", "a server that takes files itself"
        problem = _find_problem(client, experiment.experiment_id)
        if folder is None:
            yield (
                warning(what, problem) if problem else fine(what, f"in {location}, to which this machine writes itself")
            )
        elif problem == "":
            yield fine(what, f"in {folder}, which this machine shares with the server")
        else:
            found_there = "where no file from here arrives" if problem else "untested, as it has no run yet"
            yield warning(what, f"in {folder} of the server's machine, {found_there}", expected, REMEDY)


def _find_problem(client: MlflowClient, experiment_id: str) -> str | None:
    """Test the place of an experiment's files by its latest run; None: there is no run, or no answer."""
    runs = client.search_runs([experiment_id], max_results=1)
    try:
        return find_problem(client, runs[0].info.run_id) if runs else None
    except (RefusedError, UnavailableError):
        return None


def _check_from_nodes(context: DiagnosticContext, uri: str) -> Iterator[Finding]:
    """Connect from the nodes without a password, because a search that runs on a node, as Ray's jobs do, must."""
    parts = urlsplit(uri)
    if not context.cluster or not parts.hostname:
        return
    if parts.scheme in ("http", "https"):
        results = context.cluster.run(reach_server, uri, limit_s=context.node_limit_s)
    elif parts.port:
        results = context.cluster.run(reach_port, parts.hostname, parts.port, limit_s=context.node_limit_s)
    else:
        return
    problems = results.errors | {node: reason for node, (status, reason) in results.values.items() if not status}
    for reason, nodes in nodes_by_text(problems).items():
        found = f"no way to {uri} ({reason})"
        fix = "give the server an address that the nodes reach; trials run without, but no search may be started there"
        yield warning(f"tracking from {nodes}", found, "that it answers there too", fix)
    all_nodes = len(context.cluster.nodes)
    if len(problems) < all_nodes:
        yield fine("tracking", f"reached from {all_nodes - len(problems)} of {all_nodes} nodes")
