"""The largest trial that a search can run: no point of its space, and no preset, takes more memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search.config.spec import SearchSpec


def largest_point(spec: SearchSpec) -> dict[str, Any]:
    """Hyperparameters: each of the workload's ``sizing`` at the largest value that one of the trials may have.

    Population based training cannot go beyond it, since it changes none of those.
    """
    space, config = spec.space, spec.workload.config
    point = {**space.preset_fixed, **space.fixed, "epochs": spec.epochs}
    ranges = space.distributions if spec.trials else {}
    for name, size in spec.workload.sizing.items():
        values = [*_sampled(spec, name, ranges), *_of_presets(spec, name)]
        point[name] = max(values, key=size)
    return config(**point).model_dump()


def words(spec: SearchSpec, point: Mapping[str, Any]) -> str:
    """What makes it large, as a person reads it."""
    return ", ".join(f"{name}={point[name]}" for name in spec.workload.sizing)


def _sampled(spec: SearchSpec, name: str, ranges: Mapping[str, BaseDistribution]) -> Iterator[Any]:
    if not spec.trials:
        return
    if name in spec.space.fixed:
        yield spec.space.fixed[name]
    elif name in ranges:
        yield from _ends(ranges[name])
    else:
        yield spec.workload.config.model_fields[name].default


def _ends(distribution: BaseDistribution) -> tuple[Any, ...]:
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return distribution.low, distribution.high


def _of_presets(spec: SearchSpec, name: str) -> Iterator[Any]:
    default = spec.workload.config.model_fields[name].default
    for preset in spec.space.presets.values():
        yield {**spec.space.preset_fixed, **preset}.get(name, default)
