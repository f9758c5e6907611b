"""Read one search from its directory for a report, whether it has ended or not."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil
from optuna.trial import FrozenTrial

from search.config.catalogue import workload_of
from search.config.spec import unknown
from search.errors import UsageError
from search.reporting.html.plot_theme import RUNNING
from search.reporting.leaderboard import Leaderboard, LeaderboardSpec
from search.reporting.ranking import make_leaderboard
from search.storage.names import DESCRIPTION, LEADERBOARD, OWNER
from search.storage.search_dir import SearchDir
from search.storage.trial_record import study_trials
from search.tuning.study import read_study
from trainables.base.objectives import Goal, read_constraints

if TYPE_CHECKING:
    from search.storage.location import Storage
    from search.storage.trial_record import TrialRecord
    from search.workload import Workload

State = Literal["finished", "running", "interrupted", "failed"]
_STATES: Mapping[str, State] = {"FINISHED": "finished", "KILLED": "interrupted", "FAILED": "failed"}
_NAMED = 20  # searches that are named where one is not found


@dataclass(frozen=True)
class SearchSnapshot:
    """One search as its directory describes it now."""

    name: str
    path: Path  # of its directory
    state: State
    description: Mapping[str, Any]  # the content of search.json
    leaderboard: Leaderboard
    leaderboard_is_stored: bool  # else it was made for the report, with the naive predictors of an earlier end at most
    records: list[TrialRecord]  # of trials, by number; those that still run are "interrupted" here
    repeats: list[TrialRecord]  # the trainings of the race
    trials: list[FrozenTrial]  # of the study

    @property
    def goal(self) -> Goal:
        return self.leaderboard.goal

    @property
    def objective_version(self) -> str:
        return self.leaderboard.objective_version

    @property
    def workload(self) -> Workload | None:
        return workload_of(self.description)

    @cached_property
    def by_number(self) -> dict[int, TrialRecord]:
        return {record.number: record for record in self.records}

    @cached_property
    def complete(self) -> list[TrialRecord]:
        """Return the complete trials, best first."""
        return [self.by_number[row.number] for row in self.leaderboard.rows if row.rank and row.number is not None]

    @property
    def searched_names(self) -> list[str]:
        """Return the names of the hyperparameters that were searched, not held at a value."""
        return list(self.description["searched"])

    @property
    def seed(self) -> int | None:
        """Return the sampler's seed: trial n trains with ``seed + n``."""
        return next((record.hyperparameters["seed"] - record.number for record in self.records), None)

    def outcome_of(self, record: TrialRecord) -> str:
        """Return the outcome of a trial; a trial of a running search that has not ended is running."""
        outcome = str(record.outcome)
        return RUNNING if outcome == "interrupted" and self.state == "running" else outcome


def list_searches(storage: Storage) -> list[str]:
    """List the searches that have begun, the newest first; of a URL, those that this machine has a copy of."""
    found = (storage.folder / "searches").glob(f"*/{DESCRIPTION}")
    return [file.parent.name for file in sorted(found, key=lambda file: file.stat().st_mtime, reverse=True)]


def read_search(storage: Storage, name: str, state: State | None = None) -> SearchSnapshot:
    """Read the search of that name.

    Parameters
    ----------
    state : optional
        How the search has ended, where the caller is that search; else the directory is asked.

    Raises
    ------
    UsageError
        There is no such search, or its files are damaged.
    """
    folder = SearchDir(storage, name)
    if state is None:
        folder.fetch()
    if name not in list_searches(storage):
        raise _unknown_search(storage, folder, name)
    try:
        description = folder.description()
        if "objective version" not in description:
            raise ValueError(f"{DESCRIPTION} does not say what was searched")
        records = sorted(folder.history.records(), key=lambda record: record.number)
        trials = read_study(folder.path, name) or []
        stored = _stored_leaderboard(folder)
        state = state or _state(folder)
    except ValueError as error:
        raise UsageError(
            f"The files of search {name!r} in {folder.path} are damaged: {error}. Resume the search (--resume): that "
            "repairs what can be repaired."
        ) from error
    current = stored is not None and _is_current(stored, records)
    leaderboard = stored if stored is not None and current else _make_leaderboard(name, description, records, stored)
    repeats = [record for record in records if record.repeats is not None]
    own = study_trials(records)
    return SearchSnapshot(name, folder.path, state, description, leaderboard, current, own, repeats, trials)


def _unknown_search(storage: Storage, folder: SearchDir, name: str) -> UsageError:
    names = storage.names() if storage.url else list_searches(storage)
    near = get_close_matches(name, names, n=3, cutoff=0.45)
    where = storage if storage.url else folder.where.rpartition("/")[0]
    return unknown(f"search in {where}", name, tuple(dict.fromkeys([*near, *names[:_NAMED]])))


def _state(folder: SearchDir) -> State:
    if ending := folder.history.status():
        return _STATES[ending]
    return "running" if _owner_is_alive(folder.path / OWNER) or folder.locked_elsewhere() else "interrupted"


def _owner_is_alive(owner: Path) -> bool:
    """Return whether the process that owns the directory is alive; one on another host counts as alive."""
    try:
        content = json.loads(owner.read_text())
    except (OSError, ValueError):
        return False
    return bool(content["host"] != platform.node() or psutil.pid_exists(content["pid"]))


def _stored_leaderboard(folder: SearchDir) -> Leaderboard | None:
    file = folder.path / LEADERBOARD
    return Leaderboard.from_dict(json.loads(file.read_text())) if file.exists() else None


def _is_current(leaderboard: Leaderboard, records: list[TrialRecord]) -> bool:
    """Return whether no trial, nor a training of a race, has started or ended since the leaderboard was written."""
    outcomes = {row.label: row.outcome for row in leaderboard.rows if row.number is not None}
    outcomes |= leaderboard.race.trainings if leaderboard.race else {}
    return outcomes == {record.label: record.outcome for record in records}


def _make_leaderboard(
    name: str, description: Mapping[str, Any], records: list[TrialRecord], stored: Leaderboard | None
) -> Leaderboard:
    """Rank the trials so far, with the naive predictors and references of an earlier end of the search."""
    workload = workload_of(description)
    columns, directions = (workload.columns, workload.directions) if workload else ((), {})
    goal = Goal(description["objectives"], read_constraints(description["limits"]), directions)
    least = description.get("method", {}).get("min_effect", 0.0)
    spec = LeaderboardSpec(name, description["workload"], goal, columns, description["objective version"], least)
    scores: dict[str, dict[str, dict[str, float]]] = {"naive": {}, "reference": {}}
    for row in stored.rows if stored else ():
        if row.kind in scores:
            scores[row.kind][row.label] = row.metrics
    return make_leaderboard(spec, records, scores["naive"], scores["reference"])
