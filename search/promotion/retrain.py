"""Describe the search that trains finalists again, each with new seeds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from search.config.settings import Budget, Method, Site
from search.config.space import Space
from search.config.spec import SearchSpec
from search.promotion.candidates import Finalist
from search.promotion.source_search import SourceSearch

FIRST_SEED = 1_000_000  # above the seeds of all trials of searches


def describe_retraining(source: SourceSearch, finalists: Sequence[Finalist], site: Site, budget: Budget) -> SearchSpec:
    """Describe a search whose presets are the trainings that the source's race does not have.

    Its name follows from what is trained, so that the same promotion resumes it and trains nothing twice. Its tags keep
    the MLflow runs out of the lists of newest and best searches.
    """
    points = {name: dict(finalist.hyperparameters) for finalist in finalists for name in finalist.trainings}
    raced = sorted(points.keys() & source.raced.keys())
    name = f"{source.name}.finalists-{_digest(points | ({'race': raced} if raced else {}))}"
    points = {name: point for name, point in points.items() if name not in raced}
    return SearchSpec(
        workload=source.workload,
        name=name,
        data=source.data_settings,
        budget=budget.model_copy(update={"seed": FIRST_SEED, "race": "0"}),
        method=Method(upstream=tuple(source.upstream.runs)),
        site=site.model_copy(update={"name": name, "resume": "auto", "keep_checkpoints": len(points)}),
        space=Space(suggest=lambda trial: {}, fixed={}, preset_fixed={}, presets=points),
        goal=source.goal,
        trials=0,
        epochs=source.epochs,
        scheduler="none",
        figures=False,
        tags={"kind": "finalists", "finalists_of": source.name},
    )


def _digest(points: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(points, sort_keys=True).encode()).hexdigest()[:8]
