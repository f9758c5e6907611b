"""The same search as a physicist writes it from the tutorials: OptunaSearch, MLflowLoggerCallback, Tune's defaults."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import optuna
import ray
import torch
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.search.optuna import OptunaSearch

from benchmarks.overhead import CONCURRENT, HELD
from trainables.zdc.config import ZDCConfig
from trainables.zdc.data import ZDCDataSettings, load_data
from trainables.zdc.train import ZDCTraining


def space(trial: optuna.Trial) -> dict[str, Any]:
    """The searched hyperparameters of the comparison."""
    return {
        "max_lr_gen": trial.suggest_float("max_lr_gen", 1e-4, 5e-3, log=True),
        "pct_start": trial.suggest_float("pct_start", 0.1, 0.9),
        **HELD,
    }


def train(config: dict[str, Any], data: Any, epochs: int) -> None:
    """One trial."""
    torch.set_num_threads(1)
    training = ZDCTraining(ZDCConfig(**config, epochs=epochs), data, torch.device("cpu"))
    seconds = 0.0
    while not training.finished:
        started = time.perf_counter()
        metrics = training.train_epoch() | training.validate()
        seconds += time.perf_counter() - started
        tune.report(metrics | {"seconds": seconds})


def main() -> None:
    """Run it; arguments: folder, result file, trials, epochs."""
    folder, result, trials, epochs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    data = load_data(ZDCDataSettings(), folder / "cache")
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.MlflowClient(uri).create_experiment("zdc", artifact_location=(folder / "artifacts").as_uri())
    ray.init(include_dashboard=False, log_to_driver=False)
    tuner = tune.Tuner(
        tune.with_parameters(train, data=data, epochs=epochs),
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(
                space, metric="mse_high", mode="min", sampler=optuna.samplers.RandomSampler(seed=0)
            ),
            num_samples=trials,
            max_concurrent_trials=CONCURRENT,
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder),
            name="plain",
            callbacks=[MLflowLoggerCallback(uri, experiment_name="zdc")],
        ),
    )
    seconds = sum(outcome.metrics["seconds"] for outcome in tuner.fit())
    result.write_text(json.dumps(seconds))


if __name__ == "__main__":
    main()
