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

from trainables.cache import Cache
from trainables.errors import DataError
from trainables.files import DataSettings, expand_files
from trainables.split import SPLIT_NONE, SPLIT_THREE, SPLIT_TWO
from trainables.zdc.energies import BinningSettings, check_energies, choose_binning
from trainables.zdc.ingest import Reading, ingest
from trainables.zdc.metrics import Binning, Scores
from trainables.zdc.naive import naive_scores

CONDITIONS = ("energy_gev", "px_gev", "py_gev", "pz_gev", "theta_rad", "phi_rad")
SAMPLE = Path(__file__).parent / "sample" / "gamma_sample_16k.mytree.root"
SAMPLE_HOLDOUT = Path(__file__).parent / "sample" / "gamma_holdout_4k.edm4hep.root"
SAMPLE_BIN_WIDTH_MEV = 1000.0  # its 3,200 validation events give bins of 100 MeV 16 events each


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
    cache = _data_cache(settings, cache_dir)
    holdout = _holdout_cache(settings, cache_dir)
    if holdout is not None:
        _refuse_shared_events(cache, holdout)
    binning, binning_line = choose_binning(settings.binning, cache, None if settings.data else SAMPLE_BIN_WIDTH_MEV)
    energy_lines = check_energies(binning, cache)
    return ZDCData(
        train=_events(cache, "train"),
        validation=_events(cache, "validation"),
        binning=binning,
        fingerprint=cache.fingerprint(("train", "validation")),
        summary=(*_summary(settings, cache, holdout), binning_line, *energy_lines),
    )


def load_holdout(settings: ZDCDataSettings, cache_dir: Path) -> Events:
    """The events that no trial sees; promotion alone calls this. Raises as ``load_data`` does."""
    cache = _data_cache(settings, cache_dir)
    holdout = _holdout_cache(settings, cache_dir)
    if holdout is None:
        return _events(cache, "test")
    _refuse_shared_events(cache, holdout)
    return _events(holdout, "test")


def _data_cache(settings: ZDCDataSettings, cache_dir: Path) -> Cache:
    split = SPLIT_TWO if _holdout_files(settings) else SPLIT_THREE
    cache = _ingest(settings.data or (str(SAMPLE),), settings, split, cache_dir)
    for part in split:
        if cache.rows(part) == 0:
            total = sum(cache.rows(name) for name in split)
            raise DataError(f"too few events: of the {total} found, none falls into the {part} part. Add files.")
    return cache


def _holdout_cache(settings: ZDCDataSettings, cache_dir: Path) -> Cache | None:
    files = _holdout_files(settings)
    return _ingest(files, settings, SPLIT_NONE, cache_dir) if files else None


def _holdout_files(settings: ZDCDataSettings) -> tuple[str, ...]:
    if settings.holdout or settings.data:
        return settings.holdout
    return (str(SAMPLE_HOLDOUT),)


def _ingest(names: tuple[str, ...], settings: ZDCDataSettings, split: Mapping[str, float], cache_dir: Path) -> Cache:
    layout = settings.layout if names in (settings.data, settings.holdout) else "auto"  # carried files
    reading = Reading(layout, settings.hit_threshold_mev, settings.skip_bad_files, split)
    return ingest(expand_files(names), reading, cache_dir)


def _events(cache: Cache, part: str) -> Events:
    return Events(np.asarray(cache.column(part, "condition")), np.asarray(cache.column(part, "mask_packed")))


def _refuse_shared_events(cache: Cache, holdout: Cache) -> None:
    hidden = np.sort(np.asarray(holdout.column("test", "event_hash")))
    shared = 0
    for part in cache.spec.parts:
        for block in cache.blocks(part, "event_hash"):
            place = np.minimum(np.searchsorted(hidden, block), len(hidden) - 1)
            shared += int((hidden[place] == block).sum())
    if shared:
        raise DataError(
            f"{shared} events of the data are in the holdout too ({len(hidden)} events), so the holdout "
            "would not be unseen. Name other files with --holdout, or none: then a part of the data is kept "
            "back."
        )


def _summary(settings: ZDCDataSettings, cache: Cache, holdout: Cache | None) -> tuple[str, ...]:
    total = sum(cache.rows(part) for part in cache.spec.parts)
    origin = "" if settings.data else " of the carried sample (Geant4 photons)"
    kept_back = f"{holdout.rows('test')} of other files" if holdout else f"{cache.rows('test')}"
    files = "1 file" if cache.meta["files"] == 1 else f"{cache.meta['files']} files"
    mean_hits = cache.meta["hit_crystals"] / total
    lines = [
        f"{total} events in {files}{origin}: {cache.rows('train')} train, "
        f"{cache.rows('validation')} validation, holdout {kept_back}",
        f"{mean_hits:.1f} of 400 crystals hit on average above {settings.hit_threshold_mev:g} MeV",
    ]
    lines.append(f"cache {cache.folder}")
    for source in (cache, *([holdout] if holdout else [])):
        lines += _oddities(source)
    return tuple(lines)


def _oddities(cache: Cache) -> list[str]:
    meta = cache.meta
    counts = {
        "hits without a cell (cellID -100) left out": meta["sentinels"],
        "hits outside the crystals left out": meta["outside"],
        "events, about, occur more than once": meta["repeated"],
    }
    lines = [f"{count} {what}" for what, count in counts.items() if count]
    lines += [f"no ZDC hit in {file}" for file in meta["without_hits"]]
    return lines + [f"skipped: {problem}" for problem in meta["skipped"]]
