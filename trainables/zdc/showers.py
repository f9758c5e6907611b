"""Conversion of one chunk of a ZDC file to conditions and crystal sums, with the checks of its events."""

# N events and H hits of one chunk, 6 conditions, 400 crystals (20 ix + iy), 50 bytes = 400 bits

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.base.errors import DataError
from trainables.zdc import geometry
from trainables.zdc.layouts import Chunk

OUTSIDE_SHARE_MAX = 0.01  # of the hits of a file
DISAGREEING_SHARE_MAX = 0.02  # of the hits of a file, cellID against position
MOMENTUM_TOLERANCE = 1e-3  # relative, by which rounding may lift a momentum above its energy
DENSE_EVENTS = 256  # whose 400 sums each are in memory at once: they fit the cache of a core
DEPOSIT_SHARE_MAX = 3.0  # deposits of a file per energy of its particles: more is another unit


@dataclass(frozen=True)
class Hits:
    """The hits of one chunk, flat."""

    event_H: NDArray[np.int64]  # 0 ... N - 1
    crystal_H: NDArray[np.int64]  # 0 ... 399
    energy_gev_H: NDArray[np.float64]


@dataclass
class FileTally:
    """Counts of one file, and the first entry of each oddity."""

    events: int = 0
    hits: int = 0
    sentinels: int = 0
    outside: int = 0
    disagreeing: int = 0
    hit_crystals: int = 0  # above the threshold
    largest_sum_mev: float = 0.0  # of one crystal
    deposit_gev: float = 0.0
    particle_gev: float = 0.0
    first: dict[str, str] = field(default_factory=dict)

    def note(self, what: str, chunk: Chunk, event_H: NDArray[np.int64]) -> None:
        """Record the first entry in which ``what`` occurred."""
        if len(event_H) and what not in self.first:
            self.first[what] = chunk.where(int(event_H[0]))

    def add(self, other: FileTally) -> None:
        """Add the counts of another file, or of a later range of the same."""
        sums = "events", "hits", "sentinels", "outside", "disagreeing", "hit_crystals", "deposit_gev", "particle_gev"
        for name in sums:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.first = other.first | self.first
        self.largest_sum_mev = max(self.largest_sum_mev, other.largest_sum_mev)


def conditions(chunk: Chunk, tally: FileTally) -> NDArray[np.float64]:
    """Compute the six conditions of each event, in the order of ``CONDITIONS``.

    Parameters
    ----------
    chunk : Chunk
    tally : FileTally
        Receives the number of events and their energy.

    Returns
    -------
    array (N, 6) of float64
        Total energy and momentum in GeV; theta in 0 ... pi and phi in -pi ... pi, in rad, of the momentum.

    Raises
    ------
    DataError
        Not exactly one primary, a value not finite, no momentum, no energy, momentum above energy.
    """
    primary = _primaries(chunk)
    px, py, pz = primary["px"], primary["py"], primary["pz"]
    momentum = np.sqrt(px**2 + py**2 + pz**2)
    chunk.refuse(momentum == 0, "px", momentum, "a moving particle: without momentum it has no direction")
    if chunk.layout == "edm4hep":
        energy = np.hypot(momentum, primary["mass"])
    else:
        energy = primary["energy"]
        slow = momentum > energy * (1 + MOMENTUM_TOLERANCE)
        chunk.refuse(
            slow,
            "energy",
            energy,
            "the total energy in GeV, not below the momentum (GeV; not kinetic, not MeV)",
        )
    tally.events += len(energy)
    tally.particle_gev += float(energy.sum())
    return condition_columns(energy, np.stack([px, py, pz], axis=1))


def condition_columns(energy_gev_N: NDArray[np.float64], momentum_gev_N3: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return energy, momentum and its angles theta and phi in rad as (N, 6), in the order of ``CONDITIONS``."""
    px, py, pz = momentum_gev_N3.T
    theta, phi = np.arctan2(np.hypot(px, py), pz), np.arctan2(py, px)
    return np.stack([energy_gev_N, px, py, pz, theta, phi], axis=1)


def hits(chunk: Chunk, tally: FileTally) -> Hits:
    """Return the hits that lie in a crystal: by cellID in layout edm4hep, by position in layout mytree.

    Parameters
    ----------
    chunk : Chunk
    tally : FileTally
        Receives the numbers of hits, of sentinels, of hits outside the grid, of cellIDs that disagree.

    Raises
    ------
    DataError
        An energy or a position is not finite.
    """
    counts = chunk.counts("hit_energy")
    event_H = np.repeat(np.arange(len(counts)), counts)
    flat = {name: chunk.flat(name) for name in chunk.fields if name.startswith("hit_")}
    real_H = ~geometry.is_sentinel(flat["hit_cell_id"]) if "hit_cell_id" in flat else np.ones(len(event_H), bool)
    if not real_H.all():
        tally.sentinels += int((~real_H).sum())
        event_H, flat = event_H[real_H], {name: values[real_H] for name, values in flat.items()}
    for name, values in flat.items():
        if name != "hit_cell_id":
            chunk.refuse_not_finite(name, values, event_H)
    crystal_H = _crystals(chunk, flat, event_H, tally)
    energy_H = flat["hit_energy"].astype(np.float64)
    tally.hits += len(event_H)
    tally.deposit_gev += float(energy_H.sum())
    inside_H = crystal_H != geometry.OUTSIDE
    if inside_H.all():
        return Hits(event_H, crystal_H, energy_H)
    tally.outside += int((~inside_H).sum())
    tally.note("outside", chunk, event_H[~inside_H])
    return Hits(event_H[inside_H], crystal_H[inside_H], energy_H[inside_H])


def crystal_sums(hits: Hits, events: int) -> NDArray[np.float64]:
    """Sum the deposits of each crystal in MeV, shape (events, 400)."""
    place_H = hits.event_H * geometry.CRYSTALS + hits.crystal_H
    sums = np.bincount(place_H, weights=hits.energy_gev_H * 1e3, minlength=events * geometry.CRYSTALS)
    return sums.astype(np.float64, copy=False).reshape(events, geometry.CRYSTALS)


def pack_mask(sum_mev_N400: NDArray[np.float64], threshold_mev: float) -> NDArray[np.uint8]:
    """Pack the hit map of each event to (N, 50): a crystal is hit when its sum is above the threshold."""
    return np.packbits(sum_mev_N400 > threshold_mev, axis=1)


def hit_maps(
    hits: Hits, events: int, threshold_mev: float, tally: FileTally
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pack the crystals above 0, and those above the threshold, of each event: (N, 50) both.

    Parameters
    ----------
    hits : Hits
        In the order of their events.
    events : int
    threshold_mev : float
    tally : FileTally
        Receives the number of crystals above the threshold, and the largest sum where it was needed.
    """
    if threshold_mev == 0 and hits.energy_gev_H.min(initial=0.0) >= 0:  # a crystal with any deposit is above 0
        map_NX = np.zeros((events, geometry.CRYSTALS), np.bool_)
        some_H = hits.energy_gev_H > 0
        place_H = hits.event_H * geometry.CRYSTALS + hits.crystal_H
        map_NX.reshape(-1)[place_H if some_H.all() else place_H[some_H]] = True
        touched_N50 = mask_N50 = np.packbits(map_NX).reshape(events, -1)
    else:
        touched_N50, mask_N50 = (np.zeros((events, geometry.CRYSTALS // 8), np.uint8) for _ in range(2))
        for first in range(0, events, DENSE_EVENTS):
            block = slice(first, min(first + DENSE_EVENTS, events))
            begin, end = np.searchsorted(hits.event_H, (block.start, block.stop))
            of_block = Hits(hits.event_H[begin:end] - first, hits.crystal_H[begin:end], hits.energy_gev_H[begin:end])
            sum_mev_N400 = crystal_sums(of_block, block.stop - first)
            touched_N50[block], mask_N50[block] = (pack_mask(sum_mev_N400, least) for least in (0.0, threshold_mev))
            tally.largest_sum_mev = max(tally.largest_sum_mev, float(sum_mev_N400.max(initial=0.0)))
    tally.hit_crystals += int(np.bitwise_count(mask_N50).sum())
    return touched_N50, mask_N50


def check_file(file: str, tally: FileTally) -> None:
    """Check what only a whole file shows.

    Raises
    ------
    DataError
        Too many hits outside the grid, cellIDs that disagree with positions, deposits above the energy.
    """
    if tally.outside > OUTSIDE_SHARE_MAX * tally.hits:
        raise DataError(
            f"{tally.first['outside']}: {tally.outside} of {tally.hits} hits of this file lie outside the "
            "20x20 crystals, expected at most 1 %. Positions must be in mm in ePIC's global frame (z about "
            "35.7 m), cellIDs of system:8,module:2,crystal:12."
        )
    if tally.disagreeing > DISAGREEING_SHARE_MAX * tally.hits:
        raise DataError(
            f"{tally.first['disagreeing']}: cellID and position name different crystals for "
            f"{tally.disagreeing} of {tally.hits} hits of this file, expected at most 2 %. Was it made with "
            "another geometry?"
        )
    if tally.deposit_gev > DEPOSIT_SHARE_MAX * tally.particle_gev:
        raise DataError(
            f"{file}: the crystals hold {tally.deposit_gev:.4g} GeV, of particles with "
            f"{tally.particle_gev:.4g} GeV in all. Expected both in GeV: is one of them in MeV?"
        )


def _primaries(chunk: Chunk) -> dict[str, NDArray[np.float64]]:
    """Return the fields of the one generated particle of each event, each of shape (N,)."""
    names = [name for name in chunk.fields if not name.startswith("hit_")]
    counts, particle = chunk.counts("px"), {name: chunk.flat(name) for name in names}
    if chunk.layout == "edm4hep":
        final = particle.pop("status") == 1
        event_of_final = np.repeat(np.arange(len(counts)), counts)[final]
        counts = np.bincount(event_of_final, minlength=len(counts))
        particle = {name: values[final] for name, values in particle.items()}
    if (counts != 1).any():
        event = int(np.argmax(counts != 1))
        kind = "particle with generatorStatus 1" if chunk.layout == "edm4hep" else "particle in mcPar_*"
        raise DataError(
            f"{chunk.where(event)}: expected exactly one {kind}, found {counts[event]}. A shower is learned "
            "from one particle: use events of a particle gun, or write one entry per particle."
        )
    primary = {name: values.astype(np.float64) for name, values in particle.items()}
    for name, values in primary.items():
        chunk.refuse(~np.isfinite(values), name, values, "a finite number")
    return primary


def _crystals(
    chunk: Chunk, flat: Mapping[str, NDArray[Any]], event_H: NDArray[np.int64], tally: FileTally
) -> NDArray[np.int64]:
    if chunk.layout == "mytree":
        return geometry.crystal_of_position(flat["hit_x"], flat["hit_y"], flat["hit_z"])
    by_cell_id = geometry.crystal_of_cell_id(flat["hit_cell_id"])
    if "hit_x" in flat:
        disagreeing_H = geometry.crystal_of_position(flat["hit_x"], flat["hit_y"], flat["hit_z"]) != by_cell_id
        tally.disagreeing += int(disagreeing_H.sum())
        tally.note("disagreeing", chunk, event_H[disagreeing_H])
    return by_cell_id
