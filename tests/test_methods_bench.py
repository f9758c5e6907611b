"""Laws of the bench of search methods: paired, repeatable, within its budget, and driving our classes as Tune does."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished import Finished
from optuna.samplers._tpe import _truncnorm
from optuna.trial import TrialState
from ray.tune.search import Searcher
from scipy.special import log_ndtr
from tiny import TinyConfig, expected_loss

from benchmarks.methods.__main__ import Bench, is_for_verdict
from benchmarks.methods.methods import make_method
from benchmarks.methods.ours import scheduler_of, spec_of
from benchmarks.methods.quick import QUICK
from benchmarks.methods.replay import Outcome, Replay, Replicate, Setting, Trial
from benchmarks.methods.report import markdown
from benchmarks.methods.statistics import compare, holm
from benchmarks.methods.table import CubeTrial, Parameter, Table, TableError, read, write
from benchmarks.methods.told import LastValueSampler, RankedSampler
from benchmarks.methods.tune_loop import TuneLoop
from benchmarks.methods.variants import variant_of

EPOCHS, ROWS = 8, 256
PARAMETERS = (
    Parameter("rate", "float", 1e-4, 1.0, log=True),
    Parameter("width", "int", 1, 64, log=True),
    Parameter("penalty", "choice", choices=(True, False)),
    Parameter("strength", "float", 0.0, 1.0, when=("penalty", (True,))),
)


def a_table(seeds: int = 1, presets: dict[str, int] | None = None) -> Table:
    """A bowl whose lowest point is rate 0.01; curves fall towards their last value and keep their order."""
    rng = np.random.default_rng(0)
    points = [PointOf(rng.random(len(PARAMETERS))).point for _ in range(ROWS)]
    point_PD = np.array(
        [[one.number(point[one.name]) if one.name in point else np.nan for one in PARAMETERS] for point in points]
    )
    last_P = np.log10(point_PD[:, 0] / 0.01) ** 2 + 0.1 * np.nan_to_num(point_PD[:, 3])
    loss_PSE = last_P[:, None, None] + 1.0 / np.arange(1, EPOCHS + 1) + 0.01 * rng.standard_normal((ROWS, seeds, 1))
    loss_PSE[5, :, 3:] = np.nan
    return Table(
        name="bowl:loss",
        family="bowl",
        parameters=PARAMETERS,
        point_PD=point_PD,
        loss_PSE=loss_PSE,
        true_PS=loss_PSE[:, :, -1],
        seconds_PS=np.full((ROWS, seeds), 2.0),
        progress_PE=np.tile(100.0 * np.arange(1, EPOCHS + 1) / EPOCHS, (ROWS, 1)),
        presets=presets or {},
    )


class PointOf:
    """The point of the space at these coordinates of the unit cube."""

    def __init__(self, coordinates: Any) -> None:
        trial, self.point = CubeTrial([one.name for one in PARAMETERS], coordinates), dict[str, Any]()
        for one in PARAMETERS:
            if (value := one.suggest(trial, self.point)) is not None:
                self.point[one.name] = value


def outcome(method: str, table: Table, number: int = 0, **setting: Any) -> Outcome:
    replicate = Replicate(table, Setting(**{"budget": 12, "workers": 4, **setting}), number)
    return Replay(replicate, make_method(method, replicate)).run()


ALL = (
    "ours",
    "ours:random+median",
    "ray",
    "optuna-sh",
    "optuna-hyperband",
    "random",
    "random+ray-asha",
    "random+epoch:1:8:one",
)
each_method = pytest.mark.parametrize("method", ALL)


@each_method
def test_a_run_is_the_same_bit_for_bit_and_keeps_to_its_budget_and_workers(method: str) -> None:
    table = a_table()
    first = outcome(method, table)
    assert first == outcome(method, table)
    assert first != outcome(method, table, number=1)
    assert first.most_running == 4
    assert 11 < first.compute <= 12
    assert first.complete >= 1


def test_a_budget_of_trials_is_one_of_trials() -> None:
    assert outcome("random", a_table(), by_trials=True).trials == 12


def test_replicates_are_paired() -> None:
    """Two methods that never stop a trial see the same points, noise and run times, as long as points are given."""
    replicate = Replicate(a_table(), Setting(budget=8, workers=1), 3)
    seen = [Spy(make_method(name, replicate)) for name in ("random", "ours:tpe+none")]
    for method in seen:
        Replay(replicate, method).run()
    assert seen[0].reported == seen[1].reported
    assert len({row for row, *_ in seen[0].reported}) >= 7


class Spy:
    """A method that writes down what it is told."""

    def __init__(self, method: Any) -> None:
        self._method, self.reported, self.ended = method, list[tuple[int, int, float]](), dict[int, int]()
        self.whole_only, self.latency_s = method.whole_only, 0.01

    def propose(self) -> Any:
        return self._method.propose()

    def report(self, trial: Trial, progress: float) -> bool:
        self.reported.append((trial.row, trial.epoch, trial.loss))
        self.ended[trial.row] = trial.epoch
        return bool(self._method.report(trial, progress))

    def end(self, trial: Trial, progress: float) -> None:
        self.ended[trial.row] = trial.epoch
        self._method.end(trial, progress)


def test_random_search_finds_a_known_best_with_many_draws() -> None:
    many = outcome("random", a_table(), budget=240, noise=0.0)
    few = outcome("random", a_table(), budget=4, noise=0.0)
    assert many.regret < 0.01
    assert many.regret < few.regret
    assert many.optimism == pytest.approx(0, abs=1e-9)


def test_noise_makes_what_is_reported_better_than_what_is_true() -> None:
    noisy = [outcome("random", a_table(), number, budget=30).optimism for number in range(8)]
    assert np.mean(noisy) > 0


def test_no_point_is_used_twice_and_a_used_up_table_ends_the_search() -> None:
    replicate = Replicate(a_table(), Setting(budget=1000, workers=4, presets="none"), 0)
    spy = Spy(make_method("random", replicate))
    found = Replay(replicate, spy).run()
    assert found.trials == ROWS
    assert len({row for row, epoch, _ in spy.reported if epoch == 1}) == ROWS


def test_one_seed_trains_and_the_other_judges() -> None:
    table = a_table(seeds=2)
    roles = [Replicate(table, Setting(), number) for number in (0, 1)]
    for seen, replicate in enumerate(roles):
        np.testing.assert_array_equal(replicate.curve_PE, table.loss_PSE[:, seen])
        np.testing.assert_array_equal(np.argsort(replicate.clean_P), np.argsort(table.loss_PSE[:, 1 - seen, -1]))


def test_presets_are_as_good_as_they_are_called_and_only_their_name_reaches_their_rows() -> None:
    table = a_table(presets={"own": 7})
    means = [
        np.mean([Replicate(table, Setting(presets=kind), n).regret_P[rows(table, kind, n)].mean() for n in range(5)])
        for kind in ("good", "middling", "bad")
    ]
    assert means == sorted(means)
    assert Replicate(table, Setting(presets="own"), 0).preset_row("own") == 7
    assert 7 not in table.nearest(table.point(7))


def rows(table: Table, kind: str, number: int) -> list[int]:
    replicate = Replicate(table, Setting(presets=kind), number)
    return [replicate.preset_row(name) for name in replicate.presets]


# ---------------------------------------------------------------- our own classes


def test_ours_in_the_bench_stops_what_our_scheduler_stops() -> None:
    """The rungs at 25 and 50 % of progress: a trial in the lower half of those seen there goes no further."""
    replicate = Replicate(a_table(), Setting(budget=20, workers=1, presets="none", noise=0.0), 0)
    spy = Spy(make_method("ours:random+asha", replicate))
    Replay(replicate, spy).run()
    epochs: dict[int, int] = {}
    for row, epoch, _ in spy.reported:
        epochs[row] = max(epoch, epochs.get(row, 0))
    assert set(epochs.values()) == {2, 4, EPOCHS - 1}  # the last epoch is no report but the end
    values = [loss for row, epoch, loss in spy.reported if epoch == 2]
    stopped = [epochs[row] == 2 for row, epoch, _ in spy.reported if epoch == 2]
    expected = [bool(place) and values[place] > np.median(values[:place]) for place in range(len(values))]
    assert stopped[:-1] == expected[:-1]  # the budget may have cut the last one
    assert 5 < sum(expected) < len(expected) - 5


def test_a_preset_is_never_stopped() -> None:
    replicate = Replicate(a_table(), Setting(budget=20, workers=2, presets="bad"), 0)
    spy = Spy(make_method("ours", replicate))
    Replay(replicate, spy).run()
    last = {row: epoch for row, epoch, _ in spy.reported}
    assert [last[row] for row in rows(a_table(), "bad", 0)] == [EPOCHS - 1] * 2


def test_words_behind_a_sampler_change_what_they_name_and_nothing_else() -> None:
    as_shipped = ended_by("tpe")
    assert ended_by("tpe,random=0,starts=10,candidates=24") == as_shipped
    for words in ("random=50", "independent", "no-liar", "below=50", "seen=12"):
        assert ended_by(f"tpe,{words}") != as_shipped
    assert isinstance(variant_of("tpe,told=last", 0), LastValueSampler)
    assert isinstance(variant_of("tpe,random=50,told=places", 0), RankedSampler)
    with pytest.raises(SystemExit, match="startups=3 of a sampler: unknown"):
        variant_of("tpe,startups=3", 0)


def ended_by(sampler: str) -> dict[int, int]:
    """Return the rows that a search with sharp cuts proposes, and the epoch at which each ended."""
    replicate = Replicate(a_table(), Setting(budget=16, workers=4), 0)
    spy = Spy(make_method(f"ours:{sampler}+epoch:1:4", replicate))
    Replay(replicate, spy).run()
    return spy.ended


@pytest.mark.filterwarnings("ignore:Define-by-run")  # Ray's, on a machine so busy that a proposal takes a second
@pytest.mark.parametrize("method", ["ray", "ours:tpe+asha", "optuna-sh"])
def test_what_is_computed_quickly_proposes_the_points_that_optuna_proposes(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_shipped = outcome(method, a_table())
    for (place, name), part in QUICK.items():
        monkeypatch.setattr(place, name, part)
    assert outcome(method, a_table()) == as_shipped


def test_the_logarithm_of_the_normal_distribution_is_that_of_optuna() -> None:
    number = np.linspace(-40, 40, 4001)
    expected = np.array([_truncnorm._log_ndtr_single(one) for one in number])
    np.testing.assert_allclose(log_ndtr(number), expected, rtol=1e-13, atol=1e-15)


class InOrder(Searcher):  # type: ignore[misc]
    """Proposes the rows of a table one after the other, as our searcher hands points over."""

    def __init__(self) -> None:
        super().__init__()
        self._rows = itertools.count()

    def suggest(self, trial_id: str) -> dict[str, Any]:
        row = next(self._rows)
        return {"hyperparameters": {"place": row}, "number": row, "preset": None}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None: ...


@pytest.mark.slow
def test_trials_end_in_the_bench_where_they_end_in_a_real_search(run_tiny: Callable[..., Finished]) -> None:
    """The same curves in the same order, one at a time: here Tune's controller, there our loop."""
    trials, epochs, scheduler = 16, 10, "asha-early"
    flags = ("--trials", trials, "--epochs", epochs, "--sampler", "random", "--scheduler", scheduler)
    done = run_tiny("as-in-the-bench", *map(str, flags), "--max-concurrent", "1", "--presets", "none")
    assert done.code == 0, done.text
    real = done.study.get_trials()
    configs = [TinyConfig(**trial.params) for trial in real]
    loss_PE = np.array([[expected_loss(config, epoch) for epoch in range(1, epochs + 1)] for config in configs])
    table = Table(
        name="tiny:loss",
        family="tiny",
        parameters=(Parameter("place", "int", 0, trials - 1),),
        point_PD=np.arange(float(trials))[:, None],
        loss_PSE=loss_PE[:, None],
        true_PS=loss_PE[:, -1:],
        seconds_PS=np.ones((trials, 1)),
        progress_PE=np.tile(100.0 * np.arange(1, epochs + 1) / epochs, (trials, 1)),
    )
    replicate = Replicate(table, Setting(budget=trials, workers=1, noise=0.0, presets="none", by_trials=True), 0)
    loop = TuneLoop(InOrder(), scheduler_of(scheduler, spec_of(replicate, "random", scheduler)), [], nested=True)
    spy = Spy(loop)
    Replay(replicate, spy).run()
    assert [spy.ended[row] for row in range(trials)] == [trial.last_step for trial in real]
    assert {trial.state for trial in real} == {TrialState.COMPLETE, TrialState.PRUNED}


# ---------------------------------------------------------------- tables and results


def test_a_table_on_disk_comes_back(tmp_path: Path) -> None:
    table = a_table(presets={"own": 7})
    parameters = [
        {"name": "rate", "kind": "float", "low": 1e-4, "high": 1.0, "log": True},
        {"name": "width", "kind": "int", "low": 1, "high": 64, "log": True},
        {"name": "penalty", "kind": "choice", "choices": [True, False]},
        {"name": "strength", "kind": "float", "low": 0.0, "high": 1.0, "when": ["penalty", [True]]},
    ]
    about = {"family": "bowl", "parameters": parameters, "presets": {"own": 7}}
    write(
        tmp_path / "bowl.npz",
        about,
        {"points": table.point_PD, "seconds": table.seconds_PS, "loss/loss": table.loss_PSE},
    )
    (back,) = read(tmp_path / "bowl.npz")
    assert (back.name, back.parameters, back.presets) == (table.name, table.parameters, table.presets)
    np.testing.assert_array_equal(back.loss_PSE, table.loss_PSE)
    np.testing.assert_array_equal(back.progress_PE, table.progress_PE)
    assert outcome("random", back, presets="own") == outcome("random", table, presets="own")


def test_a_table_that_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "half.npz", about=np.array(json.dumps({})), points=np.zeros((2, 1)))
    with pytest.raises(TableError, match="found no seconds"):
        read(tmp_path / "half.npz")
    with pytest.raises(TableError, match="no such file"):
        read(tmp_path / "none.npz")
    with pytest.raises(TableError, match="do not fit together"):
        replace(a_table(), seconds_PS=np.ones((3, 1)))


def test_results_are_continued_and_every_method_is_in_the_table(tmp_path: Path) -> None:
    table = a_table()
    bench = Bench(methods=("random", "random+ray-asha"), budget=8, workers=2, replicates=2, out=tmp_path / "out.jsonl")
    runs = list(bench.run([table]))
    first = bench.out.read_text()
    assert list(bench.run([table])) == json.loads(json.dumps(runs))
    assert bench.out.read_text() == first
    text = "\n".join(markdown(runs, bench.methods))
    assert "| random |" in text
    assert "| bowl:loss |" in text


def test_each_family_has_its_own_ratio() -> None:
    setting = {"budget": 4.0, "workers": 2, "noise": 1.0, "presets": "none", "by_trials": False}
    usual = setting | {"optimism": 0.0, "trials": 1, "cpu_s": 0.0}
    regrets = {("a", "one"): 0.1, ("a", "two"): 0.2, ("b", "one"): 0.4, ("b", "two"): 0.1}
    runs = [
        usual | {"table": f"{family}-{n}:loss", "family": family, "method": method, "replicate": replicate}
        | {"regret": regret, "regret_at": [regret] * 100}
        for (family, method), regret in regrets.items() for n in range(3) for replicate in range(2)
    ]  # fmt: skip
    lines = list(markdown(runs, ("one", "two")))
    assert "| a | 3 | 0.50 (0.50 to 0.50) |" in lines
    assert "| b | 3 | 4.00 (4.00 to 4.00) |" in lines


def test_all_losses_of_a_file_are_in_the_same_half() -> None:
    halves = {is_for_verdict(f"table-{number}:loss") for number in range(20)}
    assert halves == {True, False}
    assert all(is_for_verdict(f"table-{n}:a") == is_for_verdict(f"table-{n}:b") for n in range(20))


def test_a_method_that_is_better_everywhere_is_found_and_one_that_is_equal_is_not() -> None:
    rng = np.random.default_rng(0)
    theirs = {f"t{number}": rng.random(30) for number in range(12)}
    families = {name: name[-1] for name in theirs}
    better = compare({name: 0.5 * values for name, values in theirs.items()}, theirs, families)
    assert better.ratio == pytest.approx(0.5)
    assert better.high < 1
    assert better.p < 0.01
    same = compare({name: rng.random(30) for name in theirs}, theirs, families)
    assert same.low < 1 < same.high
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
