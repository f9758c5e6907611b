"""Scores of ZDC showers: pencil calculations, floor, excess and errors against sampling, the naive predictors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.base.errors import DataError
from trainables.zdc.binning import OBJECTIVES, Binning, check_binning
from trainables.zdc.data import ZDCData, naive_predictors
from trainables.zdc.events import Events
from trainables.zdc.metrics import Scores, ScoreSums, score_events
from trainables.zdc.resident import ResidentEvents
from trainables.zdc.simulate import simulate_data

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
QUARTERS = Binning(bin_width_mev=5000.0, min_bin_count=2)


def score(binning: Binning, energy_gev: Tensor, prob: Tensor, hits: Tensor) -> Scores:
    sums = ScoreSums(binning, CPU)
    sums.add(energy_gev, prob, hits)
    return sums.scores()


def test_mse_of_two_events_equals_a_pencil_calculation() -> None:
    hits, prob = torch.zeros(8, 20, 20), torch.zeros(8, 20, 20)
    energy = torch.tensor([1.0, 1.0, 7.0, 7.0, 12.0, 12.0, 16.0, 19.9])
    hits[6, 0, 0], hits[7, 0, 0], hits[6, 3, 4] = 1, 1, 1
    prob[6, 0, 0], prob[7, 0, 0], prob[7, 19, 19] = 0.5, 0.7, 0.2
    numbers = score(QUARTERS, energy, prob, hits).numbers()
    # crystal (0, 0): MC 1, MASK 0.6; (3, 4): MC 0.5, MASK 0; (19, 19): MC 0, MASK 0.1
    assert numbers["mse_high"] == pytest.approx((0.4**2 + 0.5**2 + 0.1**2) / 400)
    # mask - hit is -0.5 and -0.3 in (0, 0), -1 and 0 in (3, 4), 0 and 0.2 in (19, 19): v / n is 0.01, 0.25, 0.01
    assert numbers["mse_high_floor"] == pytest.approx(0.27 / 400)
    assert numbers["mse_high_excess"] == pytest.approx(0.5 * 0.3 / 400)
    assert numbers["mse_low"] == numbers["mse_mid"] == 0
    assert numbers["mse_all"] == pytest.approx(numbers["mse_high"] / 4)
    assert numbers["brier"] == pytest.approx((0.5**2 + 1 + 0.3**2 + 0.2**2) / 3200, rel=1e-6)
    bce = -np.log(0.5) - np.log(1e-7) - np.log(0.7) - np.log(0.8)
    assert numbers["bce"] == pytest.approx(bce / 3200, rel=1e-4)
    assert (numbers["bins_used"], numbers["bins_left_out"]) == (4, 0)


def test_the_excess_is_the_mean_product_over_pairs_of_different_events() -> None:
    random = torch.Generator().manual_seed(2)
    energy = torch.tensor([1.0] * 5 + [7.0] * 2 + [12.0] * 3 + [16.0] * 47)
    prob = torch.rand(len(energy), 20, 20, generator=random)
    hits = torch.bernoulli(prob * 0.8, generator=random)
    curve = score(QUARTERS, energy, prob, hits).curve
    for number, count in enumerate((5, 2, 3, 47)):
        miss = (prob - hits)[QUARTERS.bin_of(energy) == number].flatten(1).double()
        product = (miss @ miss.T / 400).numpy()
        assert curve.excess[number] == pytest.approx(product[~np.eye(count, dtype=bool)].mean(), rel=1e-9)
        assert curve.floor_K[number] == pytest.approx(float(miss.var(dim=0).mean()) / count, rel=1e-9)


def discs(events: int, random: torch.Generator) -> Tensor:
    """Hit probabilities of showers with a sharp edge at a random place, (events, 20, 20)."""
    place_HW = torch.arange(20.0).expand(20, 20)
    centre_B2 = torch.rand(events, 2, generator=random) * 12 + 4
    apart_BHW = (place_HW.T - centre_B2[:, 0, None, None]).square() + (place_HW - centre_B2[:, 1, None, None]).square()
    return torch.where(apart_BHW < 25, 0.9, 0.02)


def tilted(model: str, tilt: float, repetitions: int, seed: int) -> dict[str, np.ndarray]:
    """Scores of bins of 150 events for a model whose mean is wrong by ``tilt``: it knows each event, or no event.

    Four bins at a time, so that the ``region error`` is that of the mean of four after each other.
    """
    random = torch.Generator().manual_seed(seed)
    mean = discs(20_000, random).mean(dim=0)
    energy = torch.arange(600) % 4 * 5.0 + 1
    curves, region_error = [], []
    for _ in range(repetitions // 4):
        truth = discs(600, random)
        mask = (truth if model == "sharp" else mean.expand_as(truth)) + tilt
        scores = score(QUARTERS, energy, mask, torch.bernoulli(truth, generator=random))
        curves.append(scores.curve)
        region_error.append(scores.numbers()["mse_all_excess_error"])
    return {
        "excess": np.concatenate([curve.excess for curve in curves]),
        "mse": np.concatenate([curve.mse_K for curve in curves]),
        "error": np.concatenate([curve.error_K for curve in curves]),
        "above energy only": np.concatenate([curve.mse_K - curve.energy_only_K for curve in curves]),
        "region error": np.array(region_error),
    }


def mean_and_error(value: np.ndarray) -> tuple[float, float]:
    return float(value.mean()), float(value.std() / np.sqrt(len(value)))


@pytest.mark.parametrize("model", ["sharp", "blunt"])
def test_the_excess_finds_a_known_difference_without_bias(model: str) -> None:
    scores = tilted(model, 0.02, repetitions=400, seed=1)
    mean, error = mean_and_error(scores["excess"])
    assert mean == pytest.approx(0.02**2, abs=3 * error)
    assert error < (0.01 if model == "sharp" else 0.1) * 0.02**2
    # MC's own fluctuation is the floor of a mask of the energy alone, far above that of a sharp one
    mean, error = mean_and_error(scores["above energy only"])
    assert mean == pytest.approx(0.02**2, abs=3 * error) if model == "blunt" else mean < -2e-4


def test_the_error_of_the_excess_covers_the_truth_as_often_as_it_says() -> None:
    scores = tilted("sharp", 0.02, repetitions=1000, seed=3)
    covered = np.abs(scores["excess"] - 0.02**2) < scores["error"]
    assert 0.63 < covered.mean() < 0.73
    assert 0.92 < (np.abs(scores["excess"] - 0.02**2) < 1.96 * scores["error"]).mean() < 0.98


@pytest.mark.parametrize("model", ["sharp", "blunt"])
@pytest.mark.parametrize("tilt", [0.0, 0.02])
def test_the_error_is_the_spread_of_mse_and_excess_even_at_the_floor(model: str, tilt: float) -> None:
    scores = tilted(model, tilt, repetitions=800, seed=4)
    error = np.sqrt(np.square(scores["region error"]).mean())
    for name in ("excess", "mse"):  # a delete-one-group jackknife alone says 1.4 times as much at the floor
        assert 0.85 < error / scores[name].reshape(-1, 4).mean(axis=1).std() < 1.25, name


def test_bins_of_few_events_have_an_error_too() -> None:
    random = torch.Generator().manual_seed(0)
    energy = torch.tensor([1.0] * 2 + [7.0] * 3 + [12.0] * 4 + [16.0] * 5)
    scores = score(QUARTERS, energy, torch.full((14, 20, 20), 0.3), torch.rand(14, 20, 20, generator=random).round())
    assert (scores.curve.error_K > 0).all()
    assert all(np.isfinite(value) for value in scores.numbers().values())


def test_floor_is_what_a_perfect_mask_scores_on_average() -> None:
    random = torch.Generator().manual_seed(5)
    truth = torch.rand(20, 20, generator=random) ** 3
    energy = torch.arange(40) % 4 * 5.0 + 1
    scored, floors = [], []
    for _ in range(300):
        hits = torch.bernoulli(truth.expand(40, -1, -1), generator=random)
        numbers = score(QUARTERS, energy, truth.expand(40, -1, -1), hits).numbers()
        scored.append(numbers["mse_high"])
        floors.append(numbers["mse_high_floor"])
    exact = float((truth * (1 - truth)).mean()) / 10
    assert np.mean(floors) == pytest.approx(exact, rel=0.01)
    assert np.mean(scored) == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize(("bias", "largest"), [(0.0, 1.3), (0.05, 1.3)])
def test_errors_are_the_spread_over_repeated_samples(bias: float, largest: float) -> None:
    random = torch.Generator().manual_seed(6)
    truth = torch.rand(20, 20, generator=random) * 0.4
    energy = torch.arange(400) % 4 * 5.0 + 1
    values: dict[str, list[float]] = {"mse_high": [], "mse_all": [], "mse_all_excess": [], "brier": []}
    errors: dict[str, list[float]] = {name: [] for name in values}
    for _ in range(60):
        hits = torch.bernoulli(truth.expand(400, -1, -1), generator=random)
        numbers = score(QUARTERS, energy, (truth + bias).expand(400, -1, -1), hits).numbers()
        for name in values:
            values[name].append(numbers[name])
            errors[name].append(numbers[f"{name}_error"])
    for name in values:
        assert 0.7 < np.mean(errors[name]) / np.std(values[name]) < largest


def test_bins_with_few_events_are_left_out_and_counted() -> None:
    energy = torch.tensor([1.0, 1, 1, 7, 7, 7, 12, 16, 16, 16])
    binning = QUARTERS.model_copy(update={"min_bin_count": 3})
    scores = score(binning, energy, torch.zeros(10, 20, 20), torch.ones(10, 20, 20))
    assert (scores.numbers()["bins_used"], scores.numbers()["bins_left_out"]) == (3, 1)
    assert scores.curve.low_edge_mev_K.tolist() == [0, 5000, 15000]
    assert scores.curve.events_K.tolist() == [3, 3, 3]
    assert scores.numbers()["mse_all"] == 1


def test_energies_outside_count_for_single_events_only() -> None:
    energy = torch.tensor([1.0, 1, 7, 7, 16, 16, 20.0, -1.0])
    hits = torch.zeros(8, 20, 20)
    hits[6:] = 1
    scores = score(QUARTERS, energy, torch.zeros(8, 20, 20), hits)
    assert scores.curve.events_K.sum() == 6
    assert scores.numbers()["mse_all"] == 0
    assert scores.numbers()["brier"] == pytest.approx(2 / 8)


def test_scores_do_not_depend_on_how_events_are_chunked() -> None:
    events = ResidentEvents(simulate_data(300, 2).train, CPU)
    condition, hits = next(events.in_order(10_000))
    prob = torch.rand(hits.shape, generator=torch.Generator().manual_seed(0))
    sums = ScoreSums(QUARTERS, CPU)
    for first in range(0, len(events), 37):
        part = slice(first, first + 37)
        sums.add(condition[part, 0], prob[part], hits[part])
    assert sums.scores().numbers() == pytest.approx(score(QUARTERS, condition[:, 0], prob, hits).numbers())


def test_bins_lie_where_they_are_said_to() -> None:
    binning = Binning(bin_width_mev=3000.0)
    assert binning.edges_mev.tolist() == [0, 3000, 6000, 9000, 12000, 15000, 18000, 20000]
    assert binning.in_region["low"].tolist() == [True] + 6 * [False]
    assert binning.in_region["mid"].tolist() == [False] + 4 * [True] + 2 * [False]
    assert binning.in_region["high"].tolist() == 5 * [False] + 2 * [True]
    energy = torch.tensor([0.0, 2.9999, 3.0, 19.999, 20.0, 400.0, -0.001])
    assert binning.bin_of(energy).tolist() == [0, 0, 1, 6, 7, 7, 7]
    assert len(Binning().edges_mev) == 201
    assert Binning().in_region["high"].sum() == Binning().in_region["low"].sum() == 50


def test_regions_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="low_energy_mev <= high_energy_mev"):
        Binning(low_energy_mev=16_000)


def test_a_region_without_a_full_bin_is_refused_with_advice() -> None:
    energy_mev = np.linspace(0, 19_900, 100)
    check_binning(Binning(bin_width_mev=5000), [energy_mev[:30], energy_mev[30:]])
    with pytest.raises(DataError, match=r"mse_low: .*100 MeV holds 20 validation events.*--bin-width-mev"):
        check_binning(Binning(), [energy_mev])
    with pytest.raises(DataError, match=r"mse_high: none of its 1 energy bins .*--high-energy-mev"):
        check_binning(Binning(bin_width_mev=5000), [energy_mev / 2])


def test_an_energy_at_the_upper_edge_counts_in_the_check_as_little_as_in_the_score() -> None:
    energy_mev = np.append(np.linspace(0, 14_999, 300), np.full(100, 20_000.0))
    with pytest.raises(DataError, match=r"mse_high: .* the fullest holds 0 of 400"):
        check_binning(Binning(bin_width_mev=5000), [energy_mev])


def make_data(train_hits: np.ndarray, train_energy: list[float], hits: np.ndarray, energy: list[float]) -> ZDCData:
    def events(bits: np.ndarray, energy_gev: list[float]) -> Events:
        condition = np.zeros((len(bits), 6), dtype=np.float32)
        condition[:, 0] = energy_gev
        return Events(condition, np.packbits(bits, axis=1))

    return ZDCData(events(train_hits, train_energy), events(hits, energy), QUARTERS, "made by hand", ())


def test_naive_predictors_are_fitted_to_training_and_scored_on_validation_events() -> None:
    train_hits = np.zeros((4000, 400), dtype=np.uint8)
    train_hits[:1000, 20 * 3 + 4] = 1  # one crystal, below 5 GeV only
    energy = 2 * [1.0, 7.0, 12.0, 17.0]
    hits = np.zeros((8, 400), dtype=np.uint8)
    hits[[0, 4], 20 * 3 + 4] = 1
    data = make_data(train_hits, 1000 * [1.0] + 1000 * [7.0] + 1000 * [12.0] + 1000 * [17.0], hits, energy)
    constant, per_bin = naive_predictors(data).values()
    assert list(naive_predictors(data)) == ["constant-mask", "mean-mask-per-bin"]
    assert constant["mse_low"] == pytest.approx(0.75**2 / 400, rel=0.01)
    assert constant["mse_high"] == pytest.approx(0.25**2 / 400, rel=0.01)
    assert per_bin["mse_all"] < 1e-8
    assert constant["brier"] == pytest.approx((0.75**2 + 3 * 0.25**2) / 4 / 400, rel=0.01)
    assert set(OBJECTIVES) < set(constant)


def test_hits_come_out_of_the_bits_as_numpy_packed_them() -> None:
    events = simulate_data(50, 3).train
    condition, hits = ResidentEvents(events, CPU).batch(torch.tensor([3, 0]))
    expected = np.unpackbits(events.mask_packed_N50[[3, 0]], axis=1).reshape(2, 20, 20)
    assert np.array_equal(hits.numpy(), expected)
    assert np.array_equal(condition.numpy(), events.condition_N6[[3, 0]])


def test_read_only_arrays_are_used_where_they_lie() -> None:
    events = simulate_data(50, 3).train
    events.condition_N6.setflags(write=False)
    resident = ResidentEvents(events, CPU)
    assert resident.condition_N6.data_ptr() == events.condition_N6.ctypes.data


def test_a_perfect_predictor_is_better_than_naive_ones() -> None:
    data = simulate_data(800, 4)
    validation = ResidentEvents(data.validation, CPU)
    hits = iter([hit for _, hit in validation.in_order(1024)])
    numbers = score_events(lambda _condition: next(hits), validation, data.binning).numbers()
    assert numbers["mse_all"] == numbers["brier"] == 0
    assert all(naive["brier"] > 0.02 for naive in naive_predictors(data).values())
