"""Evaluations on a holdout: what replicas draw, differences by pencil, files without pickle, what cannot be paired."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from trainables.evaluation.bootstrap import BLOCK, resampled
from trainables.evaluation.holdout_plots import coarser, draw_evaluations
from trainables.evaluation.scores import Curve, Evaluation, curve_difference, difference, fingerprint

PINNED = [[1, 1, 1, 1, 1, 1], [2, 2, 0, 2, 0, 0], [1, 1, 1, 3, 0, 0], [1, 0, 1, 3, 1, 0]]


def drawn(events: int, replicas: int, seed: int = 0, number: int = 0) -> NDArray[np.uint8]:
    """(1 + R, N)."""
    return np.concatenate([count_RB for _, count_RB in resampled(events, replicas, seed, number)], axis=1)


def make(loss: list[float], curve: list[list[float]] | None = None, **changed: object) -> Evaluation:
    """One of two bins, whose replicas are given."""
    value_RK = np.array(curve or [[value, 2 * value] for value in loss])
    edges = np.array([0.0, 1.0, 2.0])
    made = Evaluation(
        events=30,
        holdout="the same",
        objective_version="v-1",
        seed=0,
        metrics={"loss": np.array(loss), "bins_used": np.full(len(loss), 2.0)},
        curve=Curve("energy [GeV]", "loss", "percent", edges[:-1], edges[1:], np.array([10, 20]), value_RK),
    )
    return replace(made, **changed)  # type: ignore[arg-type]


# --- replicas --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("events", [1, 2, 1000, BLOCK, BLOCK + 1, 3 * BLOCK - 5])
def test_each_replica_draws_as_many_events_as_there_are_and_the_first_row_each_once(events: int) -> None:
    count_RN = drawn(events, 20)
    assert count_RN.shape == (21, events)
    assert (count_RN[0] == 1).all()
    assert (count_RN.sum(axis=1) == events).all()
    places = [place for place, _ in resampled(events, 1, 0, 0)]
    assert [place.start for place in places] == list(range(0, events, BLOCK))
    assert places[-1].stop == events


def test_events_are_drawn_alike_and_independently_with_replacement_across_blocks() -> None:
    events, replicas = BLOCK + 200, 4000
    count_RN = drawn(events, replicas)[1:].astype(np.float64)
    # of a multinomial: mean 1, variance 1 - 1/N, covariance -1/N
    assert np.abs(count_RN.mean(axis=0) - 1).max() < 5 / np.sqrt(replicas)
    assert count_RN.var(axis=0).mean() == pytest.approx(1 - 1 / events, abs=0.003)
    for part in (slice(0, 100), slice(BLOCK - 50, BLOCK + 50)):  # inside a block, and across two
        assert count_RN[:, part].sum(axis=1).var() == pytest.approx(100 * (1 - 100 / events), rel=0.1)
    in_block_R = count_RN[:, :BLOCK].sum(axis=1)  # binomial
    assert in_block_R.var() == pytest.approx(BLOCK * (1 - BLOCK / events), rel=0.1)
    value_N = np.random.default_rng(1).normal(size=events)
    spread = (count_RN @ value_N / events).std()
    assert spread == pytest.approx(value_N.std() / np.sqrt(events), rel=0.05)


def test_draws_are_the_same_wherever_and_whenever_they_are_made() -> None:
    assert drawn(6, 3, seed=7, number=2).tolist() == PINNED
    assert np.array_equal(drawn(3000, 5), drawn(3000, 5))


def test_other_seeds_bins_and_blocks_draw_other_events() -> None:
    streams = [drawn(BLOCK, 5, seed, number)[1:] for seed in (0, 1, 2) for number in (0, 1, 2)]
    two_blocks = drawn(2 * BLOCK, 5, number=3)[1:]
    streams += [two_blocks[:, :BLOCK], two_blocks[:, BLOCK:]]
    for i, one in enumerate(streams):
        for other in streams[:i]:
            assert (one != other).mean() > 0.5


def test_an_empty_bin_has_no_blocks_and_no_replica_is_refused() -> None:
    assert list(resampled(0, 3, 0, 0)) == []
    with pytest.raises(ValueError, match="at least one replica, found 0"):
        list(resampled(5, 0, 0, 0))


# --- differences -----------------------------------------------------------------------------------------------


def test_a_difference_is_paired_by_replica_and_its_interval_holds_the_middle_of_the_replicas() -> None:
    wandering = np.random.default_rng(0).permutation(1001).astype(np.float64) * 10
    a, b = make([5.0, *(wandering + np.arange(1001))]), make([2.0, *wandering])
    apart = difference(a, b, "loss", 0.9)
    assert (apart.value, apart.low, apart.high) == pytest.approx((3, 50, 950))
    assert difference(a, b, "bins_used") == difference(b, b, "bins_used")
    bins = curve_difference(a, b, 0.9)
    assert bins.value_K == pytest.approx([3, 6])
    assert bins.low_K == pytest.approx([50, 100])
    assert bins.high_K == pytest.approx([950, 1900])
    assert difference(b, a, "loss", 0.9).low == pytest.approx(-950)


def test_a_model_differs_from_itself_by_nothing() -> None:
    one = make([5.0, 1.0, 9.0])
    apart = difference(one, make([5.0, 1.0, 9.0]), "loss")
    assert (apart.value, apart.low, apart.high) == (0, 0, 0)


@pytest.mark.parametrize("at", [0, 2])
def test_where_one_replica_is_no_number_the_difference_is_none(at: int) -> None:
    loss = [5.0, 1.0, 9.0, 4.0]
    loss[at] = np.nan
    apart = difference(make(loss), make([1.0, 1.0, 1.0, 1.0]), "loss")
    assert np.isnan([apart.value, apart.low, apart.high]).all()
    curve = [[value, 1.0] for value in loss]
    bins = curve_difference(make(loss, curve), make([1.0, 1.0, 1.0, 1.0]))
    assert np.isnan(bins.value_K[0])
    assert np.isfinite([bins.value_K[1], bins.low_K[1], bins.high_K[1]]).all()


LOSS = [1.0, 2.0, 3.0]


def with_curve(**changed: NDArray[np.float64]) -> Evaluation:
    one = make(LOSS)
    return replace(one, curve=replace(one.curve, **changed))


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (make(LOSS, events=31), "events 30 against 31"),
        (make(LOSS, holdout="another"), "holdout the same against another"),
        (make(LOSS, objective_version="v-2"), "objective_version v-1 against v-2"),
        (make(LOSS, seed=1), "seed 0 against 1"),
        (make([*LOSS, 4.0]), "replicas 2 against 3"),
        (with_curve(low_edge_K=np.array([0.0, 0.9])), "low_edge_K"),
        (with_curve(events_K=np.array([11, 19])), "events_K"),
    ],
)
def test_what_is_not_of_the_same_replicas_is_not_compared(other: Evaluation, named: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=named):
        difference(make(LOSS), other, "loss")
    with pytest.raises(ValueError, match=named):
        curve_difference(make(LOSS), other)
    with pytest.raises(ValueError, match=named):
        draw_evaluations({"a": make(LOSS), "b": other}, (), tmp_path / "never.png", None)


def test_fingerprints_tell_events_apart() -> None:
    events = np.arange(12, dtype=np.float32).reshape(4, 3)
    mark = np.zeros(4, np.uint8)
    known = fingerprint((events, mark))
    assert fingerprint((np.asfortranarray(events), mark.copy())) == known
    swapped, touched = events[::-1], events.copy()
    touched[2, 1] += 1e-6
    others = [(swapped, mark), (touched, mark), (events.reshape(3, 4), mark), (events.view(np.int32), mark), (events,)]
    assert len({known, *map(fingerprint, others)}) == 6
    assert fingerprint((events[:0],)) != fingerprint(())


# --- figures ---------------------------------------------------------------------------------------------------


def test_many_bins_are_drawn_as_means_of_neighbours() -> None:
    bins = 50
    edges = np.arange(bins + 1.0)
    value_RK = np.random.default_rng(0).random((4, bins))
    fine = Curve("x", "y", "log", edges[:-1], edges[1:], np.full(bins, 3), value_RK)
    assert coarser(fine, 50) is fine
    coarse = coarser(fine, 20)
    assert len(coarse.events_K) == 20
    assert coarse.low_edge_K[0] == 0
    assert coarse.high_edge_K[-1] == bins
    assert coarse.low_edge_K[1:].tolist() == coarse.high_edge_K[:-1].tolist()
    assert coarse.events_K.sum() == 3 * bins
    of_first = slice(0, int(coarse.high_edge_K[0]))
    np.testing.assert_allclose(coarse.value_RK[:, 0], value_RK[:, of_first].mean(axis=1))
    np.testing.assert_allclose(coarse.value_RK @ np.diff(np.append(coarse.low_edge_K, bins)), value_RK.sum(axis=1))
    assert coarse.y == "y\n(means of 2 or 3 bins)"
