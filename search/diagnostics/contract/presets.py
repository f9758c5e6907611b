"""Laws of presets and of the budgets that name them."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from search.diagnostics.contract import given
from search.diagnostics.contract.law import LawBroken, law
from search.diagnostics.contract.points import Drawn, ask, contains
from search.diagnostics.contract.space import POINTS
from search.diagnostics.contract.subject import Subject


@law(
    "A preset names what its branch of the space asks for, within the ranges, and nothing that does not act.",
    cause="a range became narrower, or a hyperparameter was added to suggest(), after the preset was written",
    remedy="widen the range, or correct the preset",
    after=(POINTS,),
)
def a_preset_is_a_point_of_the_space(subject: Subject) -> None:
    workload = subject.workload
    for name, point in given.required(given.presets(workload), "presets").items():
        if problem := _problem(subject, dict(point), ask(workload.suggest, point)):
            raise LawBroken(f"preset {name!r}: {problem}")
        try:
            workload.config(**point)
        except ValidationError as error:
            raise LawBroken(f"preset {name!r}: {error.errors()[0]['msg']}") from error


def _problem(subject: Subject, point: dict[str, Any], asked: Drawn) -> str:
    for name, distribution in asked.ranges.items():
        if name in point and not contains(distribution, point[name]):
            return f"{name} = {point[name]!r} lies outside of {distribution}"
    optional = given.optional(subject.workload)
    if absent := [name for name in asked.point if name not in point and name not in optional]:
        return f"{absent[0]} is not named, so that it would be drawn at random"
    if idle := [name for name in point if name not in asked.point]:
        return f"{idle[0]} is named, but suggest() does not ask for it in this branch"
    changed = [name for name in point if asked.point[name] != point[name]]
    return f"{changed[0]} = {point[changed[0]]!r} becomes {asked.point[changed[0]]!r} in suggest()" if changed else ""


@law(
    "Presets differ from each other, and budgets name presets and hyperparameters that exist.",
    cause="a preset was copied and not changed, or renamed",
    remedy="remove one of two equal presets; correct the name in `demo` or `full`",
    after=(POINTS,),
)
def presets_differ_and_exist(subject: Subject) -> None:
    workload = subject.workload
    seen: dict[str, str] = {}
    for name, point in given.presets(workload).items():
        key = repr(sorted(point.items()))
        if key in seen:
            raise LawBroken(f"presets {seen[key]!r} and {name!r} are the same point")
        seen[key] = name
    for budget, defaults in given.budgets(workload).items():
        for name in defaults.presets or ():
            if name not in given.presets(workload):
                raise LawBroken(f"`{budget}` names the preset {name!r}, which does not exist")
        for name in defaults.fixed:
            if name not in workload.config.model_fields:
                raise LawBroken(f"`{budget}` fixes {name!r}, which {workload.config.__name__} does not have")
