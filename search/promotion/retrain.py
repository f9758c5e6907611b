"""Describe the search that trains finalists again, each with new seeds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from search.config.flags import Command
from search.config.settings import Budget, Method, Site
from search.config.spec import Plan
from search.promotion.candidates import Finalist
from search.promotion.source_search import SourceSearch
from search.tuning.optuna_searcher import Space

FIRST_SEED = 1_000_000  # above the seeds of all trials of searches


def describe_retraining(
    source: SourceSearch, finalists: Sequence[Finalist], site: Site, budget: Budget
) -> tuple[Plan, Command[Any]]:
    """Describe a search whose presets are the trainings.

    Its name follows from what is trained, so that the same promotion resumes it and trains nothing twice.
    """
    points = {name: dict(finalist.hyperparameters) for finalist in finalists for name in finalist.trainings}
    name = f"{source.name}.finalists-{_digest(points)}"
    plan = Plan(
        workload=source.workload,
        name=name,
        space=Space(suggest=lambda trial: {}, held={}, preset_held={}, presets=points),
        trials=0,
        trials_asked=False,
        added=False,
        epochs=source.epochs,
        goal=source.goal,
        scheduler="none",
        demo=False,
        drawn=False,
    )
    command = Command(
        data=source.data_settings,
        budget=budget.model_copy(update={"seed": FIRST_SEED}),
        method=Method(branches=tuple(source.upstream.runs)),
        site=site.model_copy(update={"name": name, "resume": "auto", "keep": len(points)}),
    )
    return plan, command


def retraining_tags(source: SourceSearch) -> dict[str, str]:
    """Return the MLflow tags that keep these runs out of the lists of newest and best searches."""
    return {"kind": "finalists", "finalists_of": source.name}


def _digest(points: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(points, sort_keys=True).encode()).hexdigest()[:8]
