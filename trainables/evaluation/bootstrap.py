"""Draw the events of each bootstrap replica: the same for every model, on any machine."""

# R replicas, J blocks of a bin, B events of a block

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK = 1024  # events drawn at once; another value draws other events, like another seed
SPLIT = 0  # last word of the seed that draws how many events fall into each block; those of the blocks follow


def resampled(events: int, replicas: int, seed: int, number: int) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
    """Yield how often each event of one bin is drawn, one block of its events after another.

    A replica draws as many events with replacement as the bin holds. How many of them fall into each block is
    drawn first, which gives the same distribution and needs only one block of memory for a bin of any size.

    Parameters
    ----------
    events : int
        In the bin.
    replicas : int
        At least 1.
    seed, number : int
        Of the evaluation, and of the bin in it. They determine all draws, which depend neither on the use of the
        blocks nor on other bins.

    Yields
    ------
    slice
        Position of the block among the events of the bin, in the order of the sample.
    array of uint8 (1 + R, B)
        The first row is the sample itself: each event once.
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
