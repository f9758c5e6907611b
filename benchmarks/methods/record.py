"""Record whole learning curves of a workload, as a table for the bench of search methods.

    nice -n 19 python -m benchmarks.methods.record pt-dphi --points 64 --seeds 2

Trains Sobol points of the search space and all presets, each with several seeds, on the carried sample with the
demo's epochs and fixed hyperparameters. Trainings that OUT.jsonl has are not repeated: the command continues where it
was stopped. One process, one thread. The table holds what is there, so it can be used before all is done.
"""

# P point, S seed, E epoch

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
import tyro
from optuna.distributions import BaseDistribution, CategoricalDistribution
from scipy.stats import qmc

from benchmarks.methods.table import CubeTrial, write
from search.config.settings import Method, SearchFlags
from search.config.space import Space
from search.config.spec import make_spec
from search.workload import Workload
from search.workloads import WORKLOADS
from trainables.base.errors import TrainingDiverged

TABLES = Path(__file__).parent / "tables"
_DRAWS = 400  # random points from which the conditions of a space are learnt
Point = dict[str, Any]


def points_of(space: Space, presets: Mapping[str, Point], count: int) -> dict[str, Point]:
    """Return presets, then Sobol points: name -> searched hyperparameters."""
    names = sorted(space.distributions)
    cube = qmc.Sobol(len(names), rng=np.random.default_rng(1)).random(count)
    found = {name: {key: point[key] for key in names if key in point} for name, point in presets.items()}
    for number, coordinates in enumerate(cube):
        point = space.suggest(CubeTrial([*names, *space.fixed], np.append(coordinates, [0.0] * len(space.fixed))))
        found[f"sobol-{number:03d}"] = {name: value for name, value in point.items() if name in names}
    return found


def ranges_of(space: Space) -> list[dict[str, Any]]:
    """Return the ranges as a table names them; conditions are learnt from random points."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = []
    for _ in range(_DRAWS):
        trial = study.ask()
        space.point(trial)
        drawn.append(trial.params)
    names = sorted(space.distributions, key=lambda name: (any(name not in point for point in drawn), name))
    return [_range(name, space.distributions[name]) | _condition(name, space, drawn) for name in names]


def _range(name: str, distribution: BaseDistribution) -> dict[str, Any]:
    if isinstance(distribution, CategoricalDistribution):
        return {"name": name, "kind": "choice", "choices": list(distribution.choices)}
    kind = "int" if isinstance(distribution, optuna.distributions.IntDistribution) else "float"
    bounds = {key: getattr(distribution, key) for key in ("low", "high", "log")}
    return {"name": name, "kind": kind, **bounds}


def _condition(name: str, space: Space, drawn: list[Point]) -> dict[str, Any]:
    if all(name in point for point in drawn):
        return {}
    for other, distribution in space.distributions.items():
        if isinstance(distribution, CategoricalDistribution):
            having = {point[other] for point in drawn if name in point and other in point}
            if all((point.get(other) in having) == (name in point) for point in drawn):
                return {"when": [other, [choice for choice in distribution.choices if choice in having]]}
    raise SystemExit(f"{name} exists in some points only, and no single choice says in which: the format has no words")


@dataclass(frozen=True)
class Recording:
    """Record whole learning curves of a workload, as a table for the bench of search methods."""

    workload: tyro.conf.Positional[str]
    """a workload that builds on no other"""
    points: int = 64
    """Sobol points beside the presets; a power of two"""
    seeds: int = 2
    """trainings of each point"""
    out: Path | None = None
    """the table, NAME.npz; NAME.jsonl beside it holds one line a training; default: in benchmarks/methods/tables"""
    cache: Path = Path("results/cache")
    """folder of the data cache"""
    limit: int | None = None
    """trainings of this call; default: all that are missing"""

    @property
    def file(self) -> Path:
        return self.out or TABLES / f"{self.workload}.npz"

    @property
    def lines(self) -> Path:
        return self.file.with_suffix(".jsonl")

    def done(self) -> dict[tuple[str, int], dict[str, Any]]:
        """Return the trainings that are recorded, by point and seed."""
        if not self.lines.exists():
            return {}
        runs = map(json.loads, self.lines.read_text().splitlines())
        return {(run["point"], run["seed"]): run for run in runs}

    def run(self) -> None:
        """Train what is missing, then write the table."""
        workload = WORKLOADS[self.workload]
        if workload.builds_on:
            raise SystemExit(f"{workload.name} builds on {', '.join(workload.builds_on)}: record one that does not")
        settings = workload.settings()
        spec = make_spec(workload, SearchFlags(settings, method=Method(presets="all")))
        points = points_of(spec.space, workload.presets, self.points)
        data, done = workload.load_data(settings, self.cache), self.done()
        missing = [(name, seed) for name in points for seed in range(self.seeds) if (name, seed) not in done]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        for name, seed in missing[: self.limit]:
            point = {**spec.space.fixed, **points[name], **workload.presets.get(name, {})}  # as ``Space.point`` does
            config = workload.config(**point | {"epochs": spec.epochs, "seed": seed})
            run = {"point": name, "seed": seed} | _train(workload, config, data, spec.goal)
            with self.lines.open("a") as file:
                file.write(json.dumps(run) + "\n")
        self.pack(spec.space, points, spec.epochs)

    def pack(self, space: Space, points: dict[str, Point], epochs: int) -> None:
        """Write the table of the points that have all seeds."""
        done = self.done()
        whole = {
            name: point for name, point in points.items() if all((name, seed) in done for seed in range(self.seeds))
        }
        if not whole:
            print("no point has all of its seeds yet: no table is written")
            return
        runs = [[done[name, seed] for seed in range(self.seeds)] for name in whole]
        ranges = ranges_of(space)
        names = ["score", next(iter(WORKLOADS[self.workload].objectives))]
        if all(run["curves"][names[0]] == run["curves"][names[1]] for row in runs for run in row):
            del names[0]  # no constraints
        about = {
            "family": self.workload,
            "source": f"python -m benchmarks.methods.record {self.workload}, demo size, torch {torch.__version__}",
            "parameters": ranges,
            "presets": {name: row for row, name in enumerate(whole) if not name.startswith("sobol-")},
        }
        arrays = {
            "points": np.array([list(_numbers(ranges, point)) for point in whole.values()]),
            "seconds": np.array([[run["epoch_seconds"] for run in row] for row in runs]),
            "progress": np.array([_to(row[0]["progress"], epochs, fill=100.0) for row in runs], np.float32),
        }
        for name in names:
            curves = [[_to(run["curves"].get(name, []), epochs) for run in row] for row in runs]
            arrays[f"loss/{name}"] = np.array(curves, np.float32)
        write(self.file, about, arrays)
        print(f"{self.file}: {len(whole)} points x {self.seeds} seeds x {epochs} epochs of {', '.join(names)}")


def _numbers(ranges: list[dict[str, Any]], point: Point) -> Iterator[float]:
    for one in ranges:
        value = point.get(one["name"])
        if value is None:
            yield math.nan
        else:
            yield float(one["choices"].index(value)) if one["kind"] == "choice" else float(value)


def _to(values: list[float], epochs: int, fill: float = math.nan) -> list[float]:
    return [*values, *[fill] * (epochs - len(values))]


def _train(workload: Workload, config: Any, data: Any, goal: Any) -> dict[str, Any]:
    """Train one point to its end; its curves are the score of the goal with its constraints, and each objective."""
    started = time.process_time()
    training = workload.training(config, data, torch.device("cpu"))
    curves: dict[str, list[float]] = {"score": [], **{name: [] for name in workload.objectives}}
    progress, reason = [], ""
    try:
        while not training.finished:
            metrics = training.train_epoch() | training.validate()
            curves["score"].append(goal.scalar_score(metrics))
            for name, mode in workload.objectives.items():
                curves[name].append(metrics[name] if mode == "min" else -metrics[name])
            progress.append(100.0 * training.progress)
    except TrainingDiverged as diverged:
        reason = diverged.reason
    seconds = (time.process_time() - started) / max(training.epoch, 1)
    return {"reason": reason, "epoch_seconds": seconds, "curves": curves, "progress": progress}


def main() -> None:
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tyro.cli(Recording).run()


if __name__ == "__main__":
    main()
