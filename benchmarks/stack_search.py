"""A whole search whose trials train in stacks against the same search with a process for each trial.

    python -m benchmarks.stack_search
    python -m benchmarks.stack_search --trials 16 --epochs 10 --stack 4 --pairs 1

Prints Markdown. Both searches of a pair run at the same time, each with a Ray of its own, so that a busy machine
disturbs them alike; seconds are those of the clock, and only ratios say something. They begin when Ray has started:
the processes of trials and servers are counted.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import tyro

from benchmarks.machine import begin_on
from search.storage.event_log import read_entries
from search.storage.search_dir import SearchDir

WAYS = ("off", "stack")


def main(workload: str = "pt-dphi", trials: int = 40, epochs: int = 25, stack: int = 8, pairs: int = 3) -> None:
    """Measure and print.

    Parameters
    ----------
    epochs : int
        Of a whole trial; ASHA stops some earlier.
    stack : int
        Slots of a stack.
    pairs : int
        Searches of each way.
    """
    _, machine = begin_on(1)
    print(f"{machine}; {workload}, {trials} trials of at most {epochs} epochs, ASHA, width 64, batch 64\n")
    print(
        "| pair | each in its process: trials/hour | epochs | stacks | epochs | ratio | epochs a second, ratio | busy |"
    )
    print("|---" * 8 + "|")
    ratios: list[float] = []
    for pair in range(pairs):
        with tempfile.TemporaryDirectory() as name:
            storage = Path(name)
            flags = ("--trials", str(trials), "--epochs", str(epochs), "--seed", str(pair))
            begun = {way: start(storage / way, workload, way if way == "off" else str(stack), *flags) for way in WAYS}
            texts = {way: one.communicate()[0] for way, one in begun.items()}
            for way, one in begun.items():
                if one.returncode:
                    raise SystemExit(f"the search {way} has failed:\n{texts[way]}")
            hours, counts = zip(*(measured(storage / way) for way in WAYS), strict=True)
        rates = [trials / hour for hour in hours]
        ratios.append(rates[1] / rates[0])
        by_epoch = counts[1] / hours[1] / (counts[0] / hours[0])
        busy = re.search(r"stack +(\d+) %", texts["stack"])
        cells = [f"{rates[0]:.0f}", f"{counts[0]}", f"{rates[1]:.0f}", f"{counts[1]}", f"{ratios[-1]:.2f}"]
        print(f"| {pair} | {' | '.join(cells)} | {by_epoch:.2f} | {busy[1] if busy else '?'} % |", flush=True)
    print(f"\nmedian ratio of trials per hour: {statistics.median(ratios):.2f}")


def start(storage: Path, workload: str, stack: str, *flags: str) -> subprocess.Popen[str]:
    """Begin a search of this name in a process of its own."""
    plain = ("--presets", "none", "--sampler", "random", "--scheduler", "asha", "--race", "0")
    where = ("--storage", str(storage), "--name", "measured", "--tracking-uri", "journal")
    command = [sys.executable, "-m", "search.run", workload, *plain, *where, "--stack", stack, *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def measured(storage: Path) -> tuple[float, int]:
    """Hours from the search's beginning to its last trial's end, and the epochs of all."""
    directory = SearchDir(storage, "measured")
    begun = next(iter(read_entries(directory.event_log))).at_ms / 1000
    records = directory.history.records()
    return (max(one.ended or 0.0 for one in records) - begun) / 3600, sum(one.epoch for one in records)


if __name__ == "__main__":
    tyro.cli(main)
