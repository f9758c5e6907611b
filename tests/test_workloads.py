"""One contract for all workloads: what is searched acts, presets are points of the space, and state is everything."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from specs import spec_of

from search.config.settings import Method
from search.config.space import Space
from search.tuning.autosize.worst_case import largest_point
from search.workload import Workload
from search.workloads import CHAINS, WORKLOADS
from trainables.base.checkpoint import BEST_FILE, REPORT_FOLDER, STATE_FILE
from trainables.base.errors import DataError
from trainables.base.objectives import Goal
from trainables.base.training import Training
from trainables.base.tune_adapter import EpochTrainable, Machine

EPOCHS = 4  # a schedule's shape shows between its ends only
pytestmark = pytest.mark.usefixtures("one_thread")

EVENTS = 250
CPU = torch.device("cpu")


@pytest.fixture(params=WORKLOADS)
def workload(request: pytest.FixtureRequest) -> Workload:
    return WORKLOADS[request.param]


@cache
def data_of(name: str) -> Any:
    return WORKLOADS[name].simulate_data(EVENTS, 1)


def cheap(workload: Workload) -> dict[str, Any]:
    """Small and short, as the demo is; a batch is a fraction of the few events."""
    return {**workload.demo.fixed, "epochs": EPOCHS, "batch_size": 64, "seed": 3}


def training_of(workload: Workload, **hyperparameters: Any) -> Training:
    config = workload.config(**cheap(workload) | hyperparameters)
    return workload.training(config, data_of(workload.name), CPU)


def sampled_points(workload: Workload, points: int) -> Iterator[tuple[dict[str, Any], optuna.Trial]]:
    study = optuna.create_study(sampler=RandomSampler(seed=11))
    for _ in range(points):
        trial = study.ask()
        yield workload.suggest(trial), trial


def widest_point(workload: Workload) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """A point in whose branch every parameter of the space acts, with its ranges."""
    point, trial = max(sampled_points(workload, 60), key=lambda found: len(found[0]))
    return point, dict(trial.distributions)


def another(value: Any, distribution: BaseDistribution) -> Any:
    """A value of the range that is far from this one."""
    match distribution:
        case CategoricalDistribution():
            return next(choice for choice in distribution.choices if choice != value)
        case FloatDistribution() | IntDistribution():
            middle = (
                math.sqrt(distribution.low * distribution.high)
                if distribution.log
                else ((distribution.low + distribution.high) / 2)
            )
            return distribution.high if value < middle else distribution.low
    raise AssertionError(distribution)


def flat(state: Any, path: str = "") -> dict[str, Any]:
    """A state as one dict of tensors and plain values."""
    if isinstance(state, Mapping):
        return {key: value for name in state for key, value in flat(state[name], f"{path}/{name}").items()}
    if isinstance(state, list | tuple):
        return {key: value for i, item in enumerate(state) for key, value in flat(item, f"{path}/{i}").items()}
    return {path: state}


def same(one: Any, other: Any) -> bool:
    """Bit for bit."""
    first, second = flat(one), flat(other)
    return first.keys() == second.keys() and all(
        torch.equal(value, second[key]) if isinstance(value, torch.Tensor) else value == second[key]
        for key, value in first.items()
    )


def train(training: Training, epochs: int = EPOCHS) -> Training:
    for _ in range(epochs):
        training.train_epoch()
    return training


# ---------------------------------------------------------------- the space


def sizes(workload: Workload, point: Mapping[str, Any]) -> dict[str, float]:
    values = workload.config(**point).model_dump()
    return {name: size(values[name]) for name, size in workload.sizing.items()}


@pytest.mark.parametrize("also", [(), None], ids=["held", "searched"])
def test_no_trial_of_a_search_is_larger_than_the_largest(workload: Workload, also: tuple[str, ...] | None) -> None:
    method = Method(free=workload.optional if also is None else also, presets="all")
    for demo in (True, False):
        plan = spec_of(workload, method=method, demo=demo)
        largest = sizes(workload, largest_point(plan))
        study = optuna.create_study(sampler=RandomSampler(seed=11))
        for preset in [*workload.presets, *[None] * 40]:
            study.enqueue_trial({}, user_attrs={"preset": preset})
            point = sizes(workload, plan.space.point(study.ask()))
            assert all(point[name] <= largest[name] for name in largest), (point, largest)


def test_what_sets_the_cost_of_a_trial_is_reckoned_with_and_changes_in_no_trial(workload: Workload) -> None:
    assert set(workload.optional) <= set(workload.sizing)
    assert not set(workload.mutable) & set(workload.sizing)


def test_what_makes_a_trial_larger_makes_it_take_more(workload: Workload) -> None:
    """More numbers in networks and inputs, or more events at once; a mere switch of a penalty at least not less."""
    small = training_of(workload)

    def numbers(training: Training) -> int:
        found = [value for value in flat(vars(training)).values() if isinstance(value, torch.Tensor)]
        return sum(value.numel() for value in [*flat(training.state()).values(), *found] if hasattr(value, "numel"))

    _, ranges = widest_point(workload)
    for name, size in workload.sizing.items():
        values = _values(ranges[name])
        assert sorted({size(value) for value in values}) == sorted(size(value) for value in values), name
        if name != "batch_size":
            large = training_of(workload, **{name: max(values, key=size)})
            least = training_of(workload, **{name: min(values, key=size)})
            assert numbers(least) <= numbers(large), name
    assert numbers(small) > 0


def _values(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution)
    return list(range(distribution.low, distribution.high + 1))


def test_sampled_points_build_a_configuration(workload: Workload) -> None:
    for point, _ in sampled_points(workload, 50):
        assert workload.config(**point).model_dump().items() >= point.items()


def test_a_misspelt_hyperparameter_is_refused(workload: Workload) -> None:
    with pytest.raises(ValueError, match="Extra inputs"):
        workload.config(hiden_dim=8)


@cache
def weights_of_the_widest_point(name: str) -> dict[str, torch.Tensor]:
    point, _ = widest_point(WORKLOADS[name])
    return train(training_of(WORKLOADS[name], **point | _small(WORKLOADS[name]))).weights()


def _small(workload: Workload) -> dict[str, Any]:
    return {name: value for name, value in cheap(workload).items() if name in workload.config.model_fields}


SEARCHED = [(name, key) for name in WORKLOADS for key in widest_point(WORKLOADS[name])[0]]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "key"), SEARCHED)
def test_each_searched_key_changes_what_is_built_or_how_it_trains(name: str, key: str) -> None:
    """Nothing is searched that no model reads."""
    workload = WORKLOADS[name]
    point, ranges = widest_point(workload)
    point |= _small(workload)
    changed = point | {key: another(point[key], ranges[key])}
    weights = train(training_of(workload, **changed)).weights()
    assert not same(weights, weights_of_the_widest_point(name)), f"{key} changes nothing"


def test_two_runs_with_one_seed_agree_and_with_another_do_not(workload: Workload) -> None:
    point, _ = widest_point(workload)
    point |= _small(workload)
    first, second, other = (train(training_of(workload, **point | {"seed": seed}), 2) for seed in (3, 3, 4))
    assert same(first.state(), second.state())
    assert first.validate() == second.validate()
    assert not same(first.weights(), other.weights())


def test_mutable_and_optional_keys_are_keys_of_the_space(workload: Workload) -> None:
    searched = Space(workload.suggest, {}, {}, {}).distributions.keys()
    assert set(workload.mutable) <= searched
    assert set(workload.optional) <= searched
    assert not set(workload.mutable) & set(workload.optional)
    assert set(workload.demo.fixed) <= workload.config.model_fields.keys()


def test_mutable_keys_may_change_within_a_run(workload: Workload) -> None:
    """A state is taken over by a run of other mutable values, which keeps its own."""
    point, ranges = widest_point(workload)
    point |= _small(workload)
    donor = train(training_of(workload, **point), 2)
    moved = {key: another(point[key], ranges[key]) for key in workload.mutable}
    heir = training_of(workload, **point | moved)
    heir.load_state(donor.state())
    assert same(heir.weights(), donor.weights())
    assert heir.epoch == 2
    for key, value in moved.items():
        assert getattr(heir.config, key) == value
    assert not same(train(heir, 1).weights(), train(donor, 1).weights())


# ---------------------------------------------------------------- presets


PRESETS = [(name, preset) for name in WORKLOADS for preset in WORKLOADS[name].presets]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_a_preset_is_a_point_of_the_space(name: str, preset: str) -> None:
    """It names what its branch asks for, within the ranges (Optuna would warn), and nothing that does not act."""
    workload = WORKLOADS[name]
    point = dict(workload.presets[preset])
    study = optuna.create_study(sampler=RandomSampler(seed=1))
    study.enqueue_trial(point)
    trial = study.ask()
    suggested = workload.suggest(trial)
    for key in workload.optional:
        if key not in point:
            suggested.pop(key, None)
    assert suggested == point
    for key, distribution in trial.distributions.items():
        if key in point:
            assert distribution._contains(distribution.to_internal_repr(point[key])), key
    workload.config(**point)


def test_presets_differ_from_each_other(workload: Workload) -> None:
    points = [tuple(sorted(point.items())) for point in workload.presets.values()]
    assert len(set(points)) == len(points)
    for defaults in (workload.demo, workload.full):
        assert set(defaults.presets or ()) <= workload.presets.keys()


ZDC_TABLE = {
    # DIS:GEN, max GEN LR, max DIS LR, pct_start, noise start, noise end
    "test25": ("1:5", 9e-4, 1e-3, 0.35, 0.7, 1.0),
    "test26-lr4": ("1:1", 9e-4, 1e-3, 0.35, 0.7, 1.0),
    "test26-lr4-ns1": ("1:1", 9e-4, 1e-3, 0.35, 1.0, None),
    "test26-lr6": ("1:1", 1e-3, 1e-3, 0.8, 0.7, 1.0),
    "test26-lr8": ("1:1", 7e-4, 1e-3, 0.35, 0.7, 1.0),
    "test26-lr9": ("1:1", 1e-3, 9e-4, 0.35, 0.7, 1.0),
}


def test_the_zdc_presets_are_those_of_the_report() -> None:
    presets = WORKLOADS["zdc"].presets
    assert set(presets) == {*ZDC_TABLE, "test24", "regression-only"}
    keys = ("dis_gen_ratio", "max_lr_gen", "max_lr_dis", "pct_start", "noise_start", "noise_end")
    for name, values in ZDC_TABLE.items():
        assert tuple(presets[name].get(key) for key in keys) == values, name
        assert presets[name]["gan"] is True
        assert presets[name]["normalise"] is True
        assert presets[name]["smoothing"] > 0
        assert presets[name]["noise_shape"] == ("constant" if name.endswith("ns1") else "linear")
    assert presets["test24"] == {**presets["test26-lr4"], "normalise": False, "smoothing": 0.0}
    regression = presets["regression-only"]
    assert regression["gan"] is False
    assert regression.items() - {("gan", False)} <= presets["test26-lr4"].items()
    assert "max_lr_dis" not in regression  # it would not act


# ---------------------------------------------------------------- one run


class Direct(EpochTrainable):
    """The trainable without Tune: what with_parameters would bind comes with the configuration."""

    def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
        workload: Workload = WORKLOADS[config["workload"]]
        objective, mode = next(iter(workload.objectives.items()))
        super().setup(
            config,
            training=workload.training,
            training_config=workload.config,
            data=data_of(workload.name),
            goal=Goal({objective: mode}, workload.constraints),
            machine=Machine(threads=1, device="cpu"),
        )


def trainable_of(workload: Workload, **hyperparameters: Any) -> Direct:
    point = dict(workload.presets[(workload.demo.presets or tuple(workload.presets))[-1]])
    return Direct(
        {"workload": workload.name, "hyperparameters": point | cheap(workload) | hyperparameters},
    )


def numbers(result: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in result["metrics"].items() if not name.endswith("_seconds")}


def test_an_epoch_gives_finite_numbers_all_that_are_declared(workload: Workload) -> None:
    training = training_of(workload, **widest_point(workload)[0] | _small(workload))
    metrics = training.train_epoch() | training.validate()
    assert all(math.isfinite(value) for value in metrics.values())
    assert {*workload.objectives, *workload.columns, *(one.metric for one in workload.constraints)} <= metrics.keys()
    assert training.epoch == 1
    assert all(isinstance(value, float) for value in metrics.values())


def test_naive_predictors_are_scored_like_trials(workload: Workload) -> None:
    scores = workload.baselines(data_of(workload.name))
    assert len(scores) >= 2
    declared = {*workload.objectives, *(one.metric for one in workload.constraints)}
    for numbers_of_one in scores.values():
        assert declared <= numbers_of_one.keys()
        assert all(math.isfinite(value) for value in numbers_of_one.values())


def test_progress_never_falls_and_ends_at_1(workload: Workload) -> None:
    training = training_of(workload, **widest_point(workload)[0] | _small(workload))
    seen = [training.progress]
    while not training.finished:
        training.train_epoch()
        seen.append(training.progress)
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)


def test_a_checkpoint_round_trip_goes_on_bit_for_bit(workload: Workload, tmp_path: Path) -> None:
    whole, first = trainable_of(workload), trainable_of(workload)
    results = [whole.step() for _ in range(EPOCHS)]
    for _ in range(2):
        first.step()
    first.save_checkpoint(str(tmp_path))
    second = trainable_of(workload)
    second.load_checkpoint(str(tmp_path))
    for result in results[2:]:
        again = second.step()
        assert numbers(again) == numbers(result)
        assert again["best"] == result["best"]
        assert (again["epoch"], again["outcome"], again["done"]) == (
            result["epoch"],
            result["outcome"],
            result["done"],
        )
    assert same(second._training.state(), whole._training.state())
    assert same(second._best["weights"], whole._best["weights"])


def test_saving_changes_nothing_and_a_state_is_no_longer_the_runs_own(workload: Workload) -> None:
    training = train(training_of(workload), 1)
    state = training.state()
    kept = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in flat(state).items()}
    train(training, 1)
    assert same(flat(state), kept)


@pytest.mark.slow
def test_the_last_checkpoint_holds_the_best_weights_and_the_report(workload: Workload, tmp_path: Path) -> None:
    trainable = trainable_of(workload)
    results = [trainable.step() for _ in range(EPOCHS)]
    trainable.save_checkpoint(str(tmp_path))
    objective, mode = next(iter(workload.objectives.items()))
    values = [result["metrics"][objective] for result in results]
    goal = Goal({objective: mode}, workload.constraints)
    best = min(results, key=lambda result: goal.order(result["metrics"]))["metrics"][objective]
    assert results[-1]["best"] == {"epoch": values.index(best) + 1, "value": best}
    assert results[-1]["outcome"] == "complete"
    assert results[-1]["done"]
    assert torch.load(tmp_path / STATE_FILE, weights_only=True).keys() == {"training", "best"}
    weights = torch.load(tmp_path / BEST_FILE, weights_only=True)
    assert weights
    assert all(tensor.device == CPU for tensor in weights.values())
    report = {path.suffix for path in (tmp_path / REPORT_FOLDER).iterdir()}
    assert {".png", ".csv"} <= report


def test_a_reused_actor_keeps_nothing_of_the_last_trial(workload: Workload) -> None:
    """Pitfall 29."""
    used, fresh = trainable_of(workload, seed=9), trainable_of(workload)
    used.step()
    assert used.reset_config(fresh.config)
    assert numbers(used.step()) == numbers(fresh.step())
    assert same(used._training.state(), fresh._training.state())


# ---------------------------------------------------------------- data


def test_simulated_data_are_those_of_the_seed(workload: Workload) -> None:
    one, same_seed, other = (workload.simulate_data(120, seed) for seed in (1, 1, 2))
    assert one.fingerprint == same_seed.fingerprint
    assert one.fingerprint != other.fingerprint
    assert all(isinstance(line, str) for line in one.summary)


def test_a_file_that_is_not_there_is_a_data_error_that_names_it(workload: Workload, tmp_path: Path) -> None:
    settings = workload.settings(data=(str(tmp_path / "absent.root"),))
    with pytest.raises(DataError, match=r"absent\.root"):
        workload.load_data(settings, tmp_path / "cache")


IDENTITY = {"zdc": "condition_N6", "pt": "truth_N3"}  # package -> array that tells events apart


@pytest.mark.parametrize("package", IDENTITY)
def test_no_holdout_event_reaches_a_trial(package: str, tmp_path: Path) -> None:
    """Of the carried sample, as every search without --data uses it."""
    module, array = import_module(f"trainables.{package}.data"), IDENTITY[package]
    workload = next(one for one in WORKLOADS.values() if one.load_data is module.load_data)
    data, holdout = module.load_data(workload.settings(), tmp_path), module.load_holdout(workload.settings(), tmp_path)
    hidden = {row.tobytes() for row in np.asarray(getattr(holdout, array))}
    assert len(hidden) > 1_000
    for part in (data.train, data.validation):
        assert not hidden & {row.tobytes() for row in np.asarray(getattr(part, array))}
    arrays = [value for value in vars(data).values() if hasattr(value, array)]
    assert arrays == [data.train, data.validation]


def test_what_a_workload_builds_on_is_there_and_comes_before_it_in_a_chain(workload: Workload) -> None:
    assert set(workload.builds_on) <= WORKLOADS.keys()
    assert bool(workload.builds_on) == (workload.join is not None)
    for chain in CHAINS.values():
        for place, name in enumerate(chain.workloads):
            assert set(WORKLOADS[name].builds_on) <= set(chain.workloads[:place])
            assert WORKLOADS[name].settings is WORKLOADS[chain.workloads[0]].settings


def test_limits_are_on_metrics_that_a_trial_reports(workload: Workload) -> None:
    metrics = training_of(workload)
    metrics.train_epoch()
    assert {one.metric for one in workload.constraints} <= metrics.validate().keys()
