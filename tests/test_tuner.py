"""Laws of schedulers, brake and perturbation: who may be stopped, when, and what may change within a run."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from finished import Finished
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from ray import tune
from ray.tune.schedulers import TrialScheduler
from specs import spec_of
from tiny import TinyConfig, expected_loss, make_tiny

from search.config.settings import Method
from search.tuning.schedulers import Asha, Explore, make_scheduler
from search.tuning.stopping import StopController
from search.workloads import WORKLOADS
from trainables.zdc.config import ZDCConfig
from trainables.zdc.train import ZDCTraining

GO_ON, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP
EPOCHS = 50


class Bench:
    """A scheduler and trials that report to it as Tune's do."""

    def __init__(self, name: str) -> None:
        self.scheduler = make_scheduler(replace(spec_of(make_tiny()), scheduler=name))
        assert self.scheduler.set_search_properties("metrics/loss", "min")
        self.controller: Any = SimpleNamespace(get_live_trials=list, search_alg=None)

    def trial(self, name: str, preset: str | None = None) -> Any:
        trial: Any = _Trial(name, preset)
        self.scheduler.on_trial_add(self.controller, trial)
        return trial

    def report(self, trial: Any, percent: float, loss: float | None) -> str:
        result = {"progress_percent": percent, "epoch": 1}
        if loss is not None:
            result["metrics/loss"] = loss
        done = percent == 100 or loss is None  # then Tune does not ask
        decision = GO_ON if done else self.scheduler.on_trial_result(self.controller, trial, result)
        if done or decision == STOP:
            self.scheduler.on_trial_complete(self.controller, trial, result)
        return str(decision)

    def run(self, trial: Any, loss: float) -> list[str]:
        """A whole life of four quarters, or as much as it was given."""
        decisions: list[str] = []
        for quarter in (25, 50, 75, 100):
            decisions.append(self.report(trial, quarter, loss))
            if decisions[-1] == STOP:
                break
        return decisions


class _Trial:
    def __init__(self, name: str, preset: str | None) -> None:
        self.trial_id, self.status = name, "RUNNING"
        self.config = {"preset": preset}


@pytest.mark.parametrize("name", ["asha", "asha-early", "asha-sharp", "median"])
def test_weak_trials_are_stopped_and_strong_ones_go_on(name: str) -> None:
    bench = Bench(name)
    for number in range(4):
        bench.run(bench.trial(f"strong-{number}"), 1.0 + number / 100)
    assert bench.run(bench.trial("weak"), 9.0) == [STOP]
    assert STOP not in bench.run(bench.trial("best"), 0.1)


@pytest.mark.parametrize("name", ["asha", "asha-early", "asha-sharp", "median"])
def test_presets_are_never_stopped_but_the_others_are_judged_by_them(name: str) -> None:
    bench = Bench(name)
    for number in range(4):
        assert bench.run(bench.trial(f"strong-{number}", "a preset"), 1.0) == [GO_ON] * 4
    assert bench.run(bench.trial("weak preset", "another"), 9.0) == [GO_ON] * 4
    assert bench.run(bench.trial("weak"), 9.0) == [STOP]


def test_a_spared_preset_goes_on_to_be_a_yardstick_of_the_median() -> None:
    """The rule keeps no results of trials that it thinks stopped."""
    bench = Bench("median")
    for number in range(4):
        bench.run(bench.trial(f"strong-{number}"), 1.0)
    spared = bench.trial("spared", "a preset")
    bench.run(spared, 9.0)
    assert spared not in bench.scheduler._stopped_trials
    assert len(bench.scheduler._results[spared]) >= 4


@pytest.mark.parametrize("name", ["asha", "asha-early", "asha-sharp", "median"])
def test_diverged_trials_do_not_poison_the_judgement(name: str) -> None:
    """Pitfalls 1 and 2: they report no number, and comparing goes on without them."""
    bench = Bench(name)
    for number in range(4):
        bench.run(bench.trial(f"strong-{number}"), 1.0)
        broken = bench.trial(f"broken-{number}")
        assert bench.report(broken, 25, 0.9) == GO_ON
        assert bench.report(broken, 50, None) == GO_ON
    assert bench.run(bench.trial("weak"), 9.0) == [STOP]
    assert STOP not in bench.run(bench.trial("best"), 0.1)


@pytest.mark.parametrize(("name", "first"), [("asha", 25), ("asha-early", 10), ("median", 25)])
def test_no_trial_is_judged_before_its_first_rung(name: str, first: int) -> None:
    bench = Bench(name)
    for number in range(4):
        bench.run(bench.trial(f"strong-{number}"), 1.0)
    weak = bench.trial("weak")
    assert [bench.report(weak, percent, 9.0) for percent in (0, 0, 5, first - 0.1)] == [GO_ON] * 4
    assert bench.report(weak, first, 9.0) == STOP


@pytest.mark.parametrize(
    ("epochs", "rungs"), [(8, [12.5, 50]), (25, [4, 16, 64]), (30, [10 / 3, 40 / 3, 160 / 3]), (400, [2, 8, 32])]
)
def test_sharp_cuts_begin_with_the_first_epoch_and_never_use_an_epoch_twice(epochs: int, rungs: list[float]) -> None:
    scheduler = make_scheduler(replace(spec_of(make_tiny()), scheduler="asha-sharp", epochs=epochs))
    assert isinstance(scheduler, Asha)
    assert sorted(scheduler._brackets[0]._rungs[place][0] for place in range(len(rungs))) == pytest.approx(rungs)
    assert len(scheduler._brackets[0]._rungs) == len(rungs)
    first = 100 * 1 / epochs
    assert epochs == 400 or scheduler._brackets[0]._rungs[-1][0] <= first


@pytest.mark.parametrize(("name", "passing"), [("asha", 200), ("asha-early", 133), ("asha-sharp", 100)])
def test_one_in_two_passes_a_rung_of_asha_one_in_three_of_asha_early_one_in_four_of_asha_sharp(
    name: str, passing: int
) -> None:
    bench = Bench(name)
    losses = random.Random(0).sample(range(400), 400)
    going_on = sum(bench.report(bench.trial(f"trial-{loss}"), 25, loss) == GO_ON for loss in losses)
    assert passing - 25 <= going_on <= passing + 25


@pytest.mark.parametrize("name", ["asha", "asha-early", "asha-sharp", "median"])
@pytest.mark.parametrize("pct_start", [0.1, 0.35, 0.8, 0.9])
def test_zdc_trials_are_not_judged_before_the_learning_rate_peak_of_their_own_cycle(
    name: str, pct_start: float
) -> None:
    """Pitfall 9: with real clocks and a loss that looks hopeless, the patient schedule gets to its peak."""

    def percent(pct_start: float, epoch: int) -> float:
        run: Any = SimpleNamespace(config=ZDCConfig(epochs=EPOCHS, pct_start=pct_start), epoch=epoch)
        progress: Callable[[Any], float] = ZDCTraining.progress.fget
        return 100 * progress(run)

    bench = Bench(name)
    for number in range(4):
        quick = bench.trial(f"quick-{number}")
        for epoch in range(1, EPOCHS + 1):
            bench.report(quick, percent(0.1, epoch), 1.0)
    patient = bench.trial("patient")
    epoch = 1
    while bench.report(patient, percent(pct_start, epoch), 9.0) == GO_ON:
        epoch += 1
    assert epoch > pct_start * EPOCHS
    assert epoch < EPOCHS  # and then it is judged


def test_without_a_scheduler_nothing_is_stopped() -> None:
    bench = Bench("none")
    bench.run(bench.trial("strong"), 0.1)
    assert bench.run(bench.trial("weak"), 9.0) == [GO_ON] * 4


# ---------------------------------------------------------------- the brake


def test_the_brake_ends_a_search_when_pulled_and_keeps_the_first_reason() -> None:
    stop_controller = StopController(None)
    assert not stop_controller.stop_all()
    assert not stop_controller("a trial", {})
    stop_controller.request_stop("interrupted")
    stop_controller.request_stop("time limit")
    assert stop_controller.stop_all()
    assert stop_controller.reason == "interrupted"


def test_the_brake_pulls_itself_when_the_time_is_up() -> None:
    stop_controller = StopController(0.05)
    assert not stop_controller.stop_all()
    time.sleep(0.06)
    assert stop_controller.stop_all()
    assert stop_controller.reason == "time limit"


# ---------------------------------------------------------------- population based training

RANGES = {"x": FloatDistribution(-1, 1), "lr": FloatDistribution(1e-4, 1e-2, log=True)}


@given(st.floats(-1, 1), st.floats(1e-4, 1e-2), st.integers(0, 2**31))
def test_perturbed_values_stay_in_their_ranges(x: float, lr: float, seed: int) -> None:
    before = {"hyperparameters": {"x": x, "lr": lr, "epochs": 5}, "number": 3, "preset": None}
    after = Explore(RANGES, seed)(before)
    assert -1 <= after["hyperparameters"]["x"] <= 1
    assert 1e-4 <= after["hyperparameters"]["lr"] <= 1e-2
    assert after["hyperparameters"]["epochs"] == 5
    assert (after["number"], after["preset"]) == (3, None)
    assert before["hyperparameters"] == {"x": x, "lr": lr, "epochs": 5}  # the donor is not touched


@pytest.mark.parametrize(
    ("name", "value", "steps"), [("lr", 1e-3, [0.8e-3, 1.25e-3]), ("x", 0.5, [0.3, 0.7]), ("x", 0.0, [-0.2, 0.2])]
)
def test_perturbed_values_move_by_a_fixed_step_from_zero_too(name: str, value: float, steps: list[float]) -> None:
    explore = Explore(RANGES, seed=1)
    moved = {explore({"hyperparameters": {name: value}})["hyperparameters"][name] for _ in range(30)}
    assert sorted(moved) == pytest.approx(steps)


@pytest.mark.parametrize(
    ("distribution", "value", "after"),
    [
        (IntDistribution(4, 128, log=True), 4, {4, 5}),  # a tenth of a small number is none
        (IntDistribution(0, 10, step=2), 6, {4, 8}),
        (CategoricalDistribution(("a", "b")), "a", {"a", "b"}),
    ],
)
def test_integers_and_choices_are_perturbed_inside_their_range(
    distribution: BaseDistribution, value: object, after: set[object]
) -> None:
    explore = Explore({"n": distribution}, seed=1)
    moved = {explore({"hyperparameters": {"n": value}})["hyperparameters"]["n"] for _ in range(30)}
    assert moved == after
    assert all(type(one) is type(value) for one in moved)


def test_only_what_the_trial_has_is_perturbed() -> None:
    assert Explore(RANGES, 1)({"hyperparameters": {"x": 0.5}})["hyperparameters"].keys() == {"x"}


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_mutable_hyperparameter_can_be_perturbed(name: str) -> None:
    """A categorical one cannot be multiplied."""
    workload = WORKLOADS[name]
    spec = spec_of(workload, method=Method(scheduler="pbt", free=workload.optional))
    ranges = spec.space.distributions
    assert all(isinstance(ranges[key], FloatDistribution) for key in workload.mutable)
    assert any(isinstance(distribution, CategoricalDistribution) for distribution in ranges.values())
    make_scheduler(spec)


@pytest.fixture(scope="module")
def population(run_tiny: Callable[..., Finished]) -> Finished:
    return run_tiny(
        "population", "--trials", "4", "--epochs", "8", "--scheduler", "pbt", "--sampler", "random", "--seed", "5",
        "--set", "epoch_seconds=0.02", presets={"known": {"x": -0.9}},
    )  # fmt: skip


@pytest.mark.slow
def test_a_population_runs_and_each_trial_is_one_run(population: Finished) -> None:
    assert population.code == 0, population.text
    assert set(population.children) == {"known", "trial-001", "trial-002", "trial-003", "trial-004"}
    assert len(population.runs) == 6
    assert population.board["outcomes"] == {"complete": 5}
    assert all(trial.state.is_finished() for trial in population.study.get_trials())


@pytest.mark.slow
def test_values_that_change_within_a_run_are_metrics_and_parameters_stay(population: Finished) -> None:
    """Pitfall 11."""
    seen = {}
    for label, run in population.children.items():
        curve = population.curve(label, "hyperparameter_x")
        assert [step for step, _ in curve] == sorted({step for step, _ in curve})
        assert [step for step, _ in curve] == [step for step, _ in population.curve(label, "loss")]
        seen[label] = [value for _, value in curve]
        assert float(run.data.params["x"]) == pytest.approx(seen[label][0])
    assert any(len(set(values)) > 1 for values in seen.values()), "nothing was ever perturbed"


@pytest.mark.slow
def test_presets_are_not_overwritten_by_the_population(population: Finished) -> None:
    assert {value for _, value in population.curve("known", "hyperparameter_x")} == {-0.9}
    assert population.rows["known"]["value"] == pytest.approx(expected_loss(TinyConfig(x=-0.9), 8))


@pytest.mark.slow
def test_the_hyperparameters_of_the_leaderboard_are_those_that_gave_its_value(population: Finished) -> None:
    for row in population.board["rows"]:
        if row["kind"] != "naive":
            config = TinyConfig(**row["hyperparameters"])
            assert row["value"] == pytest.approx(expected_loss(config, 8)), row["label"]


# ---------------------------------------------------------------- one copy of the data on each node


class Look(tune.Trainable):  # type: ignore[misc]
    """Says where the arrays of its data are: kB of its own, and kB that all processes of the node share."""

    def setup(self, config: dict[str, Any], data: Any) -> None:
        self._data = data

    def step(self) -> dict[str, Any]:
        shared = [
            range(*(int(end, 16) for end in line.split()[0].split("-")))
            for line in Path("/proc/self/maps").read_text().splitlines()
            if line.split()[1] == "r--s" or "plasma" in line or "/dev/shm" in line
        ]
        told = {"own": 0, "shared": 0, "writeable": 0, "done": True}
        for array in arrays(self._data):
            there = any(array.__array_interface__["data"][0] in place for place in shared)
            told["shared" if there else "own"] += array.nbytes // 1000
            told["writeable"] += array.flags.writeable
        return told

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to keep."""


def arrays(data: Any) -> list[np.ndarray[Any, Any]]:
    """All of some size, wherever they are."""
    if isinstance(data, np.ndarray):
        return [data] if data.nbytes > 10_000 else []
    parts: Iterable[Any] = data.values() if isinstance(data, dict) else getattr(data, "__dict__", {}).values()
    return [array for part in parts for array in arrays(part)]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize("name", ["zdc", "pt-dphi", "pt-combined"])
def test_trials_look_at_one_copy_of_the_data_in_shared_memory(name: str, tmp_path: Path) -> None:
    """Not pickled ones: a read-only map of the cache would be."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    workload = WORKLOADS[name]
    data = workload.simulate_data(5000, 1) if workload.join else workload.load_data(workload.settings(), tmp_path)
    workload.baselines(data)  # goes along
    results = tune.Tuner(
        tune.with_resources(tune.with_parameters(Look, data=data), {"cpu": 1}),
        tune_config=tune.TuneConfig(num_samples=2),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    ).fit()
    expected = sum(array.nbytes // 1000 for array in arrays(data))
    assert expected > 100
    for result in results:
        assert not result.error
        assert {key: result.metrics[key] for key in ("own", "shared", "writeable")} == {
            "own": 0, "shared": expected, "writeable": 0,
        }  # fmt: skip
