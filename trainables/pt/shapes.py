"""Median, width and Gaussian core of a quantity in bins, for a whole sample and with each jackknife group left out."""

# N events, K bins, G jackknife groups, V = 1 + G variants of the sample: all of it, then one group left out each,
# C = V K cells (one bin of one variant, variant by variant), M events in all cells together

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

GROUPS = 10  # parts of the sample, left out in turn for the statistical errors
QUANTILES = (0.16, 0.5, 0.84)  # the central 68 % and the median
CORE = 2.0  # half-width of the window of the Gaussian core, in its own sigma
CORE_VARIANCE = 0.7737413  # of a unit Gaussian cut at +-2: 1 - 4 phi(2) / (2 Phi(2) - 1)
CORE_STEPS = 25  # of the iteration; on a Gaussian each halves what is missing of the width
FARTHEST = 20.0  # events farther from the median than this many half-widths count as if they were there


@dataclass(frozen=True)
class Shapes:
    """Shape of r = pred / truth - 1 in each bin, for each variant of the sample; the first is all of it."""

    median_VK: NDArray[np.float64]
    half_width_VK: NDArray[np.float64]  # of the central 68 %
    peak_VK: NDArray[np.float64]  # mean of the Gaussian core
    sigma_VK: NDArray[np.float64]  # its sigma

    @cached_property
    def relative_width(self) -> NDArray[np.float64]:
        """Half-width over the response 1 + median, (V, K); NaN where that is not positive."""
        return _ratio(self.half_width_VK, 1 + self.median_VK)

    @cached_property
    def relative_sigma(self) -> NDArray[np.float64]:
        """Sigma of the core over the response 1 + peak, (V, K); NaN where that is not positive."""
        return _ratio(self.sigma_VK, 1 + self.peak_VK)


def shapes_of_bins(value_N: NDArray[np.float64], bin_N: NDArray[np.int64], bins: int) -> Shapes:
    """Shapes of ``value_N`` in bins 0 to ``bins - 1``, each of which has at least ``GROUPS`` events.

    The events of a bin go to the jackknife groups in turn, as they stand in the sample. Values that are not
    finite make those of their bin meaningless.
    """
    value_M, count_C = _cells(value_N, bin_N, bins)
    low_C, median_C, high_C = (_quantile(value_M, count_C, quantile) for quantile in QUANTILES)
    half_width_C = (high_C - low_C) / 2
    peak_C, sigma_C = _gaussian_core(value_M, count_C, median_C, half_width_C)
    return Shapes(*(each_C.reshape(GROUPS + 1, bins) for each_C in (median_C, half_width_C, peak_C, sigma_C)))


def jackknife_error(value_V: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard error, along the first axis: from the variants with one group left out, about their mean."""
    spread_G = value_V[1:] - value_V[1:].mean(axis=0)
    error: NDArray[np.float64] = np.sqrt((GROUPS - 1) / GROUPS * np.square(spread_G).sum(axis=0))
    return error


def _cells(
    value_N: NDArray[np.float64], bin_N: NDArray[np.int64], bins: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Values of all cells, one cell after another and sorted in each, and the number of events in each cell."""
    count_K = np.bincount(bin_N, minlength=bins)
    turn_N = np.arange(len(bin_N)) - np.repeat(np.cumsum(count_K) - count_K, count_K)
    group_N = np.empty(len(bin_N), np.int8)
    group_N[np.argsort(bin_N.astype(np.min_scalar_type(bins)), kind="stable")] = turn_N % GROUPS
    order_N = np.lexsort((value_N, bin_N))
    value_N, bin_N, group_N = value_N[order_N], bin_N[order_N], group_N[order_N]
    kept_VN = [slice(None), *(group_N != group for group in range(GROUPS))]
    value_M = np.concatenate([value_N[kept_N] for kept_N in kept_VN])
    return value_M, np.concatenate([np.bincount(bin_N[kept_N], minlength=bins) for kept_N in kept_VN])


def _quantile(value_M: NDArray[np.float64], count_C: NDArray[np.int64], quantile: float) -> NDArray[np.float64]:
    """Of each cell; between two events in proportion, as ``numpy.quantile`` does."""
    start_C, place_C = np.cumsum(count_C) - count_C, (count_C - 1) * quantile
    below_C = np.floor(place_C).astype(np.int64)
    above_C = np.minimum(below_C + 1, count_C - 1)
    low_C, high_C = value_M[start_C + below_C], value_M[start_C + above_C]
    between_C: NDArray[np.float64] = low_C + (place_C - below_C) * (high_C - low_C)
    return between_C


def _gaussian_core(
    value_M: NDArray[np.float64],
    count_C: NDArray[np.int64],
    median_C: NDArray[np.float64],
    half_width_C: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and sigma of the Gaussian that has the moments of each cell's events within CORE sigma of its mean.

    Sums over a window come from cumulative sums, its ends from a search among pairs (cell, value), for which
    complex numbers stand: they are ordered by real, then by imaginary part.
    """
    unit_C = np.where(half_width_C > 0, half_width_C, 1)
    z_M = np.clip((value_M - np.repeat(median_C, count_C)) / np.repeat(unit_C, count_C), -FARTHEST, FARTHEST)
    cell_C = np.arange(len(count_C))
    key_M = np.repeat(cell_C, count_C) + 1j * z_M
    sum_M, square_M = (np.append(0, np.cumsum(power_M)) for power_M in (z_M, z_M * z_M))
    mean_C, sigma_C = np.zeros(len(count_C)), np.where(half_width_C > 0, 1.0, 0.0)
    for _ in range(CORE_STEPS):
        first_C = np.searchsorted(key_M, cell_C + 1j * (mean_C - CORE * sigma_C), side="left")
        end_C = np.searchsorted(key_M, cell_C + 1j * (mean_C + CORE * sigma_C), side="right")
        events_C = np.maximum(end_C - first_C, 2)
        mean_C = (sum_M[end_C] - sum_M[first_C]) / events_C
        variance_C = (square_M[end_C] - square_M[first_C] - events_C * mean_C**2) / (events_C - 1)
        sigma_C = np.sqrt(np.maximum(variance_C, 0) / CORE_VARIANCE)
    return median_C + unit_C * mean_C, unit_C * sigma_C


def _ratio(width_VK: NDArray[np.float64], response_VK: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio_VK = np.full_like(width_VK, np.nan)
    np.divide(width_VK, response_VK, out=ratio_VK, where=response_VK > 0)
    return ratio_VK
