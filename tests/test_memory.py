"""What a sampler sees of a very long study: the best, the newest, what runs, and no more."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.tuning.history_sampler import HistorySampler

MOST = 40
RANGE = {"x": optuna.distributions.FloatDistribution(0, 1)}
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


class Watching(RandomSampler):
    """Notes which trials it could have learnt from."""

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, optuna.distributions.BaseDistribution]:
        self.ended = {known.number for known in study.get_trials(deepcopy=False, states=ENDED)}
        self.running = {known.number for known in study.get_trials(states=(TrialState.RUNNING,))}
        return {}


def ended(values: Sequence[float], state: TrialState = TrialState.COMPLETE, excess: float = 0.0) -> FrozenTrial:
    trial = create_trial(state=state, values=list(values) or None, params={"x": 0.5}, distributions=RANGE)
    trial.set_constraint("bias", excess)
    return trial


def seen(study: optuna.Study, earlier: Sequence[FrozenTrial] = ()) -> Watching:
    watching = Watching()
    study.sampler = HistorySampler(watching, earlier, MOST)
    study.ask().suggest_float("x", 0, 1)
    return watching


def test_a_short_study_is_seen_whole() -> None:
    study = optuna.create_study()
    study.add_trials([ended([float(number)]) for number in range(MOST)])
    assert seen(study).ended == set(range(MOST))


def test_of_a_long_study_the_best_and_the_newest_are_seen() -> None:
    study = optuna.create_study()
    study.add_trials([ended([float(number)]) for number in range(100)])  # the first are the best
    assert seen(study).ended == {*range(10), *range(70, 100)}


def test_the_best_of_a_maximised_objective_are_the_largest() -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trials([ended([-float(number)]) for number in range(100)])
    assert set(range(10)) < seen(study).ended


def test_each_of_several_objectives_keeps_its_best() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"])
    study.add_trials([ended([float(number), 50.0]) for number in range(50)])
    study.add_trials([ended([50.0, float(number)]) for number in range(50)])
    assert seen(study).ended == {*range(5), *range(50, 55), *range(70, 100)}


def test_whoever_keeps_the_limits_goes_before_a_better_value() -> None:
    study = optuna.create_study()
    study.add_trials([ended([0.0], excess=1.0) for _ in range(20)])
    study.add_trials([ended([float(number)]) for number in range(80)])
    assert seen(study).ended == {*range(20, 30), *range(70, 100)}


def test_stopped_trials_are_seen_while_they_are_new() -> None:
    study = optuna.create_study()
    study.add_trials([ended([], TrialState.PRUNED) for _ in range(60)])
    study.add_trials([ended([1.0]) for _ in range(10)])
    assert seen(study).ended == set(range(30, 70))


def test_running_trials_are_always_seen() -> None:
    study = optuna.create_study()
    running = {study.ask().number for _ in range(3)}
    study.add_trials([ended([float(number)]) for number in range(100)])
    assert running <= seen(study).running


@pytest.mark.parametrize("length", [20, 100])
def test_earlier_searches_are_forgotten_before_the_own_trials(length: int) -> None:
    study = optuna.create_study()
    study.add_trials([ended([1.0]) for _ in range(length)])
    earlier = [ended([float(number)]) for number in range(1, 61)]
    watched = seen(study, earlier).ended
    assert len(watched) == MOST
    assert {number for number in watched if number >= 0} <= set(range(length))
    assert set(range(length - 20, length)) <= watched


def test_what_is_new_is_seen_from_the_next_point_on() -> None:
    study = optuna.create_study()
    study.add_trials([ended([float(number)]) for number in range(100)])
    watching = seen(study)
    study.add_trial(ended([-1.0]))
    study.ask().suggest_float("x", 0, 1)
    assert 101 in watching.ended  # 100 was asked for
    assert len(watching.ended) == MOST
