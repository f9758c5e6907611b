"""What the platform costs on top of training: a search of ours and the plain recipe, same trials, same cores.

    python -m benchmarks.overhead

Each run is a process of its own, from import to exit, in turn, on the carried sample. "training" is the time that the
trials themselves spent in their epochs, summed and divided by the trials at a time; what is left is the platform's.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

CONCURRENT = 2
HELD = {"gan": False, "hidden_dim": 4, "batch_size": 256, "normalise": True}  # every trial costs the same


@dataclass(frozen=True)
class Run:
    """One whole process."""

    wall_s: float
    training_s: float  # at CONCURRENT trials at a time
    trials: int

    @property
    def overhead_s(self) -> float:
        return self.wall_s - self.training_s


def main(
    trials: Annotated[int, tyro.conf.arg(help="trials of a search")] = 8,
    epochs: Annotated[int, tyro.conf.arg(help="epochs of a trial")] = 3,
    repeats: Annotated[int, tyro.conf.arg(help="runs of each kind, in turn")] = 3,
) -> None:
    """Print the table."""
    runs: dict[str, list[Run]] = {"this platform": [], "plain recipe": []}
    for _ in range(repeats):
        runs["this platform"].append(_ours(trials, epochs))
        runs["plain recipe"].append(_plain(trials, epochs))
    table = Table(title=f"{trials} trials of {epochs} epochs, {CONCURRENT} at a time; medians of {repeats} runs")
    for column in ("", "wall s", "training s", "overhead s", "overhead s per trial", "wall / training"):
        table.add_column(column, justify="right" if column else "left")
    for name, of_kind in runs.items():
        wall, training, overhead = (
            statistics.median(getattr(run, field) for run in of_kind)
            for field in ("wall_s", "training_s", "overhead_s")
        )
        table.add_row(name, f"{wall:.1f}", f"{training:.1f}", f"{overhead:.1f}",
                      f"{overhead / trials:.2f}", f"{wall / training:.2f}")  # fmt: skip
    pairs = zip(runs["this platform"], runs["plain recipe"], strict=True)
    ratios = sorted(ours.overhead_s / plain.overhead_s for ours, plain in pairs)
    console = Console(width=110)
    console.print(table)
    console.print(f"overhead, ours / plain, pair by pair: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")


def _timed(command: list[str], result: Path) -> tuple[float, Any]:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started, json.loads(result.read_text())


def _ours(trials: int, epochs: int) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "leaderboard.json"
        held = [f"{name}={value}" for name, value in HELD.items()]
        wall_s, board = _timed(
            ["search.run", "zdc", "--storage", folder, "--json", str(result), "--trials", str(trials),
             "--epochs", str(epochs), "--presets", "none", "--sampler", "random", "--scheduler", "none",
             "--max-concurrent", str(CONCURRENT), "--set", *held], result)  # fmt: skip
    return Run(wall_s, board["compute_hours"] * 3600 / CONCURRENT, trials)


def _plain(trials: int, epochs: int) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        wall_s, seconds = _timed(["benchmarks.plain_recipe", folder, str(result), str(trials), str(epochs)], result)
    return Run(wall_s, seconds / CONCURRENT, trials)


if __name__ == "__main__":
    tyro.cli(main)
