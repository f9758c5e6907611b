"""Means of curves over trainings of one point with several seeds, and their standard errors."""

# S seeds, K bins

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainables.evaluation.plot_style import Series


def mean_over_seeds(curves: Sequence[Series]) -> Series:
    """Return the mean of the curves of several seeds and its standard error, in the bins that all of them have.

    The error is zero of one curve. It is that of the seeds alone: they share the events that they are scored on.
    """
    edges = [set(zip(curve.low_K.tolist(), curve.high_K.tolist(), strict=True)) for curve in curves]
    common = np.array(sorted(set.intersection(*edges)), np.float64).reshape(-1, 2)
    value_SK = np.array([curve.value_K[np.isin(curve.low_K, common[:, 0])] for curve in curves])
    error_K = np.zeros(len(common))
    if len(curves) > 1:
        error_K = value_SK.std(axis=0, ddof=1) / np.sqrt(len(curves))
    return Series(common[:, 0], common[:, 1], value_SK.mean(axis=0), error_K)


def name_with_seeds(label: str, seeds: int) -> str:
    """Return the label of a mean over seeds."""
    return f"{label}, {seeds} seeds" if seeds > 1 else label
