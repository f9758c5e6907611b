"""Laws of better and worse: constraints go before objectives, and a front holds what nothing dominates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.base.objectives import Constraint, Goal

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
