"""Load the data of a search again, as its directory describes them."""

from __future__ import annotations

from typing import Any

from search.config.settings import Site
from search.engine.upstream_models import find_upstream_models
from search.errors import SearchError
from search.storage.search_dir import SearchDir
from search.tracking.client import open_experiment
from search.workload import Workload


def load_recorded_data(workload: Workload, directory: SearchDir, site: Site) -> Any:
    """Load the data that the trials of a search had, joined with the upstream models that it built on.

    Raises
    ------
    SearchError
        The data have changed since.
    DataError, TrackingError
        The files cannot be read; an upstream model is gone.
    """
    about, folder = directory.description(), directory.storage.folder
    data = workload.load_data(workload.settings(**about["settings"]), (site.cache or folder / "cache").resolve())
    if workload.join:
        tracked = about["facts"]["run_id"] and not site.offline
        experiment = open_experiment(site.server, folder, workload.name) if tracked else None
        named, events = about["branches"], data.fingerprint
        data = workload.join(
            data, find_upstream_models(experiment, directory.storage, workload.builds_on, named, events).models
        )
    if data.fingerprint != about["data"]:
        raise SearchError(
            f"The data of search {directory.path.name!r} have changed since: their fingerprint was "
            f"{about['data'][:12]} and is {data.fingerprint[:12]}. Bring the files back."
        )
    return data
