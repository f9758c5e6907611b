"""Which events of a sample each bootstrap replica draws: the same for every model, wherever it is evaluated."""

# R replicas, J blocks of a bin, B events of a block

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK = 1024  # events drawn at once; like the seed it decides which these are
SPLIT = 0  # place of the draw among blocks in a seed; the blocks come after it


def resampled(events: int, replicas: int, seed: int, number: int) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
    """How often each event of one bin is drawn, block after block of its events.

    A replica draws as many events with replacement as the bin holds. How many of them fall into each block is
    drawn first, which gives the same distribution and needs only one block of memory, however large the bin is.

    Parameters
    ----------
    events : int
        In the bin.
    replicas : int
        At least 1.
    seed, number : int
        Of the evaluation, and of the bin in it. With them, all draws are given: they depend neither on what is
        done with the blocks nor on other bins.

    Yields
    ------
    slice
        Place of the block among the events of the bin, as they stand in the sample.
    array of uint8 (1 + R, B)
        The first row is the events as they are: once each.
    """
    if replicas < 1:
        raise ValueError(f"expected at least one replica, found {replicas}")
    if events == 0:
        return
    first_J = np.arange(0, events, BLOCK)
    size_J = np.minimum(BLOCK, events - first_J)
    drawn_RJ = _random(seed, number, SPLIT).multinomial(events, size_J / events, size=replicas)
    for block, (first, size) in enumerate(zip(first_J.tolist(), size_J.tolist(), strict=True)):
        drawn_R = drawn_RJ[:, block]
        chosen = _random(seed, number, SPLIT + 1 + block).integers(0, size, drawn_R.sum())
        chosen += np.repeat(np.arange(replicas) * size, drawn_R)
        count_RB = np.bincount(chosen, minlength=replicas * size).reshape(replicas, size)
        yield slice(first, first + size), np.insert(count_RB.astype(np.uint8), 0, 1, axis=0)


def _random(*words: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(words))
