"""Predictors without training: two analytic formulas for pT; and the results of the published report."""

# N events, K pT bins

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainables.pt.metrics import PtBinning, Scores, score

if TYPE_CHECKING:
    from trainables.pt.data import Events, PtData

ANGLE_FORMULA, ENERGY_FORMULA = "C/dphi", "E sin(theta)"
REPORT = "published (full simulation)"  # label of the reference table beside these


@dataclass(frozen=True)
class ReferenceTable:
    """Published results per pT bin of 1 GeV, of r = pred / truth - 1, as fractions, not relative to the response."""

    events: int
    half_width_K: NDArray[np.float64]  # of the central 68 %
    core_sigma_K: NDArray[np.float64]
    median_K: NDArray[np.float64]
    within_20_K: NDArray[np.float64]  # share of events with |r| <= 0.2
    mean: float
    rms: float

    @property
    def relative_half_width(self) -> NDArray[np.float64]:
        """Half-width relative to the response, as ``Scores`` defines it."""
        return self.half_width_K / (1 + self.median_K)

    @property
    def relative_core_sigma(self) -> NDArray[np.float64]:
        """Core sigma relative to the response; to the median's, since the source has no peak."""
        return self.core_sigma_K / (1 + self.median_K)


# Combined model with post-correction on full simulation, read off its result histogram: ML4Reco status report.
REFERENCE = ReferenceTable(
    events=312_157,
    half_width_K=np.array((5.7, 6.4, 6.6, 7.2, 8.0, 9.2, 10.1, 9.8, 9.0, 7.6)) / 100,
    core_sigma_K=np.array((3.6, 4.9, 6.1, 6.8, 7.4, 8.4, 9.0, 9.1, 8.3, 7.2)) / 100,
    median_K=np.array((-0.2, -0.5, -0.8, -0.3, -0.2, 0.3, 0.5, 0.0, -1.9, -4.8)) / 100,
    within_20_K=np.array((0.936, 0.956, 0.982, 0.980, 0.967, 0.939, 0.920, 0.933, 0.963, 0.959)),
    mean=-0.003,
    rms=0.098,
)


def compares_with_reference(binning: PtBinning, selection: str) -> bool:
    """Decide whether scores in these bins, of events selected so, mean the same as the reference table's."""
    return selection == "strict" and np.array_equal(binning.edges_gev, np.arange(11.0))


def reference_numbers() -> dict[str, float]:
    """Return the report's results under the names of a trial's metrics.

    Its sample is another one (full simulation). ``tail`` is a mean over bins, which all held about as many events.
    """
    return {
        "resolution": float(REFERENCE.relative_half_width.mean()),
        "half_width": float(REFERENCE.half_width_K.mean()),
        "core_sigma": float(REFERENCE.relative_core_sigma.mean()),
        "bias_median": float(np.abs(REFERENCE.median_K).max()),
        "tail": float(1 - REFERENCE.within_20_K.mean()),
        "mean": REFERENCE.mean,
        "rms": REFERENCE.rms,
    }


def reference_columns(used: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
    """Return the report's results in the used ones of the ten bins, under the names of ``ResponseCurve``."""
    columns = {
        "resolution": REFERENCE.relative_half_width,
        "half_width": REFERENCE.half_width_K,
        "core_sigma": REFERENCE.relative_core_sigma,
        "median": REFERENCE.median_K,
        "within_20": REFERENCE.within_20_K,
    }
    return {name: value_K[used] for name, value_K in columns.items()}


def fit_c(train: Events) -> float:
    """Fit C of pT = C / dphi in GeV rad: the median of pT dphi over training events; 0.1922 in the report."""
    return float(np.median(_truth_gev(train) * train.dphi_N.astype(np.float64)))


def formula_predictions(train: Events, events: Events) -> dict[str, NDArray[np.float64]]:
    """Predict pT in GeV of ``events`` by each formula, by name.

    ``C/dphi`` is the bending of a helix from the origin, with C fitted to the training events, ``E sin(theta)``
    the energy of the cluster at the EMCal's inner face and the direction from the origin to it.
    """
    x_N, y_N, z_N, energy_N = events.cluster_N24[:, 0].astype(np.float64).T
    transverse_N = np.hypot(x_N, y_N)
    return {
        ANGLE_FORMULA: fit_c(train) / events.dphi_N.astype(np.float64),
        ENERGY_FORMULA: energy_N * transverse_N / np.hypot(transverse_N, z_N),
    }


def naive_predictions(data: PtData) -> dict[str, NDArray[np.float64]]:
    """Predict pT in GeV of the validation events by each formula, by name."""
    return formula_predictions(data.train, data.validation)


def naive_scores(data: PtData) -> dict[str, Scores]:
    """Score the formulas on the validation events, by name."""
    truth_N = _truth_gev(data.validation)
    return {name: score(pred_N, truth_N, data.binning) for name, pred_N in naive_predictions(data).items()}


def naive_predictors(data: PtData) -> dict[str, dict[str, float]]:
    """Return the numbers of ``naive_scores``, under the names of a trial's own metrics."""
    return {name: scores.numbers() for name, scores in naive_scores(data).items()}


def _truth_gev(events: Events) -> NDArray[np.float64]:
    truth_N: NDArray[np.float64] = events.truth_N3[:, 0].astype(np.float64)
    return truth_N


def references(data: PtData) -> dict[str, dict[str, float]]:
    """Return the report's result under the names of a trial's metrics, where the scores mean the same; else nothing."""
    if not compares_with_reference(data.binning, data.selection):
        return {}
    numbers = reference_numbers()
    return {REPORT: {"bias": numbers["bias_median"], **numbers}}
