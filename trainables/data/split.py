"""Assign each event to a part of the sample, by a hash of its content alone."""

# N events; a hash is 64 bits, uniform

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.base.errors import DataError

VALIDATION_SHARE = 0.2
TEST_SHARE = 0.15
MIN_EVENTS = 20  # of a whole sample: fewer cannot be split into parts

Split = Mapping[str, float]  # part -> its upper edge in the range of the hash, ascending from 0 to 1


def split_of(validation_share: float, *, with_holdout: bool) -> dict[str, float]:
    """Return the split of files that hold training events.

    Parameters
    ----------
    validation_share : float
        Share of the events, in [0, 0.8]; 0: the validation events come from files of their own.
    with_holdout : bool
        Whether a part of these files is the holdout: ``TEST_SHARE``, the same events for any validation share.
    """
    split = {"validation": validation_share} if validation_share else {}
    if with_holdout:
        split["test"] = validation_share + TEST_SHARE
    return split | {"train": 1.0}


SPLIT_THREE = split_of(VALIDATION_SHARE, with_holdout=True)
SPLIT_TWO = split_of(VALIDATION_SHARE, with_holdout=False)
SPLIT_VALIDATION = {"validation": 1.0}  # of files that hold nothing but validation events
SPLIT_NONE = {"test": 1.0}  # of files that are the holdout


def hash_events(columns: Sequence[NDArray[Any]]) -> NDArray[np.uint64]:
    """Hash each event's content: equal content, equal hash, in any file, order or machine.

    Parameters
    ----------
    columns : sequence of arrays (N, ...)
        What identifies an event; any fixed-width type. ``-0.0`` and ``0.0`` are one value.

    Returns
    -------
    array (N,) of uint64
        Uniform in 0 ... 2**64 - 1.
    """
    import pandas as pd  # here, because settings and --help need no pandas

    rows = [_bytes_of_rows(column) for column in columns]
    width = sum(row.shape[1] for row in rows)
    padding = np.zeros((len(rows[0]), -width % 8), np.uint8)
    words = np.ascontiguousarray(np.concatenate([*rows, padding], axis=1)).view("<u8")
    hashes = pd.util.hash_pandas_object(pd.DataFrame(words, copy=False), index=False)
    return np.asarray(hashes, dtype=np.uint64)


def _bytes_of_rows(column: NDArray[Any]) -> NDArray[np.uint8]:
    flat = column.reshape(len(column), -1)
    if np.issubdtype(flat.dtype, np.floating):
        flat = flat + flat.dtype.type(0)  # -0.0 becomes 0.0
    little = np.ascontiguousarray(flat, dtype=flat.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(len(column), -1)


def positions(event_hash_N: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Scale each hash to [0, 1)."""
    return (event_hash_N >> np.uint64(11)).astype(np.float64) / 2.0**53


def parts_of(event_hash_N: NDArray[np.uint64], split: Split) -> dict[str, NDArray[np.bool_]]:
    """Return the mask of each part's events; the parts are disjoint and complete.

    Parameters
    ----------
    event_hash_N : array (N,) of uint64
    split : Split
        ``split_of`` or one of the ``SPLIT_...``. With another validation share a holdout between other parts keeps
        its events, and a larger share has the validation events of a smaller one and more.

    Returns
    -------
    dict of part to array (N,) of bool
    """
    if list(split.values()) != sorted(split.values()) or max(split.values()) != 1.0:
        raise DataError(f"a split needs ascending edges that end with 1, found {dict(split)}")
    place_N = positions(event_hash_N)
    if "test" in split and "train" in split:
        place_N = _beside_holdout(place_N, split.get("validation", 0.0))
    which_N = np.searchsorted(np.array(list(split.values())), place_N, side="right")
    return {part: which_N == number for number, part in enumerate(split)}


def _beside_holdout(place_N: NDArray[np.float64], validation_share: float) -> NDArray[np.float64]:
    """Move the holdout of the default split, and what is beside it, to where a split of another share has them."""
    if validation_share == VALIDATION_SHARE:
        return place_N
    first, end = VALIDATION_SHARE, VALIDATION_SHARE + TEST_SHARE
    held_back_N = (place_N >= first) & (place_N < end)
    rest_N = np.where(place_N < first, place_N, place_N - TEST_SHARE)  # without a gap at the holdout
    moved_N = np.where(rest_N < validation_share, rest_N, rest_N + TEST_SHARE)
    return np.where(held_back_N, validation_share, moved_N)
