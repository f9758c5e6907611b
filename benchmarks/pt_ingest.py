"""How fast are pT files selected and turned into arrays, against a loop over events?

    python -m benchmarks.pt_ingest                the carried sample, 18,000 events
    python -m benchmarks.pt_ingest --file X.root

Both sides start from the same ROOT file and end with the hits, clusters, towers, angles and truth of the accepted
events. Ours also checks every value, counts the cut flow of both selections, hashes, splits, and writes the cache, in a
new folder each time. Repeats alternate.
"""

from __future__ import annotations

import math
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro
import uproot

from trainables.data.split import SPLIT_NONE
from trainables.pt.data import SAMPLE
from trainables.pt.ingest import Reading, ingest

Arrays = dict[str, np.ndarray]
NAMES = ("hit", "cluster", "tower", "dphi", "truth", "surface_dphi")
BRANCHES = [
    *("trk_layer", "trk_X", "trk_Y", "trk_Z", "tower_X", "tower_Y", "tower_Z", "tower_edep", "caloClus_system"),
    *(f"{cluster}_{field}" for cluster in ("caloClus", "caloClus_innr") for field in ("X", "Y", "Z", "edep")),
    *("PrimaryG4P_Pt", "PrimaryG4P_Eta", "PrimaryG4P_Phi", "CEMC_Pr_Hit_x", "CEMC_Pr_Hit_y"),
]


def event_loop(file: Path) -> Arrays:
    """The usual script of an analysis: read the branches, then go through the events one by one."""
    with uproot.open(file, array_cache=None) as root_file:
        arrays = root_file["tree"].arrays(BRANCHES, library="np")
    rows = []
    for event in range(len(arrays["trk_layer"])):
        row = select_event({name: values[event] for name, values in arrays.items()})
        if row is not None:
            rows.append(row)
    return {name: np.array([row[name] for row in rows], np.float32) for name in NAMES}


def select_event(event: dict[str, Any]) -> dict[str, Any] | None:
    """The arrays of one event, or None where the strict selection refuses it."""
    if len(event["PrimaryG4P_Pt"]) != 1:
        return None
    hits: dict[int, list[list[float]]] = {layer: [] for layer in range(7)}
    for layer, x, y, z in zip(*(event[f"trk_{name}"] for name in ("layer", "X", "Y", "Z")), strict=True):
        hits[int(layer)].append([float(x), float(y), float(z)])
    inner, outer = hits[3] + hits[4], hits[5] + hits[6]
    if len(inner) != 1 or len(outer) != 1 or not (hits[0] and hits[1] and hits[2]):
        return None
    emcal = [number for number, system in enumerate(event["caloClus_system"]) if system == 0]
    if len(emcal) != 1 or len(event["caloClus_innr_X"]) != 1:
        return None
    face = [float(event[f"caloClus_innr_{name}"][0]) for name in ("X", "Y", "Z", "edep")]
    centre = [float(event[f"caloClus_{name}"][emcal[0]]) for name in ("X", "Y", "Z", "edep")]
    (x0, y0, _), (x1, y1, _) = inner[0], outer[0]
    dphi = math.atan2(face[1] - y1, face[0] - x1) - math.atan2(y1 - y0, x1 - x0)
    dphi = wrap(dphi)
    if dphi <= 0.01:
        return None
    mvtx = [min(hits[layer], key=lambda hit: distance(hit, inner[0], outer[0])) for layer in (0, 1, 2)]
    towers = list(zip(*(map(float, event[f"tower_{name}"]) for name in ("X", "Y", "Z", "edep")), strict=True))
    towers = sorted(towers, key=lambda tower: -tower[3])[:9]
    surface = math.atan2(event["CEMC_Pr_Hit_y"][0], event["CEMC_Pr_Hit_x"][0])
    return {
        "hit": [*mvtx, inner[0], outer[0]],
        "cluster": [face, centre],
        "tower": towers + [(0.0, 0.0, 0.0, 0.0)] * (9 - len(towers)),
        "dphi": dphi,
        "truth": [float(event[f"PrimaryG4P_{name}"][0]) for name in ("Pt", "Eta", "Phi")],
        "surface_dphi": wrap(surface - math.atan2(face[1], face[0])),
    }


def distance(hit: list[float], inner: list[float], outer: list[float]) -> float:
    """Of a point from the line through two others."""
    along = [b - a for a, b in zip(inner, outer, strict=True)]
    step = sum((p - a) * d for p, a, d in zip(hit, inner, along, strict=True)) / sum(d * d for d in along)
    return math.dist(hit, [a + step * d for a, d in zip(inner, along, strict=True)])


def wrap(angle: float) -> float:
    """Into (-pi, pi]."""
    return angle - 2 * math.pi * math.ceil((angle - math.pi) / (2 * math.pi))


def ours(file: Path) -> Arrays:
    """The same arrays by our reader, through a new cache."""
    with tempfile.TemporaryDirectory() as folder:
        cache = ingest((str(file),), Reading("strict", -1, False, SPLIT_NONE), Path(folder))
        return {name: np.array(cache.column("test", name)) for name in NAMES}


def main(repeats: int = 5, file: Path = SAMPLE) -> None:
    """Compare the two, and print events per second of both.

    Parameters
    ----------
    repeats : int
        Alternating repeats.
    file : Path
        A pT file of single electrons.
    """
    seconds: dict[str, list[float]] = {"ours": [], "event loop": []}
    results: dict[str, Arrays] = {}
    ours(file)  # imports and caches of the file system
    for _ in range(repeats):
        for name, read in (("ours", ours), ("event loop", event_loop)):
            start = time.perf_counter()
            results[name] = read(file)
            seconds[name].append(time.perf_counter() - start)
    for name in NAMES:
        np.testing.assert_allclose(results["ours"][name], results["event loop"][name], rtol=1e-6, atol=1e-7)
    events, accepted = int(uproot.open({str(file): "tree"}).num_entries), len(results["ours"]["dphi"])
    print(f"{platform.platform()}, Python {platform.python_version()}, uproot {uproot.__version__}")
    print(
        f"\nIngest of {file.name}, {events} events, {accepted} accepted, {repeats} alternating repeats, equal results"
    )
    print(f"{'':12} {'median s':>9} {'min s':>9} {'max s':>9} {'events/s':>10}")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:12} {median:9.3f} {min(times):9.3f} {max(times):9.3f} {events / median:10,.0f}")
    ratio = statistics.median(seconds["event loop"]) / statistics.median(seconds["ours"])
    print(f"ratio of medians: {ratio:.1f}")


if __name__ == "__main__":
    tyro.cli(main)
