"""Intervals over seeds: of a mean, and of the difference of two points that were trained with the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval by Student's t; without numbers of one seed, because nothing is known then."""

    mean: float
    low: float | None
    high: float | None
    seeds: int

    @property
    def excludes_zero(self) -> bool:
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.3g} (one seed, no interval)"
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


def mean_of(values: Sequence[float]) -> Interval:
    """Compute the mean of values of independent seeds."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, None, None, len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half, len(values))


def difference(of: Sequence[float], to: Sequence[float]) -> Interval:
    """Compute the mean of ``of - to``; values of the same place have the same seed."""
    return mean_of([one - other for one, other in zip(of, to, strict=True)])
