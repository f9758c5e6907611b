"""What a ZDC search sees of its data: settings, the arrays of train and validation, and the holdout."""

# N events, 6 conditions, 400 crystals (20 ix + iy), 50 bytes = 400 bits

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainables.data.cache import Cache
from trainables.data.files import DataSettings, expand_files
from trainables.data.sample import Carried, Sample, describe, describe_oddities, open_sample
from trainables.zdc.energies import BinningSettings, check_energies, choose_binning
from trainables.zdc.ingest import Reading, ingest
from trainables.zdc.metrics import Binning, Scores
from trainables.zdc.naive import naive_scores

CONDITIONS = ("energy_gev", "px_gev", "py_gev", "pz_gev", "theta_rad", "phi_rad")
SAMPLE = Path(__file__).parent / "sample" / "gamma_sample_16k.mytree.root"
SAMPLE_HOLDOUT = Path(__file__).parent / "sample" / "gamma_holdout_4k.edm4hep.root"
CARRIED = Carried(SAMPLE, SAMPLE_HOLDOUT, "Geant4 photons")
SAMPLE_BIN_WIDTH_MEV = 1000.0  # its 3,200 validation events give bins of 100 MeV 16 events each

COUNTED = {  # in the meta of a cache
    "sentinels": "hits without a cell (cellID -100) left out",
    "outside": "hits outside the crystals left out",
}


class ZDCDataSettings(DataSettings):
    """What a user may say about ZDC files."""

    layout: Literal["auto", "mytree", "edm4hep"] = Field("auto", description="layout of the files; auto: look")
    hit_threshold_mev: float = Field(
        0.0, ge=0, description="a crystal is hit when its summed deposit in MeV is above this"
    )
    binning: BinningSettings = Field(BinningSettings(), description="energy bins of the scores")


@dataclass(frozen=True)
class Events:
    """Events of one part of the sample. Arrays are read-only maps of the cache."""

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

    @cached_property
    def naive(self) -> dict[str, Scores]:
        """Scores of the naive predictors: one pass over all events, made once and sent along to the trials."""
        return naive_scores(self)

    @property
    def objective_version(self) -> str:
        """What an mse is a mean over; values with another word here are never compared."""
        return self.binning.objective_version


def load_data(settings: ZDCDataSettings, cache_dir: Path) -> ZDCData:
    """Train and validation events of the user's files, or of the carried sample where none is named.

    Parameters
    ----------
    settings : ZDCDataSettings
    cache_dir : Path
        Folder of the columnar caches; made where it is not there.

    Returns
    -------
    ZDCData

    Raises
    ------
    DataError
        The files cannot be read, their content cannot be right, they do not fit the binning, or they share
        events with the holdout.
    """
    sample = _sample(settings, cache_dir)
    cache = sample.data
    binning, binning_line = choose_binning(settings.binning, cache, None if settings.data else SAMPLE_BIN_WIDTH_MEV)
    energy_lines = check_energies(binning, cache)
    return ZDCData(
        train=_events(cache, "train"),
        validation=_events(cache, "validation"),
        binning=binning,
        fingerprint=sample.fingerprint,
        summary=(*_summary(settings, sample), binning_line, *energy_lines),
    )


def load_holdout(settings: ZDCDataSettings, cache_dir: Path) -> Events:
    """The events that no trial sees; promotion alone calls this. Raises as ``load_data`` does."""
    return _events(_sample(settings, cache_dir).hidden, "test")


def _sample(settings: ZDCDataSettings, cache_dir: Path) -> Sample:
    def cache_of(names: tuple[str, ...], split: Mapping[str, float]) -> Cache:
        layout = settings.layout if names in (settings.data, settings.holdout) else "auto"  # carried files
        reading = Reading(layout, settings.hit_threshold_mev, settings.skip_bad_files, split)
        return ingest(expand_files(names), reading, cache_dir)

    return open_sample(settings, CARRIED, cache_of)


def _events(cache: Cache, part: str) -> Events:
    return Events(np.asarray(cache.column(part, "condition")), np.asarray(cache.column(part, "mask_packed")))


def _summary(settings: ZDCDataSettings, sample: Sample) -> tuple[str, ...]:
    mean_hits = sample.data.meta["hit_crystals"] / sample.events
    without_hits = sample.data.meta["without_hits"] + (sample.holdout.meta["without_hits"] if sample.holdout else [])
    return (
        describe(sample, settings, CARRIED),
        f"{mean_hits:.1f} of 400 crystals hit on average above {settings.hit_threshold_mev:g} MeV",
        f"cache {sample.data.folder}",
        *describe_oddities(sample, COUNTED),
        *(f"no ZDC hit in {file}" for file in without_hits),
    )
