"""Find out where the artifacts of an experiment lie, and whether files written here arrive there."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from search.tracking.http_client import get
from search.tracking.server_calls import UnavailableError, call_server

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOOKS, _PAUSE_S = 3, 1.0  # at the folder by the server, because a network file system shows a new file late
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


def server_folder(tracking_uri: str, location: str) -> Path | None:
    """Return the folder to which clients of a server write by themselves; None: it takes files, or an object store."""
    parts = urlsplit(location)
    if urlsplit(tracking_uri).scheme not in ("http", "https") or parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path) if parts.scheme else location)


def find_problem(client: MlflowClient, run_id: str) -> str:
    """Say why files of a run that are written here do not arrive; empty: they do.

    The server is asked: it must list a file that is written to the run's folder here. The same path may exist on both
    machines without being the same folder. Nothing is left behind.

    Raises
    ------
    UnavailableError, RefusedError
        The server does not answer, or does not know the run.
    """
    uri = str(client.tracking_uri)
    if urlsplit(uri).scheme not in ("http", "https"):
        return ""
    location = str(call_server(lambda: client.get_run(run_id)).info.artifact_uri)
    folder = server_folder(uri, location)
    if folder is None or _is_shared(uri, run_id, folder):
        return ""
    return (
        f"the MLflow server keeps artifacts in {folder.parents[1]} of its own machine, a folder that this machine does "
        f"not share; {REMEDY}"
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
