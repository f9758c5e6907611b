"""Fit the energy bins to a sample: choose their width, refuse a sample that cannot be scored."""

# N events; energies in MeV

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from trainables.base.errors import DataError
from trainables.data.cache import Cache
from trainables.data.sample import Sample
from trainables.zdc.binning import Binning, check_binning

DEFAULT = Binning()
BINS_OF_RANGE = (200, 100, 40, 20, 8, 4)  # bin widths to choose from; of 20 GeV: 0.1, 0.2, 0.5, 1, 2.5, 5 GeV
UNIT_FACTOR = 1000.0  # between MeV, GeV and TeV
MEDIAN_SAMPLE = 1_000_000  # events whose median is taken


class BinningSettings(BaseModel):
    """User settings for the energy bins and their three regions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bin_width_mev: float | None = Field(
        None,
        gt=0,
        description="width of an energy bin in MeV; none: 100, or wider where the sample is small",
    )
    max_energy_mev: float = Field(DEFAULT.max_energy_mev, gt=0, description="upper edge of the last energy bin in MeV")
    low_energy_mev: float = Field(
        DEFAULT.low_energy_mev, gt=0, description="mse_low averages the bins below this energy in MeV"
    )
    high_energy_mev: float = Field(
        DEFAULT.high_energy_mev, gt=0, description="mse_high averages the bins from this energy on, in MeV"
    )
    min_bin_count: int = Field(
        DEFAULT.min_bin_count, ge=2, description="bins with fewer validation events are left out, and counted"
    )

    @model_validator(mode="after")
    def _consistent(self) -> BinningSettings:
        self.resolved(self.max_energy_mev / BINS_OF_RANGE[0])  # Binning refuses what makes no sense
        return self

    def resolved(self, width_mev: float) -> Binning:
        """Return the bins, of ``width_mev`` where the user gave no width."""
        return Binning(**{"bin_width_mev": width_mev} | self.model_dump(exclude_none=True))


def choose_binning(settings: BinningSettings, sample: Sample, width_mev: float | None) -> tuple[Binning, str]:
    """Choose the bins of the scores, and describe the choice in a line.

    Where neither the user nor the caller gives a width, take the narrowest of ``BINS_OF_RANGE`` whose bins hold
    twice ``min_bin_count`` validation events on average, because narrow bins of a small sample are all left out.

    Parameters
    ----------
    settings : BinningSettings
    sample : Sample
    width_mev : float or None
        Default width. None: choose one.
    """
    reason = ""
    if settings.bin_width_mev is None and width_mev is None:
        energies = _energies_mev(sample.validation, "validation")
        inside = sum(int((energy_N < settings.max_energy_mev).sum()) for energy_N in energies)
        enough = [bins for bins in BINS_OF_RANGE if inside / bins >= 2 * settings.min_bin_count]
        bins = enough[0] if enough else BINS_OF_RANGE[-1]
        width_mev = settings.max_energy_mev / bins
        if bins != BINS_OF_RANGE[0]:
            narrow = settings.max_energy_mev / BINS_OF_RANGE[0]
            reason = f" ({narrow:g} MeV would hold {inside / BINS_OF_RANGE[0]:.0f} validation events each)"
    binning = settings.resolved(width_mev or DEFAULT.bin_width_mev)
    return (
        binning,
        f"energy bins of {binning.bin_width_mev:g} MeV up to {binning.max_energy_mev:g} MeV{reason}",
    )


def check_energies(binning: Binning, sample: Sample) -> list[str]:
    """Refuse a sample that cannot be scored; return lines about what lies outside the bins. Memory: flat.

    Raises
    ------
    DataError
        All events lie outside the bins, none reaches the region of mse_high, another unit is suspected, or a
        region has no bin with enough validation events.
    """
    total = outside = high = 0
    some: list[NDArray[np.float64]] = []
    step = 1 + sum(cache.rows(part) for cache, part in sample.parts) // MEDIAN_SAMPLE
    for cache, part in sample.parts:
        for energy_N in _energies_mev(cache, part):
            above_N = energy_N >= binning.max_energy_mev
            total += len(energy_N)
            outside += int(above_N.sum())
            high += int(((energy_N >= binning.high_energy_mev) & ~above_N).sum())
            some.append(energy_N[::step].copy())
    median = float(np.median(np.concatenate(some)))
    _check_unit(binning, median, outside, high)
    if high == 0:
        raise DataError(
            f"no event has an energy from {binning.high_energy_mev:g} to {binning.max_energy_mev:g} MeV, "
            f"where mse_high is taken: of {total} events {outside} lie above, and the median is {median:.4g} "
            "MeV. Choose --max-energy-mev and --high-energy-mev for this sample."
        )
    check_binning(binning, _energies_mev(sample.validation, "validation"))
    return [f"{outside} of {total} events lie above the energy bins and are in no mse"] if outside else []


def _check_unit(binning: Binning, median: float, outside: int, high: int) -> None:
    """Refuse a median about 1000 times too high, or too low where no event reaches mse_high anyway."""
    limit = binning.max_energy_mev
    too_high = median > 30 * limit and median <= UNIT_FACTOR * limit
    too_low = high == 0 and outside == 0 and limit / 30 < median * UNIT_FACTOR <= limit
    if too_high or too_low:
        found, remedy = ("MeV", "divide") if too_high else ("TeV", "multiply")
        raise DataError(
            f"wrong unit suspected: the median energy reads as {median:.4g} MeV, the bins end at {limit:g} "
            f"MeV. Files must hold GeV; is this one in {found}? Then {remedy} energies and momenta by 1000. "
            "If it is right, choose --max-energy-mev, --high-energy-mev and --low-energy-mev for this sample."
        )


def _energies_mev(cache: Cache, part: str) -> Iterator[NDArray[np.float64]]:
    for block in cache.blocks(part, "condition"):
        yield block[:, 0].astype(np.float64) * 1e3
