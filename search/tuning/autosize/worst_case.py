"""The largest trial that a search can run: no point of its space, and no preset, takes more memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

if TYPE_CHECKING:
    from search.config.spec import Plan


def largest_point(plan: Plan) -> dict[str, Any]:
    """Return hyperparameters, each of the workload's ``sizing`` at the largest value that a trial may have.

    Population based training cannot exceed them, because it changes none of those.
    """
    space, config = plan.space, plan.workload.config
    point = {**space.preset_held, **space.held, "epochs": plan.epochs}
    ranges = space.distributions() if plan.trials else {}
    for name, size in plan.workload.sizing.items():
        values = [*_sampled_values(plan, name, ranges), *_preset_values(plan, name)]
        point[name] = max(values, key=size)
    return config(**point).model_dump()


def describe_sizes(plan: Plan, point: Mapping[str, Any]) -> str:
    """List the values of the hyperparameters that determine a trial's size."""
    return ", ".join(f"{name}={point[name]}" for name in plan.workload.sizing)


def _sampled_values(plan: Plan, name: str, ranges: Mapping[str, BaseDistribution]) -> Iterator[Any]:
    if not plan.trials:
        return
    if name in plan.space.held:
        yield plan.space.held[name]
    elif name in ranges:
        yield from _extremes(ranges[name])
    else:
        yield plan.workload.config.model_fields[name].default


def _extremes(distribution: BaseDistribution) -> tuple[Any, ...]:
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return distribution.low, distribution.high


def _preset_values(plan: Plan, name: str) -> Iterator[Any]:
    default = plan.workload.config.model_fields[name].default
    for preset in plan.space.presets.values():
        yield {**plan.space.preset_held, **preset}.get(name, default)
