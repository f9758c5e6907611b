"""Data of a ZDC search: user settings, the training and validation events, and the holdout."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from trainables.data.cache import Cache
from trainables.data.files import DataSettings, expand_files
from trainables.data.sample import Carried, Sample, describe, describe_cache, describe_oddities, open_sample
from trainables.data.split import Split
from trainables.zdc.binning import Binning
from trainables.zdc.energies import BinningSettings, check_energies, choose_binning
from trainables.zdc.events import Events

if TYPE_CHECKING:
    from trainables.zdc.figure_data import InputCounts
    from trainables.zdc.metrics import Scores

SAMPLE = Path(__file__).parent / "sample" / "gamma_sample_16k.mytree.root"
SAMPLE_HOLDOUT = Path(__file__).parent / "sample" / "gamma_holdout_4k.edm4hep.root"
CARRIED = Carried(SAMPLE, SAMPLE_HOLDOUT, "Geant4 photons")
SAMPLE_BIN_WIDTH_MEV = 1000.0  # its 3,200 validation events give bins of 100 MeV 16 events each

COUNTED = {  # in the meta of a cache
    "sentinels": "hits without a cell (cellID -100) left out",
    "outside": "hits outside the crystals left out",
}


class ZDCDataSettings(DataSettings):
    """User settings for ZDC files."""

    layout: Literal["auto", "mytree", "edm4hep"] = Field("auto", description="layout of the files; auto: look")
    hit_threshold_mev: float = Field(
        0.0, ge=0, description="a crystal is hit when its summed deposit in MeV is above this"
    )
    binning: BinningSettings = Field(BinningSettings(), description="energy bins of the scores")


@dataclass(frozen=True)
class ZDCData:
    """Data of a trial, without the holdout."""

    train: Events
    validation: Events
    binning: Binning
    fingerprint: str  # content of files, layout, threshold, split: same fingerprint, same arrays
    summary: tuple[str, ...]  # lines for people: files, events, what was skipped or lies outside

    @cached_property
    def naive(self) -> dict[str, Scores]:
        """Return the scores of the naive predictors; computed once, then sent to the trials with the events."""
        from trainables.zdc.naive import naive_scores  # torch

        return naive_scores(self.train, self.validation, self.binning)

    @cached_property
    def inputs(self) -> dict[str, InputCounts]:
        """Return the distributions of the events in each part; counted once in a process, for all its trials."""
        from trainables.zdc.figure_data import PARTS, count_inputs  # torch

        return {name: count_inputs(part) for name, part in zip(PARTS, (self.train, self.validation), strict=True)}

    @property
    def objective_version(self) -> str:
        """Return the version of the scores; values of different versions are never compared."""
        return self.binning.objective_version


def load_data(settings: ZDCDataSettings, cache_dir: Path) -> ZDCData:
    """Load train and validation events; also refuse data that do not fit the binning."""
    sample = _sample(settings, cache_dir)
    binning, binning_line = choose_binning(settings.binning, sample, None if settings.data else SAMPLE_BIN_WIDTH_MEV)
    energy_lines = check_energies(binning, sample)
    return ZDCData(
        train=_events(sample.data, "train"),
        validation=_events(sample.validation, "validation"),
        binning=binning,
        fingerprint=sample.fingerprint,
        summary=(*_summary(settings, sample), binning_line, *energy_lines),
    )


def load_holdout(settings: ZDCDataSettings, cache_dir: Path) -> Events:
    """Load the events that no trial sees."""
    return _events(_sample(settings, cache_dir).hidden, "test")


def naive_predictors(data: ZDCData) -> dict[str, dict[str, float]]:
    """Return the metrics of the naive predictors on the validation events, under the names of a trial's metrics."""
    return {name: scores.numbers() for name, scores in data.naive.items()}


def _sample(settings: ZDCDataSettings, cache_dir: Path) -> Sample:
    from trainables.zdc.ingest import FILES, Reading, ingest  # uproot

    def cache_of(names: tuple[str, ...], split: Split) -> Cache:
        by_user = names in (settings.data, settings.validation, settings.holdout)
        layout = settings.layout if by_user else "auto"  # carried files
        reading = Reading(layout, settings.hit_threshold_mev, settings.skip_bad_files, split)
        return ingest(expand_files(names, FILES.suffixes), reading, cache_dir)

    return open_sample(settings, CARRIED, cache_of)


def _events(cache: Cache, part: str) -> Events:
    return Events(np.asarray(cache.column(part, "condition")), np.asarray(cache.column(part, "mask_packed")))


def _summary(settings: ZDCDataSettings, sample: Sample) -> tuple[str, ...]:
    mean_hits = sample.data.meta["hit_crystals"] / sample.events
    without_hits = sample.data.meta["without_hits"] + (sample.holdout.meta["without_hits"] if sample.holdout else [])
    return (
        describe(sample, settings, CARRIED),
        f"{mean_hits:.1f} of 400 crystals hit on average above {settings.hit_threshold_mev:g} MeV",
        describe_cache(sample, settings),
        *describe_oddities(sample, COUNTED),
        *(f"no ZDC hit in {file}" for file in without_hits),
    )
