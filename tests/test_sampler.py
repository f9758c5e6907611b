"""Laws of the searcher: what is held never enters the study, and the study tells the truth of every trial."""

from __future__ import annotations

import pickle
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.samplers._tpe import _truncnorm
from optuna.trial import TrialState, create_trial
from ray.tune import Checkpoint
from ray.tune.search import Searcher
from scipy.special import log_ndtr
from specs import spec_with
from tiny import TinyConfig, expected_loss, suggest

from search.config.settings import WARM_START_SAMPLERS
from search.config.space import Space
from search.storage.trial_record import Outcome, TrialRecord
from search.tuning.optuna_searcher import OptunaSearcher
from search.tuning.samplers import make_sampler
from search.tuning.study import open_study, read_study
from search.workloads import WORKLOADS
from trainables.base.objectives import Goal

POINTS = {"plain": {"x": 0.3, "y": 0.0}, "wide": {"x": -0.5, "optional": 4}}
SAMPLERS = {
    "tpe": TPESampler,
    "gp": GPSampler,
    "cmaes": CmaEsSampler,
    "random": RandomSampler,
    "qmc": QMCSampler,
}


LOSS = Goal({"loss": "min"})


def space_of(presets: Mapping[str, Mapping[str, Any]] = POINTS, **held: Any) -> Space:
    return Space(suggest=suggest, fixed=held, preset_fixed=held, presets=presets)


def searcher_of(
    folder: Path, space: Space, *, sampler: str = "random", trials: int = 3, records: Sequence[TrialRecord] = ()
) -> OptunaSearcher:
    study = open_study(folder, "a-study", ["min"], make_sampler(sampler, 5, len(records)))
    spec = spec_with(space, LOSS, trials=trials, epochs=4, seed=100)
    return OptunaSearcher(study, spec, records)


def reread(folder: Path) -> optuna.Study:
    """The study as another process finds it."""
    return open_study(folder, "a-study", ["min"], RandomSampler())


def record_of(trial_id: str, asked: dict[str, Any]) -> TrialRecord:
    return TrialRecord(
        trial_id=trial_id, number=asked["number"], preset=asked["preset"],
        hyperparameters=asked["hyperparameters"], epochs=4, started=time.time(),
    )  # fmt: skip


def live(searcher: OptunaSearcher, trial_id: str, losses: list[float], outcome: Outcome, reason: str = "") -> Any:
    """One trial's whole life; returns what was asked for it."""
    asked = searcher.suggest(trial_id)
    assert isinstance(asked, dict)
    record = record_of(trial_id, asked)
    searcher.trial_started(record)
    for record.epoch, loss in enumerate(losses, start=1):
        record.metrics = {"loss": loss}
        searcher.epoch_ended(record)
    record.outcome, record.reason = outcome, reason
    searcher.trial_ended(record)
    return asked


# ---------------------------------------------------------------- the space


def test_what_is_held_never_enters_the_study() -> None:
    study = optuna.create_study(sampler=RandomSampler(seed=1))
    for _ in range(20):
        trial = study.ask()
        point = space_of(x=0.5, optional=3).point(trial)
        assert point["x"] == 0.5
        assert point["optional"] == 3
        assert trial.params.keys() == {"y"}  # x > 0: the branch of the held value


def test_distributions_are_those_of_every_branch_without_what_is_held() -> None:
    found = space_of().distributions
    assert found.keys() == {"x", "y", "optional"}
    assert found["x"] == optuna.distributions.FloatDistribution(-1, 1)
    assert space_of(x=-0.5, optional=1).distributions == {}


@pytest.mark.parametrize("name", WORKLOADS)
def test_distributions_of_a_workload_meet_every_branch(name: str) -> None:
    workload = WORKLOADS[name]
    space = Space(workload.suggest, {}, {}, {})
    found = space.distributions
    study = optuna.create_study(sampler=RandomSampler(seed=3))
    for _ in range(300):
        trial = study.ask()
        workload.suggest(trial)
        assert trial.distributions.keys() <= found.keys()


def test_a_preset_keeps_what_it_names_and_takes_the_rest_from_what_is_held(tmp_path: Path) -> None:
    space = Space(suggest, fixed={"optional": 2}, preset_fixed={"optional": 3, "x": 0.9}, presets=POINTS)
    searcher = searcher_of(tmp_path, space)
    plain, wide, sampled = (searcher.suggest(name)["hyperparameters"] for name in "abc")
    assert (plain["x"], plain["y"], plain["optional"]) == (0.3, 0.0, 3)
    assert (wide["x"], wide["optional"]) == (-0.5, 4)
    assert sampled["optional"] == 2
    assert sampled["x"] not in (0.3, -0.5, 0.9)


# ---------------------------------------------------------------- asking


def test_presets_come_first_in_their_order_and_sampled_trials_on_top(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, space_of(optional=1), trials=2)
    asked = [searcher.suggest(str(number)) for number in range(4)]
    assert [one["preset"] for one in asked] == ["plain", "wide", None, None]
    assert [one["number"] for one in asked] == [0, 1, 2, 3]
    assert [one["hyperparameters"]["seed"] for one in asked] == [100, 101, 102, 103]
    assert all(one["hyperparameters"]["epochs"] == 4 for one in asked)
    assert searcher.suggest("more") == Searcher.FINISHED
    assert len(reread(tmp_path).get_trials()) == 4


def test_one_seed_asks_for_the_same_points(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    asked = []
    for folder in folders:
        folder.mkdir()
        searcher = searcher_of(folder, space_of(), sampler="tpe", trials=5)
        asked.append([live(searcher, str(number), [0.5], "complete") for number in range(7)])
    assert asked[0] == asked[1]


# ---------------------------------------------------------------- telling


def test_complete_is_told_with_the_value_of_the_last_epoch(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, space_of())
    live(searcher, "a", [0.9, 0.2, 0.4], "complete")
    (trial, *_) = reread(tmp_path).get_trials()
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.4)
    assert trial.intermediate_values == {1: 0.9, 2: 0.2, 3: 0.4}


def test_stopped_early_is_told_as_pruned(tmp_path: Path) -> None:
    """Pitfalls 3 and 4: never as a value that is compared with whole trials."""
    searcher = searcher_of(tmp_path, space_of())
    live(searcher, "a", [0.9, 0.1], "stopped_early", "scheduler")
    live(searcher, "b", [0.5, 0.5], "complete")
    study = reread(tmp_path)
    pruned, complete = study.get_trials()[:2]
    assert pruned.state == TrialState.PRUNED
    assert pruned.intermediate_values == {1: 0.9, 2: 0.1}
    assert study.best_trial.number == complete.number


@pytest.mark.parametrize("outcome", ["diverged", "failed"])
def test_diverged_and_failed_are_told_with_a_reason_and_no_number(tmp_path: Path, outcome: Outcome) -> None:
    """Pitfall 2."""
    searcher = searcher_of(tmp_path, space_of())
    live(searcher, "a", [0.9], outcome, "not_finite in epoch 2")
    trial = reread(tmp_path).get_trials()[0]
    assert (trial.state, trial.value) == (TrialState.FAIL, None)
    assert trial.user_attrs["reason"] == "not_finite in epoch 2"
    assert trial.user_attrs["outcome"] == outcome


def test_tunes_own_word_of_the_end_changes_nothing(tmp_path: Path) -> None:
    """Tune calls complete what a scheduler stopped (pitfalls 2, 3) and failed what is retried (5)."""
    searcher = searcher_of(tmp_path, space_of())
    searcher.suggest("a")
    searcher.on_trial_complete("a", result={"metrics/loss": float("nan")})
    searcher.on_trial_complete("a", error=True)
    assert reread(tmp_path).get_trials()[0].state == TrialState.RUNNING


def test_points_that_never_became_a_trial_are_closed(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, space_of())
    searcher.suggest("a")
    live(searcher, "b", [0.5], "complete")
    searcher.close(interrupted=False)
    first, second = reread(tmp_path).get_trials()[:2]
    assert (first.state, first.user_attrs["reason"]) == (TrialState.FAIL, "never started")
    assert second.state == TrialState.COMPLETE


def test_an_interrupted_study_goes_on_with_what_it_left_open(tmp_path: Path) -> None:
    """Trials that ran, from their checkpoint; points that were only asked for; and the rest; each of them once."""
    before = searcher_of(tmp_path, space_of(optional=1), trials=3)
    live(before, "0", [0.5], "complete")
    asked = before.suggest("1")
    running = record_of("1", asked)
    running.epoch, running.metrics, running.outcome = 1, {"loss": 0.9}, "interrupted"
    running.checkpoint = Checkpoint(str(tmp_path / "somewhere"))
    before.epoch_ended(running)
    before.trial_ended(running)
    never_begun = before.suggest("2")
    before.close(interrupted=True)

    after = searcher_of(tmp_path, space_of(optional=1), trials=3, records=[running])
    assert after.left == 4
    again = [after.suggest(str(number)) for number in range(4)]
    assert [one["number"] for one in again] == [1, 2, 3, 4]
    assert again[0]["continue_from"] == str(tmp_path / "somewhere")
    assert [one.get("continue_from") for one in again[1:]] == [None] * 3
    assert again[0]["hyperparameters"] == asked["hyperparameters"]
    assert again[1]["hyperparameters"] == never_begun["hyperparameters"]
    assert [one["preset"] for one in again] == ["wide", None, None, None]
    assert after.suggest("more") == Searcher.FINISHED
    assert len(reread(tmp_path).get_trials()) == 5
    running.epoch, running.metrics, running.outcome = 2, {"loss": 0.8}, "complete"
    after.epoch_ended(running)
    after.trial_ended(running)
    told = reread(tmp_path).get_trials()[1]
    assert (told.state, told.value) == (TrialState.COMPLETE, 0.8)
    assert told.intermediate_values == {1: 0.9, 2: 0.8}


def test_random_points_follow_from_their_numbers_however_often_a_search_is_begun_again(tmp_path: Path) -> None:
    """A search that died has the points of one that did not."""

    def points(folder: Path, lives: int) -> list[float]:
        folder.mkdir()
        found, records = [], []
        for life in range(lives):
            study = open_study(folder, "a-study", ["min"], make_sampler("random", 5, known=len(found)))
            searcher = OptunaSearcher(study, spec_with(space_of(presets={}), LOSS, trials=6, epochs=4), records)
            for number in range(6 // lives):
                found.append(live(searcher, f"{life}-{number}", [0.5], "complete")["hyperparameters"]["x"])
        return found

    assert points(tmp_path / "whole", 1) == points(tmp_path / "in-pieces", 3)
    assert len(set(points(tmp_path / "again", 1))) == 6


def test_an_epoch_that_was_written_down_just_before_a_death_is_told_after_it(tmp_path: Path) -> None:
    """The journal comes first: the study may lack the last epoch of a trial that goes on behind it."""
    before = searcher_of(tmp_path, space_of(presets={}), trials=1)
    record = record_of("1", before.suggest("1"))
    record.epoch, record.metrics, record.outcome = 2, {"loss": 0.9}, "interrupted"
    after = searcher_of(tmp_path, space_of(presets={}), trials=1, records=[record])
    after.suggest("2")
    assert reread(tmp_path).get_trials()[0].intermediate_values == {2: 0.9}


def test_the_study_tells_of_ends_that_the_records_have_lost(tmp_path: Path) -> None:
    """A damaged journal: Optuna's trials cannot be opened again, so the study is believed."""
    before = searcher_of(tmp_path, space_of(presets={}), trials=2)
    lost = record_of("1", before.suggest("1"))
    lost.epoch, lost.metrics, lost.outcome = 4, {"loss": 0.5}, "complete"
    before.epoch_ended(lost)
    before.trial_ended(lost)
    lost.outcome = "interrupted"
    after = searcher_of(tmp_path, space_of(presets={}), trials=2, records=[lost])
    assert after.ended() == {0: ("complete", "")}
    assert after.left == 1
    lost.outcome = "complete"
    after.trial_ended(lost)  # which it knows
    assert after.ended() == {}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_study_that_goes_on_does_not_draw_its_first_points_again(tmp_path: Path, name: str) -> None:
    space = space_of(presets={})
    before = searcher_of(tmp_path, space, sampler=name, trials=3)
    first = [live(before, str(number), [0.5], "complete")["hyperparameters"]["x"] for number in range(3)]
    sampler = make_sampler(name, 5, known=3)
    study = open_study(tmp_path, "a-study", ["min"], sampler)
    after = OptunaSearcher(study, spec_with(space, LOSS, trials=6, epochs=4))
    later = [live(after, str(number), [0.5], "complete")["hyperparameters"]["x"] for number in range(3)]
    assert not set(first) & set(later)


def test_metric_and_mode_are_settled_by_the_study(tmp_path: Path) -> None:
    """Pitfall 6: Tune gives them to every searcher; ours must not refuse them."""
    assert searcher_of(tmp_path, space_of()).set_search_properties("metrics/loss", "min", {})


def test_a_snapshot_of_tune_holds_nothing_of_the_study(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, space_of())
    assert pickle.loads(pickle.dumps(searcher)).__dict__ == {}
    searcher.save_to_dir(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["optuna.journal"]


# ---------------------------------------------------------------- samplers


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_lives_with_presets_branches_and_all_ends(tmp_path: Path, name: str) -> None:
    searcher = searcher_of(tmp_path, space_of(), sampler=name, trials=14)
    ends: list[tuple[list[float], Outcome]] = [
        ([0.9, 0.5], "complete"),
        ([0.9], "stopped_early"),
        ([], "diverged"),
        ([0.8], "failed"),
    ]
    for number in range(16):
        losses, outcome = ends[number % 4]
        asked = live(searcher, str(number), [loss + number / 100 for loss in losses], outcome)
        assert -1 <= asked["hyperparameters"]["x"] <= 1
        assert ("y" in asked["hyperparameters"]) == (asked["hyperparameters"]["x"] > 0)
    states = [trial.state for trial in reread(tmp_path).get_trials()]
    assert states.count(TrialState.COMPLETE) == 4
    assert all(state.is_finished() for state in states)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_flag_makes_the_sampler_of_its_name(name: str) -> None:
    assert isinstance(make_sampler(name, 1), SAMPLERS[name])


def test_tpe_reckons_with_running_trials_and_groups_of_branches() -> None:
    """Pitfall 8: without it parallel trials bunch up."""
    sampler = make_sampler("tpe", 1)
    assert sampler._constant_liar
    assert sampler._multivariate
    assert sampler._group


def test_tpe_proposes_the_points_of_optunas_own_and_scipy_computes_what_takes_it_longest() -> None:
    def points() -> list[dict[str, Any]]:
        study = optuna.create_study(sampler=TPESampler(seed=3))
        asked = []
        for number in range(30):
            trial = study.ask()
            asked.append({"n": trial.suggest_int("n", 1, 512, log=True), "x": trial.suggest_float("x", -1, 1)})
            study.tell(trial, asked[-1]["x"] ** 2 + number % 3)
        return asked

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_truncnorm, "_log_ndtr", np.vectorize(_truncnorm._log_ndtr_single, otypes=[float]))  # as shipped
        as_shipped = points()
    make_sampler("tpe", 3)
    assert _truncnorm._log_ndtr is log_ndtr
    for point, expected in zip(points(), as_shipped, strict=True):
        assert point == pytest.approx(expected, rel=1e-9)  # but for rounding


@pytest.mark.parametrize("name", WORKLOADS)
def test_presets_feed_the_sampler(name: str, tmp_path: Path) -> None:
    """Their points and values are trials of the study like any other, whatever the workload."""
    workload = WORKLOADS[name]
    held = {key: workload.config.model_fields[key].default for key in workload.optional}
    space = Space(workload.suggest, held, held, workload.presets)
    searcher = searcher_of(tmp_path, space)
    for preset in workload.presets:
        live(searcher, preset, [0.5], "complete")
    for trial, point in zip(reread(tmp_path).get_trials(), workload.presets.values(), strict=True):
        assert trial.state == TrialState.COMPLETE
        assert trial.params == point  # with what is held in others, where the preset names it


# ---------------------------------------------------------------- trials of earlier searches


def earlier_trials(count: int = 20, low: float = -1.0) -> list[optuna.trial.FrozenTrial]:
    """As ``warm_start`` makes them: random points of the space and their losses; those without y, if any, first."""
    study = optuna.create_study(sampler=RandomSampler(seed=17))
    for _ in range(count):
        trial = study.ask()
        point = suggest(trial)
        study.tell(trial, expected_loss(TinyConfig(**point), 4))
    return [
        create_trial(params=trial.params, distributions=trial.distributions, values=trial.values,
                     user_attrs={"warm_from": "past"})
        for trial in sorted(study.get_trials(), key=lambda trial: trial.params["x"])
        if trial.params["x"] >= low
    ]  # fmt: skip


def optimise(study: optuna.Study, count: int) -> list[dict[str, Any]]:
    """The points that a study asks for, each told its loss."""
    points = []
    for _ in range(count):
        trial = study.ask()
        points.append(suggest(trial))
        study.tell(trial, expected_loss(TinyConfig(**points[-1]), 4))
    return points


@pytest.mark.slow
@pytest.mark.parametrize("name", WARM_START_SAMPLERS)
@pytest.mark.parametrize("low", [-1.0, 0.0])  # from 0 on all of them have y: the branch x < 0 is met later
def test_earlier_trials_beside_a_study_teach_its_sampler_what_they_would_within_it(
    tmp_path: Path, name: str, low: float
) -> None:
    earlier = earlier_trials(low=low)
    beside = open_study(tmp_path, "a-study", ["min"], make_sampler(name, 5), earlier)
    within = optuna.create_study(sampler=make_sampler(name, 5))
    within.add_trials(earlier)
    cold = optuna.create_study(sampler=make_sampler(name, 5))
    points = optimise(beside, 8)
    assert points == optimise(within, 8)
    assert points != optimise(cold, 8)


def test_running_trials_beside_earlier_ones_are_reckoned_with(tmp_path: Path) -> None:
    """Pitfall 8; and none of the earlier ones is taken for the running one."""
    earlier = earlier_trials()
    beside = open_study(tmp_path, "a-study", ["min"], make_sampler("tpe", 5), earlier)
    within = optuna.create_study(sampler=make_sampler("tpe", 5))
    within.add_trials(earlier)
    assert [suggest(beside.ask()) for _ in range(5)] == [suggest(within.ask()) for _ in range(5)]


@pytest.mark.parametrize("name", WARM_START_SAMPLERS)
def test_earlier_trials_count_as_no_trials_of_the_study(tmp_path: Path, name: str) -> None:
    """Presets, numbers, seeds, what is left and the best trial are those of the search."""
    earlier = earlier_trials()
    study = open_study(tmp_path, "a-study", ["min"], make_sampler(name, 5, len(earlier)), earlier)
    searcher = OptunaSearcher(study, spec_with(space_of(), LOSS, trials=2, epochs=4, seed=100))
    assert searcher.left == 4
    asked = [live(searcher, str(number), [0.9], "complete") for number in range(4)]
    assert [one["number"] for one in asked] == [0, 1, 2, 3]
    assert [one["preset"] for one in asked] == ["plain", "wide", None, None]
    assert [one["hyperparameters"]["seed"] for one in asked] == [100, 101, 102, 103]
    assert searcher.suggest("more") == Searcher.FINISHED
    found = reread(tmp_path)
    assert len(found.get_trials()) == 4
    assert found.best_trial.value == 0.9 > min(trial.value or 0.0 for trial in earlier)
    assert found.user_attrs["warm_from"] == {"past": 20}


def test_a_study_that_is_opened_again_still_knows_them_and_takes_no_more(tmp_path: Path) -> None:
    earlier = earlier_trials()
    open_study(tmp_path, "a-study", ["min"], RandomSampler(), earlier)
    again = open_study(tmp_path, "a-study", ["min"], make_sampler("tpe", 5), [*earlier, *earlier])
    within = optuna.create_study(sampler=make_sampler("tpe", 5))
    within.add_trials(earlier)
    assert optimise(again, 3) == optimise(within, 3)
    assert again.user_attrs["warm_from"] == {"past": 20}


def test_a_process_that_died_over_keeping_them_is_put_right(tmp_path: Path) -> None:
    """The study comes after them: until it is there, they are kept anew."""
    earlier = earlier_trials()
    open_study(tmp_path, "a-study.warm", ["min"], RandomSampler()).add_trials(earlier[:7])
    assert read_study(tmp_path, "a-study") is None
    study = open_study(tmp_path, "a-study", ["min"], make_sampler("tpe", 5), earlier)
    assert study.user_attrs["warm_from"] == {"past": 20}
    kept = read_study(tmp_path, "a-study.warm")
    assert kept is not None
    assert [trial.params for trial in kept] == [trial.params for trial in earlier]
    assert read_study(tmp_path, "a-study") == []


def test_complete_trials_keep_what_a_later_search_needs_of_them(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, space_of(optional=2))
    asked = live(searcher, "a", [0.9, 0.2], "complete")
    live(searcher, "b", [0.9], "stopped_early")
    complete, stopped = reread(tmp_path).get_trials()[:2]
    assert complete.user_attrs["hyperparameters"] == asked["hyperparameters"]
    assert asked["hyperparameters"]["optional"] == 2
    assert complete.user_attrs["metrics"] == {"loss": 0.2}
    assert "metrics" not in stopped.user_attrs
