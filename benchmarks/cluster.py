"""What more nodes give: trials per minute, and seconds from submit to the first epoch.

    python -m benchmarks.cluster

The nodes are raylets of one core each, on hosts of their own: the namespaces of this machine that the tests use too, so
it must run as root. Searches are Ray jobs, as ``search.submit`` sends them. Trivial trials take no time: what is
measured is the platform. Real trials are zdc trainings of a fixed size on simulated showers. More nodes than this
machine has cores only show what that costs.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the machinery that makes hosts

from ray_cluster import RayCluster, running_cluster
from zdc_files import flat_branches, showers, write

from search.storage.event_log import read_entries
from search.storage.search_dir import SearchDir

ROOT = Path(__file__).parents[1]
EVENTS = 4_000
FIXED = ("--presets", "none", "--scheduler", "none", "--gpus-per-trial", "0", "--sampler", "random")
REAL = ("--set", "hidden_dim=4", "gan=false", "batch_size=128")  # every trial costs the same


@dataclass(frozen=True)
class Row:
    nodes: int
    trivial: float  # trials per minute
    real: float
    first_epoch_s: float  # from the start of search.submit


def main(
    nodes: tuple[int, ...] = (1, 2, 4),
    trivial: Annotated[int, tyro.conf.arg(help="trivial trials of a search")] = 200,
    real: Annotated[int, tyro.conf.arg(help="zdc trials of a search, for each node")] = 4,
    epochs: Annotated[int, tyro.conf.arg(help="epochs of a zdc trial")] = 6,
) -> None:
    """Print the table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = write(Path(folder, "zdc.root"), "mytree", flat_branches("mytree", showers(EVENTS)))
        for count in nodes:
            place = Path(folder, str(count))
            place.mkdir()
            with running_cluster(place, workers=count) as cluster:
                rows.append(_measure(cluster, count, data, trivial, real * count, epochs))
                print(rows[-1], file=sys.stderr, flush=True)
    title = (
        f"{trivial} trivial trials; {real} zdc trials of {epochs} epochs for each node; {os.cpu_count()} cores in all"
    )
    table = Table(title=title)
    for column in ("nodes", "trivial trials/min", "zdc trials/min", "of one node", "submit to first epoch [s]"):
        table.add_column(column, justify="right")
    for row in rows:
        ratio = f"{row.real / rows[0].real:.2f}"
        table.add_row(str(row.nodes), f"{row.trivial:.0f}", f"{row.real:.1f}", ratio, f"{row.first_epoch_s:.1f}")
    Console(width=120).print(table)


def _measure(cluster: RayCluster, nodes: int, data: str, trivial: int, real: int, epochs: int) -> Row:
    storage = cluster.folder / "results"
    place = ("--storage", str(storage))
    _job(cluster, ["--name", "trivial", "--trials", str(trivial), *place, *FIXED])
    words = ["zdc", "--to", "ray", "--address", cluster.address, "--", *place, "--data", data, "--name", "real"]
    submitted_ms = time.time_ns() / 1e6
    done = cluster.submit(*words, "--trials", str(real), "--epochs", str(epochs), *FIXED, *REAL, seconds=1800)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    first_ms = next(entry.at_ms for entry in read_entries(_journal(storage, "real")) if entry.event == "epoch_ended")
    return Row(
        nodes,
        _per_minute(storage, "trivial", trivial),
        _per_minute(storage, "real", real),
        (first_ms - submitted_ms) / 1e3,
    )


def _per_minute(storage: Path, name: str, trials: int) -> float:
    """From the start of the first trial to the end of the last."""
    times = [
        entry.at_ms
        for entry in read_entries(_journal(storage, name))
        if entry.event in ("trial_started", "trial_ended")
    ]
    return trials / (max(times) - min(times)) * 60_000


def _journal(storage: Path, name: str) -> Path:
    return SearchDir(storage, name).event_log


def _job(cluster: RayCluster, words: Sequence[str]) -> None:
    """A search of trivial trials, whose workload no cluster knows by itself, as a job on the head."""
    cluster.run_job("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "benchmarks.trivial", *words)


if __name__ == "__main__":
    tyro.cli(main)
