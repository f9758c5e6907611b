"""Compare methods of search on tabulated learning curves; prints Markdown.

    python -m benchmarks.methods --tables DIR --methods ours ray random --budget 60 --workers 8 --replicates 50

README.md beside this file describes tables and methods. Results in OUT are not computed again: the command continues
where it was stopped, and more methods or replicates can be added.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from benchmarks.methods.methods import make_method
from benchmarks.methods.quick import compute_quickly
from benchmarks.methods.replay import Replay, Replicate, Setting
from benchmarks.methods.report import figure, markdown
from benchmarks.methods.table import Table, TableError, read

OWN = Path(__file__).parent / "tables"
SPLIT_SEED = "2026-11-29"
_SMALLEST = 4  # points of a table for one training of the budget; with fewer the budget is cut


def is_for_verdict(name: str) -> bool:
    """Whether a table belongs to the verdict; all losses of one file go together."""
    word = f"{SPLIT_SEED}:{name.partition(':')[0]}"
    return hashlib.sha256(word.encode()).digest()[0] % 2 == 1


def tables_of(paths: tuple[Path, ...], only: str) -> list[Table]:
    """Read all tables of files and folders, those below them too, in the order of their names."""
    files = [file for path in paths for file in (sorted(path.rglob("*.npz")) if path.is_dir() else [path])]
    tables = [table for file in files for table in read(file) if fnmatch(table.name, only)]
    if not tables:
        raise TableError(f"no table {only} in {', '.join(map(str, paths))}: expected .npz files, see README.md")
    return tables


@dataclass(frozen=True)
class Bench:
    """Compare methods of search on tabulated learning curves."""

    tables: tuple[Path, ...] = (OWN,)
    """files or folders of tables"""
    methods: tuple[str, ...] = ("ours", "ray", "optuna-sh", "random+ray-asha", "random")
    """the first one is compared with each other one"""
    budget: float = 60.0
    """of compute, in whole trainings of mean length; smaller for a table of fewer than 4 points a training"""
    workers: int = 8
    """trainings at the same time"""
    noise: float = 1.0
    """real seeds: share of a seed's own part; one seed: synthetic, times the spread of the best 5 %"""
    presets: Literal["good", "middling", "bad", "own", "none"] = "middling"
    """points that run first: two of the table, or those that it names"""
    replicates: int = 30
    """of each table, with the same start points, noise and run times for all methods"""
    by_trials: bool = False
    """the budget is a number of trials, as --trials of a search gives it, rather than compute"""
    split: Literal["all", "development", "verdict"] = "all"
    """half of the tables, by a hash of their names"""
    only: str = "*"
    """pattern of table names"""
    out: Path = Path("methods.jsonl")
    """one line of JSON for each run; existing ones are kept and not computed again"""
    figure: Path | None = None
    """any-time curves, as PNG"""

    def setting(self, table: Table) -> Setting:
        most = (len(table.point_PD) - len(table.presets)) / _SMALLEST
        budget = self.budget if self.by_trials else min(self.budget, most)
        return Setting(budget, self.workers, self.noise, self.presets, by_trials=self.by_trials)

    def wanted(self) -> list[Table]:
        """Return the tables of the chosen half."""
        tables = tables_of(self.tables, self.only)
        verdict = self.split == "verdict"
        return [table for table in tables if self.split == "all" or is_for_verdict(table.name) == verdict]

    def run(self, tables: list[Table]) -> Iterator[dict[str, Any]]:
        """Yield the results of all runs; replicates outermost, so that what is there is balanced."""
        known = {key_of(run): run for run in _lines(self.out)}
        for number in range(self.replicates):
            for table in tables:
                replicate = Replicate(table, self.setting(table), number)
                for method in self.methods:
                    run = {"table": table.name, "family": table.family, "method": method, "replicate": number}
                    run |= asdict(replicate.setting)
                    if (key := key_of(run)) not in known:
                        started = time.process_time()
                        outcome = asdict(Replay(replicate, make_method(method, replicate)).run())
                        known[key] = run | outcome | {"cpu_s": time.process_time() - started}
                        with self.out.open("a") as file:
                            file.write(json.dumps(known[key]) + "\n")
                    yield known[key]


def key_of(run: dict[str, Any]) -> str:
    """Return what makes a run the same as one that is known."""
    names = ("table", "method", "replicate", "budget", "workers", "noise", "presets", "by_trials")
    return json.dumps([run[name] for name in names])


def _lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def main() -> None:
    bench = tyro.cli(Bench)
    try:
        tables = bench.wanted()
    except TableError as error:
        raise SystemExit(str(error)) from error
    np.seterr(over="ignore")
    compute_quickly()
    runs = list(bench.run(tables))
    print(*markdown(runs, bench.methods), sep="\n")
    if bench.figure:
        figure(runs, bench.methods, bench.figure)


if __name__ == "__main__":
    main()
