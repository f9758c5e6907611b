"""The energy bins of mse(E): their edges and regions, and the objectives that average over them."""

# B batch, K energy bins, N events; energies in MeV unless a name says GeV

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from trainables.base.errors import DataError
from trainables.base.objectives import Mode

if TYPE_CHECKING:
    from torch import Tensor

OBJECTIVE_VERSION = "zdc-2"  # values of different versions are never compared silently
OBJECTIVES: dict[str, Mode] = {
    "mse_high": "min",  # the default
    "mse_all": "min",
    "mse_mid": "min",
    "mse_low": "min",
    "mse_high_excess": "min",
    "mse_all_excess": "min",
    "mse_mid_excess": "min",
    "mse_low_excess": "min",
    "brier": "min",
    "bce": "min",
}
REGIONS = ("low", "mid", "high", "all")


class Binning(BaseModel):
    """The energy bins of mse(E) and the three regions that the objectives average over. Energies in MeV."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bin_width_mev: float = Field(
        100.0, gt=0, description="width of an energy bin in MeV; small samples need wider ones"
    )
    max_energy_mev: float = Field(20_000.0, gt=0, description="upper edge of the last energy bin in MeV")
    low_energy_mev: float = Field(5_000.0, gt=0, description="mse_low averages the bins below this energy in MeV")
    high_energy_mev: float = Field(15_000.0, gt=0, description="mse_high averages the bins from this energy on, in MeV")
    min_bin_count: int = Field(20, ge=2, description="bins with fewer validation events are left out, and counted")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low_energy_mev <= self.high_energy_mev < self.max_energy_mev:
            raise ValueError("expected low_energy_mev <= high_energy_mev < max_energy_mev")
        return self

    @property
    def objective_version(self) -> str:
        """Return the version of the scores, with all settings that change their meaning; energies in MeV."""
        regions = f"{self.low_energy_mev:g}-{self.high_energy_mev:g}-{self.max_energy_mev:g}"
        return f"{OBJECTIVE_VERSION} bins={self.bin_width_mev:g} regions={regions} min={self.min_bin_count}"

    @cached_property
    def edges_mev(self) -> NDArray[np.float64]:
        """Return the bin edges, from 0. The last bin is narrower where the width does not divide the range."""
        bins = int(np.ceil(self.max_energy_mev / self.bin_width_mev - 1e-9))
        return np.append(np.arange(bins) * self.bin_width_mev, self.max_energy_mev)

    @cached_property
    def in_region(self) -> dict[str, NDArray[np.bool_]]:
        """Return for each of REGIONS which bins it averages. A bin across a threshold belongs to ``mid``."""
        low_K = self.edges_mev[1:] <= self.low_energy_mev + 1e-6
        high_K = self.edges_mev[:-1] >= self.high_energy_mev - 1e-6
        return {"low": low_K, "mid": ~low_K & ~high_K, "high": high_K, "all": np.ones_like(low_K)}

    def bin_of(self, energy_gev_B: Tensor) -> Tensor:
        """Return the bin number of each energy; the number of bins for energies outside [0, max_energy_mev)."""
        energy_mev_B = energy_gev_B.double() * 1000
        inside_B = (energy_mev_B >= 0) & (energy_mev_B < self.max_energy_mev)
        bin_B = (energy_mev_B / self.bin_width_mev).floor().long()
        return bin_B.where(inside_B, len(self.edges_mev) - 1)


def check_binning(binning: Binning, energy_mev_blocks: Iterable[NDArray[np.float64]], part: str = "validation") -> None:
    """Raise DataError when a region has no bin with enough events, because its mse would be a mean of nothing.

    Parameters
    ----------
    binning : Binning
    energy_mev_blocks : iterable of arrays
    part : str
        Name of these events in the message.
    """
    count_K, events = np.zeros(len(binning.edges_mev) - 1, np.int64), 0
    for energy_N in energy_mev_blocks:
        inside_N = energy_N[(energy_N >= 0) & (energy_N < binning.max_energy_mev)]
        bin_N = (inside_N / binning.bin_width_mev).astype(np.int64)
        count_K += np.bincount(bin_N, minlength=len(count_K))
        events += len(energy_N)
    for region, in_region_K in binning.in_region.items():
        fullest = int(count_K[in_region_K].max(initial=0))
        if fullest < binning.min_bin_count:
            raise DataError(
                f"mse_{region}: none of its {int(in_region_K.sum())} energy bins of {binning.bin_width_mev:g} MeV "
                f"holds {binning.min_bin_count} {part} events, the fullest holds {fullest} of {events}. Give more "
                "events, widen --bin-width-mev, or move the regions to where the events are (--low-energy-mev, "
                "--high-energy-mev, --max-energy-mev)."
            )
