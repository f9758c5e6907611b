"""A small workload that keeps the whole contract and gives every capability; a line is fitted to 250 events.

It is what a physicist writes without a base class. tests/test_check.py breaks one law of it at a time.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import nn

from search.workload import Defaults, Workload
from trainables.base.errors import DataError
from trainables.base.objectives import Constraint
from trainables.base.training import Training, TrainingConfig
from trainables.data.files import DataSettings


class LineConfig(TrainingConfig):
    lr: float = Field(1e-2, gt=0)
    dropout: float = Field(0.1, ge=0, lt=1)
    width: int = Field(8, ge=1)


@dataclass(frozen=True)
class LineData:
    train_x: np.ndarray
    train_y: np.ndarray
    validation_x: np.ndarray
    validation_y: np.ndarray
    fingerprint: str
    summary: tuple[str, ...] = ("a line",)
    objective_version: str = "line-1"


class LineTraining(Training):
    """It draws dropout and the order of events from the generator of the process, as most code does."""

    config: LineConfig

    def __init__(self, config: LineConfig, data: LineData, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.config, self.data, self.epoch = config, data, 0
        self.x, self.y = torch.tensor(data.train_x), torch.tensor(data.train_y)
        layers = nn.Linear(2, config.width), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(config.width, 1)
        self.network = nn.Sequential(*layers).to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=config.lr)

    def train_epoch(self) -> dict[str, float]:
        losses = []
        for chosen in torch.randperm(len(self.x)).split(self.config.batch_size):
            loss = ((self.network(self.x[chosen])[:, 0] - self.y[chosen]) ** 2).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        self.epoch += 1
        return {"train_loss": sum(losses) / len(losses)}

    def validate(self) -> dict[str, float]:
        self.network.eval()
        with torch.no_grad():
            predicted = self.network(torch.tensor(self.data.validation_x))[:, 0]
        self.network.train()
        loss = (predicted - torch.tensor(self.data.validation_y)) ** 2
        return {"loss": loss.mean().item(), "worst": loss.max().item()}

    def state(self) -> dict[str, Any]:
        parts = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(), "epoch": self.epoch}
        return copy.deepcopy(parts) | {"random": torch.get_rng_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.load_all(state)
        self.optimizer.param_groups[0]["lr"] = self.config.lr

    def load_all(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.epoch = state["epoch"]
        torch.set_rng_state(state["random"])

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().cpu().clone() for name, tensor in self.network.state_dict().items()}

    def write_report(self, folder: Path) -> None:
        (folder / "scores.csv").write_text(f"loss\n{self.validate()['loss']}\n")


def simulate_data(events: int, seed: int) -> LineData:
    random = np.random.default_rng(seed)
    x = random.normal(size=(events, 2)).astype("f4")
    y = (x @ np.array([1.0, -2.0], "f4") + 0.1 * random.normal(size=events)).astype("f4")
    part = events // 5
    return LineData(x[part:], y[part:], x[:part], y[:part], hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest())


def load_data(settings: DataSettings, _cache: Path) -> LineData:
    try:
        seeds = [int(Path(file).read_text()) for file in settings.data]
    except (OSError, ValueError) as error:
        raise DataError(f"{settings.data[0]}: expected a file with a seed ({error})") from error
    return simulate_data(250, seeds[0])


def suggest(trial: Any) -> dict[str, Any]:
    return {
        "lr": trial.suggest_float("lr", 1e-3, 1e-1, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "width": trial.suggest_int("width", 4, 32, log=True),
    }


def baselines(data: LineData) -> dict[str, dict[str, float]]:
    squares = (data.validation_y - data.train_y.mean()) ** 2
    return {"mean": {"loss": float(squares.mean()), "worst": float(squares.max())}}


def compare(reports: Mapping[str, Path], folder: Path) -> None:
    lines = [f"{label},{(report / 'scores.csv').read_text().split()[1]}" for label, report in reports.items()]
    (folder / "compared.csv").write_text("\n".join(lines))


def make_line(**fields: Any) -> Workload:
    """The workload, with some of its fields replaced."""
    presets = {"usual": {"lr": 1e-2, "dropout": 0.1, "width": 16}, "slow": {"lr": 1e-3, "dropout": 0.1, "width": 16}}
    given: dict[str, Any] = {
        "name": "line",
        "title": "a line",
        "training": LineTraining,
        "config": LineConfig,
        "settings": DataSettings,
        "load_data": load_data,
        "simulate_data": simulate_data,
        "suggest": suggest,
        "presets": presets,
        "optional": ("width",),
        "mutable": ("lr", "dropout"),
        "sizing": {"width": float},
        "objectives": {"loss": "min", "worst": "min"},
        "constraints": (Constraint("worst", 1e6),),
        "columns": ("train_loss",),
        "baselines": baselines,
        "compare": compare,
        "demo": Defaults(trials=2, epochs=4, presets=tuple(presets), fixed={}),
        "full": Defaults(trials=2, epochs=4, presets=tuple(presets), fixed={}),
    }
    return Workload(**given | fields)


def make_bare(name: str = "line") -> Workload:
    """The workload with its required fields alone."""
    return Workload(
        name=name,
        training=LineTraining,
        config=LineConfig,
        load_data=load_data,
        suggest=suggest,
        objectives={"loss": "min"},
    )
