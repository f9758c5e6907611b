"""Scores of reconstructed pT: pencil calculations, known shapes, errors against sampling, bins at their edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from trainables.base.errors import DataError
from trainables.pt.metrics import MOST_BIAS, OBJECTIVES, PtBinning, check_binning, score
from trainables.pt.shapes import CORE_VARIANCE

ONE_BIN = PtBinning(bin_width_gev=10.0, min_bin_count=10)
TWO_BINS = PtBinning(bin_width_gev=5.0, min_bin_count=10)
UNITLESS_COUNTS = {"bins_used", "bins_left_out"}


def gaussian_sample(
    events: int, seed: int, sigma: float = 0.08, shift: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(pred, truth) with r = N(shift, sigma), truth flat from 0.2 to 10 GeV."""
    random = np.random.default_rng(seed)
    truth = random.uniform(0.2, 10, events)
    return truth * (1 + random.normal(shift, sigma, events)), truth


def residuals_in_one_bin(residual: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    truth = np.full(len(residual), 5.0)
    return truth * (1 + residual), truth


# --- pencil calculations ---------------------------------------------------------------------------------------


def test_widths_and_medians_of_eleven_events_equal_a_pencil_calculation() -> None:
    residual = np.array([7, 0, 10, 3, 5, 2, 9, 4, 1, 8, 6]) / 100  # 0 to 10 %, in some order
    scores = score(*residuals_in_one_bin(residual), ONE_BIN)
    # quantiles lie at rank 10 q: 16 % at 1.6, 84 % at 8.4
    assert scores.curve.median_K == pytest.approx([0.05])
    assert scores.curve.half_width_K == pytest.approx([0.034])
    assert scores.curve.resolution_K == pytest.approx([0.034 / 1.05])
    assert scores.curve.std_K == pytest.approx([np.sqrt(11) / 100])
    assert scores.curve.events_K.tolist() == [11]
    numbers = scores.numbers()
    assert numbers["resolution"] == pytest.approx(0.034 / 1.05)
    assert numbers["half_width"] == pytest.approx(0.034)
    assert numbers["bias_median"] == pytest.approx(0.05)
    assert numbers["mean"] == pytest.approx(0.05)
    assert numbers["rms"] == pytest.approx(np.sqrt(10) / 100)


def test_overall_numbers_are_means_and_maxima_over_bins() -> None:
    narrow, wide = np.linspace(-0.1, 0.1, 11) + 0.02, np.linspace(-0.3, 0.3, 21) - 0.03
    truth = np.append(np.full(11, 1.0), np.full(21, 7.0))
    numbers = score(truth * (1 + np.append(narrow, wide)), truth, TWO_BINS).numbers()
    assert numbers["half_width"] == pytest.approx((0.068 + 0.204) / 2)
    assert numbers["resolution"] == pytest.approx((0.068 / 1.02 + 0.204 / 0.97) / 2)
    assert numbers["bias_median"] == pytest.approx(0.03)
    assert numbers["bias"] == pytest.approx(max(numbers["bias_median"], numbers["bias_peak"]))
    # -0.33 to -0.21 are five steps of 0.03, +0.21 to +0.27 three
    assert numbers["tail"] == pytest.approx(8 / 32)
    assert numbers["bins_used"] == 2


def test_the_tail_is_counted_over_all_events_in_range_and_the_curve_per_bin() -> None:
    truth = np.append(np.full(20, 2.0), np.full(5, 7.0))
    pred = truth * 1.05
    pred[:4] *= 1.5
    pred[20] *= 1.5
    scores = score(pred, truth, TWO_BINS)
    assert scores.numbers()["tail"] == pytest.approx(5 / 25)
    assert scores.curve.within_20_K == pytest.approx([16 / 20])


def test_the_variance_of_a_cut_gaussian_is_what_the_fit_corrects_for() -> None:
    assert pytest.approx(stats.truncnorm(-2, 2).var(), abs=1e-7) == CORE_VARIANCE


@given(arrays(np.float64, st.integers(10, 60), elements=st.floats(-0.9, 3)), st.integers(0, 1000))
def test_quantiles_are_those_of_numpy(residual: NDArray[np.float64], seed: int) -> None:
    truth = np.random.default_rng(seed).permuted(np.where(np.arange(len(residual) + 10) % 2, 2.0, 7.0))
    pred = truth * (1 + np.append(residual, np.linspace(-0.5, 0.5, 10)))
    curve = score(pred, truth, TWO_BINS).curve
    in_bin = [truth == at for at in (2.0, 7.0) if (truth == at).sum() >= 10]
    for k, inside in enumerate(in_bin):
        low, median, high = np.quantile(pred[inside] / truth[inside] - 1, (0.16, 0.5, 0.84))
        assert curve.median_K[k] == pytest.approx(median, abs=1e-12)
        assert curve.half_width_K[k] == pytest.approx((high - low) / 2, abs=1e-12)


# --- known shapes ----------------------------------------------------------------------------------------------


def test_a_gaussian_is_recovered_within_the_statistical_error() -> None:
    scores = score(*gaussian_sample(100_000, 3, sigma=0.08, shift=0.03), PtBinning())
    curve, numbers = scores.curve, scores.numbers()
    for value_K, error_K, expected in (
        (curve.resolution_K, curve.resolution_error_K, 0.08 * 0.99446 / 1.03),  # z(0.84) = 0.99446
        (curve.core_sigma_K, curve.core_sigma_error_K, 0.08 / 1.03),
        (curve.median_K, curve.median_error_K, 0.03),
        (curve.peak_K, curve.peak_error_K, 0.03),
    ):
        pull_K = (value_K - expected) / error_K
        assert np.abs(pull_K).max() < 4.5
        assert error_K.max() < 0.003
    assert numbers["core_sigma"] == pytest.approx(0.08 / 1.03, rel=0.01)
    assert numbers["resolution"] == pytest.approx(0.08 * 0.99446 / 1.03, rel=0.01)
    assert numbers["bias"] == pytest.approx(0.03, abs=0.003)


def test_a_tail_of_a_fifth_of_the_events_hardly_moves_the_core() -> None:
    pred, truth = gaussian_sample(100_000, 4)
    pure = score(pred, truth, ONE_BIN).numbers()
    random = np.random.default_rng(5)
    lost = random.random(len(pred)) < 0.2
    pred = np.where(lost, truth * random.uniform(0.2, 0.9, len(pred)), pred)  # losses to bremsstrahlung
    tailed = score(pred, truth, ONE_BIN).numbers()
    assert tailed["core_sigma"] == pytest.approx(pure["core_sigma"], rel=0.12)
    assert tailed["bias_peak"] < 0.01
    assert tailed["std"] > 2 * pure["std"]
    assert tailed["bias_median"] > 0.015


@pytest.mark.parametrize("events", [20, 50])
def test_the_core_of_few_events_is_right_on_average(events: int) -> None:
    random = np.random.default_rng(6)
    sample = [residuals_in_one_bin(random.normal(0.0, 0.1, events)) for _ in range(400)]
    curves = [score(*pred_and_truth, ONE_BIN).curve for pred_and_truth in sample]
    sigma, peak = (np.array([getattr(curve, name)[0] for curve in curves]) for name in ("core_sigma_K", "peak_K"))
    assert np.isfinite(sigma).all()
    assert np.median(sigma) == pytest.approx(0.1, rel=0.12)
    assert np.quantile(sigma, (0.02, 0.98)) == pytest.approx([0.1, 0.1], abs=0.08)
    assert np.mean(peak) == pytest.approx(0, abs=4 * np.std(peak) / 20)


# --- errors ----------------------------------------------------------------------------------------------------


def test_errors_are_the_spread_over_repeated_samples() -> None:
    values: dict[str, list[float]] = {"resolution": [], "core_sigma": [], "bias": [], "tail": []}
    errors: dict[str, list[float]] = {name: [] for name in values}
    for seed in range(200):
        pred, truth = gaussian_sample(2500, 100 + seed, sigma=0.12)
        numbers = score(np.where(truth > 9, 1.2 * pred, pred), truth, PtBinning()).numbers()
        for name in values:
            values[name].append(numbers[name])
            errors[name].append(numbers[f"{name}_error"])
    for name in values:  # the spread itself is known to 5 %
        assert np.sqrt(np.mean(np.square(errors[name]))) / np.std(values[name]) == pytest.approx(1, abs=0.2), name


def test_errors_do_not_depend_on_the_order_in_which_bins_stand_in_the_sample() -> None:
    pred, truth = gaussian_sample(3000, 9)
    by_bin = np.argsort(PtBinning().bin_of(truth), kind="stable")
    numbers = score(pred, truth, PtBinning()).numbers()
    assert score(pred[by_bin], truth[by_bin], PtBinning()).numbers() == pytest.approx(numbers, rel=1e-9)


# --- what an optimizer must not find ------------------------------------------------------------------------------


def test_scaling_all_predictions_changes_no_width_and_shows_as_bias() -> None:
    pred, truth = gaussian_sample(5000, 7)
    plain, halved = score(pred, truth, PtBinning()).numbers(), score(0.5 * pred, truth, PtBinning()).numbers()
    for name in ("resolution", "resolution_error", "core_sigma"):
        assert halved[name] == pytest.approx(plain[name], rel=1e-9)
    assert halved["half_width"] == pytest.approx(plain["half_width"] / 2)
    assert halved["bias"] == pytest.approx(0.5, abs=0.02)
    assert halved["tail"] > 0.99


def test_no_prediction_decides_which_bins_count() -> None:
    pred, truth = gaussian_sample(500, 8)
    binning = PtBinning(min_bin_count=48)
    plain = score(pred, truth, binning)
    assert 0 < plain.numbers()["bins_left_out"] < 10
    for other in (np.full(500, 3.0), np.full(500, np.nan), pred * -1, pred * 100, np.zeros(500)):
        scores = score(other, truth, binning)
        assert np.array_equal(scores.used, plain.used)
        assert scores.curve.events_K.tolist() == plain.curve.events_K.tolist()
        for name in UNITLESS_COUNTS:
            assert scores.numbers()[name] == plain.numbers()[name]


@pytest.mark.parametrize("value", [0.0, 3.0, np.nan, np.inf, -np.inf])
def test_one_value_for_all_events_is_no_result(value: float) -> None:
    _, truth = gaussian_sample(500, 8)
    numbers = score(np.full(500, value), truth, PtBinning()).numbers()
    assert all(np.isnan(number) for name, number in numbers.items() if name not in UNITLESS_COUNTS)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_single_prediction_that_is_not_finite_spoils_the_result(value: float) -> None:
    pred, truth = gaussian_sample(500, 8)
    pred[17] = value
    numbers = score(pred, truth, PtBinning()).numbers()
    assert all(np.isnan(numbers[name]) for name in OBJECTIVES)


def test_negative_predictions_have_no_resolution() -> None:
    pred, truth = gaussian_sample(2000, 8)
    numbers = score(-pred, truth, PtBinning()).numbers()
    assert np.isnan(numbers["resolution"])
    assert np.isnan(numbers["core_sigma"])
    assert numbers["bias"] > 1.9
    assert numbers["tail"] == 1


def test_predictions_near_one_value_are_worse_than_a_poor_model_and_break_the_constraint() -> None:
    pred, truth = gaussian_sample(5000, 8, sigma=0.12)
    blind = score(5 + 1e-3 * pred, truth, PtBinning()).numbers()
    poor = score(pred, truth, PtBinning()).numbers()
    assert all(blind[name] > poor[name] for name in ("resolution", "bias", "tail"))
    assert blind["bias"] > 100 * MOST_BIAS


@given(arrays(np.float64, 40, elements=st.floats(allow_nan=True, allow_infinity=True, width=32)), st.integers(0, 9))
def test_whatever_a_model_predicts_is_scored_without_an_error(pred: NDArray[np.float64], seed: int) -> None:
    truth = np.random.default_rng(seed).uniform(0.1, 12, 40)
    for binning in (ONE_BIN, TWO_BINS, PtBinning(min_bin_count=10)):
        numbers = score(pred, truth, binning).numbers()
        assert {*OBJECTIVES, "bias"} <= set(numbers)
        assert all(not number < 0 for name, number in numbers.items() if name != "mean")
        if not np.isfinite(pred).all():
            assert np.isnan([numbers[name] for name in OBJECTIVES]).all()


def test_a_perfect_prediction_has_no_width_and_no_bias() -> None:
    _, truth = gaussian_sample(2000, 1)
    numbers = score(truth.astype(np.float32), truth.astype(np.float32), PtBinning()).numbers()
    assert all(numbers[name] == 0 for name in (*OBJECTIVES, "std", "rms", "resolution_error"))


# --- bins ------------------------------------------------------------------------------------------------------


def test_bins_lie_where_they_are_said_to() -> None:
    binning = PtBinning(bin_width_gev=3.0)
    assert binning.edges_gev.tolist() == [0, 3, 6, 9, 10]
    at_gev = np.array([0.0, 2.9999, 3.0, 9.0, 9.9999, 10.0, 400.0, -0.001], np.float32)
    assert binning.bin_of(at_gev).tolist() == [0, 0, 1, 3, 3, 4, 4, 4]
    assert binning.count(at_gev).tolist() == [2, 1, 0, 2]
    assert len(PtBinning().edges_gev) == 11
    assert len(PtBinning(bin_width_gev=0.1).edges_gev) == 101


@given(st.floats(0.05, 10), st.integers(0, 1000))
def test_every_momentum_lies_between_the_edges_of_its_bin(width: float, seed: int) -> None:
    binning = PtBinning(bin_width_gev=width)
    at_gev = np.random.default_rng(seed).uniform(0, 10, 50)
    at_gev = np.append(at_gev, binning.edges_gev[:-1])
    bin_of = binning.bin_of(at_gev)
    assert (binning.edges_gev[bin_of] <= at_gev).all()
    assert (at_gev < binning.edges_gev[bin_of + 1]).all()


def test_events_outside_the_bins_count_nowhere() -> None:
    pred, truth = gaussian_sample(1000, 2)
    inside = score(pred, truth, PtBinning()).numbers()
    pred, truth = np.append(pred, [1.0, 99.0, 3.0]), np.append(truth, [10.0, 11.0, -1.0])
    assert score(pred, truth, PtBinning()).numbers() == inside


def test_bins_with_few_events_are_left_out_and_counted() -> None:
    truth = np.append(np.full(25, 1.5), np.full(19, 7.5))
    scores = score(truth * np.linspace(0.9, 1.1, 44), truth, PtBinning())
    assert (scores.numbers()["bins_used"], scores.numbers()["bins_left_out"]) == (1, 9)
    assert scores.curve.low_edge_gev_K.tolist() == [1]
    assert scores.curve.high_edge_gev_K.tolist() == [2]


def test_without_a_full_bin_nothing_is_a_number() -> None:
    for events in (0, 1, 5):
        pred, truth = gaussian_sample(events, 0)
        assert np.isnan([score(pred, truth, PtBinning()).numbers()[name] for name in ("resolution", "bias")]).all()


def test_bins_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="bin_width_gev <= max_pt_gev"):
        PtBinning(bin_width_gev=11)
    with pytest.raises(ValueError, match="greater than or equal to 10"):
        PtBinning(min_bin_count=9)
    with pytest.raises(ValueError, match="Extra inputs"):
        PtBinning(width=1.0)  # type: ignore[call-arg]


def test_the_objective_version_names_what_changes_its_meaning() -> None:
    assert PtBinning().objective_version == "pt-1 bins=1 range=0-10 min=20"
    others = (PtBinning(bin_width_gev=2), PtBinning(max_pt_gev=8), PtBinning(min_bin_count=30))
    assert len({binning.objective_version for binning in (PtBinning(), *others)}) == 4


def test_a_sample_that_fills_half_of_the_bins_is_enough_and_one_that_does_not_is_refused_with_advice() -> None:
    truth = np.linspace(0, 9.99, 210)
    check_binning(PtBinning(), truth)
    check_binning(PtBinning(), np.append(truth[truth < 5], 9.0))
    with pytest.raises(DataError, match=r"4 of the 10 pT bins of 1 GeV up to 10 GeV .*--max-pt-gev"):
        check_binning(PtBinning(), truth[truth < 4])
    with pytest.raises(DataError, match=r"none of the 10 .*fullest bin holds 11.*--bin-width-gev"):
        check_binning(PtBinning(), truth[::2] * 0.99)
    with pytest.raises(DataError, match=r"none .* 0 of 210 events lie inside"):
        check_binning(PtBinning(), truth + 20)


def test_bins_that_were_used_can_still_be_compared() -> None:
    """The command line compares settings with their defaults."""
    used = PtBinning()
    assert len(used.edges_gev) == 11
    assert used == PtBinning()
