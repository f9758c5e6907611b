"""Count r in pT bins, as the figure of its distributions shows it."""

# N events, K pT bins

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.pt.event_map import EventMap, count_events
from trainables.pt.metrics import ResponseCurve, Scores
from trainables.pt.shapes import CORE

PANELS = 16  # distributions at most


@dataclass(frozen=True)
class BinCounts:
    """Numbers of events of one pT bin."""

    edges: NDArray[np.float64]  # of r
    count: NDArray[np.int64]  # between them
    in_core: int


def shown_bins(curve: ResponseCurve) -> list[int]:
    """Return which of the bins are shown."""
    bins = len(curve.events_K)
    return np.unique(np.linspace(0, bins - 1, PANELS).astype(int)).tolist() if bins else []


def core_sigma(curve: ResponseCurve, k: int) -> float:
    """Return the sigma of the Gaussian core of r in a bin."""
    return float(curve.core_sigma_K[k] * (1 + curve.peak_K[k]))


def count_residuals(scores: Scores) -> list[BinCounts]:
    """Count the events of each bin that is shown."""
    curve, reach = scores.curve, _reach(scores.curve)
    counted = []
    for k in shown_bins(curve):
        inside_N = (scores.truth_N >= curve.low_edge_gev_K[k]) & (scores.truth_N < curve.high_edge_gev_K[k])
        edges = np.linspace(-reach, reach, int(np.clip(2.5 * np.sqrt(curve.events_K[k]), 21, 81)))
        count, _ = np.histogram(scores.residual[inside_N], edges)
        in_core = np.abs(scores.residual[inside_N] - curve.peak_K[k]) <= CORE * core_sigma(curve, k)
        counted.append(BinCounts(edges, count, int(in_core.sum())))
    return counted


def count_predictions(scores: Scores) -> EventMap:
    """Count predicted against true pT."""
    end = scores.binning.max_pt_gev
    edges = np.linspace(0, end, 101), np.linspace(0, 1.3 * end, 131)
    return count_events(scores.truth_N, np.nan_to_num(scores.pred_N, nan=-1), edges)


def arrays_of(counts: Sequence[BinCounts]) -> dict[str, NDArray[Any]]:
    """Return what ``counts_of`` makes the counts of again."""
    return {
        f"residual_{field}_{place}": np.asarray(value)
        for place, counted in enumerate(counts)
        for field, value in vars(counted).items()
    }


def counts_of(arrays: Mapping[str, NDArray[Any]]) -> list[BinCounts]:
    """Make the counts of stored arrays."""
    bins = sum(name.startswith("residual_in_core_") for name in arrays)
    return [
        BinCounts(
            arrays[f"residual_edges_{place}"],
            arrays[f"residual_count_{place}"],
            int(arrays[f"residual_in_core_{place}"]),
        )
        for place in range(bins)
    ]


def _reach(curve: ResponseCurve) -> float:
    """Return the end of the axis of r."""
    widths_K = np.append(curve.half_width_K, np.abs(curve.median_K))
    widest = widths_K[np.isfinite(widths_K)].max(initial=0)
    return float(min(max(0.3, 3.2 * widest), 2.0)) if widest else 1.0
