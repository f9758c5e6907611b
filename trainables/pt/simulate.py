"""A fast parametric simulation of single electrons in sPHENIX: of any number, in memory or as a file.

    python -m trainables.pt.simulate OUT.root --events 1000000 --seed 1

For tests and for benchmarks at scale. Multiplicities, efficiency and resolutions follow Geant4 electrons to
some 20 %; that is all: nothing physical may be concluded from it.
"""

# N events, H silicon clusters, C calorimeter clusters, T towers; GeV, cm, rad
# uproot and awkward take a second to import: only functions that make or write a file's columns do it.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from trainables.data.file_reader import HASH
from trainables.data.root_chunks import Chunk
from trainables.data.split import SPLIT_TWO, parts_of
from trainables.pt import calorimeter, electrons
from trainables.pt.calorimeter import CENTRE_CM, PITCH_CM, PITCH_RAD, TOWERS_KEPT, Clusters, Towers
from trainables.pt.combined import CombinedData
from trainables.pt.content import content_of
from trainables.pt.cutflow import CutFlow
from trainables.pt.data import Events, PtData
from trainables.pt.electrons import CALORIMETER_CM
from trainables.pt.ingest import EVENT_COLUMNS, accepted_rows, event_hashes
from trainables.pt.layouts import TREE
from trainables.pt.metrics import PtBinning
from trainables.pt.naive import ANGLE_FORMULA, ENERGY_FORMULA, naive_predictions
from trainables.pt.selection import Charge, select_by_each
from trainables.runtime.output import print_safely

CHUNK_EVENTS = 20_000  # simulated and written at a time
TRUTH = "PrimaryG4P_"  # float in the experiment's own files, where positions and energies are double
SURFACE_FIELD = 0.3 * electrons.FIELD_T / 100  # GeV per cm, rounded as where the sample's surface points were made

Columns = dict[str, Any]  # branch -> awkward array or numpy array, of one entry an event


@dataclass(frozen=True)
class Batch:
    """Simulated events in the form of a file; the event of every entry ascends from 0 to N - 1."""

    charge: Charge
    truth_N3: NDArray[np.float32]  # pT, eta, phi
    hit_event_H: NDArray[np.int64]
    hit_layer_H: NDArray[np.int32]  # 0-2 MVTX, 3-6 INTT
    hit_H3: NDArray[np.float32]  # x, y, z
    clusters: Clusters
    towers: Towers

    def __len__(self) -> int:
        return len(self.truth_N3)


def simulate(events: int, rng: np.random.Generator, charge: Charge = -1) -> Batch:
    """Simulate electrons or positrons of a particle gun, with all their hits, towers and clusters.

    Parameters
    ----------
    events : int
        All in memory at once: some 10 kB each while it works.
    rng : numpy Generator
    charge : -1 or 1
        Electrons turn to larger phi, positrons to smaller.
    """
    tracks = electrons.shoot(events, rng)
    event_H, layer_H, hit_H3 = electrons.silicon_hits(tracks, -charge, rng)
    showers = calorimeter.showers_of(tracks, -charge)
    towers = calorimeter.towers_of(showers, rng)
    return Batch(
        charge=charge,
        truth_N3=np.stack([tracks.pt_N, tracks.eta_N, tracks.phi_N], axis=1).astype(np.float32),
        hit_event_H=event_H,
        hit_layer_H=layer_H,
        hit_H3=hit_H3.astype(np.float32),
        clusters=calorimeter.clusters_of(events, showers, towers, rng),
        towers=towers,
    )


def simulate_batches(events: int, seed: int, charge: Charge = -1) -> Iterator[Batch]:
    """Simulate any number of events in batches; the same seed gives the same events."""
    for number, first in enumerate(range(0, events, CHUNK_EVENTS)):
        yield simulate(min(CHUNK_EVENTS, events - first), np.random.default_rng([seed, number]), charge)


def simulate_data(events: int = 1000, seed: int = 0, binning: PtBinning | None = None) -> PtData:
    """Simulate the data of a trial without any file, for tests.

    The strict selection accepts some 70 % of the events, and four fifths of these train. Without a binning there are
    two bins, which 250 events fill.
    """
    flow, rows = CutFlow(), []
    for batch in simulate_batches(events, seed):
        content = content_of(chunk_of(batch))
        choices = select_by_each(content, batch.charge)
        flow.count(content.truth_N3[:, 0], {selection: choice.left_CN for selection, choice in choices.items()})
        choice = choices["strict"]
        rows.append(accepted_rows(content, choice) | {HASH: event_hashes(content)[choice.accepted_N]})
    kept = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    chosen = parts_of(kept[HASH], SPLIT_TWO)
    parts = {part: Events(*(kept[name][of_part] for name in EVENT_COLUMNS)) for part, of_part in chosen.items()}
    return PtData(
        train=parts["train"],
        validation=parts["validation"],
        binning=binning or PtBinning(bin_width_gev=5.0, min_bin_count=10),
        cut_flow=flow,
        selection="strict",
        charge=-1,
        fingerprint=f"simulated-{events}-{seed}",
        summary=(f"{events} simulated events",),
    )


def simulate_combined_data(events: int = 1000, seed: int = 0, binning: PtBinning | None = None) -> CombinedData:
    """Simulate the data of pt-combined, with the analytic formulas in place of trained branches."""
    data = simulate_data(events, seed, binning)
    branch = {}
    for part in ("train", "validation"):
        made = naive_predictions(replace(data, validation=getattr(data, part)))
        branch[part] = np.stack([made[ENERGY_FORMULA], made[ANGLE_FORMULA]], axis=1).astype(np.float32)
    return CombinedData(
        **vars(replace(data, fingerprint=f"{data.fingerprint}-formulas")),
        train_branch_N2=branch["train"],
        validation_branch_N2=branch["validation"],
    )


def chunk_of(batch: Batch) -> Chunk:
    """Make the chunk that the reader would give for a file of these events."""
    fields = columns(batch)
    return Chunk("simulated events", 0, fields, {name: name for name in fields})


def columns(batch: Batch, doubles: bool = False) -> Columns:
    """Make every branch of the tree, in the order of the Geant4 sample.

    Parameters
    ----------
    batch : Batch
    doubles : bool
        Real numbers as float64, except the truth, as in the experiment's own files; values are those of float32.
    """
    import awkward as ak

    towers, towers_N = _highest(batch.towers, len(batch))
    hits_N, clusters_N = _count(batch.hit_event_H, len(batch)), _count(batch.clusters.event_C, len(batch))
    one_N = np.ones(len(batch), np.int64)
    lists: list[tuple[Mapping[str, NDArray[Any]], NDArray[np.int64]]] = [
        (_hit_fields(batch), hits_N),
        (_tower_fields(towers), towers_N),
        (_cluster_fields(batch.clusters), clusters_N),
        (_truth_fields(batch), one_N),
    ]
    stored: Columns = {
        name: ak.unflatten(_as_stored(name, values, doubles), count_N)
        for fields, count_N in lists
        for name, values in fields.items()
    }
    vertex = {f"TruthPV_trig_{axis}": np.zeros(len(batch), np.float32) for axis in "xyz"}
    counts = {"NPrimaryG4P": one_N, "nCaloClus": clusters_N, "trk_NClus": hits_N, "nTowers": towers_N}
    return stored | vertex | counts


def _as_stored(name: str, values: NDArray[Any], doubles: bool) -> NDArray[Any]:
    """Round real numbers to float32; return whole numbers unchanged."""
    if not np.issubdtype(values.dtype, np.floating):
        return values
    single = values.astype(np.float32)
    return single.astype(np.float64) if doubles and not name.startswith(TRUTH) else single


def _hit_fields(batch: Batch) -> dict[str, NDArray[Any]]:
    place = {f"trk_{axis}": values for axis, values in zip("XYZ", batch.hit_H3.T, strict=True)}
    return {"trk_system": (batch.hit_layer_H > 2).astype(np.int32), "trk_layer": batch.hit_layer_H, **place}


def _highest(towers: Towers, events: int) -> tuple[Towers, NDArray[np.int64]]:
    """Select the towers that a file keeps of each event; also return their number."""
    count_N = _count(towers.event_T, events)
    rank_T = np.arange(len(towers.event_T)) - np.repeat(np.cumsum(count_N) - count_N, count_N)
    kept = rank_T < TOWERS_KEPT
    few = Towers(towers.event_T[kept], towers.phi_index_T[kept], towers.z_index_T[kept], towers.energy_T[kept])
    return few, np.minimum(count_N, TOWERS_KEPT)


def _tower_fields(towers: Towers) -> dict[str, NDArray[Any]]:
    phi_T = (towers.phi_index_T + 0.5) * PITCH_RAD
    phi_T = np.where(phi_T > np.pi, phi_T - 2 * np.pi, phi_T)
    z_T = (towers.z_index_T - calorimeter.Z_TOWERS / 2 + 0.5) * PITCH_CM
    return {
        "tower_system": np.zeros(len(phi_T), np.int32),  # 0: the electromagnetic calorimeter
        "tower_R": np.full(len(phi_T), CENTRE_CM),
        "tower_X": CENTRE_CM * np.cos(phi_T),
        "tower_Y": CENTRE_CM * np.sin(phi_T),
        "tower_Z": z_T,
        "tower_Eta": np.arcsinh(z_T / CENTRE_CM),
        "tower_Phi": phi_T,
        "tower_edep": towers.energy_T,
    }


def _cluster_fields(clusters: Clusters) -> dict[str, NDArray[Any]]:
    made: dict[str, NDArray[Any]] = {}
    for prefix, radius_cm in (("caloClus", CENTRE_CM), ("caloClus_innr", CALORIMETER_CM)):
        made[f"{prefix}_X"] = radius_cm * np.cos(clusters.phi_C)
        made[f"{prefix}_Y"] = radius_cm * np.sin(clusters.phi_C)
        made[f"{prefix}_Z"] = clusters.z_C * radius_cm / CALORIMETER_CM
        made[f"{prefix}_R"] = np.full(len(clusters.phi_C), radius_cm)
        made[f"{prefix}_Phi"] = clusters.phi_C
        made[f"{prefix}_edep"] = clusters.energy_C
    return made | {"caloClus_system": np.zeros(len(clusters.phi_C), np.int32)}


def _truth_fields(batch: Batch) -> dict[str, NDArray[Any]]:
    """Make the primary, and the point where it would meet the calorimeter without losses."""
    pt_N, eta_N, phi_N = batch.truth_N3.T.astype(np.float64)
    turned_N = phi_N - batch.charge * np.arcsin(np.minimum(CALORIMETER_CM * SURFACE_FIELD / (2 * pt_N), 1.0))
    return {
        "PrimaryG4P_Pt": pt_N,
        "PrimaryG4P_Eta": eta_N,
        "PrimaryG4P_Phi": phi_N,
        "PrimaryG4P_E": pt_N * np.cosh(eta_N),
        "PrimaryG4P_PID": np.full(len(batch), -11 * batch.charge, np.int32),
        "CEMC_Pr_Hit_x": CALORIMETER_CM * np.cos(turned_N),
        "CEMC_Pr_Hit_y": CALORIMETER_CM * np.sin(turned_N),
        "CEMC_Pr_Hit_z": CALORIMETER_CM * np.sinh(eta_N),
        "CEMC_Pr_Hit_R": np.full(len(batch), CALORIMETER_CM),
    }


def _count(event: NDArray[np.int64], events: int) -> NDArray[np.int64]:
    return np.bincount(event, minlength=events).astype(np.int64)


def write_file(path: Path, batches: Iterable[Batch], doubles: bool = False) -> int:
    """Write events as a ROOT file with the branches of the carried sample; return their number. Memory: one batch."""
    import uproot

    events, tree = 0, None
    with uproot.recreate(path, compression=uproot.LZ4(1)) as file:
        for batch in batches:
            chunk = columns(batch, doubles)
            if tree is None:
                tree = file.mktree(TREE, {name: branch_type(values) for name, values in chunk.items()})
            tree.extend(chunk)
            events += len(batch)
    return events


def branch_type(values: Any) -> Any:
    """Return the type of a branch for uproot, of an awkward or numpy array."""
    return values.dtype if isinstance(values, np.ndarray) else values.type.content


def main(
    out: Annotated[Path, tyro.conf.Positional],
    events: int = 100_000,
    seed: int = 1,
    charge: Charge = -1,
    doubles: bool = False,
) -> None:
    """Simulate single electrons in sPHENIX with a fast parametric model, and write them as a ROOT file.

    Parameters
    ----------
    out : Path
        The file to write; one that is there is replaced.
    events : int
        Number of events.
    seed : int
        Seed; the same seed gives the same events.
    charge : -1 or 1
        Electrons or positrons.
    doubles : bool
        Positions and energies as double, like the experiment's own files; otherwise float.
    """
    written = write_file(out, simulate_batches(events, seed, charge), doubles)
    print_safely(f"{out}: {written} events, charge {charge:+d}, {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    tyro.cli(main)
