"""Reads what a report page is made of: one search, as its folder tells of it, whether it has ended or not."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import psutil
from optuna.trial import FrozenTrial

from search.config.spec import Plan, unknown
from search.errors import UsageError
from search.reporting.html.plot_theme import RUNNING
from search.reporting.leaderboard import Leaderboard, Row, make_leaderboard
from search.storage.location import Storage
from search.storage.names import DESCRIPTION, LEADERBOARD, OWNER
from search.storage.search_dir import SearchDir
from search.storage.trial_record import TrialRecord
from search.tuning.optuna_searcher import Space, read_study
from search.workloads import WORKLOADS, Workload
from trainables.base.objectives import Goal

State = Literal["finished", "running", "interrupted", "failed"]
_STATES: Mapping[str, State] = {"FINISHED": "finished", "KILLED": "interrupted", "FAILED": "failed"}
_NAMED = 20  # searches that are named where one is not found


@dataclass(frozen=True)
class SearchSnapshot:
    """One search: what it was to do, and what became of it so far."""

    name: str
    path: Path  # of its folder
    state: State
    about: Mapping[str, Any]  # its description
    leaderboard: Leaderboard
    records: list[TrialRecord]  # by number; those that still go on are "interrupted" here
    trials: list[FrozenTrial]  # of the study
    leaderboard_is_kept: bool  # else it was made for the page, without naive predictors that nobody has written down

    @property
    def goal(self) -> Goal:
        return self.leaderboard.goal

    @property
    def version(self) -> str:
        return self.leaderboard.objective_version

    @property
    def workload(self) -> Workload | None:
        return WORKLOADS.get(self.about["workload"])

    @cached_property
    def by_number(self) -> dict[int, TrialRecord]:
        return {record.number: record for record in self.records}

    @cached_property
    def complete(self) -> list[TrialRecord]:
        """Complete trials, best first."""
        return [self.by_number[row.number] for row in self.leaderboard.rows if row.rank and row.number is not None]

    @property
    def searched(self) -> list[str]:
        """Names of the hyperparameters that were searched."""
        return list(self.about["searched"])

    @property
    def seed(self) -> int | None:
        """Of the sampler: trial n trains with ``seed + n``."""
        return next((record.hyperparameters["seed"] - record.number for record in self.records), None)

    def outcome_of(self, record: TrialRecord) -> str:
        """What became of a trial; one of a running search that has not ended is running."""
        outcome = str(record.outcome)
        return RUNNING if outcome == "interrupted" and self.state == "running" else outcome


def names_of(storage: Storage) -> list[str]:
    """Searches that have begun, the newest first; of a URL, as far as this machine has seen them."""
    found = (storage.folder / "searches").glob(f"*/{DESCRIPTION}")
    return [file.parent.name for file in sorted(found, key=lambda file: file.stat().st_mtime, reverse=True)]


def read_search(storage: Storage, name: str, state: State | None = None) -> SearchSnapshot:
    """The search of that name.

    Parameters
    ----------
    state : optional
        Known to whoever calls at the end of the search itself; else found out.

    Raises
    ------
    UsageError
        There is none, or its files are damaged.
    """
    folder = SearchDir(storage, name)
    if state is None:
        folder.fetch()
    if name not in names_of(storage):
        names = storage.names() if storage.url else names_of(storage)
        near = get_close_matches(name, names, n=3, cutoff=0.45)
        where = folder.where.rpartition("/")[0] if not storage.url else storage
        raise unknown(f"search in {where}", name, tuple(dict.fromkeys([*near, *names[:_NAMED]])))
    try:
        about = folder.description()
        records = sorted(folder.history.records(), key=lambda record: record.number)
        trials = read_study(folder.path, name) or []
        kept = _kept_leaderboard(folder)
        state = state or _state(folder)
        if "objective version" not in about:
            raise ValueError(f"{DESCRIPTION} does not say what was searched")
    except ValueError as error:
        raise UsageError(
            f"The files of search {name!r} in {folder.path} are damaged: {error}. Going on with it (--resume) mends "
            "what can be mended."
        ) from error
    whole = kept is not None and _tells_of(kept, records)
    board = kept if kept is not None and whole else _make_leaderboard(name, about, records, kept)
    return SearchSnapshot(name, folder.path, state, about, board, records, trials, whole)


def _state(folder: SearchDir) -> State:
    if ending := folder.history.status():
        return _STATES[ending]
    return "running" if _held(folder.path / OWNER) or folder.locked_elsewhere() else "interrupted"


def _held(owner: Path) -> bool:
    """Whether the process that holds the folder still lives; on another host nobody here can say that it died."""
    try:
        content = json.loads(owner.read_text())
    except (OSError, ValueError):
        return False
    return bool(content["host"] != platform.node() or psutil.pid_exists(content["pid"]))


def _kept_leaderboard(folder: SearchDir) -> Leaderboard | None:
    file = folder.path / LEADERBOARD
    return Leaderboard.from_dict(json.loads(file.read_text())) if file.exists() else None


def _tells_of(leaderboard: Leaderboard, records: list[TrialRecord]) -> bool:
    """Whether nothing has happened since it was written."""
    told = {row.number: row.outcome for row in leaderboard.rows if row.number is not None}
    return told == {record.number: record.outcome for record in records}


def _make_leaderboard(
    name: str, about: Mapping[str, Any], records: list[TrialRecord], kept: Leaderboard | None
) -> Leaderboard:
    """Of a search that has not come to its end; with the naive predictors of an earlier end, where it had one."""
    known: dict[str, dict[str, Row]] = {"naive": {}, "reference": {}}
    for row in kept.rows if kept else ():
        if row.kind in known:
            known[row.kind][row.label] = row
    scores = {kind: {label: row.metrics for label, row in rows.items()} for kind, rows in known.items()}
    version = about["objective version"]
    return make_leaderboard(_plan(name, about), records, scores["naive"], version, scores["reference"])


def _plan(name: str, about: Mapping[str, Any]) -> Plan:
    """What the search does, as far as its folder says so and a leaderboard asks."""
    workload = WORKLOADS.get(about["workload"])
    if workload is None:
        raise unknown("workload", about["workload"], tuple(WORKLOADS))
    held = about["held"]
    return Plan(
        workload=workload,
        name=name,
        space=Space(suggest=workload.suggest, held=held, preset_held=held, presets=about["presets"]),
        trials=about["trials"],
        trials_asked=True,
        added=False,
        epochs=about["epochs"],
        goal=Goal(about["objectives"], about["limits"]),
        scheduler="",
        demo=False,
    )
