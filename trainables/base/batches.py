"""Batches of events that stay on the device: a fresh random order each epoch, without loader, worker or copy."""

# N events, B batch

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class BatchStream:
    """Indices of events for one update after another, in a fresh random order each time all were drawn.

    An epoch begins with a fresh order too, so that a checkpoint needs nothing but the state of ``random``.
    """

    def __init__(self, events: int, batch_size: int, seed: int, device: torch.device) -> None:
        self.random = torch.Generator(device).manual_seed(seed)
        self.batch_size = min(batch_size, events)
        self.batches = events // self.batch_size  # whole ones; each epoch's order leaves out other events
        self._events = events
        self._order_N = torch.empty(0, device=device)
        self._next = self.batches

    def start_epoch(self) -> None:
        """Begin a fresh order with the next batch."""
        self._next = self.batches

    def draw(self) -> Tensor:
        """Draw the indices of the next ``batch_size`` events, without repetition until the sample is used up."""
        if self._next == self.batches:
            self._order_N = torch.randperm(self._events, generator=self.random, device=self.random.device)
            self._next = 0
        first = self._next * self.batch_size
        self._next += 1
        return self._order_N[first : first + self.batch_size]


def on_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """Make a tensor on the device of an array; on the CPU it is not copied and may be read-only."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nor is it written to
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)
