"""The arrays of ZDC events: six conditions and a bit-packed hit map for each."""

# N events, 6 conditions, 50 bytes = 400 crystals (20 ix + iy)

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONDITIONS = ("energy_gev", "px_gev", "py_gev", "pz_gev", "theta_rad", "phi_rad")


@dataclass(frozen=True)
class Events:
    """Events of one part of the sample. Arrays may be read-only maps of the cache."""

    condition_N6: NDArray[np.float32]  # in the order of CONDITIONS
    mask_packed_N50: NDArray[np.uint8]  # np.packbits of 0/1 at 20 ix + iy

    def __len__(self) -> int:
        return len(self.condition_N6)

    @property
    def energy_mev(self) -> NDArray[np.float64]:
        """Energies of the primaries, (N,)."""
        return self.condition_N6[:, 0].astype(np.float64) * 1000
