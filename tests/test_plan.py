"""Laws of the plan: what flags leave open the workload settles, and what the user holds is held."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from specs import spec_of
from tiny import make_tiny

from search.config.settings import Budget, Method, Site
from search.config.spec import SearchSpec
from search.errors import UsageError
from search.workload import Defaults

POINTS = {"plain": {"x": 0.3, "y": 0.0}, "wide": {"x": -0.5, "optional": 4}}
WORKLOAD = replace(
    make_tiny(**POINTS),
    objectives={"loss": "min", "score": "max"},
    demo=Defaults(trials=2, epochs=4, presets=("plain",), fixed={"optional": 2}),
    full=Defaults(trials=50, epochs=40, presets=("plain", "wide"), fixed={}),
)


def plan_of(*, demo: bool = False, budget: Budget = Budget(), **method: Any) -> SearchSpec:  # noqa: B008 - frozen
    return spec_of(WORKLOAD, budget=budget, method=Method(**method), demo=demo)


def test_without_flags_the_workload_decides() -> None:
    full, demo = plan_of(), plan_of(demo=True)
    assert (full.trials, full.epochs, list(full.space.presets)) == (50, 40, ["plain", "wide"])
    assert (demo.trials, demo.epochs, list(demo.space.presets)) == (2, 4, ["plain"])
    assert (full.goal.objective, full.goal.mode, full.samples) == ("loss", "min", 52)
    assert full.space.fixed == {"optional": 1}
    assert demo.space.fixed == {"optional": 2}


def test_flags_go_before_the_workload() -> None:
    plan = plan_of(budget=Budget(trials=0, epochs=3), objective="score", presets="wide")
    assert (plan.trials, plan.epochs, plan.samples) == (0, 3, 1)
    assert (plan.goal.objective, plan.goal.mode) == ("score", "max")
    assert list(plan.space.presets) == ["wide"]


def test_presets_are_all_none_or_those_named() -> None:
    assert list(plan_of(demo=True, presets="all").space.presets) == ["plain", "wide"]
    assert plan_of(presets="none").space.presets == {}
    assert list(plan_of(presets="wide, plain").space.presets) == ["wide", "plain"]


def test_what_is_set_is_held_in_the_type_of_the_configuration() -> None:
    held = plan_of(set=("x=0.25", "optional=3", "kill=true")).space.fixed
    assert held == {"x": 0.25, "optional": 3, "kill": True}
    assert [type(value) for value in held.values()].count(bool) == 1


def test_also_frees_what_is_held_by_default() -> None:
    plan = plan_of(free=("optional",))
    assert plan.space.fixed == {}
    assert set(plan.space.distributions) == {"x", "y", "optional"}
    assert set(plan_of().space.distributions) == {"x", "y"}


def test_what_is_freed_for_trials_stays_held_for_presets() -> None:
    assert plan_of(demo=True, free=("optional",)).space.preset_fixed == {"optional": 2}


def test_what_is_freed_and_set_is_refused() -> None:
    with pytest.raises(UsageError, match="leave one of them out"):
        plan_of(free=("optional",), set=("optional=5",))


def test_a_name_is_made_of_workload_and_time() -> None:
    assert plan_of().name.startswith("tiny-20")
    assert spec_of(WORKLOAD, site=Site(name="mine")).name == "mine"


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ({"presets": "plane"}, "Did you mean plain"),
        ({"objective": "los"}, "Did you mean loss"),
        ({"free": ("y",)}, "There are: optional"),
        ({"set": ("slop=1",)}, "Did you mean slope"),
        ({"set": ("x",)}, "KEY=VALUE"),
        ({"set": ("batch_size=0",)}, "--set batch_size=0"),
    ],
)
def test_what_does_not_exist_is_told_with_what_is_near(method: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        plan_of(**method)


def test_nothing_to_run_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to run"):
        plan_of(budget=Budget(trials=0), presets="none")


def test_a_bound_on_concurrent_trials_is_not_silently_ignored_by_pbt() -> None:
    with pytest.raises(UsageError, match="--max-concurrent does not go with --scheduler pbt"):
        plan_of(budget=Budget(max_concurrent=1), scheduler="pbt")
    assert plan_of(budget=Budget(max_concurrent=1), scheduler="asha").samples
    assert plan_of(scheduler="pbt").samples
