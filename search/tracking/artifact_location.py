"""Find out where the artifacts of an experiment lie, and whether files written here arrive there."""

from __future__ import annotations

import json
import shlex
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from search.config.redaction import first_line
from search.tracking.http_client import get
from search.tracking.server_calls import UnavailableError, call_server, lacks_access, status_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOOKS, _PAUSE_S = 3, 1.0  # at the folder by the server, because a network file system shows a new file late
_THROUGH_SERVER = ("mlflow-artifacts", "http", "https")  # the server takes files, and hands them on
REMEDY = (
    "start it so that it takes files itself: mlflow server --artifacts-destination DIR, without --no-serve-artifacts "
    "and --default-artifact-root (mlflow/README.md). An experiment keeps the place that it began with: rename it "
    "(mlflow experiments rename), and the next search begins a new one"
)


def artifact_folder(tracking_uri: str, storage: Path, workload: str) -> str | None:
    """Return the artifact location of a new experiment; None: the server decides.

    That of an SQLite database is beside its file, that of any other database in the storage, because MLflow's own
    default is a folder in the working directory.
    """
    scheme = urlsplit(tracking_uri).scheme.partition("+")[0]
    if scheme in ("http", "https"):
        return None
    folder = storage / "mlflow"
    if scheme == "sqlite":
        from sqlalchemy import make_url

        file = make_url(tracking_uri).database or ""
        if file and not file.startswith((":", "file:")):
            folder = Path(file).absolute().parent
    return (folder / "artifacts" / workload).as_uri()


def takes_files(location: str) -> bool:
    """Return whether the server takes the files of such a location, and keeps them wherever it likes."""
    return urlsplit(location).scheme in _THROUGH_SERVER


def server_folder(tracking_uri: str, location: str) -> Path | None:
    """Return the folder to which clients of a server write by themselves; None: it takes files, or an object store."""
    parts = urlsplit(location)
    if urlsplit(tracking_uri).scheme not in ("http", "https") or parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path) if parts.scheme else location)


def find_problem(client: MlflowClient, run_id: str) -> str:
    """Say why files of a run that are written here do not arrive; empty: they do.

    Of a folder the server is asked: it must list a file that is written to the run's folder here. The same path may
    exist on both machines without being the same folder. An object store is asked for a list. Nothing is left behind.

    Raises
    ------
    UnavailableError, RefusedError
        The server does not answer, or does not know the run.
    """
    uri = str(client.tracking_uri)
    location = str(call_server(lambda: client.get_run(run_id)).info.artifact_uri)
    if takes_files(location):
        return ""
    if urlsplit(location).scheme not in ("", "file"):
        return _store_problem(client, run_id, location)
    folder = server_folder(uri, location)
    if folder is None:
        return moved_problem(uri, location.removesuffix(f"/{run_id}/artifacts"))
    if _is_shared(uri, run_id, folder):
        return ""
    return (
        f"the MLflow server keeps artifacts in {folder.parents[1]} of its own machine, a folder that this machine does "
        f"not share; {REMEDY}"
    )


def _store_problem(client: MlflowClient, run_id: str, location: str) -> str:
    """Say what this machine, which writes to an object store by itself, lacks; empty: nothing, or nobody knows."""
    try:
        client.list_artifacts(run_id)
    except Exception as error:
        if not lacks_access(error) and status_of(error) != 404:  # who may write need not be allowed to list
            return ""
        return (
            f"MLflow keeps artifacts in {location.removesuffix(f'/{run_id}/artifacts')}, to which this machine writes "
            f"by itself and cannot: {first_line(error)}. Give it what is missing (the store's library, a login, the "
            f"bucket), or let the server take the files: mlflow/README.md"
        )
    return ""


def moved_problem(database: str, location: str) -> str:
    """Say that a database was moved without the folder that an experiment of it names; empty: it was not."""
    parts = urlsplit(location)
    folder = Path(unquote(parts.path) if parts.scheme else location)
    expected = artifact_folder(database, folder, folder.name) if database.startswith("sqlite") else None
    if expected in (None, folder.as_uri()) or folder.exists():
        return ""
    beside = unquote(urlsplit(expected).path).rpartition("/")[0]
    return (
        f"no folder {folder}, which the database names for them. Make it; or, if database and files were moved here "
        f"from there, a link: ln -s {shlex.quote(beside)} {shlex.quote(str(folder.parent))}"
    )


def _is_shared(uri: str, run_id: str, folder: Path) -> bool:
    new_folders = [place for place in (folder, *folder.parents) if not place.exists()]
    probe = folder / f"shared-{uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        return _server_lists(uri, run_id, probe.name)
    except OSError:
        return False
    finally:
        with suppress(OSError):
            probe.unlink()
        with suppress(OSError):
            for place in new_folders:
                place.rmdir()


def _server_lists(uri: str, run_id: str, name: str) -> bool:
    for look in range(_LOOKS):
        time.sleep(_PAUSE_S if look else 0)
        if name in call_server(lambda: _listed(uri, run_id)):
            return True
    return False


def _listed(uri: str, run_id: str) -> set[str]:
    """Return the names that the server finds in the folder of a run. (MLflow's client would list its own folder.)"""
    answer = get(uri, "/api/2.0/mlflow/artifacts/list", params={"run_id": run_id})
    if answer.status_code > 500:  # 500 itself: the server cannot read its folder
        raise UnavailableError(f"{answer.status_code} {answer.reason}")
    files = json.loads(answer.text).get("files", []) if answer.status_code == 200 else []
    return {str(file["path"]) for file in files}
