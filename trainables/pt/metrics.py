"""Physics scores of reconstructed transverse momenta: arrays in, floats out."""

# N events, K pT bins with enough events, V variants of the sample: all of it, then one jackknife group left out each

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from trainables.base.errors import DataError
from trainables.base.objectives import Constraint, Mode
from trainables.pt.shapes import GROUPS, Shapes, jackknife_error, shapes_of_bins

OBJECTIVE_VERSION = "pt-1"  # values of different versions are never compared silently
OBJECTIVES: dict[str, Mode] = {
    "resolution": "min",  # the default
    "bias": "min",
    "tail": "min",
    "core_sigma": "min",
}
MOST_BIAS = 0.02
CONSTRAINTS = (Constraint("bias", MOST_BIAS),)
TAIL = 0.2  # of |r|


class PtBinning(BaseModel):
    """Bins of true transverse momentum that the scores average over."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bin_width_gev: float = Field(1.0, gt=0, description="width of a pT bin in GeV; small samples need wider ones")
    max_pt_gev: float = Field(10.0, gt=0, description="upper edge of the last pT bin in GeV")
    min_bin_count: int = Field(20, ge=GROUPS, description="bins with fewer validation events are left out, and counted")

    @model_validator(mode="after")
    def _a_bin_fits(self) -> Self:
        if self.bin_width_gev > self.max_pt_gev:
            raise ValueError("expected bin_width_gev <= max_pt_gev")
        return self

    @property
    def objective_version(self) -> str:
        """Version of the scores with everything here that changes their meaning; momenta in GeV."""
        return f"{OBJECTIVE_VERSION} bins={self.bin_width_gev:g} range=0-{self.max_pt_gev:g} min={self.min_bin_count}"

    @property  # not cached: an array in it would keep a settings object from being compared
    def edges_gev(self) -> NDArray[np.float64]:
        """Edges of the bins, from 0; the last bin is narrower where the width does not divide the range."""
        bins = int(np.ceil(self.max_pt_gev / self.bin_width_gev - 1e-9))
        return np.append(np.arange(bins) * self.bin_width_gev, self.max_pt_gev)

    def bin_of(self, truth_N: NDArray[Any]) -> NDArray[np.int64]:
        """Return the bin index of each true pT in GeV; the number of bins for those outside [0, max_pt_gev)."""
        bins = len(self.edges_gev) - 1
        bin_N = np.searchsorted(self.edges_gev, truth_N, side="right") - 1
        return np.where((bin_N >= 0) & (bin_N < bins), bin_N, bins)

    def count(self, truth_N: NDArray[Any]) -> NDArray[np.int64]:
        """Count the events in each bin."""
        bins = len(self.edges_gev) - 1
        return np.bincount(self.bin_of(truth_N), minlength=bins + 1)[:bins]


def check_binning(binning: PtBinning, truth_N: NDArray[Any], part: str = "validation") -> None:
    """Raise DataError when fewer than half of the bins have enough events: the scores would not cover the range.

    Parameters
    ----------
    binning : PtBinning
    truth_N : array of float
        True pT in GeV.
    part : str
        Of the sample, for the message.
    """
    count = binning.count(truth_N)
    used = int((count >= binning.min_bin_count).sum())
    if used * 2 >= len(count):
        return
    raise DataError(
        f"resolution: {used or 'none'} of the {len(count)} pT bins of {binning.bin_width_gev:g} GeV up to "
        f"{binning.max_pt_gev:g} GeV hold{'s' if used < 2 else ''} {binning.min_bin_count} {part} events; expected "
        f"at least half of them. {count.sum()} of {len(truth_N)} events lie inside, the fullest bin holds "
        f"{count.max()}. Give more events, widen --bin-width-gev, or end the bins where the events end (--max-pt-gev)."
    )


@dataclass(frozen=True)
class ResponseCurve:
    """The table behind the figures against pT: one row for each bin with enough events. r = pred / truth - 1.

    ``resolution`` and ``core_sigma`` are relative to the response: half-width / (1 + median) and the sigma of
    r's Gaussian core / (1 + peak). Errors are 1 sigma, statistical.
    """

    low_edge_gev_K: NDArray[np.float64]
    high_edge_gev_K: NDArray[np.float64]
    events_K: NDArray[np.int64]
    resolution_K: NDArray[np.float64]
    resolution_error_K: NDArray[np.float64]
    half_width_K: NDArray[np.float64]  # of the central 68 %
    core_sigma_K: NDArray[np.float64]
    core_sigma_error_K: NDArray[np.float64]
    median_K: NDArray[np.float64]
    median_error_K: NDArray[np.float64]
    peak_K: NDArray[np.float64]  # mean of the Gaussian core
    peak_error_K: NDArray[np.float64]
    std_K: NDArray[np.float64]  # of all r, not relative to the response
    within_20_K: NDArray[np.float64]  # share of events with |r| <= 0.2


@dataclass(frozen=True)
class Scores:
    """The comparison of reconstructed with true pT on a sample; made by ``score``.

    With r = pred / truth - 1, per bin of *true* pT (so that the bins that count do not depend on the model):

    ``resolution``
        half of the central 68 % interval of r, divided by the response 1 + median. A model that scales all its
        predictions down has a smaller interval and the same resolution.
    ``core_sigma``, ``peak``
        Gaussian core of r within 2 sigma of its own peak: mean and variance of the events inside, the variance
        corrected for the cut, repeated until they agree. ``core_sigma`` is divided by 1 + peak.

    A resolution does not show a wrong scale: inside a bin even a nearly constant prediction spreads by no
    more than the bin is wide. Only together with ``bias`` does it rank models; hence CONSTRAINTS.

    Errors are 1 sigma of a delete-one-group jackknife over ten groups. Where predictions are not finite or all
    the same, or the response of a bin is not positive, numbers without meaning are NaN.
    """

    binning: PtBinning
    pred_N: NDArray[np.float64]  # GeV
    truth_N: NDArray[np.float64]  # GeV
    used: NDArray[np.bool_]  # bins with enough events
    shapes: Shapes

    @cached_property
    def residual(self) -> NDArray[np.float64]:
        """r of every event, as ``residuals`` gives it."""
        return residuals(self.pred_N, self.truth_N, self.binning)

    @cached_property
    def curve(self) -> ResponseCurve:
        """The scores of each bin with enough events."""
        bin_N = self.binning.bin_of(self.truth_N)
        inside_N = bin_N < len(self.used)
        bin_N, residual_N = bin_N[inside_N], self.residual[inside_N]
        count_K = np.bincount(bin_N, minlength=len(self.used))[self.used]

        def mean(value_N: NDArray[Any]) -> NDArray[np.float64]:
            return np.bincount(bin_N, value_N, minlength=len(self.used))[self.used] / count_K

        mean_K, shapes = mean(residual_N), self.shapes
        return ResponseCurve(
            low_edge_gev_K=self.binning.edges_gev[:-1][self.used],
            high_edge_gev_K=self.binning.edges_gev[1:][self.used],
            events_K=count_K,
            resolution_K=shapes.relative_width[0],
            resolution_error_K=jackknife_error(shapes.relative_width),
            half_width_K=shapes.half_width_VK[0],
            core_sigma_K=shapes.relative_sigma[0],
            core_sigma_error_K=jackknife_error(shapes.relative_sigma),
            median_K=shapes.median_VK[0],
            median_error_K=jackknife_error(shapes.median_VK),
            peak_K=shapes.peak_VK[0],
            peak_error_K=jackknife_error(shapes.peak_VK),
            std_K=np.sqrt(np.maximum(mean(np.square(residual_N)) - mean_K**2, 0) * count_K / (count_K - 1)),
            within_20_K=mean(np.where(np.isnan(residual_N), np.nan, np.abs(residual_N) <= TAIL)),
        )

    def numbers(self) -> dict[str, float]:
        """Return means over the bins, largest biases and tails; all relative, so without unit.

        ``bias`` is the larger of ``bias_median`` and ``bias_peak``, the largest |median| and |peak| over the bins;
        ``tail`` (|r| > 0.2), ``mean`` and ``rms`` (about the mean) are of all events inside the binning.
        """
        shapes, curve = self.shapes, self.curve
        residual_N = self.residual[self.binning.bin_of(self.truth_N) < len(self.used)]
        tail = _mean(np.where(np.isnan(residual_N), np.nan, np.abs(residual_N) > TAIL))
        numbers: dict[str, float] = {}
        for name, value_V in over_bins(shapes).items():
            numbers[name] = float(value_V[0])
            if name in OBJECTIVES:
                numbers[f"{name}_error"] = float(jackknife_error(value_V))
        return numbers | {
            "std": _mean(curve.std_K),
            "tail": tail,
            "tail_error": float(np.sqrt(tail * (1 - tail) / max(len(residual_N), 1))),
            "mean": _mean(residual_N),
            "rms": float(np.std(residual_N)) if len(residual_N) else np.nan,
            "bins_used": float(self.used.sum()),
            "bins_left_out": float((~self.used).sum()),
        }


def score(pred_N: NDArray[Any], truth_N: NDArray[Any], binning: PtBinning) -> Scores:
    """Compare reconstructed with true pT, both in GeV. No prediction raises an error: see ``Scores``."""
    pred_N, truth_N = np.asarray(pred_N, np.float64), np.asarray(truth_N, np.float64)
    residual_N, bin_N = residuals(pred_N, truth_N, binning), binning.bin_of(truth_N)
    used = binning.count(truth_N) >= binning.min_bin_count
    among_used = np.append(np.where(used, np.cumsum(used) - 1, -1), -1)[bin_N]
    kept_N = among_used >= 0
    shapes = shapes_of_bins(residual_N[kept_N], among_used[kept_N], int(used.sum()))
    return Scores(binning, pred_N, truth_N, used, shapes)


def over_bins(shapes: Shapes) -> dict[str, NDArray[np.float64]]:
    """Compute means over the bins and largest biases of each variant of the sample: (V,)."""
    bias_median_V, bias_peak_V = _largest(shapes.median_VK), _largest(shapes.peak_VK)
    return {
        "resolution": _means(shapes.relative_width),
        "half_width": _means(shapes.half_width_VK),
        "core_sigma": _means(shapes.relative_sigma),
        "bias": np.maximum(bias_median_V, bias_peak_V),
        "bias_median": bias_median_V,
        "bias_peak": bias_peak_V,
    }


def residuals(pred_N: NDArray[np.float64], truth_N: NDArray[np.float64], binning: PtBinning) -> NDArray[np.float64]:
    """Compute r = pred / truth - 1 of every event, from pT in GeV.

    NaN where the true pT is in no bin; all NaN if predictions are not finite or all the same.
    """
    residual_N = np.full(len(truth_N), np.nan)
    if not np.isfinite(pred_N).all() or (pred_N == pred_N[:1]).all():
        return residual_N
    inside_N = (binning.bin_of(truth_N) < len(binning.edges_gev) - 1) & (truth_N > 0)
    residual_N[inside_N] = pred_N[inside_N] / truth_N[inside_N] - 1
    return residual_N


def _mean(value_K: NDArray[Any]) -> float:
    return float(value_K.mean()) if value_K.size else np.nan


def _means(value_VK: NDArray[np.float64]) -> NDArray[np.float64]:
    return value_VK.mean(axis=1) if value_VK.size else np.full(len(value_VK), np.nan)


def _largest(value_VK: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.abs(value_VK).max(axis=1) if value_VK.size else np.full(len(value_VK), np.nan)
