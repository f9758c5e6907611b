"""How many trials a GPU machine finishes in an hour when trials share its GPUs, and what auto chooses.

    python -m benchmarks.gpu.sharing --trials 32 --epochs 20

Each search is a process of its own, with all cores and GPUs of the machine; the shares of one workload take turns,
``repeats`` times. Counted from the first trial's start to the last one's end, so that starting Ray, reading data and
the moment that auto takes are not in it. Trials of one workload are alike: the report's sizes, random learning rates.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from search.storage.event_log import read_entries
from search.storage.search_dir import SearchDir

HELD: dict[str, dict[str, Any]] = {  # every trial costs the same
    "zdc": {"gan": True, "dis_gen_ratio": "1:1", "hidden_dim": 16, "batch_size": 1024},
    "pt-dphi": {"width": 256, "depth": 3, "batch_size": 1024, "dropout": 0.2, "monotonic": True, "boundary": True},
}


@dataclass(frozen=True)
class Run:
    """One search."""

    share: dict[str, float]  # that was used
    seconds: float
    complete: int
    told: str  # the line about the measurement

    @property
    def per_hour(self) -> float:
        return self.complete / self.seconds * 3600


def main(
    workloads: Annotated[tuple[str, ...], tyro.conf.arg(help="whose trials")] = tuple(HELD),
    shares: Annotated[tuple[str, ...], tyro.conf.arg(help="--gpus-per-trial")] = ("1", "0.5", "0.25", "0.125", "auto"),
    trials: Annotated[int, tyro.conf.arg(help="of each search; a multiple of those at the same time")] = 32,
    epochs: Annotated[int, tyro.conf.arg(help="of each trial")] = 20,
    repeats: Annotated[int, tyro.conf.arg(help="searches of each kind, in turn")] = 1,
    data: Annotated[tuple[str, ...], tyro.conf.arg(help="files of one workload; none: the carried samples")] = (),
) -> None:
    """Print one table a workload."""
    if any(share != "0" for share in shares) and not torch.cuda.is_available():
        sys.exit(f"error: torch {torch.__version__} sees no GPU here; this benchmark is about sharing one.")
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    where = f"{', '.join(gpus) or 'no GPU'}; {os.cpu_count()} cores"
    for workload in workloads:
        runs: dict[str, list[Run]] = {share: [] for share in shares}
        for _ in range(repeats):
            for share in shares:
                try:
                    runs[share].append(run_search(workload, share, trials, epochs, data))
                except RuntimeError as error:
                    sys.exit(f"error: {error}")
                print(f"{workload}, {share}: {runs[share][-1].per_hour:.0f} trials per hour", file=sys.stderr)
        _print(f"{workload}, {trials} trials of {epochs} epochs; {where}", runs)


def run_search(
    workload: str, share: str, trials: int, epochs: int, data: tuple[str, ...], limit_s: float | None = None
) -> Run:
    """Run one search of trials that cost the same.

    Raises
    ------
    RuntimeError
        The search failed; with its last words.
    subprocess.TimeoutExpired
        It took longer than ``limit_s``.
    """
    with tempfile.TemporaryDirectory() as storage:
        held = [f"{name}={value}" for name, value in HELD[workload].items()]
        command = [
            sys.executable, "-m", "search.run", workload, "--storage", storage, "--name", "sharing",
            "--gpus-per-trial", share, "--trials", str(trials), "--epochs", str(epochs), "--presets", "none",
            "--sampler", "random", "--scheduler", "none", "--retries", "0", "--max-failures", "0",
            *(["--data", *data] if data else []), "--set", *held,
        ]  # fmt: skip
        wide = os.environ | {"COLUMNS": "300"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=wide, timeout=limit_s)
        if done.returncode:
            words = f"{done.stdout}\n{done.stderr}"[-2000:]
            raise RuntimeError(f"{words}\nthe search of {workload} at {share} failed")
        folder = SearchDir(Path(storage), "sharing")
        board: dict[str, Any] = json.loads((folder.path / "leaderboard.json").read_text())
        at_ms = [entry.at_ms for entry in read_entries(folder.event_log) if entry.event.startswith("trial_")]
    told = [line for line in done.stdout.splitlines() if "sizing" in line.split(":")[0]]
    return Run(board["share"], (max(at_ms) - min(at_ms)) / 1e3, board["outcomes"].get("complete", 0), " ".join(told))


def _print(title: str, runs: dict[str, list[Run]]) -> None:
    table = Table(title=title)
    for column in ("--gpus-per-trial", "GPU each", "at a time", "complete", "s", "trials per hour", "gain"):
        table.add_column(column, justify="right")
    first = statistics.median(run.per_hour for run in next(iter(runs.values())))
    for share, of_share in runs.items():
        rate, last = statistics.median(run.per_hour for run in of_share), of_share[-1]
        seconds = statistics.median(run.seconds for run in of_share)
        table.add_row(
            share, f"{last.share['gpus_per_trial']:g}", f"{last.share['max_concurrent']:g}", str(last.complete),
            f"{seconds:.0f}", f"{rate:.0f}", f"{rate / first:.2f}" if first else "",
        )  # fmt: skip
    console = Console(width=120)
    console.print(table)
    for line in (of_share[-1].told for of_share in runs.values() if of_share[-1].told):
        console.print(line, markup=False, soft_wrap=True)


if __name__ == "__main__":
    tyro.cli(main)
