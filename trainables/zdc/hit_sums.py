"""Sums of hits over events of one energy bin, in groups: all that a score needs of a mask that knows the bin alone."""

# B events of a chunk, K energy bins (one more for energies outside), G groups, X crystals; a cell is a group of a bin

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.base.batches import on_device
from trainables.zdc.binning import Binning
from trainables.zdc.events import Events
from trainables.zdc.geometry import CRYSTALS

CHUNK = 65_536  # events at once; their bits are unpacked to 26 MB


@dataclass(frozen=True)
class HitSums:
    """Number of events and of hits in each crystal, exact whole numbers in float64."""

    count_KG: NDArray[np.float64]
    hit_KGX: NDArray[np.float64]


def sum_hits(events: Events, binning: Binning, groups: int = 1) -> HitSums:
    """Sum the hits of events; those of an energy bin go to its groups in turn, as in ``ScoreSums``."""
    bins = len(binning.edges_mev)
    count_C, hit_CX = np.zeros(bins * groups, np.int64), np.zeros((bins * groups, CRYSTALS))
    earlier_K = np.zeros(bins, np.int64)
    for first in range(0, len(events), CHUNK):
        energy_B = on_device(events.condition_N6[first : first + CHUNK, 0], torch.device("cpu"))
        bin_B = binning.bin_of(energy_B).numpy()
        cell_B = bin_B * groups + (earlier_K[bin_B] + _rank_in_bin(bin_B, bins)) % groups
        earlier_K += np.bincount(bin_B, minlength=bins)
        events_C = np.bincount(cell_B, minlength=len(count_C))
        there_C = events_C > 0
        row_B = (np.cumsum(there_C) - 1)[cell_B]  # number of its cell among those of this chunk
        hit_CX[there_C] += _sum_bits(events.mask_packed_N50[first : first + CHUNK], row_B, int(there_C.sum()))
        count_C += events_C
    return HitSums(count_C.reshape(bins, groups).astype(np.float64), hit_CX.reshape(bins, groups, CRYSTALS))


def _rank_in_bin(bin_B: NDArray[np.int64], bins: int) -> NDArray[np.int64]:
    """Return how many earlier events of the chunk are in the same bin as each event."""
    order_B = np.argsort(bin_B.astype(np.min_scalar_type(bins)), kind="stable")
    end_K = np.bincount(bin_B, minlength=bins).cumsum()
    rank_B = np.empty_like(order_B)
    rank_B[order_B] = np.arange(len(bin_B)) - np.concatenate(([0], end_K[:-1]))[bin_B[order_B]]
    return rank_B


def _sum_bits(packed_B50: NDArray[np.uint8], row_B: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """Sum the bits of the events of each row: (rows, 400). Showers are sparse, so that only set bits are counted."""
    set_H = np.flatnonzero(np.unpackbits(packed_B50, axis=1).view(np.bool_))
    shift_B = (row_B - np.arange(len(row_B))) * CRYSTALS
    place_H = set_H + shift_B[set_H // CRYSTALS]
    return np.bincount(place_H, minlength=rows * CRYSTALS).reshape(rows, CRYSTALS)
