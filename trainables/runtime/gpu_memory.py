"""A trial's part of a GPU's memory: one that takes more fails itself, instead of the trials beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CONTEXT_BYTES = 600 * 2**20  # of CUDA and its kernels in one process, on a large GPU; torch does not count it


@dataclass(frozen=True)
class GpuPart:
    """What Ray has given to a trial."""

    fraction: float  # of one GPU; 1 and more: it is alone there
    context_bytes: int = CONTEXT_BYTES

    @property
    def shared(self) -> bool:
        return 0 < self.fraction < 1

    def allowed(self, total_bytes: int) -> float:
        """Return the share of the whole memory that tensors may take, in [0, 1]: the part less what CUDA takes."""
        if not self.shared:
            return 1.0
        return max(0.0, self.fraction - self.context_bytes / total_bytes)


def keep_to(part: GpuPart, device: torch.device) -> None:
    """Make torch refuse this process more than its part, as out of memory, though the GPU may have more."""
    import torch  # here, because planning a search needs the numbers above without it

    if device.type != "cuda" or not part.shared:
        return
    total_bytes = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(part.allowed(total_bytes), device)
