"""The search that a promotion is of: found, read, and its data opened again as it had them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.config.spec import unknown
from search.engine.upstream_models import UpstreamModels, find_upstream_models
from search.errors import UsageError
from search.reporting.leaderboard import Leaderboard
from search.storage.location import Storage
from search.storage.names import DESCRIPTION, LEADERBOARD
from search.storage.search_dir import SearchDir
from search.tracking.client import Experiment
from search.workloads import Data, Promotion, Workload
from trainables.base.objectives import Goal
from trainables.data.files import DataSettings


@dataclass(frozen=True)
class Subject:
    """A search with its result and its data; what it builds on, too."""

    name: str
    workload: Workload
    board: Leaderboard
    settings: DataSettings
    epochs: int
    held: Mapping[str, Any]  # hyperparameters that were not searched
    data: Data  # with what other models say of its events
    events: str  # fingerprint of these events alone
    branches: UpstreamModels
    whole: bool  # it ended in good order, not by an interruption

    @property
    def goal(self) -> Goal:
        return self.board.goal

    @property
    def promotion(self) -> Promotion:
        assert self.workload.promotion is not None
        return self.workload.promotion


def find_search(workload: Workload, name: str | None, storage: Storage) -> SearchDir:
    """The folder of that search of the workload; without a name, of the one that ended last in good order.

    Raises
    ------
    UsageError
        There is none, it is of another workload, or it has no result.
    """
    for one in (storage.names() if storage.url else ()) if name is None else (name,):
        SearchDir(storage, one).fetch()
    if name is None:
        return _newest(workload, storage)
    folder = SearchDir(storage, name)
    if not folder.begun:
        raise unknown("search", name, tuple(found.path.name for found in _ended(workload, storage)))
    if (what := folder.description()["workload"]) != workload.name:
        raise UsageError(f"--search {name}: that is a search of {what}, not of {workload.name}.")
    if not (folder.path / LEADERBOARD).exists():
        raise UsageError(f"--search {name}: it has not ended. Go on with it: python -m search.run ... --resume")
    return folder


def open_subject(workload: Workload, folder: SearchDir, cache: Path, experiment: Experiment) -> Subject:
    """The search in this folder, with the data that it had.

    Raises
    ------
    UsageError
        The data are not what they were.
    DataError, TrackingError
        They cannot be read; a model that the search builds on is gone.
    """
    description = folder.description()
    settings = workload.settings(**description["settings"])
    data = workload.load_data(settings, cache)
    events = data.fingerprint
    branches = find_upstream_models(experiment.client, workload.builds_on, description["branches"], events)
    if workload.join:
        data = workload.join(data, branches.models)
    if data.fingerprint != description["data"]:
        raise UsageError(
            f"The data of search {folder.path.name!r} have changed since: their fingerprint was "
            f"{description['data'][:12]} and is {data.fingerprint[:12]}. Bring the files back, or search again."
        )
    board = Leaderboard.from_dict(json.loads((folder.path / LEADERBOARD).read_text()))
    return Subject(
        name=folder.path.name,
        workload=workload,
        board=board,
        settings=settings,
        epochs=description["epochs"],
        held=description["held"],
        data=data,
        events=events,
        branches=branches,
        whole=folder.history.finished(),
    )


def _newest(workload: Workload, storage: Storage) -> SearchDir:
    """Of those that ended in good order; an interrupted one may go on and find a better trial."""
    ended = sorted(_ended(workload, storage), key=lambda one: (one.path / LEADERBOARD).stat().st_mtime, reverse=True)
    if whole := next((folder for folder in ended if folder.history.finished()), None):
        return whole
    if ended:
        name = ended[0].path.name
        raise UsageError(
            f"No search of {workload.name} has ended in good order in {storage}: {name} was interrupted. Go on with "
            f"it: python -m search.run {workload.name} --name {name} --resume; or promote what it has: --search {name}"
        )
    raise UsageError(
        f"No search of {workload.name} has ended in {storage}. Run one first: python -m search.run {workload.name}; or "
        "name another --storage."
    )


def _ended(workload: Workload, storage: Storage) -> Iterator[SearchDir]:
    """Searches of a workload that have a result, interrupted ones too, finalists of earlier promotions left out."""
    for file in sorted((storage.folder / "searches").glob(f"*/{DESCRIPTION}")):
        folder = SearchDir(storage, file.parent.name)
        description: dict[str, Any] = folder.description()
        own = description["workload"] == workload.name and "finalists_of" not in description["facts"]["tags"]
        if own and (folder.path / LEADERBOARD).exists():
            yield folder
