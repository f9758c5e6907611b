"""Laws of the word on going on: on searches whose truth is known it says what more trials bring, within a factor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from search.reporting.outlook import FEWEST, expected_gain, look_ahead
from search.storage.trial_record import TrialRecord
from trainables.base.objectives import Constraint, Goal

LOSS = Goal({"loss": "min"})
LANDSCAPES: dict[str, Callable[[np.random.Generator, int], Any]] = {
    "a smooth optimum in four dimensions": lambda random, n: (random.uniform(-1, 1, (n, 4)) ** 2).sum(axis=1),
    "in eight": lambda random, n: (random.uniform(-1, 1, (n, 8)) ** 2).sum(axis=1),
    "no optimum": lambda random, n: random.normal(size=n),
}


def trial(number: int, loss: float, **more: Any) -> TrialRecord:
    usual: dict[str, Any] = {"preset": None, "outcome": "complete", "epoch": 4, "metrics": {"loss": loss}}
    return TrialRecord(trial_id="i", number=number, hyperparameters={}, epochs=4, started=0.0, **usual | more)


@pytest.mark.parametrize("landscape", LANDSCAPES)
@pytest.mark.parametrize(("trials", "noise"), [(20, 0.0), (50, 0.0), (100, 0.0), (50, 0.5)])
def test_what_it_expects_is_what_comes(landscape: str, trials: int, noise: float) -> None:
    """In the mean over random searches: the true value of the best of so many, and of fifty more."""
    random, expected, found = np.random.default_rng(0), [], []
    draw = LANDSCAPES[landscape]
    sigma = noise * float(np.std(draw(random, 1_000)))
    for _ in range(150):
        truth = draw(random, trials + 50)
        seen = truth + sigma * random.normal(size=truth.size)
        expected.append(expected_gain(list(seen[:trials]), float(seen[:trials].min()), 50, sigma))
        found.append(truth[seen[:trials].argmin()] - truth[seen.argmin()])
    assert 0.4 < np.mean(expected) / np.mean(found) < 2.5


def test_noise_alone_is_no_gain_worth_having() -> None:
    random = np.random.default_rng(1)
    words = []
    for _ in range(20):
        outlook = look_ahead(LOSS, [trial(number, 1 + 0.1 * random.normal()) for number in range(60)], noise=0.1)
        assert outlook is not None
        words.append("less than chance; what helps is more validation events" in str(outlook))
    assert all(words)


def test_a_search_that_still_improves_is_told_so_and_its_noise_may_be_unknown() -> None:
    random = np.random.default_rng(2)
    records = [trial(number, float(random.normal())) for number in range(40)]
    outlook = look_ahead(LOSS, records, noise=0.01)
    assert outlook is not None
    assert "less than" not in str(outlook)
    assert "50 more trials are expected to gain" in str(outlook)
    assert "(seed noise unknown: --race N measures it)" in str(look_ahead(LOSS, records))
    assert "less than --min-effect 5" in str(look_ahead(LOSS, records, noise=0.01, min_effect=5.0))
    declared = [trial(one.number, one.metrics["loss"], metrics={**one.metrics, "loss_error": 9.0}) for one in records]
    assert "a race (--race N) or more validation events" in str(look_ahead(LOSS, declared))


def test_too_few_trials_have_no_word_and_what_breaks_a_limit_does_not_count() -> None:
    records = [trial(number, float(number)) for number in range(FEWEST)]
    assert look_ahead(LOSS, records) is not None
    assert look_ahead(LOSS, records[1:]) is None
    assert look_ahead(Goal({"loss": "min"}, (Constraint("loss", 5.0),)), records) is None
    assert look_ahead(Goal({"loss": "min", "size": "min"}), records) is None


def test_a_preset_far_ahead_leaves_nothing_to_gain() -> None:
    random = np.random.default_rng(3)
    records = [trial(number, 10 + float(random.normal())) for number in range(40)]
    ahead = look_ahead(LOSS, [trial(99, 0.0, preset="known"), *records], noise=0.01)
    assert ahead is not None
    assert ahead.gain == 0


def test_stopped_trials_make_fewer_of_the_next_ones_complete() -> None:
    random = np.random.default_rng(4)
    records = [trial(number, float(random.normal())) for number in range(40)]
    stopped = [trial(number, 9.0, outcome="stopped_early") for number in range(40, 120)]
    every, some = look_ahead(LOSS, records), look_ahead(LOSS, [*records, *stopped])
    assert every is not None
    assert some is not None
    assert 0 < some.gain < every.gain
