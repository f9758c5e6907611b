"""Draw points of a workload's space, and move one hyperparameter of them far away."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler

if TYPE_CHECKING:
    from search.config.space import Space

Suggest = Callable[[optuna.Trial], dict[str, Any]]


@dataclass(frozen=True)
class Drawn:
    """A sampled point with the range of each hyperparameter that was asked for."""

    point: Mapping[str, Any]
    ranges: Mapping[str, BaseDistribution]


def draw(suggest: Suggest, points: int) -> list[Drawn]:
    """Draw random points, the same at each call."""
    study = optuna.create_study(sampler=RandomSampler(seed=11))
    drawn = []
    for _ in range(points):
        trial = study.ask()
        point = suggest(trial)
        drawn.append(Drawn(point, dict(trial.distributions)))
    return drawn


def ask(suggest: Suggest, point: Mapping[str, Any]) -> Drawn:
    """Ask for this very point, as a search does for a preset; what it does not name is drawn."""
    study = optuna.create_study(sampler=RandomSampler(seed=1))
    study.enqueue_trial(dict(point))
    trial = study.ask()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values out of their range: the caller compares them
        suggested = suggest(trial)
    return Drawn(suggested, dict(trial.distributions))


def trials_of(space: Space, sampled: int) -> Iterator[dict[str, Any]]:
    """Yield the hyperparameters of the presets of a search, and of some sampled trials."""
    study = optuna.create_study(sampler=RandomSampler(seed=11))
    for preset in [*space.presets, *[None] * sampled]:
        study.enqueue_trial({}, user_attrs={"preset": preset})
        yield space.point(study.ask())


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Decide whether a range holds a value."""
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except ValueError:  # no choice of a categorical range, or no number
        return False


def another(value: Any, distribution: BaseDistribution) -> Any:
    """Return a value of the range that is far from this one; the value itself where there is no other."""
    if isinstance(distribution, CategoricalDistribution):
        return next((choice for choice in distribution.choices if choice != value), value)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    middle = math.sqrt(low * high) if distribution.log else (low + high) / 2
    return high if value < middle else low


def extremes(distribution: BaseDistribution) -> list[Any]:
    """Return every choice of a range, or its ends."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return [distribution.low, distribution.high]


@contextmanager
def optuna_quiet() -> Iterator[None]:
    """Keep Optuna from logging each study, unless something is wrong."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
