"""Means over an epoch of what a user's code reports, and metrics as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Means:
    """Sums of numbers by name, on the device until they are taken: reading one at each update would stall a GPU."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, Any] = {}
        self._counts: dict[str, int] = {}

    def add(self, recorded: Any) -> None:
        """Count what one mini-batch reports: a tensor or number, a dict of them, or nothing.

        Raises
        ------
        TypeError
            It is something else, or a tensor of more than one number.
        """
        self.count += 1
        parts = {} if recorded is None else recorded if isinstance(recorded, Mapping) else {"loss": recorded}
        for name, part in parts.items():
            value = part.detach() if isinstance(part, Tensor) else torch.tensor(float(part))
            if value.numel() != 1:
                raise TypeError(f"{name!r} of a mini-batch has shape {tuple(value.shape)}: report its mean()")
            value = value.reshape(()).double() if value.device.type == "cpu" else value.reshape(()).float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """Return the mean of each."""
        return {name: float(total) / self._counts[name] for name, total in self._sums.items()}


def plain_numbers(numbers: Any, whose: str) -> dict[str, float]:
    """Turn metrics, which may be numbers of NumPy or tensors of one number, into floats.

    Raises
    ------
    TypeError
        They are no mapping of names to single numbers.
    """
    if not isinstance(numbers, Mapping):
        raise TypeError(f"{whose} returned a {type(numbers).__name__}; metrics by name are needed: {{'auc': 0.9}}")
    found = {}
    for name, value in numbers.items():
        try:
            found[str(name)] = float(value.detach() if isinstance(value, Tensor) else value)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"{whose} returned {name!r} = {value!r}, which is not one number") from None
    return found
