"""The largest trial that a search can run: no point of its space, and no preset, takes more memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

if TYPE_CHECKING:
    from search.config.spec import SearchSpec


def largest_point(spec: SearchSpec) -> dict[str, Any]:
    """Return hyperparameters, each of the workload's ``sizing`` at the largest value that a trial may have.

    Population based training cannot exceed them, because it changes none of those.
    """
    space, config = spec.space, spec.workload.config
    point = {**space.preset_fixed, **space.fixed, "epochs": spec.epochs}
    ranges = space.distributions if spec.trials else {}
    for name, size in _sizing(spec).items():
        values = [*_sampled_values(spec, name, ranges), *_preset_values(spec, name)]
        point[name] = max(values, key=size)
    return config(**point).model_dump()


def describe_sizes(spec: SearchSpec, point: Mapping[str, Any]) -> str:
    """List the values of the hyperparameters that determine a trial's size."""
    return ", ".join(f"{name}={point[name]}" for name in _sizing(spec))


def _sizing(spec: SearchSpec) -> Mapping[str, Callable[[Any], float]]:
    """Return what makes a trial larger; where the workload does not say, every integer that is searched may."""
    if spec.workload.sizing:
        return spec.workload.sizing
    ranges = spec.space.distributions if spec.trials else {}
    return {name: float for name, found in ranges.items() if isinstance(found, IntDistribution)}


def _sampled_values(spec: SearchSpec, name: str, ranges: Mapping[str, BaseDistribution]) -> Iterator[Any]:
    if not spec.trials:
        return
    if name in spec.space.fixed:
        yield spec.space.fixed[name]
    elif name in ranges:
        yield from _extremes(ranges[name])
    else:
        yield spec.workload.config.model_fields[name].default


def _extremes(distribution: BaseDistribution) -> tuple[Any, ...]:
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return distribution.low, distribution.high


def _preset_values(spec: SearchSpec, name: str) -> Iterator[Any]:
    default = spec.workload.config.model_fields[name].default
    for preset in spec.space.presets.values():
        yield {**spec.space.preset_fixed, **preset}.get(name, default)
