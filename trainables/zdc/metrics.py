"""Physics scores of generated ZDC showers: arrays in, floats out."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

OBJECTIVE_VERSION = "zdc-1"  # values of different versions are never compared silently


class Binning(BaseModel):
    """The energy bins of mse(E) and the three regions that the objectives average over. Energies in MeV."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bin_width_mev: float = Field(100.0, gt=0, description="width of an energy bin in MeV; small samples need wider ones")
    max_energy_mev: float = Field(20_000.0, gt=0, description="upper edge of the last energy bin in MeV")
    low_energy_mev: float = Field(5_000.0, gt=0, description="mse_low averages the bins below this energy in MeV")
    high_energy_mev: float = Field(15_000.0, gt=0, description="mse_high averages the bins from this energy on, in MeV")
    min_bin_count: int = Field(20, ge=2, description="bins with fewer validation events are left out, and counted")
