"""Evaluate any score of arrays on a holdout: of its events, and of bootstrap replicas of them."""

# N events, R rows: the sample itself, then one bootstrap replica each

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.base.errors import DataError
from trainables.evaluation.bootstrap import resampled
from trainables.evaluation.scores import Curve, Evaluation, fingerprint

Score = Callable[[Mapping[str, NDArray[Any]]], Mapping[str, float]]


def evaluate_arrays(
    score: Score,
    arrays: Mapping[str, NDArray[Any]],
    objective: str,
    objective_version: str,
    replicas: int,
    seed: int = 0,
) -> Evaluation:
    """Score arrays by name, and as many replicas of their events, drawn with replacement.

    Two evaluations of the same arrays and seed have replicas of the same events. The curve is that of the objective, in
    one bin with all events.

    Parameters
    ----------
    score : callable
        Arrays by name to metrics.
    arrays : mapping of name to array (N, ...)
    objective : str
        One of the metrics.
    objective_version : str
        Of the data.
    replicas : int
        At least 1.

    Raises
    ------
    DataError
        The score does not have the objective.
    """
    events = len(next(iter(arrays.values())))
    rows = [_numbers(score(arrays))]
    for drawn_N in _draws(events, replicas, seed):
        rows.append(_numbers(score({name: array[drawn_N] for name, array in arrays.items()})))
    metrics = {name: np.array([row.get(name, np.nan) for row in rows]) for name in rows[0]}
    if objective not in metrics:
        raise DataError(f"score() returned {', '.join(metrics) or 'no metric'}, and not the objective {objective!r}.")
    return Evaluation(
        events=events,
        holdout=fingerprint(arrays.values()),
        objective_version=objective_version,
        seed=seed,
        metrics=metrics,
        curve=Curve(
            x="all events",
            y=objective,
            scale="linear",
            low_edge_K=np.array([0.0]),
            high_edge_K=np.array([1.0]),
            events_K=np.array([events]),
            value_RK=metrics[objective][:, None],
        ),
    )


def _draws(events: int, replicas: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of the events of each replica."""
    count_RN = np.empty((replicas + 1, events), np.uint8)
    for block, count_RB in resampled(events, replicas, seed, 0):
        count_RN[:, block] = count_RB
    for count_N in count_RN[1:]:
        yield np.repeat(np.arange(events), count_N)


def _numbers(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in scores.items()}
