"""The azimuth of the cluster at the EMCal's inner face against the point where the electron met the EMCal, by pT."""

# N events, K pT bins

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainables.pt.event_map import EventMap, count_events
from trainables.pt.metrics import PtBinning
from trainables.pt.shapes import jackknife_error, shapes_of_bins

if TYPE_CHECKING:
    from trainables.pt.data import Events


@dataclass(frozen=True)
class ClusterDphi:
    """dphi = phi(truth) - phi(cluster) in mrad: of all events, and its Gaussian core in pT bins with enough events.

    Truth is where the primary met the surface of the EMCal. Errors are 1 sigma, statistical.
    Source: ML4Reco, "dphi(truth - reco) vs pT".
    """

    map: EventMap  # of dphi in mrad against pT in GeV
    low_edge_gev_K: NDArray[np.float64]
    high_edge_gev_K: NDArray[np.float64]
    events_K: NDArray[np.float64]
    core_sigma_mrad_K: NDArray[np.float64]
    core_sigma_error_mrad_K: NDArray[np.float64]
    peak_mrad_K: NDArray[np.float64]
    peak_error_mrad_K: NDArray[np.float64]


def cluster_dphi(parts: tuple[Events, ...], binning: PtBinning) -> ClusterDphi:
    """Measure dphi of all events of these parts that have one known point on the surface and lie in the bins."""
    pt_N = np.concatenate([part.truth_N3[:, 0] for part in parts]).astype(np.float64)
    mrad_N = np.concatenate([part.surface_dphi_N for part in parts]).astype(np.float64) * 1e3
    known_N = np.isfinite(mrad_N) & (binning.bin_of(pt_N) < len(binning.edges_gev) - 1)
    pt_N, mrad_N = pt_N[known_N], mrad_N[known_N]
    count = binning.count(pt_N)
    used = count >= binning.min_bin_count
    among_N = np.where(used, np.cumsum(used) - 1, -1)[binning.bin_of(pt_N)]
    shapes = shapes_of_bins(mrad_N[among_N >= 0], among_N[among_N >= 0], int(used.sum()))
    return ClusterDphi(
        map=_map(pt_N, mrad_N, binning.max_pt_gev, shapes.sigma_VK[0]),
        low_edge_gev_K=binning.edges_gev[:-1][used],
        high_edge_gev_K=binning.edges_gev[1:][used],
        events_K=count[used].astype(np.float64),
        core_sigma_mrad_K=shapes.sigma_VK[0],
        core_sigma_error_mrad_K=jackknife_error(shapes.sigma_VK),
        peak_mrad_K=shapes.peak_VK[0],
        peak_error_mrad_K=jackknife_error(shapes.peak_VK),
    )


def largest_sigma_mrad(core_sigma_mrad_K: NDArray[np.float64]) -> float:
    """Return the largest sigma to show."""
    return float(max(core_sigma_mrad_K.max(initial=0), 0.2))


def _map(
    pt_N: NDArray[np.float64], mrad_N: NDArray[np.float64], max_pt_gev: float, sigma_K: NDArray[np.float64]
) -> EventMap:
    widest = largest_sigma_mrad(sigma_K)
    centre = float(np.median(mrad_N)) if len(mrad_N) else 0.0
    edges = np.linspace(0, max_pt_gev, 101), np.linspace(centre - 4.5 * widest, centre + 4.5 * widest, 101)
    return count_events(pt_N, mrad_N, edges)
