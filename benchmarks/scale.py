"""What the platform itself takes per trial, and the driver's memory, as a search grows: python -m benchmarks.scale."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import psutil
import tyro
from rich.console import Console
from rich.table import Table


def run_one(trials: int, sampler: str, storage: Path) -> dict[str, Any]:
    """One search in this process; seconds from the first trial's start to the last one's end."""
    from benchmarks.trivial import search_trivial
    from search.storage.event_log import read_entries
    from search.storage.search_dir import SearchDir

    started, busy = time.monotonic(), time.process_time()
    flags = ["--trials", str(trials), "--sampler", sampler, "--scheduler", "none", "--max-concurrent", "2"]
    code = search_trivial(["--storage", str(storage), "--name", "scale", *flags])
    ended = time.monotonic()
    times = [
        entry.at_ms for entry in read_entries(SearchDir(storage, "scale").event_log) if entry.event.startswith("trial_")
    ]
    return {
        "code": code,
        "trials": trials,
        "trial_ms": (max(times) - min(times)) / trials,
        "cpu_ms": (time.process_time() - busy) / trials * 1e3,
        "wall_s": ended - started,
        "memory_mb": psutil.Process().memory_info().rss / 1e6,
    }


def run_plain(trials: int, folder: Path) -> dict[str, Any]:
    """The same with OptunaSearch, MLflowLoggerCallback and Tune's defaults."""
    import mlflow
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    def train(config: dict[str, float]) -> None:
        tune.report({"loss": (config["x"] - 0.3) ** 2 + config["y"] ** 2})

    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.MlflowClient(uri).create_experiment("plain", artifact_location=(folder / "artifacts").as_uri())
    started, busy = time.monotonic(), time.process_time()
    ray.init(include_dashboard=False, log_to_driver=False)
    space = {name: tune.uniform(-1, 1) for name in ("x", "y")}
    results = tune.Tuner(
        train,
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(metric="loss", mode="min"), num_samples=trials, max_concurrent_trials=2
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder), name="plain", callbacks=[MLflowLoggerCallback(uri, experiment_name="plain")]
        ),
    ).fit()
    ended, first = time.monotonic(), min(result.metrics["timestamp"] for result in results)
    return {
        "code": 0,
        "trials": trials,
        "trial_ms": (max(result.metrics["timestamp"] for result in results) - first) / trials * 1e3,
        "cpu_ms": (time.process_time() - busy) / trials * 1e3,
        "wall_s": ended - started,
        "memory_mb": psutil.Process().memory_info().rss / 1e6,
    }


def main(
    sizes: tuple[int, ...] = (10, 100, 1000, 5000),
    sampler: str = "tpe",
    plain: bool = False,
    one: Annotated[int | None, tyro.conf.arg(help="run this size in this process and print its numbers")] = None,
) -> None:
    """Run searches of trivial trials, each size in a process of its own, and print a table.

    Parameters
    ----------
    sizes : int ...
        Numbers of trials.
    sampler : str
        Of ours.
    plain : bool
        The plain recipe instead of ours.
    """
    if one is not None:
        with tempfile.TemporaryDirectory() as folder:
            numbers = run_plain(one, Path(folder)) if plain else run_one(one, sampler, Path(folder))
        print(json.dumps(numbers))
        return
    what = "plain recipe" if plain else f"sampler {sampler}"
    table = Table(title=f"platform time per trial, {what}, two trials at a time")
    for column in ("trials", "ms per trial", "driver's CPU [ms per trial]", "whole search [s]", "driver's memory [MB]"):
        table.add_column(column, justify="right")
    for size in sizes:
        command = [sys.executable, "-m", "benchmarks.scale", "--one", str(size), "--sampler", sampler]
        command += ["--plain"] if plain else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        numbers = json.loads(done.stdout.splitlines()[-1])
        shown = (numbers[name] for name in ("trial_ms", "cpu_ms", "wall_s"))
        table.add_row(str(size), *(f"{value:.1f}" for value in shown), f"{numbers['memory_mb']:.0f}")
        print(json.dumps(numbers), file=sys.stderr, flush=True)
    Console().print(table)


if __name__ == "__main__":
    tyro.cli(main)
