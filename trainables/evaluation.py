"""What a model scores on the holdout, with its bootstrap replicas, and how far apart two models are there."""

# R rows: the events as they are, then one bootstrap replica each; K bins

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainables.errors import DataError

METRIC, CURVE = "metric.", "curve."  # names in a file begin so


@dataclass(frozen=True)
class Curve:
    """One score in each bin with enough events."""

    x: str  # what the bins are of, with its unit, as figures say it
    y: str  # the score
    scale: Literal["log", "percent"]  # of its axis in figures; percent: linear, a hundred times the values
    low_edge_K: NDArray[np.float64]
    high_edge_K: NDArray[np.float64]
    events_K: NDArray[np.int64]
    value_RK: NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """All scores of a model on a holdout: for its events as they are, and for as many bootstrap replicas of them.

    A replica draws events with replacement *within each bin* of the objective; events outside of all bins are a
    bin of their own. So the number of events in a bin, and with it the bins that count, are the same in all
    replicas: intervals are those for a holdout with this many events in each bin.

    Replicas of two models are of the same events, in the same order, if holdout, objective, seed and number of
    replicas agree. Then ``difference`` compares the models event by event, which is much sharper than two
    intervals side by side.
    Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), chapters 8 and 13.
    """

    events: int
    holdout: str  # fingerprint of the events
    objective_version: str  # the bins and what else the scores' meaning depends on
    seed: int
    metrics: Mapping[str, NDArray[np.float64]]  # name -> (R,); the names are those of ``Training.validate``
    curve: Curve

    @property
    def replicas(self) -> int:
        """Without the first row."""
        return len(self.curve.value_RK) - 1

    def numbers(self) -> dict[str, float]:
        """The metrics of the events as they are."""
        return {name: float(value_R[0]) for name, value_R in self.metrics.items()}

    def save(self, path: Path) -> None:
        """Write a file that ``load`` reads: plain arrays, no pickled objects."""
        own = {name: np.asarray(getattr(self, name)) for name in ("events", "holdout", "objective_version", "seed")}
        own |= {METRIC + name: value_R for name, value_R in self.metrics.items()}
        own |= {CURVE + field.name: np.asarray(getattr(self.curve, field.name)) for field in fields(Curve)}
        with path.open("wb") as file:
            np.savez(file, **own)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """What ``save`` wrote. Executes nothing of the file. Raises DataError where it holds something else."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                entry: dict[str, Any] = dict(saved)
            curve = {field.name: entry[CURVE + field.name] for field in fields(Curve)}
            return cls(
                events=int(entry["events"]),
                holdout=str(entry["holdout"]),
                objective_version=str(entry["objective_version"]),
                seed=int(entry["seed"]),
                metrics={name.removeprefix(METRIC): entry[name] for name in entry if name.startswith(METRIC)},
                curve=Curve(**curve | {name: str(curve[name]) for name in ("x", "y", "scale")}),
            )
        except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: no saved evaluation ({error}). Evaluate the model again.") from error


@dataclass(frozen=True)
class Difference:
    """One score of model a less that of model b, and the two-sided interval that holds it with some confidence.

    All are NaN where a score is, be it in a single replica: nothing can be said then.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CurveDifference:
    """The same in each bin; the confidence is that of each bin alone."""

    value_K: NDArray[np.float64]
    low_K: NDArray[np.float64]
    high_K: NDArray[np.float64]


def difference(a: Evaluation, b: Evaluation, metric: str, confidence: float = 0.95) -> Difference:
    """a - b, paired replica by replica, with its percentile interval.

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
    """The same for the curves. Raises ValueError as ``difference`` does."""
    check_paired(a, b)
    return CurveDifference(*_interval(a.curve.value_RK - b.curve.value_RK, confidence))


def check_paired(a: Evaluation, b: Evaluation) -> None:
    """Raise ValueError where the replicas of both are not of the same events, naming all that differs."""
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
    """Of events given as arrays: other events, another order or another type give another one."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _interval(value_R: NDArray[np.float64], confidence: float) -> tuple[NDArray[np.float64], ...]:
    """Value, low and high end, along the first axis."""
    outside = (1 - confidence) / 2
    low, high = np.quantile(value_R[1:], (outside, 1 - outside), axis=0)
    known = np.isfinite(value_R).all(axis=0)
    return tuple(np.where(known, number, np.nan) for number in (value_R[0], low, high))
