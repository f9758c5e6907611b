"""Events on the device: moved there once, drawn in batches, hits unpacked only for the batch in hand."""

# N events, B batch, H row (ix), W column (iy); 6 conditions, 50 bytes = 400 crystals

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from trainables.zdc.data import Events


class ResidentEvents:
    """One part of the sample, 74 bytes an event on the device.

    On the CPU nothing is copied: the tensors look at the arrays, which may be read-only and shared by trials.
    """

    def __init__(self, events: Events, device: torch.device) -> None:
        self.condition_N6 = _on_device(events.condition_N6, device)
        self.mask_packed_N50 = _on_device(events.mask_packed_N50, device)
        self._shift_8 = torch.arange(7, -1, -1, dtype=torch.uint8, device=device)

    def __len__(self) -> int:
        return len(self.condition_N6)

    def batch(self, index_B: Tensor) -> tuple[Tensor, Tensor]:
        """Raw conditions (B, 6) and hits (B, 20, 20) of 0.0 and 1.0, of the events with these numbers."""
        return self.condition_N6.index_select(0, index_B), self._hits(self.mask_packed_N50.index_select(0, index_B))

    def in_order(self, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All events once, as they stand, in chunks."""
        for first in range(0, len(self), chunk):
            yield (
                self.condition_N6[first : first + chunk],
                self._hits(self.mask_packed_N50[first : first + chunk]),
            )

    def _hits(self, packed_B50: Tensor) -> Tensor:
        bit_B58 = (packed_B50.unsqueeze(-1) >> self._shift_8) & 1
        return bit_B58.view(-1, 20, 20).float()


class BatchStream:
    """Numbers of events for one update after another, in a fresh random order each time all were drawn.

    An epoch begins with a fresh order too: so the state of ``random`` is all that a checkpoint must hold.
    """

    def __init__(self, events: int, batch_size: int, seed: int, device: torch.device) -> None:
        self.random = torch.Generator(device).manual_seed(seed)
        self.batch_size = min(batch_size, events)
        self.batches = events // self.batch_size  # whole ones; the order of each epoch leaves out other events
        self._events = events
        self._order_N = torch.empty(0, device=device)
        self._next = self.batches

    def start_epoch(self) -> None:
        """Begin a fresh order with the next batch."""
        self._next = self.batches

    def draw(self) -> Tensor:
        """Numbers of the next ``batch_size`` events, without repetition until the sample is used up."""
        if self._next == self.batches:
            self._order_N = torch.randperm(self._events, generator=self.random, device=self.random.device)
            self._next = 0
        first = self._next * self.batch_size
        self._next += 1
        return self._order_N[first : first + self.batch_size]


def _on_device(array: NDArray[np.float32] | NDArray[np.uint8], device: torch.device) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nor is it written to
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)
