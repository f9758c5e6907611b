"""Laws of the hyperparameters that make a trial take more memory, on which autosize relies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from search.config.settings import Method, SearchFlags
from search.config.spec import make_spec
from search.diagnostics.contract import given
from search.diagnostics.contract.law import LawBroken, law
from search.diagnostics.contract.points import extremes, trials_of
from search.diagnostics.contract.space import POINTS
from search.diagnostics.contract.subject import Subject
from search.diagnostics.contract.training import RUNS
from search.diagnostics.contract.values import flat
from search.tuning.autosize.worst_case import largest_point
from trainables.base.training import Training

_SAMPLED = 40
Sizing = Mapping[str, Callable[[Any], float]]


def _sizing(subject: Subject) -> Sizing:
    return given.required(given.sizing(subject.workload), "sizing")  # type: ignore[no-any-return]


@law(
    "No preset and no sampled point is larger than the largest trial, which autosize measures.",
    cause="the function of a hyperparameter in `sizing` does not grow with the memory that its values take",
    remedy="give each hyperparameter of `sizing` a function of its value that grows with the memory of a trial",
    after=(POINTS,),
)
def the_largest_trial_is_the_largest(subject: Subject) -> None:
    workload, sizing = subject.workload, _sizing(subject)
    for free in ((), tuple(given.optional(workload))):
        for data in (workload.settings(), workload.settings(data=("files",))):
            spec = make_spec(workload, SearchFlags(data, method=Method(free=free, presets="all")))
            largest = _sizes(workload, sizing, largest_point(spec))
            for point in trials_of(spec.space, _SAMPLED):
                for name, size in _sizes(workload, sizing, point).items():
                    if size > largest[name]:
                        raise LawBroken(f"a trial has {name} of size {size:g}, the largest one {largest[name]:g}")


def _sizes(workload: Any, sizing: Sizing, point: Mapping[str, Any]) -> dict[str, float]:
    values = workload.config(**point).model_dump()
    return {name: size(values[name]) for name, size in sizing.items()}


@law(
    "What takes memory does not change within a run, and is searched.",
    cause="a hyperparameter is named in `sizing` and in `mutable`, or suggest() never asks for it",
    remedy="leave it out of one of them: a size cannot change in a network that is trained already",
    after=(POINTS,),
)
def what_takes_memory_changes_in_no_run(subject: Subject) -> None:
    sizing, mutable = _sizing(subject), given.mutable(subject.workload)
    if both := [name for name in sizing if name in mutable]:
        raise LawBroken(f"{both[0]!r} is named in sizing and in mutable")
    searched = {name for one in subject.drawn for name in one.ranges}
    if absent := [name for name in sizing if name not in searched]:
        raise LawBroken(f"sizing names {absent[0]!r}, which suggest() never asks for")


@law(
    "A larger value by `sizing` makes a trial hold more numbers, or at least not fewer; no two values count the same.",
    cause="the function in `sizing` orders the values of a hyperparameter wrongly",
    remedy="order the values by the memory that a trial takes; for numbers `float` does",
    after=(RUNS, "what-takes-memory-changes-in-no-run"),
)
def a_larger_trial_takes_more(subject: Subject) -> None:
    for name, size in _sizing(subject).items():
        one = subject.with_range(name)
        if one is None:
            continue
        values = extremes(one.ranges[name])
        if len({size(value) for value in values}) < len(values):
            raise LawBroken(f"two values of {name} have the same size: {[size(value) for value in values]}")
        if name == "batch_size":  # it takes its memory while an update runs
            continue
        least, most = min(values, key=size), max(values, key=size)
        few, many = (_numbers(subject.training({**one.point, name: value})) for value in (least, most))
        if few > many:
            raise LawBroken(f"{name} = {most!r} holds {many:,} numbers, fewer than the {few:,} of {name} = {least!r}")


def _numbers(training: Training) -> int:
    """Count the numbers of networks, optimizers and inputs."""
    held = [*flat(training.state()).values(), *flat(vars(training)).values()]
    return sum(value.numel() for value in held if isinstance(value, torch.Tensor))
