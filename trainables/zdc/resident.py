"""ZDC events in device memory: moved there once, hits unpacked batch by batch."""

# N events, B batch, H row (ix), W column (iy); 6 conditions, 50 bytes = 400 crystals

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from trainables.base.batches import on_device
from trainables.zdc.events import Events


class ResidentEvents:
    """One part of the sample on the device, 74 bytes an event.

    On the CPU nothing is copied: the tensors share the memory of the arrays, which may be read-only.
    """

    def __init__(self, events: Events, device: torch.device) -> None:
        self.condition_N6 = on_device(events.condition_N6, device)
        self.mask_packed_N50 = on_device(events.mask_packed_N50, device)
        self._shift_8 = torch.arange(7, -1, -1, dtype=torch.uint8, device=device)

    def __len__(self) -> int:
        return len(self.condition_N6)

    def batch(self, index_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return raw conditions (B, 6) and hits (B, 20, 20) of 0.0 and 1.0 of the events with these indices."""
        return self.condition_N6.index_select(0, index_B), self._hits(self.mask_packed_N50.index_select(0, index_B))

    def in_order(self, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all events once, in their order, in chunks; as ``batch`` returns them."""
        for first in range(0, len(self), chunk):
            yield (
                self.condition_N6[first : first + chunk],
                self._hits(self.mask_packed_N50[first : first + chunk]),
            )

    def _hits(self, packed_B50: Tensor) -> Tensor:
        bit_B58 = (packed_B50.unsqueeze(-1) >> self._shift_8) & 1
        return bit_B58.view(-1, 20, 20).float()
