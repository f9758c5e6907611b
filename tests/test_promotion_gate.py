"""Laws of the gate: a real improvement passes; luck, equality, and one that something else pays for do not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from evaluations import evaluated
from numpy.typing import NDArray

from search.promotion.gate import Gate
from search.workload import Tolerance
from trainables.base.objectives import Goal
from trainables.evaluation.scores import Evaluation

EVENTS = 500
GATE = Gate(Goal({"loss": "min"}), {"bias": Tolerance(relative=0.1, absolute=0.01)}, 0.95)


def model(loss: float = 1.0, bias: float = 0.1, seed: int = 1) -> Evaluation:
    """Losses of events that are hard or easy for every model, and a little its own."""
    hard_N = np.random.default_rng(0).exponential(1.0, EVENTS)
    own_N = np.random.default_rng(seed).normal(0.0, 0.1, EVENTS)
    return evaluated({"loss": loss * hard_N + own_N - own_N.mean(), "bias": np.full(EVENTS, bias)})


def test_the_first_model_is_the_champion() -> None:
    verdict = GATE.decide(model(), [model()], None)
    assert verdict.passed
    assert verdict.explanation == "there is no champion yet"


@pytest.mark.parametrize(("name", "value"), [("loss", math.nan), ("loss", math.inf), ("bias", math.nan)])
def test_not_even_the_first_model_may_have_a_score_that_is_not_finite(name: str, value: float) -> None:
    broken = model()
    broken = replace(broken, metrics={**broken.metrics, name: np.full_like(broken.metrics[name], value)})
    verdict = GATE.decide(broken, [broken], None)
    assert not verdict.passed
    assert verdict.explanation == f"{name} is {value}, no number"


def test_a_real_improvement_passes() -> None:
    verdict = GATE.decide(model(0.9), [model(0.9), model(0.92, seed=3)], model(1.0, seed=2))
    assert verdict.passed
    assert verdict.reasons == ()
    assert verdict.differences["loss"].high < 0
    assert "loss" in verdict.explanation


def test_a_worse_model_does_not_pass() -> None:
    verdict = GATE.decide(model(1.1), [model(1.1)], model(1.0, seed=2))
    assert not verdict.passed
    assert "not better beyond the 95% interval" in verdict.explanation


def test_a_model_does_not_beat_itself() -> None:
    verdict = GATE.decide(model(), [model()], model())
    assert not verdict.passed
    assert verdict.differences["loss"].value == verdict.differences["loss"].low == verdict.differences["loss"].high == 0


def test_an_improvement_inside_the_interval_does_not_pass() -> None:
    ours = model(0.999, seed=5)
    verdict = GATE.decide(ours, [ours], model(1.0, seed=2))
    assert verdict.differences["loss"].value < 0 < verdict.differences["loss"].high
    assert not verdict.passed


def test_one_lucky_seed_does_not_pass() -> None:
    seeds = [model(0.9), model(1.1, seed=3), model(1.2, seed=4)]
    verdict = GATE.decide(seeds[0], seeds, model(1.0, seed=2))
    assert not verdict.passed
    (reason,) = verdict.reasons
    assert "on average over its 3 seeds" in reason


@pytest.mark.parametrize(("bias", "passed"), [(0.119, True), (0.121, False), (math.nan, False)])
def test_a_watched_metric_may_get_worse_by_its_tolerance_and_no_more(bias: float, passed: bool) -> None:
    verdict = GATE.decide(model(0.9, bias), [model(0.9, bias)], model(1.0, 0.1, seed=2))
    assert verdict.passed == passed
    if not passed:
        assert "bias got worse by more than 0.02 (0.1 of the champion's + 0.01)" in verdict.explanation


def test_a_score_that_is_not_finite_never_passes() -> None:
    broken = model(0.9)
    broken = replace(broken, metrics={**broken.metrics, "loss": np.full_like(broken.metrics["loss"], np.nan)})
    assert not GATE.decide(broken, [broken], model()).passed
    assert not GATE.decide(model(0.9), [model(0.9)], broken).passed


def test_of_a_maximised_objective_more_is_better() -> None:
    gate = Gate(Goal({"loss": "max"}), {}, 0.95)
    assert gate.decide(model(1.1), [model(1.1)], model(1.0, seed=2)).passed
    assert not gate.decide(model(0.9), [model(0.9)], model(1.0, seed=2)).passed


def test_no_other_objective_may_get_worse() -> None:
    gate = Gate(Goal({"loss": "min", "bias": "min"}), {}, 0.95)
    assert gate.decide(model(0.9, 0.1), [model(0.9)], model(1.0, 0.1, seed=2)).passed
    verdict = gate.decide(model(0.9, 0.101), [model(0.9)], model(1.0, 0.1, seed=2))
    assert not verdict.passed
    assert "bias got worse" in verdict.explanation


def test_a_higher_confidence_asks_for_more() -> None:
    ours, theirs = model(0.995, seed=5), model(1.0, seed=2)
    strict = Gate(GATE.goal, {}, 0.999999)
    verdicts = [gate.decide(ours, [ours], theirs).differences["loss"] for gate in (GATE, strict)]
    assert verdicts[1].high > verdicts[0].high


@pytest.mark.slow
def test_of_models_that_are_equally_good_hardly_one_passes() -> None:
    """The gate's promise: of 400 candidates no better than the champion at most one in twenty gets through."""

    def equal(random: np.random.Generator, hard_N: NDArray[np.float64], seed: int) -> Evaluation:
        return evaluated({"loss": hard_N + random.normal(0, 0.3, len(hard_N)), "bias": np.full(len(hard_N), 0.1)}, seed)

    passed = 0
    for repetition in range(400):
        random = np.random.default_rng((17, repetition))
        hard_N = random.exponential(1.0, 100)
        ours, theirs = (equal(random, hard_N, repetition) for _ in range(2))
        passed += GATE.decide(ours, [ours], theirs).passed
    assert 0 < passed <= 20


def test_a_tolerance_may_be_a_share_of_another_metric_of_the_champion() -> None:
    """An excess over a floor may be near 0, and a share of it says nothing; its error is a share of the whole score."""
    gate = Gate(Goal({"loss": "min"}), {"bias": Tolerance(relative=0.1, to="loss")}, 0.95)
    champion = model(1.0, bias=0.0, seed=2)
    allowed = 0.1 * champion.numbers()["loss"]
    for bias, passed in ((0.9 * allowed, True), (1.1 * allowed, False)):
        verdict = gate.decide(model(0.9, bias), [model(0.9, bias)], champion)
        assert verdict.passed == passed
    assert "0.1 of the champion's loss" in verdict.explanation
