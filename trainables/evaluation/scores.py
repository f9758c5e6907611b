"""A model's scores on the holdout with their bootstrap replicas, and the differences of two models there."""

# R rows: the sample itself, then one bootstrap replica each; K bins

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainables.base.objectives import Mode


@dataclass(frozen=True)
class Curve:
    """One score in each bin with enough events."""

    x: str  # the quantity that is binned, with its unit, as a label of an axis
    y: str  # the score
    scale: Literal["log", "linear", "percent"]  # of its axis in figures; percent: from 0, a hundred times the values
    low_edge_K: NDArray[np.float64]
    high_edge_K: NDArray[np.float64]
    events_K: NDArray[np.int64]
    value_RK: NDArray[np.float64]
    mode: Mode = "min"  # max: more of the score is better


@dataclass(frozen=True)
class Evaluation:
    """All scores of a model on a holdout: of its events, and of bootstrap replicas of them.

    A replica draws events with replacement *within each bin* of the objective; events outside of all bins are a
    bin of their own. So the number of events in a bin, and with it the bins that count, are the same in all
    replicas: intervals are those for a holdout with this many events in each bin.

    Two evaluations have replicas of the same events, in the same order, if holdout, objective, seed and number of
    replicas agree. Then ``difference`` compares the models event by event, which is much sharper than two
    intervals side by side.
    Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), chapters 8 and 13.
    """

    events: int
    holdout: str  # fingerprint of the events
    objective_version: str  # the bins and all else that the scores' meaning depends on
    seed: int
    metrics: Mapping[str, NDArray[np.float64]]  # name -> (R,); the names are those of ``Training.validate``
    curve: Curve

    @property
    def replicas(self) -> int:
        """Number of replicas, without the first row."""
        return len(self.curve.value_RK) - 1

    def numbers(self) -> dict[str, float]:
        """Return the metrics of the sample itself."""
        return {name: float(value_R[0]) for name, value_R in self.metrics.items()}


@dataclass(frozen=True)
class Difference:
    """The score of model a minus that of model b, and its two-sided interval.

    All three are NaN where a score is NaN, even in a single replica.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CurveDifference:
    """The difference in each bin; the confidence is that of each bin alone."""

    value_K: NDArray[np.float64]
    low_K: NDArray[np.float64]
    high_K: NDArray[np.float64]


def difference(a: Evaluation, b: Evaluation, metric: str, confidence: float = 0.95) -> Difference:
    """Return a - b, paired replica by replica, with its percentile interval.

    Raises
    ------
    ValueError
        The evaluations are not of the same replicas of the same events.
    KeyError
        One has no such metric.
    """
    check_paired(a, b)
    return Difference(*(float(number) for number in _interval(a.metrics[metric] - b.metrics[metric], confidence)))


def curve_difference(a: Evaluation, b: Evaluation, confidence: float = 0.95) -> CurveDifference:
    """Return the difference of the curves. Raises ValueError as ``difference`` does."""
    check_paired(a, b)
    return CurveDifference(*_interval(a.curve.value_RK - b.curve.value_RK, confidence))


def check_paired(a: Evaluation, b: Evaluation) -> None:
    """Raise ValueError where the replicas of both are not of the same events; it names all that differs."""
    names = ("holdout", "events", "objective_version", "seed", "replicas")
    unequal = [
        f"{name} {getattr(a, name)} against {getattr(b, name)}"
        for name in names
        if getattr(a, name) != getattr(b, name)
    ]
    for name in ("low_edge_K", "high_edge_K", "events_K"):
        if not np.array_equal(getattr(a.curve, name), getattr(b.curve, name)):
            unequal.append(f"other {name} of the curve")
    if unequal:
        raise ValueError(f"these evaluations cannot be paired: {'; '.join(unequal)}. Evaluate both in the same way.")


def fingerprint(arrays: Iterable[NDArray[Any]]) -> str:
    """Hash events given as arrays: other events, another order or another type give another hash."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _interval(value_R: NDArray[np.float64], confidence: float) -> tuple[NDArray[np.float64], ...]:
    """Return value, low end and high end, along the first axis."""
    outside = (1 - confidence) / 2
    low, high = np.quantile(value_R[1:], (outside, 1 - outside), axis=0)
    known = np.isfinite(value_R).all(axis=0)
    return tuple(np.where(known, number, np.nan) for number in (value_R[0], low, high))
