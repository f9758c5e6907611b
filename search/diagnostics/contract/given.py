"""Read what a workload gives beside its required fields; alone knows how these are called and what stands for none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from search.diagnostics.contract.law import NotGiven
from search.workload import Data, Workload, no_figures
from trainables.base.objectives import Goal

Point = Mapping[str, Any]


def required(value: Any, what: str) -> Any:
    """Return a capability's value. Raises NotGiven where there is none."""
    if not value:
        raise NotGiven(f"the workload gives no {what}")
    return value


def presets(workload: Workload) -> Mapping[str, Point]:
    return workload.presets


def budgets(workload: Workload) -> dict[str, Any]:
    """Return the budgets of a search where its user gives none, by name."""
    return {"demo": workload.demo, "full": workload.full}


def optional(workload: Workload) -> tuple[str, ...]:
    return workload.optional


def mutable(workload: Workload) -> tuple[str, ...]:
    return workload.mutable


def sizing(workload: Workload) -> Mapping[str, Callable[[Any], float]]:
    return workload.sizing


def declared(workload: Workload) -> list[str]:
    """Return the metrics that every trial must report, each once."""
    return list(dict.fromkeys([*workload.objectives, *workload.columns, *_constrained(workload)]))


def scored(workload: Workload) -> list[str]:
    """Return the metrics by which trials and naive predictors are compared."""
    return list(dict.fromkeys([*workload.objectives, *_constrained(workload)]))


def _constrained(workload: Workload) -> list[str]:
    return [one.metric for one in workload.constraints]


def goal(workload: Workload) -> Goal:
    """Return the goal of a search with the workload's default objective."""
    objective, mode = next(iter(workload.objectives.items()))
    return Goal({objective: mode}, workload.constraints)


def small(workload: Workload) -> dict[str, Any]:
    """Return what keeps a trial small on two cores."""
    return dict(workload.demo.fixed)


def simulation(workload: Workload) -> Callable[[int, int], Data] | None:
    return workload.simulate_data


def code(workload: Workload) -> list[Any]:
    """Return the classes and functions that are the user's own code."""
    parts = (workload.training, workload.config, workload.suggest, workload.load_data, workload.load)
    return [part for part in (*parts, workload.simulate_data, workload.baselines, workload.compare) if part]


def compares(workload: Workload) -> bool:
    """Decide whether there are figures that compare trials."""
    return workload.compare is not no_figures
