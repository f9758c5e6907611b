"""How fast and in how much memory are ZDC files ingested, against a loop over events, and against uproot's reading?

    python -m benchmarks.ingest                     the carried sample, 16,000 events
    python -m benchmarks.ingest --file x.root       another file of layout mytree
    python -m benchmarks.ingest --large 4000000     peak memory there too; needs 2 GB in the temporary folder

Both sides start from the same ROOT file and end with six conditions and a packed hit mask per event. Ours
also checks, hashes, splits, and writes the cache, in a new folder each time. Repeats alternate.
"""

from __future__ import annotations

import math
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tyro
import uproot

from trainables.data.root_trees import CHUNK_BYTES
from trainables.data.split import SPLIT_NONE
from trainables.zdc import layouts
from trainables.zdc.data import SAMPLE, ZDCDataSettings, load_data
from trainables.zdc.ingest import Reading, ingest
from trainables.zdc.simulate import simulate_batches, write_file


def event_loop(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """The usual script of an analysis: read the branches, then go through the events one by one."""
    with uproot.open(file, array_cache=None) as root_file:
        names = ["mcPar_energy", "mcPar_momX", "mcPar_momY", "mcPar_momZ"]
        names += ["ecal_energy", "ecal_posX", "ecal_posY", "ecal_posZ"]
        arrays = root_file["myTree"].arrays(names, library="np")
    conditions, masks = [], []
    cosine, sine = math.cos(-0.025), math.sin(-0.025)
    for event in range(len(arrays["mcPar_energy"])):
        energy, px, py, pz = (float(arrays[name][event][0]) for name in names[:4])
        theta, phi = math.atan2(math.hypot(px, py), pz), math.atan2(py, px)
        deposit = np.zeros((20, 20))
        for e, x, y, z in zip(*(arrays[name][event] for name in names[4:]), strict=True):
            ix = math.floor((float(x) * cosine - float(z) * sine) / 30.3 + 10)
            iy = math.floor(float(y) / 30.3 + 10)
            if 0 <= ix < 20 and 0 <= iy < 20:
                deposit[ix, iy] += e
        conditions.append([energy, px, py, pz, theta, phi])
        masks.append(np.packbits(deposit.ravel() > 0))
    return np.array(conditions, np.float32), np.array(masks)


def ours(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """The same arrays by our reader, through a new cache."""
    with tempfile.TemporaryDirectory() as folder:
        cache = ingest((str(file),), Reading("auto", 0.0, False, SPLIT_NONE), Path(folder))
        return np.array(cache.column("test", "condition")), np.array(cache.column("test", "mask_packed"))


def uproot_alone(file: Path) -> None:
    """Read the branches that we read, in chunks of the same size, and do nothing with them: no ingest is faster."""
    branches = layouts.MYTREE_FIELDS | layouts.MYTREE_OPTIONAL
    with uproot.open(file) as root_file:
        for _ in root_file["myTree"].iterate(list(branches.values()), step_size=f"{CHUNK_BYTES} B", library="ak"):
            pass


def compare(file: Path, repeats: int) -> None:
    """Print events per second of CPU time of each, and whether ours and the loop agree."""
    ways: dict[str, Callable[[Path], Any]] = {"ours": ours, "event loop": event_loop, "uproot alone": uproot_alone}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    results: dict[str, Any] = {}
    for _ in range(repeats):
        for name, read in ways.items():
            start = time.process_time()
            results[name] = read(file)
            seconds[name].append(time.process_time() - start)
    events = len(results["ours"][0])
    assert np.array_equal(results["ours"][1], results["event loop"][1]), "the masks differ"
    np.testing.assert_allclose(results["ours"][0], results["event loop"][0], rtol=1e-5, atol=1e-6)
    print(f"\nIngest of {file.name}, {events} events, {repeats} alternating repeats, equal results")
    print(f"{'':12} {'median s':>9} {'min s':>9} {'max s':>9} {'events/s':>10}")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:12} {median:9.3f} {min(times):9.3f} {max(times):9.3f} {events / median:10,.0f}")
    for name in ("event loop", "uproot alone"):
        pairs = zip(seconds[name], seconds["ours"], strict=True)
        print(
            f"our rate as a multiple of the {name}'s: {statistics.median(theirs / mine for theirs, mine in pairs):.2f}"
        )


def peak_mb() -> float:
    """Largest resident memory of this process so far."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1e3


def imports(_: Path, __: int) -> dict[str, float]:
    """Nothing but the imports of this module: what every other row contains."""
    return {"peak_mb": peak_mb()}


def simulated(folder: Path, events: int) -> dict[str, float]:
    """Write a file."""
    start = time.perf_counter()
    write_file(folder / "x.root", "mytree", simulate_batches(events, 1))
    return {"s": time.perf_counter() - start, "peak_mb": peak_mb()}


def loaded(folder: Path, _: int) -> dict[str, float]:
    """Load it as a search does, whether the cache is there or not."""
    start = time.perf_counter()
    load_data(ZDCDataSettings(data=(str(folder / "x.root"),)), folder / "cache")
    return {"s": time.perf_counter() - start, "peak_mb": peak_mb()}


def alone(job: Callable[[Path, int], dict[str, float]], folder: Path, events: int) -> dict[str, float]:
    """Run a job in a new process, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(job, folder, events).result()


def scale(sizes: list[int]) -> None:
    """Print time and peak memory of simulating, ingesting and opening samples of these sizes."""
    print("\nSimulated events, layout mytree; each step in a process of its own")
    print(f"{'events':>10} {'step':22} {'s':>8} {'events/s':>11} {'peak MB':>8}")
    for events in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            print(f"{events:10,} {'imports only':22} {'':8} {'':11} {alone(imports, folder, 0)['peak_mb']:8.0f}")
            steps = (
                ("simulate and write", simulated),
                ("ingest (no cache)", loaded),
                ("open (cached)", loaded),
            )
            for step, job in steps:
                took = alone(job, folder, events)
                rate = events / took["s"]
                print(
                    f"{events:10,} {step:22} {took['s']:8.2f} {rate:11,.0f} {took['peak_mb']:8.0f}",
                    flush=True,
                )
            file_mb = (folder / "x.root").stat().st_size / 1e6
            cache_mb = sum(path.stat().st_size for path in folder.glob("cache/*/*")) / 1e6
            print(f"{'':10} file {file_mb:,.0f} MB, cache {cache_mb:,.0f} MB")


def main(repeats: int = 5, file: Path = SAMPLE, small: int = 16_000, large: int = 0) -> None:
    """Compare ingest with a loop over events, and measure peak memory.

    Parameters
    ----------
    repeats : int
        Alternating repeats of the comparison.
    file : Path
        Its layout is mytree.
    small : int
        Events of the smaller simulated sample.
    large : int
        Events of the larger one; 0: none.
    """
    print(f"{platform.platform()}, Python {platform.python_version()}, uproot {uproot.__version__}")
    compare(file, repeats)
    scale([small, large] if large else [small])


if __name__ == "__main__":
    tyro.cli(main)
