"""The parts of a sample depend on the content of events and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.data.split import SPLIT_NONE, SPLIT_THREE, SPLIT_TWO, SPLIT_VALIDATION, hash_events, parts_of, split_of

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


SHARES = (0.0, 0.05, 0.2, 0.37, 0.8)
SPLITS = [split_of(share, with_holdout=with_holdout) for share in SHARES for with_holdout in (True, False)]


@pytest.mark.parametrize("split", [*SPLITS, SPLIT_VALIDATION, SPLIT_NONE])
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


def test_the_splits_of_a_share_that_nobody_changes_are_those_of_old_caches() -> None:
    assert SPLIT_THREE == {"validation": 0.2, "test": 0.35, "train": 1.0}
    assert SPLIT_TWO == {"validation": 0.2, "train": 1.0}


def test_no_share_of_validation_uncovers_the_holdout() -> None:
    edges = [int(edge * 2**53) << 11 for edge in (0.2, 0.35)]
    near = np.array([edge + step * 2**10 for edge in edges for step in range(-9, 9)], np.uint64)
    hashes = np.concatenate((hash_events([MOMENTUM, MASK]), near))
    hidden = parts_of(hashes, SPLIT_THREE)["test"]
    for share in SHARES:
        split = split_of(share, with_holdout=True)
        assert np.array_equal(parts_of(hashes, split)["test"], hidden), share


@pytest.mark.parametrize("with_holdout", [True, False])
def test_a_larger_share_keeps_the_validation_events_and_adds_some(with_holdout: bool) -> None:
    hashes = hash_events([MOMENTUM, MASK])
    smaller = np.zeros(len(hashes), bool)
    for share in SHARES[1:]:
        validation = parts_of(hashes, split_of(share, with_holdout=with_holdout))["validation"]
        assert not (smaller & ~validation).any(), share
        smaller = validation


def test_the_ends_of_the_range_belong_to_a_part() -> None:
    ends = np.array([0, 2**64 - 1], np.uint64)
    parts = parts_of(ends, SPLIT_THREE)
    assert parts["validation"].tolist() == [True, False]
    assert parts["train"].tolist() == [False, True]
