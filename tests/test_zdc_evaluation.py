"""ZDC models on the holdout: row 0 is the score, replicas are resampled events, intervals hold what they promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.base.errors import DataError
from trainables.evaluation.bootstrap import BLOCK, resampled
from trainables.evaluation.scores import Evaluation, curve_difference, difference
from trainables.zdc.binning import Binning
from trainables.zdc.data import ZDCData
from trainables.zdc.evaluation import evaluate, naive_evaluations
from trainables.zdc.events import Events
from trainables.zdc.metrics import MaskProb, score_events
from trainables.zdc.naive import fit_naive
from trainables.zdc.plots import draw_holdout
from trainables.zdc.resident import ResidentEvents
from trainables.zdc.simulate import simulate_data

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
QUARTERS = Binning(bin_width_mev=5000.0, min_bin_count=2)
# some energies lie outside, and some bins are left out
NARROW = Binning(
    bin_width_mev=700.0, max_energy_mev=15_000.0, low_energy_mev=4000.0, high_energy_mev=8000.0, min_bin_count=40
)


@pytest.fixture(scope="module")
def data() -> ZDCData:
    return simulate_data(1500, 1)


@pytest.fixture(scope="module")
def holdout() -> Events:
    return simulate_data(1500, 2).train


def smooth(tilt: float) -> MaskProb:
    """A model: a spot in the middle that widens with the energy, moved by ``tilt``."""
    ix_HW, iy_HW = torch.meshgrid(torch.arange(20.0) - 9.5, torch.arange(20.0) - 9.5, indexing="ij")

    def mask_prob(condition_B6: Tensor) -> Tensor:
        width_B11 = 4 + 0.2 * condition_B6[:, 0, None, None]
        return torch.exp(-((ix_HW - tilt).square() + iy_HW.square()) / width_B11.square()) * 0.9

    return mask_prob


def test_the_first_row_is_the_score_of_the_events_as_they_are(holdout: Events) -> None:
    for binning in (QUARTERS, NARROW):
        made = evaluate(smooth(1), holdout, binning, replicas=3)
        scores = score_events(smooth(1), ResidentEvents(holdout, CPU), binning)
        expected = {name: value for name, value in scores.numbers().items() if not name.endswith("_error")}
        assert made.numbers() == pytest.approx(expected, rel=1e-9)
        np.testing.assert_allclose(made.curve.value_RK[0], scores.curve.mse_K, rtol=1e-9)
        np.testing.assert_allclose(made.curve.low_edge_K, scores.curve.low_edge_mev_K / 1000)
        np.testing.assert_allclose(made.curve.high_edge_K, scores.curve.high_edge_mev_K / 1000)
        assert made.curve.events_K.tolist() == scores.curve.events_K.tolist()
        assert {value_R.shape for value_R in made.metrics.values()} == {(4,)}
    assert 0 < made.numbers()["bins_left_out"] < 15
    assert made.events == len(holdout) > made.curve.events_K.sum()


def test_a_replica_is_the_score_of_the_events_that_it_draws(holdout: Events) -> None:
    made = evaluate(smooth(1), holdout, NARROW, replicas=2, seed=5)
    bin_N = NARROW.bin_of(torch.from_numpy(holdout.condition_N6[:, 0])).numpy()
    chosen = []
    for number in range(len(NARROW.edges_mev)):
        index_n = np.flatnonzero(bin_N == number)
        drawn_n = np.concatenate([count[2] for _, count in resampled(len(index_n), 2, 5, number)])
        chosen.append(np.repeat(index_n, drawn_n))
    index_N = np.concatenate(chosen)
    resample = Events(holdout.condition_N6[index_N], holdout.mask_packed_N50[index_N])
    scores = score_events(smooth(1), ResidentEvents(resample, CPU), NARROW)
    of_events = score_events(smooth(1), ResidentEvents(holdout, CPU), NARROW)
    assert made.metrics["brier"][2] == pytest.approx(scores.numbers()["brier"], rel=1e-6)
    assert made.metrics["bce"][2] == pytest.approx(scores.numbers()["bce"], rel=1e-6)
    # mse without what resampling alone adds: the variance of (MASK - hit) over n
    miss = smooth(1)(torch.from_numpy(holdout.condition_N6)).numpy().reshape(-1, 400) - hits_of(holdout)
    added_K = []
    for number in np.flatnonzero(of_events.used):
        miss_nX = miss[bin_N == number].astype(np.float64)
        added_K.append(miss_nX.var(axis=0).mean() / len(miss_nX))
    np.testing.assert_allclose(made.curve.value_RK[2], scores.curve.mse_K - added_K, rtol=1e-4)
    floor_K = scores.curve.floor_K + np.array(added_K) / (scores.curve.events_K - 1)
    floor = floor_K[NARROW.in_region["high"][scores.used]].mean()
    assert made.metrics["mse_high_floor"][2] == pytest.approx(floor, rel=1e-6)


def hits_of(events: Events) -> NDArray[np.uint8]:
    return np.unpackbits(events.mask_packed_N50, axis=1)


def test_replicas_lie_about_the_value_even_at_the_floor() -> None:
    random = np.random.default_rng(3)
    truth_X = random.random(400) ** 3
    events = sample(random, truth_X, 100)
    made = evaluate(constant(truth_X), events, QUARTERS, replicas=2000)
    for name in ("mse_all", "mse_high", "mse_all_floor", "mse_all_excess", "brier"):
        value_R = made.metrics[name]
        assert value_R[1:].mean() == pytest.approx(value_R[0], abs=4 * value_R[1:].std() / np.sqrt(2000)), name


def sample(random: np.random.Generator, truth_X: NDArray[np.float64], count: int) -> Events:
    """Events that do not depend on their energies; the second condition is their number."""
    condition_N6 = np.zeros((count, 6), np.float32)
    condition_N6[:, 0], condition_N6[:, 1] = np.arange(count) % 4 * 5 + 1, np.arange(count)
    return Events(condition_N6, np.packbits(random.random((count, 400)) < truth_X, axis=1))


def constant(prob_X: NDArray[np.float64]) -> MaskProb:
    return lookup(np.tile(prob_X, (10_000, 1)))


def lookup(prob_NX: NDArray[np.float64]) -> MaskProb:
    """A model that returns these probabilities for event 0, 1, ... of ``sample``."""
    prob_N = torch.from_numpy(prob_NX.astype(np.float32)).view(-1, 20, 20)
    return lambda condition_B6: prob_N[condition_B6[:, 1].long()]


def test_the_spread_of_replicas_is_that_of_repeated_samples() -> None:
    random = np.random.default_rng(4)
    truth_X = 0.1 + 0.3 * random.random(400)
    model = constant(1.6 * truth_X)  # far above the floor
    made = [evaluate(model, sample(random, truth_X, 480), QUARTERS, replicas=50, seed=run) for run in range(60)]
    for name in ("mse_all", "mse_high", "brier", "bce"):
        value_SR = np.stack([one.metrics[name] for one in made])
        assert value_SR[:, 1:].std(axis=1).mean() / value_SR[:, 0].std() == pytest.approx(1, abs=0.25), name


def test_two_models_are_compared_on_the_same_events(holdout: Events) -> None:
    one, near = (evaluate(smooth(tilt), holdout, QUARTERS, replicas=200) for tilt in (0.5, 0.45))
    for name in ("mse_all", "mse_high", "mse_all_excess", "mse_high_excess", "brier", "bce"):
        apart = difference(near, one, name)
        assert apart.high - apart.low < 0.3 * 3.92 * one.metrics[name][1:].std(), name
    other_seed = evaluate(smooth(0.5), holdout, QUARTERS, replicas=200, seed=1)
    assert other_seed.numbers() == one.numbers()
    assert (other_seed.metrics["brier"][1:] != one.metrics["brier"][1:]).all()


def test_a_model_that_says_the_same_differs_by_exactly_nothing(holdout: Events) -> None:
    one, again = (evaluate(smooth(1), holdout, QUARTERS, replicas=50) for _ in range(2))
    for name in one.metrics:
        apart = difference(one, again, name)
        assert (apart.value, apart.low, apart.high) == (0, 0, 0)
    assert not np.any(curve_difference(one, again).high_K)


def test_a_real_improvement_is_found(holdout: Events) -> None:
    worse, better = (evaluate(smooth(tilt), holdout, QUARTERS, replicas=200) for tilt in (2.5, 0))
    for name in ("mse_all", "mse_high", "mse_all_excess", "mse_high_excess", "brier", "bce"):
        assert difference(better, worse, name).high < 0, name
        assert difference(worse, better, name).low > 0, name


def test_intervals_of_equally_good_models_hold_zero_as_often_as_they_say() -> None:
    random = np.random.default_rng(5)
    truth_X = 0.1 + 0.3 * random.random(400)
    names = ("mse_all", "mse_all_excess", "brier")
    held = {(name, confidence): 0 for name in names for confidence in (0.68, 0.95)}
    for run in range(100):
        events = sample(random, truth_X, 120)
        # both are 30 % off, and each has noise of its own
        noisy = [lookup(1.3 * truth_X * (1 + random.normal(0, 0.1, (120, 1)))) for _ in range(2)]
        a, b = (evaluate(model, events, QUARTERS, replicas=150, seed=run) for model in noisy)
        for name, confidence in held:
            apart = difference(a, b, name, confidence)
            held[name, confidence] += apart.low <= 0 <= apart.high
    for name in names:
        assert 58 <= held[name, 0.68] <= 80, held
        assert 89 <= held[name, 0.95] <= 99, held


def test_it_does_not_matter_in_which_portions_a_model_answers_or_what_else_is_evaluated(holdout: Events) -> None:
    largest = []

    def in_portions(condition_B6: Tensor) -> Tensor:
        largest.append(len(condition_B6))
        return torch.cat([smooth(1)(part) for part in condition_B6.split(7)])

    whole, portions = (evaluate(model, holdout, QUARTERS, 20) for model in (smooth(1), in_portions))
    for name, value_R in whole.metrics.items():
        np.testing.assert_allclose(portions.metrics[name], value_R, rtol=1e-6, atol=1e-12)
    assert max(largest) <= BLOCK


def test_an_answer_that_is_no_number_spoils_the_scores_that_it_is_in_and_raises_nothing(holdout: Events) -> None:
    def broken(condition_B6: Tensor) -> Tensor:
        return torch.where(condition_B6[:, :1, None] > 16, torch.nan, smooth(1)(condition_B6))

    made = evaluate(broken, holdout, QUARTERS, replicas=5)
    for name in ("mse_high", "mse_all", "mse_high_excess", "mse_high_floor", "brier", "bce"):
        assert np.isnan(made.metrics[name]).all(), name
    for name in ("mse_low", "mse_mid", "mse_low_excess", "mse_low_floor", "bins_used"):
        assert np.isfinite(made.metrics[name]).all(), name
    assert np.isnan(difference(made, made, "mse_high").low)


def test_a_holdout_that_leaves_a_region_empty_is_refused_naming_it(holdout: Events) -> None:
    low = holdout.condition_N6[:, 0] < 14
    part = Events(holdout.condition_N6[low], holdout.mask_packed_N50[low])
    with pytest.raises(DataError, match=r"mse_high: none .* holds 2 holdout events, the fullest holds 0"):
        evaluate(smooth(1), part, QUARTERS, replicas=5)


def test_the_objective_and_the_holdout_must_agree(holdout: Events) -> None:
    one = evaluate(smooth(1), holdout, QUARTERS, replicas=5)
    other_regions = evaluate(smooth(1), holdout, QUARTERS.model_copy(update={"low_energy_mev": 10_000.0}), replicas=5)
    with pytest.raises(ValueError, match="objective_version"):
        difference(one, other_regions, "mse_high")
    changed = Events(holdout.condition_N6, holdout.mask_packed_N50[::-1])
    with pytest.raises(ValueError, match="holdout"):
        difference(one, evaluate(smooth(1), changed, QUARTERS, replicas=5), "mse_high")


def test_naive_predictors_are_fitted_to_training_events_and_scored_on_the_holdout(
    data: ZDCData, holdout: Events
) -> None:
    made = naive_evaluations(data, holdout, replicas=20, seed=3)
    assert list(made) == ["constant-mask", "mean-mask-per-bin"]
    for name, mask_prob in fit_naive(data.train, data.binning).items():
        expected = score_events(mask_prob, ResidentEvents(holdout, CPU), data.binning).numbers()
        assert made[name].numbers()["brier"] == pytest.approx(expected["brier"])
    assert {one.seed for one in made.values()} == {3}
    assert difference(made["mean-mask-per-bin"], made["constant-mask"], "brier").value != 0


# --- the figure ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluations(data: ZDCData, holdout: Events) -> dict[str, Evaluation]:
    models = {
        label: evaluate(smooth(tilt), holdout, data.binning, replicas=50)
        for label, tilt in {"candidate": 0.0, "champion": 0.3, "test26-lr4": 3.0}.items()
    }
    return models | naive_evaluations(data, holdout, replicas=50)


@pytest.mark.parametrize("reference", ["champion", None])
def test_a_promotion_is_drawn_with_and_without_a_champion(
    reference: str | None, evaluations: dict[str, Evaluation], tmp_path: Path
) -> None:
    file = tmp_path / "holdout.png"
    draw_holdout(evaluations, file, reference)
    assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert file.stat().st_size > 10_000


def test_odd_evaluations_are_drawn_too(holdout: Events, tmp_path: Path) -> None:
    fine = Binning(bin_width_mev=200.0, min_bin_count=5)
    nothing = evaluate(lambda condition_B6: torch.full((len(condition_B6), 20, 20), torch.nan), holdout, fine, 5)
    champion = evaluate(smooth(1), holdout, fine, 5)
    assert len(champion.curve.events_K) > 60
    for number, models in enumerate(({"candidate": champion}, {"candidate": nothing}, {})):
        draw_holdout({"champion": champion, **models}, tmp_path / f"{number}.png", "champion")
        assert (tmp_path / f"{number}.png").stat().st_size > 10_000
