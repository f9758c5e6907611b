"""Find the search that a promotion is of, and open its data again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import Any

from search.config.spec import unknown
from search.engine.upstream_in_directories import UpstreamModels
from search.engine.upstream_models import find_upstream_models
from search.errors import UsageError
from search.reporting.leaderboard import Leaderboard
from search.storage.location import Storage
from search.storage.names import DESCRIPTION, LEADERBOARD
from search.storage.search_dir import SearchDir
from search.storage.trial_record import TrialRecord
from search.tracking.client import Experiment
from search.workload import Data, Promotion, Workload
from trainables.base.checkpoint import BEST_FILE
from trainables.base.objectives import Goal
from trainables.data.files import DataSettings


@dataclass(frozen=True)
class SourceSearch:
    """A search that has a leaderboard, with its data and the upstream models that it builds on."""

    name: str
    workload: Workload
    leaderboard: Leaderboard
    data_settings: DataSettings
    epochs: int
    held: Mapping[str, Any]  # hyperparameters that were not searched
    data: Data  # joined with the predictions of the upstream models
    events: str  # fingerprint of the events alone, before that join
    upstream: UpstreamModels
    ended_well: bool  # False: it was interrupted
    raced: Mapping[str, TrialRecord] = field(default_factory=dict)  # trainings of its race that need not be repeated

    @property
    def goal(self) -> Goal:
        return replace(self.leaderboard.goal, directions=self.workload.directions)

    @property
    def promotion(self) -> Promotion:
        promotion = self.workload.promoted_by
        assert promotion is not None
        return promotion


def find_search(workload: Workload, name: str | None, storage: Storage) -> SearchDir:
    """Return the folder of the named search of the workload; without a name, of the last one that ended in good order.

    Raises
    ------
    UsageError
        There is none, it is of another workload, or it has no leaderboard.
    """
    if name is None:
        for stored in storage.names() if storage.url else ():
            SearchDir(storage, stored).fetch()
        return _newest(workload, storage)
    folder = SearchDir(storage, name)
    folder.fetch()
    if not folder.begun:
        raise unknown("search", name, tuple(found.path.name for found in _ended(workload, storage)))
    if (found := folder.description()["workload"]) != workload.name:
        raise UsageError(f"--search {name}: that is a search of {found}, not of {workload.name}.")
    if not (folder.path / LEADERBOARD).exists():
        raise UsageError(f"--search {name}: it has not ended. Resume it: python -m search.run ... --resume")
    return folder


def open_search(workload: Workload, folder: SearchDir, cache: Path, experiment: Experiment) -> SourceSearch:
    """Read the search in this folder, and load the data that its trials had.

    Raises
    ------
    UsageError
        The data have changed since.
    DataError, TrackingError
        The data cannot be read; an upstream model is gone.
    """
    description = folder.description()
    settings = workload.settings(**description["settings"])
    data = workload.load_data(settings, cache)
    events = data.fingerprint
    upstream = find_upstream_models(experiment, folder.storage, workload.builds_on, description["branches"], events)
    if workload.join:
        data = workload.join(data, upstream.models)
    if data.fingerprint != description["data"]:
        raise UsageError(
            f"The data of search {folder.path.name!r} have changed since: their fingerprint was "
            f"{description['data'][:12]} and is {data.fingerprint[:12]}. Bring the files back, or search again."
        )
    if data.objective_version != description["objective version"]:
        raise UsageError(
            f"The objective version of search {folder.path.name!r} is {description['objective version']!r}, here it is "
            f"{data.objective_version!r}: its values are not compared with those on the holdout. Search again."
        )
    return SourceSearch(
        name=folder.path.name,
        workload=workload,
        leaderboard=Leaderboard.from_dict(json.loads((folder.path / LEADERBOARD).read_text())),
        data_settings=settings,
        epochs=description["epochs"],
        held=description["held"],
        data=data,
        events=events,
        upstream=upstream,
        ended_well=folder.history.finished(),
        raced={one.label: one for one in folder.history.records() if _is_of_use(one)},
    )


def _is_of_use(record: TrialRecord) -> bool:
    """Whether a training of the race has weights, or shows that its point fails with another seed."""
    if record.repeats is None:
        return False
    if record.outcome == "complete":
        return record.checkpoint is not None and record.checkpoint.holds(BEST_FILE)
    return record.outcome == "diverged"


def _newest(workload: Workload, storage: Storage) -> SearchDir:
    """Prefer none that was interrupted, because it may find a better trial when it is resumed."""
    ended = sorted(_ended(workload, storage), key=lambda one: (one.path / LEADERBOARD).stat().st_mtime, reverse=True)
    if newest := next((folder for folder in ended if folder.history.finished()), None):
        return newest
    if ended:
        name = ended[0].path.name
        raise UsageError(
            f"No search of {workload.name} has ended in good order in {storage}: {name} was interrupted. Resume "
            f"it: {_command(workload)} --name {name} --resume; or promote what it has: --search {name}"
        )
    raise UsageError(
        f"No search of {workload.name} has ended in {storage}. Run one first: {_command(workload)}; or name another "
        "--storage."
    )


def _command(workload: Workload) -> str:
    return f"python -m search.run {quote(workload.word)}"


def _ended(workload: Workload, storage: Storage) -> Iterator[SearchDir]:
    """Yield searches of a workload that have a leaderboard, interrupted ones too, but no trainings of finalists."""
    for file in sorted((storage.folder / "searches").glob(f"*/{DESCRIPTION}")):
        folder = SearchDir(storage, file.parent.name)
        description: dict[str, Any] = folder.description()
        own = description["workload"] == workload.name and "finalists_of" not in description["facts"]["tags"]
        if own and (folder.path / LEADERBOARD).exists():
            yield folder
