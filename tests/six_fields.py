"""A workload that gives only what is required, with two metrics: more of one is better, and less of the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import torch
from torch import Tensor, nn

from search import TorchTraining, TrainingConfig, Workload


class Config(TrainingConfig):
    lr: float = 1e-2
    width: int = 8


class Classifier(TorchTraining):
    def build(self) -> Any:
        net = nn.Sequential(
            nn.Linear(4, self.config.width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(self.config.width, 1)
        )
        return net, torch.optim.Adam(net.parameters(), self.config.lr)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(self.network(x)[:, 0], y)

    def score(self, x: Any, y: Any) -> dict[str, float]:
        logit_N = self.predict(x)[:, 0]
        probability_N = 1 / (1 + np.exp(-logit_N))
        return {
            "accuracy": float(((logit_N > 0) == (y > 0.5)).mean()),
            "brier": float(((probability_N - y) ** 2).mean()),
        }


def load(files: tuple[str, ...]) -> dict[str, Any]:
    opened = [np.load(file) for file in files]
    return {name: np.concatenate([one[name] for one in opened]) for name in ("x", "y")}


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    return {"lr": trial.suggest_float("lr", 1e-3, 1e-1, log=True), "width": trial.suggest_int("width", 4, 32, log=True)}


WORKLOAD = Workload(
    name="six-fields",
    training=Classifier,
    config=Config,
    load=load,
    suggest=suggest,
    objectives={"accuracy": "max", "brier": "min"},
)
