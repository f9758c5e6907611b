"""The towers with most energy of each accepted event."""

# N events of one chunk, A accepted ones, H towers of these, 9 towers

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.pt.content import Points

TOWERS = 9
_PLACE_BITS, _ENERGY_BITS, _EVENT_BITS = 16, 32, 16  # of the 64 that are sorted: below, between, above


def highest_towers(towers: Points, accepted_N: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Collect position and energy of each accepted event's nine highest towers, (A, 9, 4); zeros where fewer.

    Highest first; of two with the same energy the first in the file.
    """
    number_H = np.flatnonzero(accepted_N[towers.event_H])
    row_H = (np.cumsum(accepted_N) - 1)[towers.event_H[number_H]]
    count_A = np.bincount(row_H, minlength=int(accepted_N.sum()))
    rank_H = np.arange(len(row_H)) - np.repeat(np.cumsum(count_A) - count_A, count_A)
    kept_H = np.flatnonzero(rank_H < TOWERS)
    order_H = _falling(towers.energy_gev_H[number_H], row_H, rank_H)
    highest_H = number_H[order_H[kept_H]]
    tower_A94 = np.zeros((len(count_A), TOWERS, 4), "<f4")
    place_H = row_H[kept_H] * TOWERS + rank_H[kept_H]
    for column, values_H in enumerate((*towers.axes_cm, towers.energy_gev_H)):
        tower_A94.reshape(-1, 4)[place_H, column] = values_H[highest_H]
    return tower_A94


def _falling(energy_H: NDArray[Any], row_H: NDArray[np.int64], rank_H: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the order of falling energies within rows, equal ones as they are: ``lexsort((-energy_H, row_H))``.

    One sort of 64 bits (row, the highest bits of the energy, place in the row) takes a tenth of it; the few rows with
    two energies that differ in their last bits alone are sorted again.

    Parameters
    ----------
    energy_H : array (H,)
    row_H : array (H,)
        Ascending from 0.
    rank_H : array (H,)
        Place in the row, from 0.
    """
    energy_H = energy_H.astype(np.float64) + 0.0  # -0.0 becomes 0.0
    if not len(row_H) or row_H[-1] >= 1 << _EVENT_BITS or rank_H.max() >= 1 << _PLACE_BITS:
        return np.lexsort((-energy_H, row_H))
    bits_H = energy_H.view(np.int64)
    rising_H = bits_H ^ ((bits_H >> 63) & np.int64(0x7FFF_FFFF_FFFF_FFFF))  # ordered as the energies are
    falling_H = (np.int64(-1) ^ rising_H).view(np.uint64) ^ np.uint64(1 << 63)
    key_H = row_H.astype(np.uint64) << np.uint64(_ENERGY_BITS + _PLACE_BITS)
    key_H |= (falling_H >> np.uint64(64 - _ENERGY_BITS)) << np.uint64(_PLACE_BITS)
    key_H |= rank_H.astype(np.uint64)
    key_H.sort()
    place_H = (key_H & np.uint64((1 << _PLACE_BITS) - 1)).astype(np.int64)
    order_H = np.arange(len(row_H)) - rank_H + place_H
    sorted_H = energy_H[order_H]
    wrong = np.flatnonzero((sorted_H[1:] > sorted_H[:-1]) & (row_H[1:] == row_H[:-1]))
    if len(wrong):
        again_H = np.flatnonzero(np.isin(row_H, row_H[wrong]))
        order_H[again_H] = again_H[np.lexsort((-energy_H[again_H], row_H[again_H]))]
    return order_H
