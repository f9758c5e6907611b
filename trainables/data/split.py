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

# Upper edges of the parts in the range of the hash, from 0 on; what lies above the last edge is train.
SPLIT_THREE = {"validation": VALIDATION_SHARE, "test": VALIDATION_SHARE + TEST_SHARE, "train": 1.0}
SPLIT_TWO = {"validation": VALIDATION_SHARE, "train": 1.0}  # the holdout comes from files of its own
SPLIT_NONE = {"test": 1.0}  # these files are the holdout


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


def parts_of(event_hash_N: NDArray[np.uint64], split: Mapping[str, float]) -> dict[str, NDArray[np.bool_]]:
    """Return the mask of each part's events; the parts are disjoint and complete.

    Parameters
    ----------
    event_hash_N : array (N,) of uint64
    split : mapping of part to upper edge in (0, 1], ascending
        One of the ``SPLIT_...``.

    Returns
    -------
    dict of part to array (N,) of bool
    """
    if list(split.values()) != sorted(split.values()) or max(split.values()) != 1.0:
        raise DataError(f"a split needs ascending edges that end with 1, found {dict(split)}")
    which_N = np.searchsorted(np.array(list(split.values())), positions(event_hash_N), side="right")
    return {part: which_N == number for number, part in enumerate(split)}
