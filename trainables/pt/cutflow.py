"""The cut flow of each selection, and the efficiency against pT: counts, and their text for people."""

# C cuts, K fine bins of pT (and one for all above), B bins of the efficiency; GeV

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Selection = Literal["strict", "loose"]
SELECTIONS: tuple[Selection, ...] = get_args(Selection)
CUTS: dict[Selection, tuple[str, ...]] = {
    "strict": (
        "one primary",
        "one inner INTT cluster",
        "one outer INTT cluster",
        "a cluster in each MVTX layer",
        "one EMCal cluster",
        "one inner-face cluster",
        "bending angle > 0.01 rad",
    ),
    "loose": (
        "one primary",
        "one inner INTT cluster",
        "one outer INTT cluster",
        "one EMCal cluster > 0.5 GeV",
        "one inner-face cluster > 0.5 GeV",
        "bending angle > 0.01 rad",
    ),
}
BINS_PER_GEV = 10  # of the fine bins
FINE_BINS = 100 * BINS_PER_GEV


@dataclass(frozen=True)
class Efficiency:
    """Accepted / generated in bins of true pT. NaN where nothing was generated."""

    low_edge_gev_B: NDArray[np.float64]
    high_edge_gev_B: NDArray[np.float64]
    generated_B: NDArray[np.int64]
    accepted_B: NDArray[np.int64]
    efficiency_B: NDArray[np.float64]
    lower_B: NDArray[np.float64]  # ends of the Wilson interval of 1 sigma (68.3 %)
    upper_B: NDArray[np.float64]


class CutFlow:
    """Events generated, and those left after each cut, in fine bins of true pT, for every selection.

    ``events`` are all generated ones. Those with no primary or several have no pT and are in no bin; they fail
    the first cut of each selection.
    """

    def __init__(self) -> None:
        self.events = 0
        self.left: dict[Selection, NDArray[np.int64]] = {  # (C, K + 1)
            selection: np.zeros((len(cuts), FINE_BINS + 1), np.int64) for selection, cuts in CUTS.items()
        }

    def count(self, pt_gev_N: NDArray[np.float64], left: Mapping[Selection, NDArray[np.bool_]]) -> None:
        """Count events.

        Parameters
        ----------
        pt_gev_N : array (N,)
            True pT; any number where there is not exactly one primary.
        left : mapping of selection to array (C, N) of bool
            Whether each event passes a cut and all before it.
        """
        self.events += len(pt_gev_N)
        # as float32, which is what the events of a part have
        bin_N = np.minimum(pt_gev_N.astype(np.float32).astype(np.float64) * BINS_PER_GEV, FINE_BINS)
        bin_N = np.nan_to_num(bin_N, nan=0.0).astype(np.int64)
        for selection, left_CN in left.items():
            for row_K, left_N in zip(self.left[selection], left_CN, strict=True):
                row_K += np.bincount(bin_N[left_N], minlength=FINE_BINS + 1)

    def add(self, other: CutFlow) -> None:
        """Add the counts of another cut flow."""
        self.events += other.events
        for selection, left_CK in self.left.items():
            left_CK += other.left[selection]

    def totals(self, selection: Selection) -> dict[str, int]:
        """Return the events left after each cut."""
        return dict(zip(CUTS[selection], self.left[selection].sum(axis=1).tolist(), strict=True))

    def accepted(self, selection: Selection) -> int:
        """Return the events that pass all cuts."""
        return int(self.left[selection][-1].sum())

    def table(self, selection: Selection) -> tuple[str, ...]:
        """Format lines for people: events left after each cut, their share of all events, events removed."""
        lines = [f"{'generated':34}{self.events:>9}"]
        before = self.events
        for cut, left in self.totals(selection).items():
            lines.append(f"{cut:34}{left:>9} {left / max(self.events, 1):7.1%}  removes {before - left}")
            before = left
        return tuple(lines)

    def efficiency(self, selection: Selection, edges_gev: Sequence[float] | NDArray[np.float64]) -> Efficiency:
        """Divide accepted by generated events in bins of true pT, of the events with exactly one primary.

        Parameters
        ----------
        selection : "strict" or "loose"
        edges_gev : sequence of float
            Edges of the bins, ascending. Each is moved to the nearest multiple of 0.1 GeV, because events are counted
            in such bins, and to 100 GeV at most; bins that vanish are left out. The result has its own edges.
        """
        generated_K, accepted_K = self.left[selection][0], self.left[selection][-1]
        edge = np.rint(np.asarray(edges_gev, np.float64) * BINS_PER_GEV).astype(np.int64)
        edge = np.unique(np.clip(edge, 0, FINE_BINS))
        generated_B, accepted_B = (
            np.diff(np.append(0, np.cumsum(count_K))[edge]) for count_K in (generated_K, accepted_K)
        )
        return Efficiency(
            edge[:-1] / BINS_PER_GEV,
            edge[1:] / BINS_PER_GEV,
            generated_B,
            accepted_B,
            np.divide(accepted_B, generated_B, out=np.full(len(generated_B), np.nan), where=generated_B > 0),
            *wilson_interval(accepted_B, generated_B),
        )

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; bins above the highest pT are left out."""
        bins = int(np.flatnonzero(np.append(1, self.left["strict"][0]))[-1])
        left = {selection: left_CK[:, :bins].tolist() for selection, left_CK in self.left.items()}
        return {"events": self.events, "left": left}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CutFlow:
        """Restore what ``to_json`` returned."""
        flow = cls()
        flow.events = values["events"]
        for selection, left_CK in flow.left.items():
            counted = np.array(values["left"][selection], np.int64)
            left_CK[:, : counted.shape[1]] = counted
        return flow


def wilson_interval(
    accepted_B: NDArray[np.int64], generated_B: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the one-sigma interval for a share of ``generated``; NaN where that is 0.

    Unlike the usual binomial error it is not empty where nothing or everything was accepted.
    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
    """
    n_B = np.where(generated_B > 0, generated_B, np.nan)
    share_B = accepted_B / n_B
    centre_B = (share_B + 0.5 / n_B) / (1 + 1 / n_B)
    half_B = np.sqrt(share_B * (1 - share_B) / n_B + 0.25 / n_B**2) / (1 + 1 / n_B)
    return centre_B - half_B, centre_B + half_B
