"""ROOT files of ZDC showers to three sets of conditions and hit masks, each event checked once, here."""

# N events, 6 conditions, 400 crystals (20 ix + iy), 50 bytes = 400 bits

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainables.files import DataSettings
from trainables.zdc.metrics import Binning

CONDITIONS = ("energy_gev", "px_gev", "py_gev", "pz_gev", "theta_rad", "phi_rad")


class ZDCDataSettings(DataSettings):
    """What a user may say about ZDC files."""

    layout: Literal["auto", "mytree", "edm4hep"] = Field("auto", description="layout of the files; auto: look")
    hit_threshold_mev: float = Field(0.0, ge=0, description="a crystal is hit when its summed deposit in MeV is above this")
    binning: Binning | None = None


@dataclass(frozen=True)
class Events:
    """Events of one part of the sample."""

    condition_N6: NDArray[np.float32]  # in the order of CONDITIONS
    mask_packed_N50: NDArray[np.uint8]  # np.packbits of 0/1 at 20 ix + iy

    def __len__(self) -> int:
        return len(self.condition_N6)


@dataclass(frozen=True)
class ZDCData:
    """What a trial receives: never the holdout."""

    train: Events
    validation: Events
    binning: Binning
    fingerprint: str  # content of files, layout, threshold, split: same fingerprint, same arrays
    summary: tuple[str, ...]  # lines for people: files, events, what was skipped or lies outside


def load_data(settings: ZDCDataSettings, cache_dir: Path) -> ZDCData:
    """Train and validation events of the user's files, or of the carried sample where none is named."""
    raise NotImplementedError


def load_holdout(settings: ZDCDataSettings, cache_dir: Path) -> Events:
    """The events that no trial sees; promotion alone calls this."""
    raise NotImplementedError
