"""Find median, width and Gaussian core of a quantity in bins, for a sample, its jackknife groups and replicas."""

# N events, K bins, G jackknife groups, V = 1 + G variants of the sample: all of it, then one group left out each,
# C = V K cells (one bin of one variant, variant by variant), M events in all cells together; R bootstrap replicas

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

GROUPS = 10  # parts of the sample, left out in turn for the statistical errors
QUANTILES = (0.16, 0.5, 0.84)  # the central 68 % and the median
CORE = 2.0  # half-width of the window of the Gaussian core, in its own sigma
CORE_VARIANCE = 0.7737413  # of a unit Gaussian cut at +-2: 1 - 4 phi(2) / (2 Phi(2) - 1)
CORE_STEPS = 25  # of the iteration; on a Gaussian each halves what is missing of the width
FARTHEST = 20.0  # half-widths from the median; events farther away are moved there


Cells = NDArray[np.float64]  # one number for each cell, or for each replica of one bin
WindowSums = Callable[[Cells, Cells], tuple[NDArray[np.int64], Cells, Cells]]


@dataclass(frozen=True)
class Shapes:
    """The shape of r = pred / truth - 1 in each bin, for each variant of the sample; the first is all of it.

    Variants are those of ``shapes_of_bins``, or the bootstrap replicas of ``shapes_of_replicas``.
    """

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
    """Find the shapes of ``value_N`` in bins 0 to ``bins - 1``, each of which has at least ``GROUPS`` events.

    The events of a bin go to the jackknife groups in turn, in the order of the sample. Values that are not finite
    make the shape of their bin meaningless.
    """
    value_M, count_C = _cells(value_N, bin_N, bins)
    low_C, median_C, high_C = (_quantile(value_M, count_C, quantile) for quantile in QUANTILES)
    half_width_C = (high_C - low_C) / 2
    peak_C, sigma_C = _core_of_cells(value_M, count_C, median_C, half_width_C)
    return Shapes(*(each_C.reshape(GROUPS + 1, bins) for each_C in (median_C, half_width_C, peak_C, sigma_C)))


def shapes_of_replicas(value_N: NDArray[np.float64], count_RN: NDArray[np.integer]) -> Shapes:
    """Find the shapes (R, 1) of one bin's replicas; each draws value 0 ``count_RN[:, 0]`` times, and so on.

    Parameters
    ----------
    value_N : array
        At least two, in rising order.
    count_RN : array of whole numbers
        Each row adds up to N.
    """
    upto_RN = np.cumsum(count_RN, axis=1, dtype=np.int32)
    low_R, median_R, high_R = (_quantile_of_counts(value_N, upto_RN, quantile) for quantile in QUANTILES)
    half_width_R = (high_R - low_R) / 2
    low, centre, high = np.quantile(value_N, QUANTILES)  # all replicas are measured in the width of the values
    unit = (high - low) / 2 if high > low else 1.0
    z_N = np.clip((value_N - centre) / unit, -FARTHEST, FARTHEST)
    sum_RN, square_RN = (np.cumsum(count_RN * power_N, axis=1) for power_N in (z_N, z_N * z_N))

    def window_sums(low_R: Cells, high_R: Cells) -> tuple[NDArray[np.int64], Cells, Cells]:
        first_R, end_R = np.searchsorted(z_N, low_R, side="left"), np.searchsorted(z_N, high_R, side="right")
        count_R, total_R, squares_R = (
            _upto(sums_RN, end_R) - _upto(sums_RN, first_R) for sums_RN in (upto_RN, sum_RN, square_RN)
        )
        return count_R, total_R, squares_R

    mean_R, sigma_R = _gaussian_core(window_sums, (median_R - centre) / unit, half_width_R / unit)
    columns = (median_R, half_width_R, centre + unit * mean_R, unit * sigma_R)
    return Shapes(*(column_R[:, np.newaxis] for column_R in columns))


def jackknife_error(value_V: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the standard error along the first axis from the variants with one group left out."""
    spread_G = value_V[1:] - value_V[1:].mean(axis=0)
    error: NDArray[np.float64] = np.sqrt((GROUPS - 1) / GROUPS * np.square(spread_G).sum(axis=0))
    return error


def _cells(
    value_N: NDArray[np.float64], bin_N: NDArray[np.int64], bins: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the values of all cells, one after another and sorted in each, and the number of events in each cell."""
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
    """Compute a quantile of each cell, interpolated between two events like ``numpy.quantile``."""
    start_C, place_C = np.cumsum(count_C) - count_C, (count_C - 1) * quantile
    below_C = np.floor(place_C).astype(np.int64)
    above_C = np.minimum(below_C + 1, count_C - 1)
    low_C, high_C = value_M[start_C + below_C], value_M[start_C + above_C]
    between_C: NDArray[np.float64] = low_C + (place_C - below_C) * (high_C - low_C)
    return between_C


def _quantile_of_counts(
    value_N: NDArray[np.float64], upto_RN: NDArray[np.int32], quantile: float
) -> NDArray[np.float64]:
    """Compute a quantile of each replica, from how many of its events are not above each value."""
    place = (len(value_N) - 1) * quantile
    below = int(place)
    low_R, high_R = (value_N[(upto_RN > rank).argmax(axis=1)] for rank in (below, min(below + 1, len(value_N) - 1)))
    between_R: NDArray[np.float64] = low_R + (place - below) * (high_R - low_R)
    return between_R


def _core_of_cells(
    value_M: NDArray[np.float64],
    count_C: NDArray[np.int64],
    median_C: NDArray[np.float64],
    half_width_C: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit peak and sigma of the Gaussian core of each cell.

    Sums over a window come from cumulative sums, its ends from a search among pairs (cell, value). Complex numbers
    represent the pairs, because they are ordered by real, then by imaginary part.
    """
    unit_C = np.where(half_width_C > 0, half_width_C, 1)
    z_M = np.clip((value_M - np.repeat(median_C, count_C)) / np.repeat(unit_C, count_C), -FARTHEST, FARTHEST)
    cell_C = np.arange(len(count_C))
    key_M = np.repeat(cell_C, count_C) + 1j * z_M
    sum_M, square_M = (np.append(0, np.cumsum(power_M)) for power_M in (z_M, z_M * z_M))

    def window_sums(low_C: Cells, high_C: Cells) -> tuple[NDArray[np.int64], Cells, Cells]:
        first_C = np.searchsorted(key_M, cell_C + 1j * low_C, side="left")
        end_C = np.searchsorted(key_M, cell_C + 1j * high_C, side="right")
        return end_C - first_C, sum_M[end_C] - sum_M[first_C], square_M[end_C] - square_M[first_C]

    start_C, width_C = np.zeros(len(count_C)), np.where(half_width_C > 0, 1.0, 0.0)
    mean_C, sigma_C = _gaussian_core(window_sums, start_C, width_C)
    return median_C + unit_C * mean_C, unit_C * sigma_C


def _gaussian_core(window_sums: WindowSums, mean_C: Cells, sigma_C: Cells) -> tuple[Cells, Cells]:
    """Iterate to the Gaussian that has the moments of each cell's events within CORE sigma of its mean.

    Starts with the given mean and sigma. ``window_sums`` returns for the events between two values their number, their
    sum and the sum of their squares.
    """
    for _ in range(CORE_STEPS):
        events_C, sum_C, square_C = window_sums(mean_C - CORE * sigma_C, mean_C + CORE * sigma_C)
        events_C = np.maximum(events_C, 2)
        mean_C = sum_C / events_C
        variance_C = (square_C - events_C * mean_C**2) / (events_C - 1)
        sigma_C = np.sqrt(np.maximum(variance_C, 0) / CORE_VARIANCE)
    return mean_C, sigma_C


def _upto(sums_RN: NDArray[Any], end_R: NDArray[np.int64]) -> NDArray[Any]:
    """Return the sum of the first ``end_R`` values, from cumulative sums."""
    return np.where(end_R > 0, sums_RN[np.arange(len(end_R)), np.maximum(end_R, 1) - 1], 0)


def _ratio(width_VK: NDArray[np.float64], response_VK: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio_VK = np.full_like(width_VK, np.nan)
    np.divide(width_VK, response_VK, out=ratio_VK, where=response_VK > 0)
    return ratio_VK
