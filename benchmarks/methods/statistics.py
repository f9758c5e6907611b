"""Statistics of paired replicates over tables: ratios of regret with intervals, tests, and time to reach a value."""

# T table, R replicate, H hundredth of the budget

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

FLOOR = 1e-3  # of the distance from the best point to the median: smaller regrets count as this
_DRAWS = 2_000
Regrets = Mapping[str, NDArray[np.float64]]  # table -> regret of each replicate


@dataclass(frozen=True)
class Ratio:
    """Regret of one method over that of another: geometric mean over tables of ratios of mean regrets."""

    ratio: float
    low: float  # of the 95 % interval
    high: float
    p: float  # Wilcoxon's signed-rank test over tables, two-sided; NaN: fewer than 6 tables, which cannot reach 0.05
    tables: int


def compare(ours: Regrets, theirs: Regrets, families: Mapping[str, str], seed: int = 0) -> Ratio:
    """Compare two methods on the tables and replicates that both have."""
    pairs = {
        name: np.stack([ours[name][:count], theirs[name][:count]])
        for name in sorted(ours.keys() & theirs.keys())
        if (count := min(len(ours[name]), len(theirs[name])))
    }
    logs = {name: log_ratio(pair_2R) for name, pair_2R in pairs.items()}
    values = list(logs.values())
    draws = _bootstrap(pairs, families, np.random.default_rng(seed))
    low, high = np.percentile(draws, [2.5, 97.5])
    different = [value for value in values if value != 0]
    p = float(wilcoxon(different).pvalue) if len(different) >= 6 else math.nan
    return Ratio(math.exp(np.mean(values)), math.exp(low), math.exp(high), p, len(values))


def log_ratio(pair_2R: NDArray[np.float64]) -> float:
    """Return the logarithm of the ratio of mean regrets on one table."""
    ours, theirs = np.maximum(pair_2R.mean(axis=1), FLOOR)
    return float(np.log(ours / theirs))


def _bootstrap(
    pairs: Mapping[str, NDArray[np.float64]], families: Mapping[str, str], rng: np.random.Generator
) -> list[float]:
    """Draw families, then tables of each, then replicates of each table, the same for both methods."""
    of_family: dict[str, list[str]] = {}
    for name in pairs:
        of_family.setdefault(families[name], []).append(name)
    groups = list(of_family.values())
    draws = []
    for _ in range(_DRAWS):
        logs = []
        for family in rng.integers(len(groups), size=len(groups)):
            for table in rng.choice(groups[family], len(groups[family])):
                pair_2R = pairs[str(table)]
                logs.append(log_ratio(pair_2R[:, rng.integers(pair_2R.shape[1], size=pair_2R.shape[1])]))
        draws.append(float(np.mean(logs)))
    return draws


def holm(p: Sequence[float]) -> list[float]:
    """Return p values corrected for their number (Holm, Scand. J. Statist. 6 (1979) 65); NaN stays NaN."""
    order = sorted((one for one in range(len(p)) if not math.isnan(p[one])), key=lambda one: p[one])
    corrected, largest = list(p), 0.0
    for place, one in enumerate(order):
        largest = max(largest, min(p[one] * (len(order) - place), 1.0))
        corrected[one] = largest
    return corrected


def share_to_reach(ours_RH: NDArray[np.float64], theirs_RH: NDArray[np.float64]) -> float:
    """Return the share of the budget in which our median regret falls to their final one; above 1: it does not."""
    reached = np.flatnonzero(np.median(ours_RH, axis=0) <= np.median(theirs_RH[:, -1]))
    return float(reached[0] + 1) / ours_RH.shape[1] if len(reached) else math.inf
