"""pT models on the holdout: row 0 is the score, replicas are resampled events, intervals hold what they promise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from trainables.base.errors import DataError
from trainables.evaluation.bootstrap import BLOCK, resampled
from trainables.evaluation.scores import Evaluation, curve_difference, difference
from trainables.pt import evaluation
from trainables.pt.data import Events, PtData
from trainables.pt.evaluation import evaluate, naive_evaluations
from trainables.pt.metrics import OBJECTIVES, PtBinning, score
from trainables.pt.naive import ANGLE_FORMULA, ENERGY_FORMULA, formula_predictions
from trainables.pt.plots import draw_holdout
from trainables.pt.shapes import shapes_of_bins, shapes_of_replicas
from trainables.pt.simulate import simulate_data

HALVES = PtBinning(bin_width_gev=5.0, min_bin_count=10)
NARROW = PtBinning(bin_width_gev=0.7, max_pt_gev=9.0, min_bin_count=60)  # some bins are left out, some events outside
COUNTS = {"bins_used", "bins_left_out"}


def make_holdout(events: int, seed: int) -> Events:
    truth_N = np.random.default_rng(seed).uniform(0.2, 10.2, events).astype(np.float32)
    none = np.zeros((events, 1), np.float32)
    return Events(none, none, none, none[:, 0], np.stack((truth_N, 0 * truth_N, 0 * truth_N), axis=1), none[:, 0])


def smeared(holdout: Events, seed: int, sigma: float = 0.1) -> NDArray[np.float64]:
    """Predictions with a Gaussian core, tails and a bias that grows with pT."""
    random = np.random.default_rng(seed)
    truth_N = holdout.truth_N3[:, 0].astype(np.float64)
    wide_N = np.where(random.random(len(holdout)) < 0.1, 5.0, 1.0)
    return truth_N * (1 + 0.003 * truth_N + sigma * wide_N * random.normal(size=len(holdout)))


@pytest.fixture(scope="module")
def holdout() -> Events:
    return make_holdout(1000, 1)


def test_the_first_row_is_the_score_of_the_events_as_they_are(holdout: Events) -> None:
    for binning in (HALVES, NARROW):
        pred_N = smeared(holdout, 2)
        made, scores = evaluate(pred_N, holdout, binning, replicas=3), score(pred_N, holdout.truth_N3[:, 0], binning)
        expected = {name: value for name, value in scores.numbers().items() if not name.endswith("_error")}
        assert made.numbers() == pytest.approx(expected, rel=1e-9)
        assert list(made.curve.value_RK[0]) == pytest.approx(list(scores.curve.resolution_K))
        assert made.curve.low_edge_K.tolist() == scores.curve.low_edge_gev_K.tolist()
        assert made.curve.high_edge_K.tolist() == scores.curve.high_edge_gev_K.tolist()
        assert made.curve.events_K.tolist() == scores.curve.events_K.tolist()
        assert {value_R.shape for value_R in made.metrics.values()} == {(4,)}
    assert 0 < made.numbers()["bins_left_out"] < 7
    assert made.events == len(holdout) > made.curve.events_K.sum()


def test_a_replica_is_the_score_of_the_events_that_it_draws() -> None:
    holdout = make_holdout(3 * BLOCK, 3)  # a bin holds more than one block
    pred_N, truth_N = smeared(holdout, 4), holdout.truth_N3[:, 0]
    for binning in (HALVES, NARROW.model_copy(update={"min_bin_count": 200})):
        made = evaluate(pred_N, holdout, binning, replicas=2, seed=5)
        bin_N = binning.bin_of(truth_N)
        chosen = []
        for number in range(len(binning.edges_gev) - 1):
            index_n = np.flatnonzero(bin_N == number)
            drawn_n = np.concatenate([count[2] for _, count in resampled(len(index_n), 2, 5, number)])
            chosen.append(np.repeat(index_n, drawn_n))
        index_N = np.concatenate(chosen)
        scores = score(pred_N[index_N], truth_N[index_N], binning)
        for name, value_R in made.metrics.items():
            assert value_R[2] == pytest.approx(scores.numbers()[name], rel=1e-6), name
        assert list(made.curve.value_RK[2]) == pytest.approx(list(scores.curve.resolution_K))


@given(arrays(np.int64, st.integers(10, 40), elements=st.integers(-900, 3000)), st.integers(0, 1000))
def test_shapes_of_replicas_are_those_of_the_values_drawn(thousandth_N: NDArray[np.int64], seed: int) -> None:
    value_N = np.sort(thousandth_N / 1000)
    random = np.random.default_rng(seed)
    count_RN = random.multinomial(len(value_N), np.full(len(value_N), 1 / len(value_N)), size=4)
    made = shapes_of_replicas(value_N, count_RN)
    for row, count_N in enumerate(count_RN):
        expected = shapes_of_bins(np.repeat(value_N, count_N), np.zeros(len(value_N), np.int64), 1)
        assert made.median_VK[row] == pytest.approx(expected.median_VK[0], abs=1e-12)
        assert made.half_width_VK[row] == pytest.approx(expected.half_width_VK[0], abs=1e-12)


def test_the_spread_of_replicas_is_that_of_repeated_samples() -> None:
    names = ("resolution", "half_width", "core_sigma", "std", "tail", "mean", "rms")
    holdouts = [make_holdout(800, seed) for seed in range(80)]
    made = [evaluate(smeared(one, 50 + seed), one, HALVES, 60, seed) for seed, one in enumerate(holdouts)]
    for name in names:
        value_SR = np.stack([one.metrics[name] for one in made])
        assert value_SR[:, 1:].std(axis=1).mean() / value_SR[:, 0].std() == pytest.approx(1, abs=0.25), name
        assert value_SR[:, 1:].mean() == pytest.approx(value_SR[:, 0].mean(), abs=0.3 * value_SR[:, 0].std()), name


def test_two_models_are_compared_on_the_same_events(holdout: Events) -> None:
    pred_N = smeared(holdout, 2)
    near_N = pred_N * (1 + np.random.default_rng(3).normal(0, 0.01, len(pred_N)))
    one, near = (evaluate(pred_N, holdout, HALVES, replicas=200) for pred_N in (pred_N, near_N))
    for name in ("resolution", "core_sigma", "std", "tail", "mean", "rms"):
        apart = difference(near, one, name)
        assert apart.high - apart.low < 0.5 * 3.92 * one.metrics[name][1:].std(), name
    other_seed = evaluate(pred_N, holdout, HALVES, replicas=200, seed=1)
    assert other_seed.numbers() == one.numbers()
    assert (other_seed.metrics["mean"][1:] != one.metrics["mean"][1:]).all()


def test_a_model_that_says_the_same_differs_by_exactly_nothing(holdout: Events) -> None:
    one, again = (evaluate(smeared(holdout, 2), holdout, HALVES, replicas=50) for _ in range(2))
    for name in one.metrics:
        apart = difference(one, again, name)
        assert (apart.value, apart.low, apart.high) == (0, 0, 0)
    assert not np.any(curve_difference(one, again).high_K)


def test_a_real_improvement_is_found(holdout: Events) -> None:
    worse, better = (evaluate(smeared(holdout, 2, sigma), holdout, HALVES, replicas=200) for sigma in (0.12, 0.08))
    for name in ("resolution", "half_width", "core_sigma", "tail", "rms"):
        assert difference(better, worse, name).high < 0, name
    assert (curve_difference(better, worse).high_K < 0).all()


def test_intervals_of_equally_good_models_hold_zero_as_often_as_they_say() -> None:
    names = ("resolution", "bias", "tail", "mean")
    held = {(name, confidence): 0 for name in names for confidence in (0.68, 0.95)}
    for run in range(100):
        holdout = make_holdout(400, 1000 + run)
        a, b = (evaluate(smeared(holdout, seed), holdout, HALVES, 150, run) for seed in (2000 + run, 3000 + run))
        for name, confidence in held:
            apart = difference(a, b, name, confidence)
            held[name, confidence] += apart.low <= 0 <= apart.high
    for name in names:
        assert 58 <= held[name, 0.68] <= 80, held
        assert 89 <= held[name, 0.95] <= 99, held


def test_it_does_not_matter_how_many_replicas_are_worked_on_at_once(
    holdout: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(smeared(holdout, 2), holdout, HALVES, replicas=20)
    monkeypatch.setattr(evaluation, "VALUES_AT_ONCE", 1500)
    for name, value_R in evaluate(smeared(holdout, 2), holdout, HALVES, replicas=20).metrics.items():
        np.testing.assert_allclose(value_R, whole.metrics[name], rtol=1e-12)


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, "all the same"])
def test_predictions_that_are_no_result_give_no_numbers_and_raise_nothing(spoilt: float | str, holdout: Events) -> None:
    pred_N = np.full(len(holdout), 3.0)
    if not isinstance(spoilt, str):
        pred_N = smeared(holdout, 2)
        pred_N[17] = spoilt
    made = evaluate(pred_N, holdout, HALVES, replicas=5)
    for name, value_R in made.metrics.items():
        assert np.isnan(value_R).all() == (name not in COUNTS), name
    assert np.isnan(made.curve.value_RK).all()
    assert np.isnan(difference(made, made, "resolution").low)


def test_metrics_that_do_not_depend_on_events_are_the_same_in_all_replicas(holdout: Events) -> None:
    extra = {"monotonic_violation": 0.25, "boundary_error": 0.5}
    one, other = (
        evaluate(smeared(holdout, 2), holdout, HALVES, 5, extra=given)
        for given in (extra, {**extra, "boundary_error": 0.7})
    )
    assert set(one.metrics) == {*evaluate(smeared(holdout, 2), holdout, HALVES, 5).metrics, *extra}
    apart = difference(other, one, "boundary_error")
    assert (apart.value, apart.low, apart.high) == pytest.approx((0.2, 0.2, 0.2))


def test_a_holdout_that_does_not_fill_the_bins_is_refused() -> None:
    holdout = make_holdout(100, 1)
    with pytest.raises(DataError, match=r"none of the 10 pT bins .* holds 20 holdout events"):
        evaluate(smeared(holdout, 2), holdout, PtBinning(), replicas=5)


def test_as_many_predictions_as_events_are_expected(holdout: Events) -> None:
    with pytest.raises(ValueError, match=r"each of the 1000 events, found \(999,\)"):
        evaluate(smeared(holdout, 2)[1:], holdout, HALVES, replicas=5)


def test_the_objective_and_the_holdout_must_agree(holdout: Events) -> None:
    pred_N = smeared(holdout, 2)
    one = evaluate(pred_N, holdout, HALVES, replicas=5)
    with pytest.raises(ValueError, match="objective_version"):
        difference(one, evaluate(pred_N, holdout, HALVES.model_copy(update={"min_bin_count": 11}), 5), "tail")
    with pytest.raises(ValueError, match="holdout"):
        difference(one, evaluate(pred_N, replace(holdout, dphi_N=holdout.dphi_N + 1), HALVES, replicas=5), "tail")


# --- formulas and the figure -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data() -> PtData:
    return simulate_data(1500, 1)


@pytest.fixture(scope="module")
def simulated() -> Events:
    return simulate_data(1500, 2).train


def test_formulas_are_fitted_to_training_events_and_scored_on_the_holdout(data: PtData, simulated: Events) -> None:
    made = naive_evaluations(data, simulated, replicas=20, seed=3)
    assert list(made) == [ANGLE_FORMULA, ENERGY_FORMULA]
    for name, pred_N in formula_predictions(data.train, simulated).items():
        expected = score(pred_N, simulated.truth_N3[:, 0], data.binning).numbers()
        assert made[name].numbers()["resolution"] == pytest.approx(expected["resolution"])
    shifted = replace(data, train=replace(data.train, dphi_N=2 * data.train.dphi_N))
    twice = naive_evaluations(shifted, simulated, replicas=20)[ANGLE_FORMULA]
    assert twice.numbers()["bias"] > 0.9
    assert {one.seed for one in made.values()} == {3}


def test_all_objectives_are_there(holdout: Events) -> None:
    assert set(OBJECTIVES) < set(evaluate(smeared(holdout, 2), holdout, HALVES, replicas=2).metrics)


@pytest.mark.parametrize("reference", ["champion", None])
def test_a_promotion_is_drawn_with_and_without_a_champion(
    reference: str | None, data: PtData, simulated: Events, tmp_path: Path
) -> None:
    models: dict[str, Evaluation] = {
        label: evaluate(smeared(simulated, seed, sigma), simulated, data.binning, replicas=50)
        for seed, (label, sigma) in enumerate({"candidate": 0.08, "champion": 0.1, "report": 0.5}.items())
    }
    file = tmp_path / "holdout.png"
    draw_holdout(models | naive_evaluations(data, simulated, replicas=50), file, reference)
    assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert file.stat().st_size > 10_000
