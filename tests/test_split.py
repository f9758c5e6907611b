"""The parts of a sample depend on the content of events and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.data.split import SPLIT_NONE, SPLIT_THREE, SPLIT_TWO, hash_events, parts_of

RNG = np.random.default_rng(1)
MOMENTUM = RNG.normal(size=(20_000, 3)).astype(np.float32)
MASK = RNG.integers(0, 256, (20_000, 50), dtype=np.uint8)


def test_the_hash_of_an_event_never_changes() -> None:
    momentum = np.array([[1.5, -2.25, 20.0], [0.0, 0.5, 1.0]], np.float32)
    mask = np.zeros((2, 50), np.uint8)
    mask[0, 7] = 129
    # If this fails, every user's events move between train, validation and holdout.
    assert hash_events([momentum, mask]).tolist() == [16749440537163884953, 6434698926012195290]


def test_equal_content_means_equal_hash_whatever_the_memory_looks_like() -> None:
    expected = hash_events([MOMENTUM, MASK])
    assert np.array_equal(hash_events([MOMENTUM.astype(">f4"), np.asfortranarray(MASK)]), expected)
    order = RNG.permutation(len(MASK))
    assert np.array_equal(hash_events([MOMENTUM[order], MASK[order]]), expected[order])
    assert len(np.unique(expected)) == len(expected)


def test_minus_zero_is_zero() -> None:
    mask = np.zeros((2, 50), np.uint8)
    one, other = hash_events([np.array([[0.0, 1, 2], [-0.0, 1, 2]], np.float32), mask])
    assert one == other


@pytest.mark.parametrize("split", [SPLIT_THREE, SPLIT_TWO, SPLIT_NONE])
def test_parts_are_disjoint_complete_and_of_their_shares(split: dict[str, float]) -> None:
    parts = parts_of(hash_events([MOMENTUM, MASK]), split)
    assert np.array_equal(sum(chosen.astype(int) for chosen in parts.values()), np.ones(len(MASK)))
    lower = 0.0
    for part, upper in split.items():
        share, error = upper - lower, 0.5 / np.sqrt(len(MASK))
        assert abs(parts[part].mean() - share) < 4 * error
        lower = upper


def test_the_holdout_joins_train_and_leaves_validation_as_it_is() -> None:
    hashes = hash_events([MOMENTUM, MASK])
    three, two = parts_of(hashes, SPLIT_THREE), parts_of(hashes, SPLIT_TWO)
    assert np.array_equal(three["validation"], two["validation"])
    assert np.array_equal(three["train"] | three["test"], two["train"])


def test_the_ends_of_the_range_belong_to_a_part() -> None:
    ends = np.array([0, 2**64 - 1], np.uint64)
    parts = parts_of(ends, SPLIT_THREE)
    assert parts["validation"].tolist() == [True, False]
    assert parts["train"].tolist() == [False, True]
