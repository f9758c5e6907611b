"""A fast parametric shower generator: ZDC events of any number, in memory or as a file of either layout.

    python -m trainables.zdc.simulate OUT.root --events 1000000 --layout mytree --seed 1

For tests and for benchmarks at scale. Mean maps and hit counts follow Geant4 photons to about 10 %. No physical
conclusion may be drawn from it.
"""

# N events, S spots (points where a shower deposits energy), H hit crystals; GeV and mm

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from trainables.data.split import SPLIT_TWO, hash_events, parts_of
from trainables.runtime.output import print_safely
from trainables.zdc import geometry, showers
from trainables.zdc.binning import Binning
from trainables.zdc.data import ZDCData
from trainables.zdc.events import Events
from trainables.zdc.layouts import TREES, Layout

if TYPE_CHECKING:
    import awkward as ak

CHUNK_EVENTS = 20_000  # simulated and written at a time

GUN_DISTANCE_MM = 35_500.0  # from the interaction point, on the axis of the detector
GUN_SPREAD_RAD = np.radians(25.0)  # theta within this of the crossing angle; phi from 0 to pi
MAX_ENERGY_GEV = 20.0

FACE_MM = 35_702.0  # local z of the front of the crystals
CRYSTAL_LENGTH_MM = 70.0
CONVERSION_MM = 18.3  # mean path of a photon before its shower begins
# A spot lies at a radius from the axis that falls as exp(-r / scale); the numbers below are tuned to Geant4.
SPOTS_AT_1_GEV = 48.0
SPOTS_EXPONENT = 0.30
SPOTS_ONSET_GEV = 0.15
SCALE_AT_1_GEV = 0.55  # crystals
SCALE_PER_LOG_GEV = 0.065
LATE_EXPONENT = 1.2  # showers that begin late are cut off by the end of the crystals
FLUCTUATION = 0.5  # of the number of spots, relative
CORE_FALL = 3.0  # energy of a spot falls with its radius in crystals


@dataclass(frozen=True)
class Showers:
    """Simulated events, as either layout holds them: one particle each, and the deposits in crystals."""

    momentum_gev_N3: NDArray[np.float64]
    mass_gev_N: NDArray[np.float64]
    hit_event_H: NDArray[np.int64]  # ascending, 0 ... N - 1
    hit_crystal_H: NDArray[np.int64]
    hit_energy_gev_H: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.mass_gev_N)

    def total_energy_gev(self) -> NDArray[np.float64]:
        """Return the total energy of each particle, shape (N,)."""
        momentum_gev: NDArray[np.float64] = np.linalg.norm(self.momentum_gev_N3, axis=1)
        return np.hypot(momentum_gev, self.mass_gev_N)


def simulate(events: int, rng: np.random.Generator) -> Showers:
    """Simulate photons of the report's gun and their showers.

    Parameters
    ----------
    events : int
        All are in memory at once, about 10 kB each.
    rng : numpy Generator
    """
    energy_N = rng.uniform(0.0, MAX_ENERGY_GEV, events).astype(np.float32).astype(np.float64)
    energy_N = np.maximum(energy_N, 1e-6)
    theta_N = geometry.CROSSING_ANGLE_RAD + rng.uniform(-GUN_SPREAD_RAD, GUN_SPREAD_RAD, events)
    phi_N = rng.uniform(0.0, np.pi, events)
    direction_N3 = np.stack([np.sin(theta_N) * np.cos(phi_N), np.sin(theta_N) * np.sin(phi_N), np.cos(theta_N)], axis=1)
    local_N3 = np.stack(geometry.local_position(*direction_N3.T), axis=1)
    event_S, crystal_S, weight_S = _spots(energy_N, local_N3, rng)
    sums = showers.crystal_sums(showers.Hits(event_S, crystal_S, weight_S), events)  # in MeV
    hit_event_H, hit_crystal_H = np.nonzero(sums)
    return Showers(
        momentum_gev_N3=(energy_N[:, None] * direction_N3).astype(np.float32).astype(np.float64),
        mass_gev_N=np.zeros(events),
        hit_event_H=hit_event_H,
        hit_crystal_H=hit_crystal_H,
        hit_energy_gev_H=sums[hit_event_H, hit_crystal_H] / 1e3,
    )


def _spots(
    energy_N: NDArray[np.float64], direction_N3: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Draw event, crystal and energy of every spot that lies in a crystal; directions in the detector's frame."""
    cosine_N = np.maximum(direction_N3[:, 2], 0.05)
    path_N = CRYSTAL_LENGTH_MM / cosine_N
    start_N = rng.exponential(CONVERSION_MM, len(energy_N))
    rest_N = np.clip(1.0 - start_N / path_N, 0.0, 1.0)  # 0: it passed without a shower
    onset_N = 1.0 - np.exp(-energy_N / SPOTS_ONSET_GEV)
    mean_N = SPOTS_AT_1_GEV * energy_N**SPOTS_EXPONENT * onset_N * rest_N**LATE_EXPONENT
    mean_N = mean_N * rng.gamma(FLUCTUATION**-2, FLUCTUATION**2, len(energy_N))
    spots_N = np.where(rest_N > 0, 1 + rng.poisson(mean_N), 0)
    event_S = np.repeat(np.arange(len(energy_N)), spots_N)

    scale_N = np.maximum(SCALE_AT_1_GEV + SCALE_PER_LOG_GEV * np.log(energy_N), 0.2)
    radius_S = rng.gamma(2.0, scale_N[event_S])
    angle_S = rng.uniform(0.0, 2 * np.pi, len(event_S))
    flight_N = (FACE_MM - GUN_DISTANCE_MM) / cosine_N + start_N
    flight_S = flight_N[event_S] + rng.uniform(0.0, 1.0, len(event_S)) * (path_N * rest_N)[event_S]
    half = geometry.ROWS / 2
    ix_S = np.floor(flight_S * direction_N3[event_S, 0] / geometry.PITCH_MM + radius_S * np.cos(angle_S) + half)
    iy_S = np.floor(flight_S * direction_N3[event_S, 1] / geometry.PITCH_MM + radius_S * np.sin(angle_S) + half)

    share_S = np.exp(-CORE_FALL * radius_S) * rng.exponential(1.0, len(event_S)) + 1e-6
    total_N = np.bincount(event_S, share_S, minlength=len(energy_N))
    weight_S = share_S * (0.85 * energy_N * rest_N / np.maximum(total_N, 1e-12))[event_S]
    inside_S = (ix_S >= 0) & (ix_S < geometry.ROWS) & (iy_S >= 0) & (iy_S < geometry.ROWS)
    crystal_S = (geometry.ROWS * ix_S + iy_S).astype(np.int64)
    return event_S[inside_S], crystal_S[inside_S], weight_S[inside_S]


def simulate_batches(events: int, seed: int) -> Iterator[Showers]:
    """Simulate any number of events, in batches; the same seed gives the same events."""
    for number, first in enumerate(range(0, events, CHUNK_EVENTS)):
        yield simulate(min(CHUNK_EVENTS, events - first), np.random.default_rng([seed, number]))


def simulate_data(events: int = 1000, seed: int = 0, binning: Binning | None = None) -> ZDCData:
    """Simulate the data of a trial without any file, for tests.

    Parameters
    ----------
    events : int
        Four fifths of them train.
    seed : int
    binning : Binning, optional
        None: bins wide enough for a hundred validation events.
    """
    condition_N6, mask_N50 = [], []
    for batch in simulate_batches(events, seed):
        hits = showers.Hits(batch.hit_event_H, batch.hit_crystal_H, batch.hit_energy_gev_H)
        condition_N6.append(
            showers.condition_columns(batch.total_energy_gev(), batch.momentum_gev_N3).astype(np.float32)
        )
        mask_N50.append(showers.pack_mask(showers.crystal_sums(hits, len(batch)), 0.0))
    condition, mask = np.concatenate(condition_N6), np.concatenate(mask_N50)
    chosen = parts_of(hash_events([condition[:, 1:4], mask]), SPLIT_TWO)
    parts = {part: Events(condition[rows], mask[rows]) for part, rows in chosen.items()}
    return ZDCData(
        train=parts["train"],
        validation=parts["validation"],
        binning=binning or Binning(bin_width_mev=2500.0, min_bin_count=2),
        fingerprint=f"simulated-{events}-{seed}",
        summary=(f"{events} simulated events",),
    )


def write_file(path: Path, layout: Layout, batches: Iterable[Showers]) -> int:
    """Write showers as a ROOT file of one layout with flat branch names; return the number of events.

    Memory: one batch.
    """
    import uproot  # it takes a second, which a simulation in memory need not pay

    columns = mytree_columns if layout == "mytree" else edm4hep_columns
    separator = "_" if layout == "mytree" else "."
    events, tree = 0, None
    with uproot.recreate(path, compression=uproot.LZ4(1)) as file:
        for batch in batches:
            chunk = columns(batch)
            if tree is None:
                types = {name: _type(values) for name, values in chunk.items()}
                tree = file.mktree(TREES[layout], types, field_name=lambda *names: separator.join(names))
            tree.extend(chunk)
            events += len(batch)
    return events


def _type(values: Any) -> Any:
    return values.dtype if isinstance(values, np.ndarray) else values.type.content


def mytree_columns(batch: Showers) -> dict[str, Any]:
    """Return the columns of layout ``mytree``; cellID is a plain number there."""
    pdg = np.where(batch.mass_gev_N == 0, 22, 2112).astype(np.int32)
    momentum = {f"mom{axis}": batch.momentum_gev_N3[:, number] for number, axis in enumerate("XYZ")}
    vertex = {f"vtx{axis}": value for axis, value in zip("XYZ", _vertex(len(batch)), strict=True)}
    particle: dict[str, NDArray[Any]] = {
        "PDG": pdg,
        "mass": batch.mass_gev_N,
        "energy": batch.total_energy_gev(),
        **momentum,
        **vertex,
    }
    x, y, z = _positions(batch)
    hit: dict[str, NDArray[Any]] = {
        "cellID": (batch.hit_crystal_H + 1).astype(np.int32),
        "energy": batch.hit_energy_gev_H.astype(np.float32),
        **{"posX": x, "posY": y, "posZ": z},
    }
    deposit = np.bincount(batch.hit_event_H, batch.hit_energy_gev_H, minlength=len(batch))
    ones, hits = np.ones(len(batch), np.int64), _hits_of_event(batch)
    return {
        "mcPar": _jagged(particle, ones),
        "ecal": _jagged(hit, hits),
        "energySum_ZDC": deposit.astype(np.float32),
    }


def edm4hep_columns(batch: Showers) -> dict[str, Any]:
    """Return the columns of layout ``edm4hep``, as npsim names them."""
    pdg = np.where(batch.mass_gev_N == 0, 22, 2112).astype(np.int32)
    momentum = {f"momentum.{axis}": batch.momentum_gev_N3[:, number] for number, axis in enumerate("xyz")}
    vertex = {f"vertex.{axis}": value for axis, value in zip("xyz", _vertex(len(batch)), strict=True)}
    status = np.ones(len(batch), np.int32)
    particle: dict[str, NDArray[Any]] = {
        "PDG": pdg,
        "generatorStatus": status,
        "mass": batch.mass_gev_N,
        **momentum,
        **vertex,
    }
    x, y, z = _positions(batch)
    hit: dict[str, NDArray[Any]] = {
        "cellID": geometry.cell_id_of_crystal(batch.hit_crystal_H),
        "energy": batch.hit_energy_gev_H.astype(np.float32),
        **{"position.x": x, "position.y": y, "position.z": z},
    }
    ones, hits = np.ones(len(batch), np.int64), _hits_of_event(batch)
    return {"MCParticles": _jagged(particle, ones), "EcalFarForwardZDCHits": _jagged(hit, hits)}


def _positions(batch: Showers) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return the global positions of the hit crystals, as float32 like in the files."""
    x, y = geometry.centre_of_crystal(batch.hit_crystal_H)
    z = np.full(len(x), geometry.CRYSTAL_DEPTH_MM)
    gx, gy, gz = geometry.global_position(x, y, z)
    return gx.astype(np.float32), gy.astype(np.float32), gz.astype(np.float32)


def _vertex(events: int) -> list[NDArray[np.float64]]:
    gun = geometry.global_position(np.zeros(1), np.zeros(1), np.full(1, GUN_DISTANCE_MM))
    return [np.full(events, value[0]) for value in gun]


def _hits_of_event(batch: Showers) -> NDArray[np.int64]:
    return np.bincount(batch.hit_event_H, minlength=len(batch)).astype(np.int64)


def _jagged(fields: Mapping[str, NDArray[Any]], counts_N: NDArray[np.int64]) -> ak.Array:
    import awkward as ak

    return ak.unflatten(ak.zip(dict(fields)), counts_N)


def main(
    out: Annotated[Path, tyro.conf.Positional],
    events: int = 100_000,
    layout: Layout = "mytree",
    seed: int = 1,
) -> None:
    """Simulate photons in the ZDC with a fast parametric model, and write them as a ROOT file.

    Parameters
    ----------
    out : Path
        The file to write; an existing one is replaced.
    events : int
        Number of events.
    layout : "mytree" or "edm4hep"
        Layout of the file.
    seed : int
        Seed; the same seed gives the same events.
    """
    written = write_file(out, layout, simulate_batches(events, seed))
    print_safely(f"{out}: {written} events, layout {layout}, {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    tyro.cli(main)
