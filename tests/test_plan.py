"""Laws of the plan: what flags leave open the workload settles, and what the user holds is held."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from specs import spec_of
from tiny import TinyData, make_tiny

from search.config.choice import scheduler_reason
from search.config.settings import Budget, Method, Site
from search.config.spec import SearchSpec
from search.engine.search_run import _settle_trials
from search.errors import UsageError
from search.reporting.console import SafeConsole
from search.reporting.summary import ConsoleReporter
from search.storage.location import Storage
from search.storage.names import EVENT_LOG
from search.storage.search_dir import SearchDir
from search.workload import DefaultPromotion, Defaults
from trainables.base.objectives import Constraint, stored_constraints

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


@pytest.mark.parametrize(
    ("sampler", "trials", "objective", "scheduler"),
    [
        ("auto", 199, "loss", "asha"),
        ("auto", 200, "loss", "asha-sharp"),
        ("auto", 500, "loss,score", "none"),
        ("tpe", 500, "loss", "asha"),
        ("gp", 500, "loss", "asha"),
        ("random", 19, "loss", "asha"),
        ("random", 20, "loss", "asha-early"),
        ("random", 199, "loss", "asha-early"),
        ("qmc", 200, "loss", "asha-sharp"),
        ("random", 500, "loss,score", "none"),
    ],
)
def test_the_scheduler_follows_from_sampler_trials_and_objectives_where_it_is_left_open(
    sampler: str, trials: int, objective: str, scheduler: str
) -> None:
    asked = {"budget": Budget(trials=trials), "objective": objective, "sampler": sampler}
    left_open, named = plan_of(**asked), plan_of(**asked, scheduler="median")
    assert (left_open.scheduler, named.scheduler) == (scheduler, "median")
    assert scheduler_reason(left_open)
    assert not scheduler_reason(named)
    drawn = "random" if scheduler == "asha-sharp" else "tpe"  # where it was left open
    assert left_open.sampler == (drawn if sampler == "auto" else sampler)
    assert named.sampler == ("tpe" if sampler == "auto" else sampler)
    assert plan_of(**asked, scheduler=None).scheduler == scheduler  # None was the word for auto


def test_many_trials_that_learn_from_earlier_searches_are_proposed_by_a_model() -> None:
    spec = plan_of(budget=Budget(trials=500), warm_from=("before",))
    assert (spec.sampler, spec.scheduler) == ("tpe", "asha")


def test_the_first_lines_say_which_scheduler_was_chosen_and_why() -> None:
    for sampler, words in (("auto", "scheduler asha by --scheduler auto: one of two"), ("random", "one of three")):
        stream = io.StringIO()
        ConsoleReporter(SafeConsole(stream)).print_search(plan_of(sampler=sampler), [])
        assert words in " ".join(stream.getvalue().split())


def test_a_resumed_search_keeps_the_sampler_and_scheduler_that_it_was_begun_with(tmp_path: Path) -> None:
    site, random = Site(name="before", storage=str(tmp_path), resume="yes"), Method(sampler="random")
    spec = spec_of(WORKLOAD, site=site, method=random, demo=False)
    directory = SearchDir(Storage.of(site), "before")
    directory.path.mkdir(parents=True)
    facts = {"run_id": "", "experiment_id": "", "tags": {}}
    directory.describe(spec, TinyData(), facts=facts, branches=[], method={"sampler": "random", "scheduler": "asha"})
    (directory.path / EVENT_LOG).touch()
    resumed, _ = _settle_trials(spec, directory)
    assert (spec.scheduler, resumed.scheduler) == ("asha-early", "asha")
    assert scheduler_reason(resumed) == "as this search was begun"
    many = spec_of(WORKLOAD, site=site, method=Method(), budget=Budget(trials=500), demo=False)
    directory.set(method={"sampler": "tpe", "scheduler": "asha"})
    more, _ = _settle_trials(many, directory)
    assert (many.sampler, many.scheduler, more.sampler, more.scheduler) == ("random", "asha-sharp", "tpe", "asha")
    named = replace(spec, method=Method(sampler="random", scheduler="median"), scheduler="median")
    assert _settle_trials(named, directory)[0].scheduler == "median"


def test_a_bound_on_concurrent_trials_is_not_silently_ignored_by_pbt() -> None:
    with pytest.raises(UsageError, match="--max-concurrent does not go with --scheduler pbt"):
        plan_of(budget=Budget(max_concurrent=1), scheduler="pbt")
    assert plan_of(budget=Budget(max_concurrent=1), scheduler="asha").samples
    assert plan_of(scheduler="pbt").samples


# ---------------------------------------------------------------- constraints

BOUND = replace(
    WORKLOAD,
    columns=("purity", "width"),
    more_is_better=("purity",),
    constraints=(Constraint("width", 0.5), Constraint("purity", 0.8, ">=")),
)


def constraints_of(*words: str, **method: Any) -> dict[str, float]:
    spec = spec_of(BOUND, method=Method(constraint=words, **method))
    return stored_constraints(spec.goal.constraints)


DEFAULTS = {"width": 0.5, "purity>=": 0.8}


@pytest.mark.parametrize(
    ("words", "bounds"),
    [
        ((), DEFAULTS),
        (("width=0.3",), {"purity>=": 0.8, "width": 0.3}),
        (("width<=0.3",), {"purity>=": 0.8, "width": 0.3}),
        (("width>=0.1",), DEFAULTS | {"width>=": 0.1}),  # a window
        (("purity>=0.9",), {"width": 0.5, "purity>=": 0.9}),
        (("purity<=0.99",), DEFAULTS | {"purity": 0.99}),
        (("score>=-2", "loss=0", "loss=-1"), DEFAULTS | {"score>=": -2.0, "loss": -1.0}),
        (("width=inf",), {"purity>=": 0.8}),
        (("purity=inf",), {"width": 0.5}),
        (("purity=-inf", "width<=inf"), {}),
        (("purity>=-inf", " width <= 1e-3 "), {"width": 1e-3}),
    ],
)
def test_a_word_of_a_constraint_is_a_largest_or_a_smallest_value(
    words: tuple[str, ...], bounds: dict[str, float]
) -> None:
    assert constraints_of(*words) == bounds


def test_a_constraint_of_the_workload_on_an_objective_is_left_out_and_the_users_own_is_not() -> None:
    workload = replace(BOUND, constraints=(Constraint("loss", 0.5), Constraint("score", 0.8, ">=")))
    method = Method(objective="loss,score", constraint=("score>=0.7",))
    assert stored_constraints(spec_of(workload, method=method).goal.constraints) == {"score>=": 0.7}


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("score=0.9", r"of score more is better. Write 'score>=0.9' for the smallest value, or 'score<=0.9'"),
        ("purity=0.9", r"Write 'purity>=0.9'"),
        ("purty>=0.9", r"no metric to constrain 'purty'. Did you mean purity\?"),
        ("purity", r"expected .* as in --constraint 'purity>=0.9'; quotes keep a shell"),  # what a shell leaves
        ("width>0.5", r"expected NAME=VALUE, NAME<=VALUE or NAME>=VALUE .* as in --constraint width=0.02"),
        ("width=wide", "expected"),
        ("width=nan", "expected"),
        ("width<=-inf", "expected"),
        ("purity>=inf", "expected"),
        ("=0.5", "no metric to constrain ''"),
    ],
)
def test_a_constraint_that_means_nothing_is_refused_with_the_right_spelling(word: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        constraints_of(word)


def test_mlflow_shows_constraints_as_flags_are_written() -> None:
    spec = spec_of(BOUND, method=Method(constraint=("width>=0.1",)))
    assert spec.as_params()["limits"] == "width=0.5, purity>=0.8, width>=0.1"
    assert spec.identity(None)["limits"] == {"width": 0.5, "purity>=": 0.8, "width>=": 0.1}


def test_one_mapping_tells_the_direction_of_every_metric() -> None:
    assert BOUND.directions == {"loss": "min", "score": "max", "purity": "max"}
    goal = spec_of(BOUND).goal
    assert [goal.sign(name) for name in ("loss", "score", "purity", "width", "unheard-of")] == [1, -1, -1, 1, 1]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"more_is_better": ("loss",)}, "loss is minimised as an objective and stands in more_is_better"),
        ({"constraints": ("auc>=0.9",)}, r"constraints holds 'auc>=0.9', expected Constraint\(\"bias\", 0.02\)"),
        ({"constraints": {"bias": 0.02}}, "constraints holds 'bias'"),
        ({"promotion": DefaultPromotion(preset="reprot")}, "promotion compares with preset 'reprot', which is none of"),
    ],
)
def test_a_workload_that_contradicts_itself_about_metrics_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        replace(WORKLOAD, **fields)
