"""Losses and learning rates along the steps of a run: a few points an epoch, averaged on the device."""

from __future__ import annotations

import torch
from torch import Tensor


class LossHistory:
    """Means of each loss between two points; they leave the device only at a point.

    ``points`` holds columns of equal length: ``epoch`` (1.5 is the middle of the second), ``step`` (updates),
    the learning rates, whose names begin with ``lr``, and the means of all that was added.

    Parameters
    ----------
    points_per_epoch : int
        At most; fewer where an epoch has fewer steps.
    """

    def __init__(self, points_per_epoch: int) -> None:
        self.points: dict[str, list[float]] = {}
        self._points_per_epoch = points_per_epoch
        self._sum: dict[str, Tensor] = {}
        self._count: dict[str, int] = {}

    def add(self, **losses: Tensor) -> None:
        """Count the losses of one update."""
        for name, loss in losses.items():
            self._sum[name] = self._sum[name] + loss.detach() if name in self._sum else loss.detach()
            self._count[name] = self._count.get(name, 0) + 1

    def add_sums(self, count: int, **sums: Tensor) -> None:
        """Count the losses of this many updates by their sums."""
        for name, total in sums.items():
            self._sum[name] = self._sum[name] + total.detach() if name in self._sum else total.detach()
            self._count[name] = self._count.get(name, 0) + count

    def is_due(self, step: int, steps: int) -> bool:
        """Decide whether a point ends with step 1, 2, ... of ``steps`` in an epoch; the last step always ends one."""
        return step * self._points_per_epoch % steps < self._points_per_epoch

    def close_point(self, **at: float) -> None:
        """End a point at this epoch and with these learning rates."""
        names = list(self._sum)
        means = torch.stack([self._sum[name].float() / self._count[name] for name in names]).tolist()
        for name, value in {**at, **dict(zip(names, means, strict=True))}.items():
            self.points.setdefault(name, []).append(value)
        self._sum, self._count = {}, {}

    def epoch_means(self, epoch: int) -> dict[str, float]:
        """Average each loss over the points of epoch 1, 2, ..."""
        rows = [row for row, end in enumerate(self.points["epoch"]) if epoch - 1 < end <= epoch]
        means = {name: column for name, column in self.points.items() if not _is_state(name)}
        return {name: sum(column[row] for row in rows) / len(rows) for name, column in means.items()}


def _is_state(column: str) -> bool:
    """Decide whether a column describes the run at a point instead of a mean since the previous one."""
    return column in ("epoch", "step") or column.startswith("lr")
