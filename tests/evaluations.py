"""Evaluations of made-up models on made-up holdouts, with the same bootstrap replicas for all of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from trainables.evaluation.scores import Curve, Evaluation

REPLICAS = 400


def evaluated(loss_N: Mapping[str, NDArray[np.float64]], seed: int = 0, version: str = "made-up") -> Evaluation:
    """The mean of each metric over events whose losses these are, and over bootstrap replicas of them."""
    events = len(next(iter(loss_N.values())))
    drawn_RN = np.random.default_rng(seed).multinomial(events, np.full(events, 1 / events), size=REPLICAS)
    weight_RN = np.concatenate((np.ones((1, events)), drawn_RN)) / events
    metrics = {name: weight_RN @ value_N for name, value_N in loss_N.items()}
    first_R = next(iter(metrics.values()))
    edges = np.array([0.0, 1.0])
    curve = Curve("x [1]", "loss", "log", edges[:1], edges[1:], np.array([events]), first_R[:, np.newaxis])
    return Evaluation(events, "made-up", version, seed, metrics, curve)
