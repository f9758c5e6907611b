"""Schedules of learning rate and noise strength, as pure functions of the step.

Pure, because a resumed run, or one whose peak rate is changed on the way, then has nothing to restore.
"""

from __future__ import annotations

import math
from typing import Literal

START_DIVISOR = 25.0  # of OneCycleLR in PyTorch: first rate = peak / 25
FINAL_DIVISOR = 1e4  # and last rate = first rate / 10,000


def one_cycle_lr(update: int, total_updates: int, max_lr: float, pct_start: float) -> float:
    """Return the learning rate of update 0, 1, ... of ``total_updates``, as PyTorch's OneCycleLR (arXiv:1708.07120).

    It differs in two points: the peak falls on a whole update, so that the maximum is really reached, and cycles
    of one to three updates work. Adam's betas are not cycled (ours: they are set for the GAN).
    """
    first_lr = max_lr / START_DIVISOR
    last_lr = first_lr / FINAL_DIVISOR
    last = total_updates - 1
    peak = max(min(round(pct_start * total_updates), last) - 1, 0)
    if update < peak:
        return _cosine(first_lr, max_lr, update / peak)
    return _cosine(max_lr, last_lr, (update - peak) / (last - peak)) if update > peak else max_lr


def noise_strength(
    epoch: int, epochs: int, shape: Literal["constant", "linear", "cosine"], start: float, end: float
) -> float:
    """Return the noise strength of epoch 1, 2, ... of ``epochs``: ``start`` in the first, ``end`` in the last."""
    if shape == "constant":
        return start
    share = (epoch - 1) / (epochs - 1) if epochs > 1 else 0.0
    return start + (end - start) * share if shape == "linear" else _cosine(start, end, share)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
