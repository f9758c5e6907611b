"""The data of a pT search: settings, the arrays of train and validation, the cut flow, the holdout."""

# N events, 5 hits (MVTX layers 0, 1, 2, inner INTT, outer INTT), 2 clusters (inner face, volume centre), 9 towers

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainables.data.cache import Cache
from trainables.data.files import DataSettings, expand_files
from trainables.data.sample import Carried, Sample, describe, describe_cache, describe_oddities, open_sample
from trainables.data.split import Split
from trainables.pt.cutflow import CutFlow, Selection
from trainables.pt.ingest import EVENT_COLUMNS, FILES, Reading, ingest
from trainables.pt.metrics import PtBinning, check_binning
from trainables.pt.selection import Charge

SAMPLE = Path(__file__).parent / "sample" / "electrons_sample_18k.root"
SAMPLE_HOLDOUT = Path(__file__).parent / "sample" / "electrons_holdout_6k.root"
CARRIED = Carried(SAMPLE, SAMPLE_HOLDOUT, "Geant4 electrons, simplified sPHENIX")
OPPOSITE_SHARE = 0.05  # of the accepted events: where more bend to the other side, it is worth a line


class PtDataSettings(DataSettings):
    """The data settings of the pT workloads."""

    selection: Selection = Field(
        "strict",
        description="strict: MVTX and INTT hits, one cluster; loose: INTT hits, one cluster above 0.5 GeV",
    )
    charge: Charge = Field(-1, description="of the particles: -1 electrons, 1 positrons; the sign of the bending angle")
    binning: PtBinning = Field(PtBinning(), description="pT bins of the scores")


@dataclass(frozen=True)
class Events:
    """Accepted events of one part of the sample. Arrays are read-only maps of the cache."""

    hit_N53: NDArray[np.float32]  # x, y, z in cm; zeros where a MVTX layer has none (loose selection only)
    cluster_N24: NDArray[np.float32]  # x, y, z in cm and E in GeV
    tower_N94: NDArray[np.float32]  # x, y, z in cm, E in GeV of the towers with most energy, highest first; else zeros
    dphi_N: NDArray[np.float32]  # bending angle in rad, charge sign applied: above 0.01
    truth_N3: NDArray[np.float32]  # pT in GeV, eta, phi of the primary
    surface_dphi_N: NDArray[np.float32]  # rad, where the primary met the EMCal - inner-face cluster; NaN: unknown

    def __len__(self) -> int:
        return len(self.dphi_N)


@dataclass(frozen=True)
class PtData:
    """The data of a trial, never the holdout."""

    train: Events
    validation: Events
    binning: PtBinning
    cut_flow: CutFlow  # of train and validation
    selection: Selection
    charge: Charge
    fingerprint: str  # content of files, selection, charge, split: same fingerprint, same arrays
    summary: tuple[str, ...]  # lines for people: files, events, what the cuts remove, what was skipped

    @property
    def objective_version(self) -> str:
        """Version of the scores and of the events they are made of."""
        return f"{self.binning.objective_version} selection={self.selection}"


def load_data(settings: PtDataSettings, cache_dir: Path) -> PtData:
    """Load train and validation events; also refuse data where too few pT bins have enough events."""
    sample = _sample(settings, cache_dir)
    validation = _events(sample.validation, "validation")
    check_binning(settings.binning, validation.truth_N3[:, 0])
    cut_flow = CutFlow.from_json(sample.data.meta["cut_flow"])
    return PtData(
        train=_events(sample.data, "train"),
        validation=validation,
        binning=settings.binning,
        cut_flow=cut_flow,
        selection=settings.selection,
        charge=settings.charge,
        fingerprint=sample.fingerprint,
        summary=(*_summary(settings, sample, cut_flow), *_binning_lines(settings.binning, validation)),
    )


def load_holdout(settings: PtDataSettings, cache_dir: Path) -> Events:
    """Load the events that no trial sees."""
    return _events(_sample(settings, cache_dir).hidden, "test")


def _sample(settings: PtDataSettings, cache_dir: Path) -> Sample:
    def cache_of(names: tuple[str, ...], split: Split) -> Cache:
        reading = Reading(settings.selection, settings.charge, settings.skip_bad_files, split)
        return ingest(expand_files(names, FILES.suffixes), reading, cache_dir)

    return open_sample(settings, CARRIED, cache_of)


def _events(cache: Cache, part: str) -> Events:
    return Events(*(np.asarray(cache.column(part, name)) for name in EVENT_COLUMNS))


def _summary(settings: PtDataSettings, sample: Sample, cut_flow: CutFlow) -> tuple[str, ...]:
    shares = {name: cut_flow.accepted(name) / cut_flow.events for name in cut_flow.left}
    share = shares.pop(settings.selection)
    others = ", ".join(f"{name} would accept {other:.1%}" for name, other in shares.items())
    return (
        describe(sample, settings, CARRIED),
        f"selection {settings.selection} accepts {share:.1%} of the events of train and validation; {others}",
        *(f"  {line}" for line in cut_flow.table(settings.selection)),
        describe_cache(sample, settings),
        *describe_oddities(sample, {}),
        *_charge_lines(sample.data.meta),
    )


def _charge_lines(meta: Mapping[str, int]) -> list[str]:
    if meta["opposite"] <= OPPOSITE_SHARE * meta["accepted"]:
        return []
    return [f"{meta['opposite']} events bend to the other side and are left out: do the files hold both charges?"]


def _binning_lines(binning: PtBinning, validation: Events) -> list[str]:
    pt_gev_N = validation.truth_N3[:, 0]
    count_K = binning.count(pt_gev_N)
    used = int((count_K >= binning.min_bin_count).sum())
    few = f"; {len(count_K) - used} hold fewer than {binning.min_bin_count} validation events" * (used < len(count_K))
    above = int((pt_gev_N >= binning.max_pt_gev).sum())
    outside = [f"{above} of {len(validation)} validation events lie above the pT bins, in no score"] if above else []
    return [f"{used} of {len(count_K)} pT bins of {binning.bin_width_gev:g} GeV in use{few}", *outside]
