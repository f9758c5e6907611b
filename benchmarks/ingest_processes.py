"""How much faster do several processes read large files than one, with the same cache?

    python -m benchmarks.ingest_processes X.root ...     of either workload

Repeats alternate, each with a new cache. Where other work shares the machine the gain is smaller.
"""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import tyro

from trainables.data import sources
from trainables.data.cache import Cache
from trainables.data.root_trees import opened, trees_in
from trainables.data.split import SPLIT_THREE
from trainables.pt import ingest as pt
from trainables.runtime.machine_limits import machine_limits
from trainables.zdc import ingest as zdc


def read(files: tuple[str, ...], folder: Path) -> Cache:
    """Read the files by the workload that the first is of."""
    with opened(files[0]) as root_file:
        of_pt = pt.FILES.trees & trees_in(root_file).keys()
    if of_pt:
        return pt.ingest(files, pt.Reading("strict", -1, False, SPLIT_THREE), folder)
    return zdc.ingest(files, zdc.Reading("auto", 0.0, False, SPLIT_THREE), folder)


@contextmanager
def read_by(several: bool) -> Iterator[None]:
    """Let one process read inside, or as many as the job has cores."""
    before = sources.LARGE_BYTES
    sources.LARGE_BYTES = 0 if several else 1 << 60
    try:
        yield
    finally:
        sources.LARGE_BYTES = before


def cpu_s() -> float:
    """CPU time of this process and of those that it has started and that have ended."""
    return sum(os.times()[:4])


def main(files: Annotated[tuple[str, ...], tyro.conf.Positional], repeats: int = 5) -> None:
    """Compare the two, and print seconds and events per second of both.

    Parameters
    ----------
    files : tuple of str
        ROOT files of one workload.
    repeats : int
        Alternating repeats.
    """
    seconds: dict[str, list[float]] = {"one process": [], "several": []}
    cpu: dict[str, list[float]] = {name: [] for name in seconds}
    content: dict[str, dict[str, bytes]] = {}
    events = 0
    for _ in range(repeats):
        for name in seconds:
            with tempfile.TemporaryDirectory() as folder, read_by(name == "several"):
                start, start_cpu = time.perf_counter(), cpu_s()
                cache = read(files, Path(folder))
                seconds[name].append(time.perf_counter() - start)
                cpu[name].append(cpu_s() - start_cpu)
                events = cache.meta["events"]
                content[name] = {path.name: path.read_bytes() for path in cache.folder.iterdir()}
    assert content["one process"] == content["several"], "the caches differ"
    print(f"{platform.platform()}, {machine_limits().cpus} cores, load {os.getloadavg()[0]:.1f}")
    print(f"\n{events:,} events in {len(files)} files, {repeats} alternating repeats, equal caches")
    print(f"{'':12} {'median s':>9} {'min s':>9} {'events/s':>10} {'CPU s':>8}")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:12} {median:9.2f} {min(times):9.2f} {events / median:10,.0f} {statistics.median(cpu[name]):8.2f}")
    pairs = zip(*seconds.values(), strict=True)
    print(f"one process / several, paired median: {statistics.median(one / more for one, more in pairs):.2f}")


if __name__ == "__main__":
    tyro.cli(main)
