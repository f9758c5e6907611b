"""pT files of any kind for tests: branches of simulated or hand-made events, changed and written as a test likes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

from trainables.pt.data import Events, PtDataSettings, load_data
from trainables.pt.metrics import PtBinning
from trainables.pt.simulate import TREE, Charge, branch_type, columns, simulate

WIDE = PtBinning(bin_width_gev=5.0, min_bin_count=10)
Columns = dict[str, Any]


def branches(events: int = 400, seed: int = 1, charge: Charge = -1, doubles: bool = False) -> Columns:
    """Every branch of simulated events."""
    return columns(simulate(events, np.random.default_rng(seed), charge), doubles)


def chosen(branches: Columns, entries: Sequence[int]) -> Columns:
    """Some of the events, in this order."""
    return {name: values[list(entries)] for name, values in branches.items()}


def joined(*parts: Columns) -> Columns:
    """The events of several one after another."""
    return {name: ak.concatenate([part[name] for part in parts]) for name in parts[0]}


def event(**changes: list[float]) -> dict[str, list[float]]:
    """The lists of one event by hand, good for either selection, with changes: an electron of 5 GeV along x.

    It bends by 0.04 rad or so. Lists that belong together are changed together: ``trk_X=[...], trk_Y=[...]``.
    """
    radius, phi = [2.5255, 3.3385, 4.1505, 7.2004, 9.6924], [0.0011, 0.0014, 0.0017, 0.0030, 0.0041]
    lists: dict[str, list[float]] = {
        "trk_layer": [0, 1, 2, 3, 5],
        "trk_X": [r * float(np.cos(p)) for r, p in zip(radius, phi, strict=True)],
        "trk_Y": [r * float(np.sin(p)) for r, p in zip(radius, phi, strict=True)],
        "trk_Z": [0.25, 0.33, 0.41, 0.8, 0.8],
        "tower_system": [0, 0],
        **_at("tower", 103.5, [0.0368, 0.0614], [9.35, 9.35]),
        "tower_edep": [3.0, 1.5],
        "caloClus_system": [0],
        **_at("caloClus", 103.5, [0.0405], [10.5]),
        "caloClus_edep": [4.8],
        **_at("caloClus_innr", 93.5, [0.0405], [9.49]),
        "caloClus_innr_edep": [4.8],
        "PrimaryG4P_Pt": [5.0],
        "PrimaryG4P_Eta": [0.1],
        "PrimaryG4P_Phi": [0.0],
        **{f"CEMC_Pr_Hit_{name}": values for name, values in zip("xyz", ([93.43], [3.67], [9.37]), strict=True)},
    }
    return lists | changes


def _at(name: str, radius_cm: float, phi: list[float], z: list[float]) -> dict[str, list[float]]:
    x, y = radius_cm * np.cos(phi), radius_cm * np.sin(phi)
    return {f"{name}_X": x.tolist(), f"{name}_Y": y.tolist(), f"{name}_Z": list(z)}


def of_events(events: Iterable[Mapping[str, list[float]]]) -> Columns:
    """UpstreamModels of hand-made events, of the types of the carried sample: real numbers are float32."""
    rows = list(events)
    made: Columns = {}
    for name in rows[0]:
        whole = name.endswith(("_layer", "_system"))
        kind = np.int32 if whole else np.float32
        flat = np.array([value for row in rows for value in row[name]], dtype=kind)
        made[name] = ak.unflatten(flat, np.array([len(row[name]) for row in rows]))
    return made


def write(path: Path, branches: Columns, tree: str = TREE) -> str:
    """Write branches as they are, each with a length of its own."""
    with uproot.recreate(path) as file:
        types = {name: branch_type(values) for name, values in branches.items()}
        file.mktree(tree, types).extend(branches)
    return str(path)


def load(cache: Path, *files: str, **flags: Any) -> Any:
    return load_data(PtDataSettings(**{"data": files, "binning": WIDE, **flags}), cache)


def rows_of(*parts: Events) -> set[bytes]:
    """Every event as bytes: those of all its arrays."""
    return {
        b"".join(np.ascontiguousarray(value).tobytes() for value in row)
        for part in parts
        for row in zip(*vars(part).values(), strict=True)
    }
