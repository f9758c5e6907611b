"""Losses and learning rates along the steps of a run: a few points an epoch, averaged on the device."""

from __future__ import annotations

import torch
from torch import Tensor

POINTS_PER_EPOCH = 20


class LossHistory:
    """Means of each loss between two points; the device is asked for them only at a point.

    ``points`` holds columns of equal length: ``epoch`` (1.5 is the middle of the second), ``step`` (updates
    of the generator), the learning rates and the losses.
    """

    def __init__(self) -> None:
        self.points: dict[str, list[float]] = {}
        self._sum: dict[str, Tensor] = {}
        self._count: dict[str, int] = {}

    def add(self, **losses: Tensor) -> None:
        """Count the losses of one update."""
        for name, loss in losses.items():
            self._sum[name] = self._sum[name] + loss.detach() if name in self._sum else loss.detach()
            self._count[name] = self._count.get(name, 0) + 1

    def close_point(self, **at: float) -> None:
        """End a point, at this epoch and with these learning rates."""
        names = list(self._sum)
        means = torch.stack([self._sum[name].float() / self._count[name] for name in names]).tolist()
        for name, value in {**at, **dict(zip(names, means, strict=True))}.items():
            self.points.setdefault(name, []).append(value)
        self._sum, self._count = {}, {}

    def epoch_means(self, epoch: int) -> dict[str, float]:
        """Mean of each loss over the points of epoch 1, 2, ..."""
        rows = [row for row, end in enumerate(self.points["epoch"]) if epoch - 1 < end <= epoch]
        columns = {
            name: column for name, column in self.points.items() if name.split("_")[0] in ("loss", "discriminator")
        }
        return {name: sum(column[row] for row in rows) / len(rows) for name, column in columns.items()}
