"""Numbers of events in two dimensions, as a figure shows them."""

# N events, X and Y cells

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class EventMap:
    """Numbers of events in cells; some events may lie outside of all cells."""

    x_edges: NDArray[np.float64]
    y_edges: NDArray[np.float64]
    count_XY: NDArray[np.float64]
    events: int  # those outside too

    @property
    def outside(self) -> int:
        return int(self.events - self.count_XY.sum())

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """Return what ``map_of`` makes the map of again."""
        return {f"{name}_{field}": np.asarray(value) for field, value in vars(self).items()}


def map_of(arrays: Mapping[str, NDArray[Any]], name: str) -> EventMap:
    """Make the map of this name of stored arrays."""
    x_edges, y_edges, count_XY, events = (arrays[f"{name}_{field}"] for field in EventMap.__dataclass_fields__)
    return EventMap(x_edges, y_edges, count_XY, int(events))


def count_events(
    x_N: NDArray[np.float64], y_N: NDArray[np.float64], edges: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> EventMap:
    """Count events in the cells between these edges."""
    counts, *_ = np.histogram2d(x_N, y_N, edges)
    return EventMap(*edges, counts, len(x_N))
