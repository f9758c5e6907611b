"""Laws of precision: it is said where the statistical error of a metric hides the order of the best trials."""

from __future__ import annotations

import math

import pytest

from search.reporting.precision import about_baselines, about_trials, judge_spread
from trainables.base.objectives import Constraint, Goal
from trainables.pt.metrics import CONSTRAINTS
from trainables.pt.naive import naive_predictors as naive_pt
from trainables.pt.simulate import simulate_data as simulate_pt
from trainables.zdc.data import naive_predictors as naive_zdc
from trainables.zdc.simulate import simulate_data as simulate_zdc


def test_a_spread_below_the_error_is_said_with_what_would_help() -> None:
    """The sample of the issue: the best quarter of random points differed by 2e-6, and no method could rank them."""
    values, errors = [1.60e-4, 1.62e-4, 1.64e-4, *[3e-4] * 9], [2e-5] * 12
    sentence = judge_spread(values, errors)
    assert sentence is not None
    assert sentence.startswith("of the best 3 of 12 trials differs by 2e-06, less than its statistical error of 2e-05")
    assert "up to 1e+02 times as many validation events (--validation-share, --validation FILES)" in sentence


@pytest.mark.parametrize(
    ("values", "errors"),
    [
        ([1.0, 2.0, 3.0, 4.0], [0.5] * 4),  # told apart
        ([1.0, 1.0], [0.5] * 2),  # too few
        ([], []),
        ([1.0, 1.0, math.nan], [0.5] * 3),
        ([1.0, 1.0, 1.0], [math.nan] * 3),
    ],
)
def test_nothing_is_said_where_trials_are_told_apart_or_nothing_is_known(
    values: list[float], errors: list[float]
) -> None:
    assert judge_spread(values, errors) is None


def test_only_the_best_quarter_counts() -> None:
    values = [1.0, 1.01, 1.02, 1.03, *(float(value) for value in range(2, 14))]
    assert judge_spread(values, [0.1] * 16) is not None
    assert judge_spread(values, [0.005] * 16) is None


def test_trials_that_are_all_the_same_have_no_factor() -> None:
    assert "What helps is more validation events" in (judge_spread([1.0] * 3, [0.1] * 3) or "")


def test_each_objective_and_limit_with_an_error_is_judged() -> None:
    goal = Goal({"resolution": "min", "speed": "max"}, (Constraint("bias", 0.02),))
    trial = {"resolution": 0.05, "resolution_error": 0.001, "bias": 0.01, "bias_error": 0.004, "speed": 3.0}
    lines = about_trials(goal, [trial] * 4)
    assert [line.split()[:3] for line in lines] == [["spread", "resolution", "of"], ["spread", "bias", "of"]]
    apart = [trial | {"resolution": 0.05 + 0.01 * number} for number in range(4)]
    assert [line.split()[1] for line in about_trials(goal, apart)] == ["bias"]
    assert about_trials(goal, []) == []


def test_before_the_first_trial_the_naive_predictors_say_how_precise_the_objective_is() -> None:
    goal = Goal({"mse_high": "min"})
    baselines = {"one": {"mse_high": 1.0, "mse_high_error": 0.2}, "other": {"mse_high": 2.0, "mse_high_error": 0.1}}
    (line,) = about_baselines(goal, baselines)
    assert line.startswith("data     mse_high is known to +- 0.1 for other on the validation events")
    assert about_baselines(goal, {"one": {"mse_high": 1.0}}) == []
    assert about_baselines(goal, {"one": {"mse_high": 1.0, "mse_high_error": math.nan}}) == []


@pytest.mark.parametrize("name", ["resolution", "bias"])
def test_the_scores_of_pt_have_errors_to_judge_by(name: str) -> None:
    numbers = naive_pt(simulate_pt(3000, 1))
    assert about_baselines(Goal({name: "min"}, CONSTRAINTS), numbers)
    assert all(one[f"{name}_error"] > 0 for one in numbers.values())


@pytest.mark.parametrize("name", ["mse_high", "mse_high_excess", "brier"])
def test_the_scores_of_zdc_have_errors_to_judge_by(name: str) -> None:
    assert about_baselines(Goal({name: "min"}), naive_zdc(simulate_zdc(1000, 1)))
