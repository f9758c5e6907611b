"""Laws of better and worse: constraints go before objectives, and a front holds what nothing dominates."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.base.objectives import Constraint, Goal, read_constraints, stored_constraints

BIAS = (Constraint("bias", 0.02),)
LIMITED = Goal({"loss": "min"}, BIAS)
TWO = Goal({"loss": "min", "score": "max"})


def test_a_trial_that_keeps_the_constraints_is_better_than_one_that_does_not() -> None:
    """A trial cannot buy a narrow resolution with a bias."""
    honest, biased = {"loss": 0.9, "bias": 0.02}, {"loss": 0.1, "bias": 0.021}
    assert LIMITED.order(honest) < LIMITED.order(biased)
    assert (LIMITED.violation(honest), LIMITED.violation(biased)) == (0, pytest.approx(0.05))


def test_of_trials_beyond_a_constraint_the_nearer_one_is_better() -> None:
    assert LIMITED.order({"loss": 0.9, "bias": 0.03}) < LIMITED.order({"loss": 0.1, "bias": 0.04})


def test_within_the_constraints_only_the_objective_counts() -> None:
    assert LIMITED.order({"loss": 0.1, "bias": 0.019}) < LIMITED.order({"loss": 0.2, "bias": 0.0})


def test_several_constraints_are_measured_by_their_own_size() -> None:
    goal = Goal({"loss": "min"}, (Constraint("bias", 0.02), Constraint("tail", 0.5)))
    assert goal.excesses({"bias": 0.04, "tail": 0.25}) == {"bias": pytest.approx(1.0), "tail": pytest.approx(-0.5)}
    assert goal.violation({"bias": 0.04, "tail": 0.25}) == pytest.approx(1.0)


def test_a_front_by_hand() -> None:
    scores = [(1, 1), (2, 3), (2, 2), (0.5, 0), (3, 3)]
    front = TWO.front([{"loss": loss, "score": score} for loss, score in scores])
    assert front == [True, True, False, True, False]


def test_equals_are_both_in_the_front() -> None:
    assert TWO.front([{"loss": 1, "score": 1}] * 2) == [True, True]


def test_beyond_a_constraint_no_trial_is_in_the_front_beside_one_that_keeps_it() -> None:
    goal = Goal({"loss": "min", "score": "max"}, BIAS)
    scores = [{"loss": 9.0, "score": 0.0, "bias": 0.01}, {"loss": 0.0, "score": 9.0, "bias": 0.03}]
    assert goal.front(scores) == [True, False]
    assert goal.front(scores[1:]) == [True]


values = st.integers(-5, 5).map(float)


@given(st.lists(st.fixed_dictionaries({"loss": values, "score": values}), min_size=1, max_size=12))
def test_a_front_is_never_empty_and_everything_outside_is_dominated_by_it(scores: list[dict[str, float]]) -> None:
    front = TWO.front(scores)
    inside = [score for score, chosen in zip(scores, front, strict=True) if chosen]
    assert inside
    for score, chosen in zip(scores, front, strict=True):
        beaten = any(one != score and one["loss"] <= score["loss"] and one["score"] >= score["score"] for one in inside)
        assert beaten != chosen


numbers = st.floats(-1e6, 1e6)


@given(numbers, numbers, st.floats(0, 1), st.floats(0, 1))
def test_schedulers_see_the_order_of_the_goal(loss: float, other: float, bias: float, other_bias: float) -> None:
    one, two = {"loss": loss, "bias": bias}, {"loss": other, "bias": other_bias}
    for goal in (LIMITED, Goal({"loss": "max"}, BIAS), Goal({"loss": "min"})):
        if LIMITED.violation(one) == LIMITED.violation(two) > 0:
            assert (
                goal.scalar_score(one) == goal.scalar_score(two) or not goal.constraints
            )  # equally far trials rank equally
        elif goal.order(one) < goal.order(two):
            assert goal.scalar_score(one) <= goal.scalar_score(two)


def test_the_scalar_score_separates_trials_that_keep_the_constraints() -> None:
    assert LIMITED.scalar_score({"loss": 1e9, "bias": 0.0}) < 2 < LIMITED.scalar_score({"loss": -1e9, "bias": 0.0201})
    assert Goal({"loss": "max"}).scalar_score({"loss": 3.0}) == -3.0


def test_of_one_objective_the_best_is_first_and_the_only_one_marked() -> None:
    scores = [{"loss": 2.0, "bias": 0.0}, {"loss": 1.0, "bias": 0.0}, {"loss": 0.0, "bias": 0.03}]
    assert LIMITED.ranked(scores) == [(1, True), (0, False), (2, False)]


@given(st.lists(st.fixed_dictionaries({"loss": values, "score": values}), min_size=1, max_size=12))
def test_of_several_objectives_the_front_is_ranked_first(scores: list[dict[str, float]]) -> None:
    ranked = TWO.ranked(scores)
    assert sorted(place for place, _ in ranked) == list(range(len(scores)))
    marks = [mark for _, mark in ranked]
    assert marks == sorted(marks, reverse=True)
    assert [mark for _, mark in sorted(ranked)] == TWO.front(scores)
    for part in (True, False):
        orders = [TWO.order(scores[place]) for place, mark in ranked if mark == part]
        assert orders == sorted(orders)


@pytest.mark.parametrize(
    ("constraint", "kept", "beyond", "excess"),
    [
        (Constraint("auc", 0.9, ">="), 0.9, 0.45, 0.5),
        (Constraint("auc", 0.0, ">="), 0.0, -0.3, 0.3),
        (Constraint("auc", -2.0, ">="), -2.0, -3.0, 0.5),
        (Constraint("auc", 0.02), 0.02, 0.03, 0.5),
        (Constraint("auc", 0.0), 0.0, 0.3, 0.3),
        (Constraint("auc", -2.0), -2.0, -1.0, 0.5),
    ],
)
def test_a_bound_of_any_kind_and_sign_is_kept_on_it_and_broken_beyond_it(
    constraint: Constraint, kept: float, beyond: float, excess: float
) -> None:
    assert constraint.excess({"auc": kept}) == 0
    assert constraint.is_kept({"auc": kept})
    assert constraint.excess({"auc": beyond}) == pytest.approx(excess)
    assert not constraint.is_kept({"auc": beyond})
    assert constraint.is_kept({"auc": 2 * kept - beyond})


@given(st.floats(1e-300, 1e300), st.floats(-1e300, 1e300))
def test_a_largest_value_above_0_is_measured_as_in_searches_begun_before(bound: float, value: float) -> None:
    """Their studies hold these numbers; bit for bit."""
    assert Constraint("bias", bound).excess({"bias": value}) == value / bound - 1


def test_two_bounds_of_one_metric_are_a_window() -> None:
    goal = Goal({"loss": "min"}, (Constraint("width", 1.0), Constraint("width", 0.5, ">=")))
    assert goal.excesses({"width": 0.25}) == {"width": pytest.approx(-0.75), "width>=": pytest.approx(0.5)}
    assert goal.constrained == ("width",)
    assert [goal.violation({"width": width}) > 0 for width in (0.4, 0.5, 0.75, 1.0, 1.1)] == [True, *[False] * 3, True]


def test_constraints_are_stored_under_the_words_of_searches_begun_before() -> None:
    assert read_constraints({"bias": 0.02}) == BIAS
    assert stored_constraints(BIAS) == {"bias": 0.02}
    both = (*BIAS, Constraint("auc", 0.9, ">="))
    assert read_constraints(stored_constraints(both)) == both


def test_constraints_have_words_for_people() -> None:
    assert [Constraint("bias", 0.02).in_words, str(Constraint("bias", 0.02))] == ["bias at most 0.02", "bias <= 0.02"]
    smallest = Constraint("auc", 0.9, ">=")
    assert [smallest.in_words, str(smallest)] == ["auc at least 0.9", "auc >= 0.9"]


def test_a_model_without_the_constrained_metric_is_told_by_name() -> None:
    with pytest.raises(KeyError, match="bias has a constraint and is no metric of this model: loss"):
        LIMITED.order({"loss": 1.0})


@pytest.mark.parametrize(("bound", "kind"), [(0.9, "=>"), (0.9, ">"), (float("nan"), ">=")])
def test_a_constraint_that_bounds_nothing_is_refused(bound: float, kind: Any) -> None:
    with pytest.raises(ValueError, match=r'expected a metric, a number, and "<=" or ">="'):
        Constraint("auc", bound, kind)
