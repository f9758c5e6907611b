"""A workload whose trials take no time, so that what is measured is the platform.

python -m benchmarks.trivial FLAGS is a search of it, with the flags of search.run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import torch

import search.run
from search.workload import Defaults, Workload
from search.workloads import WORKLOADS
from trainables.base.training import Training, TrainingConfig
from trainables.data.files import DataSettings


class TrivialConfig(TrainingConfig):
    x: float = 0.0
    y: float = 0.0


class TrivialData:
    fingerprint = "nothing"
    objective_version = "trivial-1"
    summary = ("nothing at all",)


class TrivialTraining(Training):
    """A parabola."""

    def __init__(self, config: TrivialConfig, data: TrivialData, device: torch.device) -> None:
        self.config: TrivialConfig = config
        self.epoch = 0

    def train_epoch(self) -> dict[str, float]:
        self.epoch += 1
        return {"lr": 0.1}

    def validate(self) -> dict[str, float]:
        return {"loss": (self.config.x - 0.3) ** 2 + self.config.y**2}

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch}

    def load_state(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]

    def weights(self) -> dict[str, torch.Tensor]:
        return {"x": torch.tensor(self.config.x)}

    def write_report(self, folder: Path) -> None:
        (folder / "value.csv").write_text(f"x\n{self.config.x}\n")


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    return {"x": trial.suggest_float("x", -1, 1), "y": trial.suggest_float("y", -1, 1)}


TRIVIAL = Workload(
    name="trivial",
    title="trials that take no time",
    training=TrivialTraining,
    config=TrivialConfig,
    settings=DataSettings,
    load_data=lambda settings, cache: TrivialData(),
    simulate_data=lambda events, seed: TrivialData(),
    suggest=suggest,
    presets={},
    optional=(),
    mutable=(),
    objectives={"loss": "min"},
    columns=(),
    baselines=lambda data: {},
    compare=lambda reports, folder: None,
    demo=Defaults(trials=10, epochs=1, presets=(), fixed={}),
    full=Defaults(trials=10, epochs=1, presets=(), fixed={}),
)


def search_trivial(flags: Sequence[str]) -> int:
    """One search in this process; returns its exit code."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers need not find this file
    WORKLOADS["trivial"] = TRIVIAL
    return search.run.main(["trivial", *flags])


if __name__ == "__main__":
    sys.exit(search_trivial(sys.argv[1:]))
