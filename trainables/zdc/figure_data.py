"""What the figures of a report show beyond its tables: mean hit maps, and distributions of the events."""

# N events, H row (ix), W column (iy), B bins of a histogram; 6 conditions as in events.CONDITIONS

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.zdc.binning import Binning
from trainables.zdc.events import Events
from trainables.zdc.metrics import Scores

REGIONS = ("low", "mid", "high")
PARTS = ("training", "validation")
SHOWN_EVENTS = 200_000  # of a large sample are enough for a histogram


@dataclass(frozen=True)
class MeanMaps:
    """Mean hit maps in one region of energy."""

    energies: str  # of the region, for people
    mc_HW: NDArray[np.float64]
    mask_HW: NDArray[np.float64]


@dataclass(frozen=True)
class InputCounts:
    """Distributions of the events of one part of the sample: conditions, hit crystals, and these against energy."""

    events: int
    condition_edges_6B: NDArray[np.float64]  # one more than bins
    condition_density_6B: NDArray[np.float64]
    hits_edges_B: NDArray[np.float64]
    hits_density_B: NDArray[np.float64]
    energy_edges_B: NDArray[np.float64]
    mean_hits_B: NDArray[np.float64]

    def arrays(self, name: str) -> dict[str, NDArray[Any] | float | str]:
        """Return what ``inputs_of`` makes the counts of again."""
        return {f"{name}_{field}": value for field, value in vars(self).items()}


def count_inputs(events: Events) -> InputCounts:
    """Count the first events of a part."""
    condition_N6 = events.condition_N6[:SHOWN_EVENTS]
    hits_N = np.bitwise_count(events.mask_packed_N50[:SHOWN_EVENTS]).sum(axis=1)
    edges = [np.linspace(value_N.min(), value_N.max(), 31) for value_N in condition_N6.T]
    density = [_density(value_N, edge_B) for value_N, edge_B in zip(condition_N6.T, edges, strict=True)]
    hits_edges_B = np.arange(-0.5, hits_N.max() + 1.5)
    energy_N, energy_edges_B = condition_N6[:, 0], np.linspace(0, condition_N6[:, 0].max(), 21)
    count_K, sum_K = (np.histogram(energy_N, energy_edges_B, weights=weight)[0] for weight in (None, hits_N))
    return InputCounts(
        len(events),
        np.array(edges),
        np.array(density),
        hits_edges_B,
        _density(hits_N, hits_edges_B),
        energy_edges_B,
        sum_K / np.maximum(count_K, 1),
    )


def inputs_of(arrays: Mapping[str, NDArray[Any]], name: str) -> InputCounts:
    """Make the counts of a part of stored arrays."""
    events, *others = (arrays[f"{name}_{field}"] for field in InputCounts.__dataclass_fields__)
    return InputCounts(int(events), *others)


def maps_of(scores: Scores) -> dict[str, NDArray[Any] | float | str]:
    """Return what ``map_of`` makes the maps of each region of again."""
    arrays: dict[str, NDArray[Any] | float | str] = {}
    for region in REGIONS:
        mc_HW, mask_HW = scores.maps(region)
        arrays |= {f"mc_{region}": mc_HW, f"mask_{region}": mask_HW}
        arrays[f"energies_{region}"] = _energies(scores.binning, region)
        arrays[f"bins_{region}"] = scores.binning.in_region[region][scores.used]  # of those with enough events
    return arrays


def map_of(arrays: Mapping[str, NDArray[Any]], region: str) -> MeanMaps:
    """Make the maps of a region of stored arrays."""
    return MeanMaps(str(arrays[f"energies_{region}"]), arrays[f"mc_{region}"], arrays[f"mask_{region}"])


def _density(value_N: NDArray[Any], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    density_B: NDArray[np.float64] = np.histogram(value_N, edges, density=True)[0]
    return density_B


def _energies(binning: Binning, region: str) -> str:
    inside = binning.edges_mev[:-1][binning.in_region[region]], binning.edges_mev[1:][binning.in_region[region]]
    return f"{inside[0][0] / 1000:g} to {inside[1][-1] / 1000:g} GeV"
