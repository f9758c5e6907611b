"""The best trials of a search, trained again with new seeds: a search of their own, which goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from search.config.flags import Command
from search.config.settings import Budget, Method, Site
from search.config.spec import Plan
from search.engine.search_run import run_search
from search.errors import UsageError
from search.promotion.evaluate import kept_model
from search.promotion.source_search import Subject
from search.reporting.leaderboard import Row
from search.storage.location import Storage
from search.storage.search_dir import SearchDir
from search.storage.trial_record import TrialRecord
from search.tuning.optuna_searcher import Space
from trainables.base.training import TrainedModel

FIRST_SEED = 1_000_000  # no trial of a search comes near
KIND = "finalists"  # of the MLflow run: none of the searches among which a newest or a best one is looked for


@dataclass(frozen=True)
class Finalist:
    """A trial of the search that is trained again."""

    label: str
    value: float | None  # what the search has of it
    hyperparameters: Mapping[str, Any]  # but epochs and seed
    seeds: int

    @property
    def trainings(self) -> list[str]:
        """Their names."""
        return [f"{self.label}.seed{number}" for number in range(1, self.seeds + 1)]


def choose(subject: Subject, top: int, seeds: int) -> list[Finalist]:
    """The best complete trials, presets too. One that was stopped early, or failed, is none, whatever its number.

    Raises
    ------
    UsageError
        No trial is complete.
    """
    ranked = sorted((row for row in subject.board.rows if row.rank), key=_rank)
    if not ranked:
        raise UsageError(
            f"No trial of search {subject.name!r} is complete: {_told(subject.board.outcomes)}. There is nothing to "
            "promote; run it for longer."
        )
    return [Finalist(row.label, row.value, _point(row.hyperparameters), seeds) for row in ranked[:top]]


def yardstick(subject: Subject, finalists: Sequence[Finalist], storage: Storage) -> list[Finalist]:
    """The preset that is compared with, to be trained once; nobody where the finalists or the search have it.

    A search keeps the weights of its best trials alone; a preset that has lost them is trained again.
    """
    name = subject.promotion.preset
    if name in {one.label for one in finalists} or searched_preset(subject, storage):
        return []
    point = {**subject.held, **subject.workload.presets[name]}
    return [Finalist(name, None, _point(subject.workload.config(**point).model_dump()), seeds=1)]


def searched_preset(subject: Subject, storage: Storage) -> TrainedModel | None:
    """The preset as the search has trained it; None where it is not complete there, or its weights are gone."""
    for record in SearchDir(storage, subject.name).history.records():
        if record.label == subject.promotion.preset and record.outcome == "complete":
            with suppress(UsageError):
                return kept_model(subject.workload.name, record)
    return None


@dataclass(frozen=True)
class Trained:
    """The search that the trainings of finalists are."""

    name: str  # follows from what is trained
    records: Mapping[str, TrialRecord]  # by name of the training
    code: int  # its exit code


def retrain(subject: Subject, finalists: Sequence[Finalist], site: Site, budget: Budget, console: Console) -> Trained:
    """Train all of them as the search did, each with seeds of its own; what is done already is not done again."""
    points = {name: dict(one.hyperparameters) for one in finalists for name in one.trainings}
    name = f"{subject.name}.finalists-{_digest(points)}"
    plan = Plan(
        workload=subject.workload,
        name=name,
        space=Space(suggest=_nothing, held={}, preset_held={}, presets=points),
        trials=0,
        trials_asked=False,
        added=False,
        epochs=subject.epochs,
        goal=subject.goal,
        scheduler="none",
        demo=False,
        drawn=False,
    )
    command = Command(
        data=subject.settings,
        budget=budget.model_copy(update={"seed": FIRST_SEED}),
        method=Method(branches=tuple(subject.branches.runs)),
        site=site.model_copy(update={"name": name, "resume": "auto", "keep": len(points)}),
    )
    code = run_search(plan, command, console, {"kind": KIND, "finalists_of": subject.name}).code
    records = {record.label: record for record in SearchDir(Storage.of(site), name).history.records()}
    return Trained(name, records, code)


def _nothing(_trial: Any) -> dict[str, Any]:
    return {}


def _rank(row: Row) -> int:
    return row.rank or 0


def _point(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in hyperparameters.items() if name not in ("epochs", "seed")}


def _digest(points: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(points, sort_keys=True).encode()).hexdigest()[:8]


def _told(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in outcomes.items()) or "none has ended"
