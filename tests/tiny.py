"""A workload that trains in microseconds and can be told to fail: everything around it is real."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from search.workload import Chain, Defaults, Ranked, Workload
from trainables.base.errors import TrainingDiverged
from trainables.base.objectives import Mode
from trainables.base.stack import TrainingStack
from trainables.base.training import TrainedModel, Training, TrainingConfig
from trainables.data.files import DataSettings


class TinyConfig(TrainingConfig):
    x: float = 0.0
    y: float = 0.0
    optional: int = 1
    slope: float = 0.0  # value gained per epoch
    growth: float = 0.0  # size gained per epoch
    diverge_epoch: int = 0  # 0: never
    crash_epoch: int = 0
    crashes: int = 1000  # how often
    crash_marker: str = ""  # file that counts the crashes
    kill: bool = False  # die instead of raising
    nan_epoch: int = 0  # from here on validation gives no number
    report_fails: bool = False
    epoch_seconds: float = 0.0


@dataclass(frozen=True)
class TinyData:
    fingerprint: str = "tiny-data"
    objective_version: str = "tiny-1"
    summary: tuple[str, ...] = ("nothing at all",)


class TinyStack(TrainingStack):
    """A stack in which runs train one after another; of the shape ``optional``, and none where that is 5."""

    @staticmethod
    def shape_of(config: Any) -> int | None:
        return None if config.optional == 5 else int(config.optional)

    def __init__(self, slots: int, device: torch.device) -> None:
        self.runs: list[Any] = [None] * slots

    def put(self, training: Training) -> int:
        slot = self.runs.index(None)
        self.runs[slot] = training
        return slot

    def train_epoch(self, slots: Collection[int]) -> dict[int, dict[str, float] | TrainingDiverged]:
        ended: dict[int, dict[str, float] | TrainingDiverged] = {}
        for slot in slots:
            try:
                ended[slot] = self.runs[slot].train_epoch()
            except TrainingDiverged as diverged:
                ended[slot] = diverged
        return ended

    def take(self, slot: int) -> None:
        self.runs[slot] = None

    @staticmethod
    def excerpt(config: Any, data: TinyData, updates: int) -> TinyData:  # noqa: ARG004
        return data

    @staticmethod
    def slot_bytes(config: Any, data: TinyData) -> int:  # noqa: ARG004
        return 1


class TinyTraining(Training):
    """Its loss is ``expected_loss``, whatever is done."""

    stack_type = TinyStack

    def __init__(self, config: TinyConfig, data: TinyData, device: torch.device) -> None:
        self.config: TinyConfig = config
        self.epoch = 0
        self._resumed_at = 0
        self._epochs_here = 0  # in this object, whatever came before

    def train_epoch(self) -> dict[str, float]:
        self.epoch += 1
        self._epochs_here += 1
        time.sleep(self.config.epoch_seconds or float(os.environ.get("TINY_EPOCH_SECONDS", "0")))
        if self.epoch == self.config.crash_epoch and self._crashes_left():
            if self.config.kill:
                os._exit(1)
            raise RuntimeError("the disk of this node is on fire")
        if self.epoch == self.config.diverge_epoch:
            raise TrainingDiverged("not_finite", self.epoch, {"loss": float("inf")})
        return {
            "lr": 0.1,
            "resumed_at": float(self._resumed_at),
            "epochs_here": float(self._epochs_here),
            "pid": float(os.getpid()),
            "threads": float(torch.get_num_threads()),
        } | ({"adversarial": 0.1} if self.config.y > 0 else {})  # not every trial has all metrics

    def _crashes_left(self) -> bool:
        if not self.config.crash_marker:
            return True
        marker = Path(self.config.crash_marker)
        done = len(marker.read_text()) if marker.exists() else 0
        marker.write_text("x" * (done + 1))
        return done < self.config.crashes

    def validate(self) -> dict[str, float]:
        if self.config.nan_epoch and self.epoch >= self.config.nan_epoch:
            return {"loss": float("nan"), "size": 0.0}
        return {
            "loss": expected_loss(self.config, self.epoch),
            "size": size(self.config) + self.config.growth * self.epoch,
        }

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch}

    def load_state(self, state: dict[str, Any]) -> None:
        self.epoch = self._resumed_at = state["epoch"]

    def weights(self) -> dict[str, torch.Tensor]:
        return {"x": torch.tensor(self.config.x)}

    def write_report(self, folder: Path) -> None:
        loss = self.validate()["loss"]
        if not math.isfinite(loss) or self.config.report_fails:
            raise ValueError("cannot draw what is not a number")  # as a plotting library would say
        (folder / "value.csv").write_text(f"x,loss\n{self.config.x},{loss}\n")
        names = ("OMP_NUM_THREADS", "RAY_USAGE_STATS_ENABLED", "MLFLOW_DISABLE_TELEMETRY")
        facts = {name: os.environ.get(name) for name in names} | {"cwd": str(Path.cwd())}
        (folder / "process.json").write_text(json.dumps(facts))


def expected_loss(config: TinyConfig, epoch: int) -> float:
    """Falls with the epochs towards its least value at x = 0.3, y = 0, unless the slope is steep.

    Untrained, that of the first epoch: every workload can be validated then.
    """
    return (config.x - 0.3) ** 2 + config.y**2 + 1 / max(epoch, 1) + config.slope * epoch


def size(config: TinyConfig) -> float:
    """What may be an objective of its own, or limited: it grows where the loss falls, from x = 0 to x = 0.3."""
    return abs(config.x) + config.y


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    point = {"x": trial.suggest_float("x", -1, 1), "optional": trial.suggest_int("optional", 1, 5)}
    return point | {"y": trial.suggest_float("y", 0, 1)} if point["x"] > 0 else point


def compare(reports: Mapping[str, Path], folder: Path) -> None:
    (folder / "labels.txt").write_text("\n".join(reports))


@dataclass(frozen=True)
class TopData(TinyData):
    """What a workload that builds on tiny takes of it."""

    x_below: float = math.nan
    run_below: str = ""


def join(_data: TinyData, models: Mapping[str, TrainedModel]) -> TopData:
    below = models["tiny"]
    assert below.hyperparameters["x"] == pytest.approx(float(below.weights["x"]))
    return TopData(fingerprint=f"top of {below.run}", x_below=float(below.weights["x"]), run_below=below.run)


def top_baselines(data: TopData) -> dict[str, dict[str, float]]:
    return {"below": {"loss": 0.5, "size": abs(data.x_below)}}


def make_top() -> Workload:
    """A workload that builds on tiny; its naive predictor tells on which model of it."""
    return replace(make_tiny(), name="top", title="top", builds_on=("tiny",), join=join, baselines=top_baselines)


def make_chain() -> Chain:
    """tiny, then top."""
    return Chain(name="both", title="both", workloads=("tiny", "top"), columns=("loss", "size"), rows=chain_rows)


def chain_rows(
    ranked: Mapping[str, Ranked], naive: Mapping[str, Mapping[str, float]]
) -> dict[str, Mapping[str, float]]:
    return {**naive, **{f"best {name}": points[0][1] for name, points in ranked.items()}}


def make_tiny(**presets: dict[str, Any]) -> Workload:
    """The workload, with these presets."""
    return Workload(
        name="tiny",
        title="tiny",
        training=TinyTraining,
        config=TinyConfig,
        settings=DataSettings,
        load_data=lambda settings, cache: TinyData(),
        simulate_data=lambda events, seed: TinyData(),
        suggest=suggest,
        presets=presets,
        optional=("optional",),
        mutable=("x",),
        objectives={"loss": "min", "size": "min"},
        columns=(),
        baselines=lambda data: {"guess": {"loss": 1.0, "size": 1.0}},
        compare=compare,
        demo=Defaults(trials=2, epochs=4, presets=tuple(presets), fixed={}),
        full=Defaults(trials=2, epochs=4, presets=tuple(presets), fixed={}),
    )


class MirroredTraining(TinyTraining):
    """Returns the negative of every score."""

    def validate(self) -> dict[str, float]:
        return {name: -value for name, value in super().validate().items()}


def make_mirrored(**presets: dict[str, Any]) -> Workload:
    """The workload whose every score is the negative of tiny's, and of which more is better: the same in a mirror."""
    baselines = {"guess": {"loss": -1.0, "size": -1.0}}
    objectives: dict[str, Mode] = {"loss": "max", "size": "max"}
    tiny = make_tiny(**presets)
    return replace(tiny, training=MirroredTraining, objectives=objectives, baselines=lambda data: baselines)


class TaggerTraining(TinyTraining):
    """A classifier: the better its ``loss``, the larger its AUC; a large one is less pure."""

    def validate(self) -> dict[str, float]:
        scores = super().validate()
        return {"auc": 1 / (1 + scores["loss"]), "auc_error": 0.01, "purity": 1 - scores["size"] / 2}


def make_tagger(**presets: dict[str, Any]) -> Workload:
    """A workload that maximises an AUC, and shows another metric of which more is better."""
    baselines = {"guess": {"auc": 0.5, "purity": 0.9}}
    return replace(
        make_tiny(**presets),
        name="tagger",
        title="tagger",
        training=TaggerTraining,
        objectives={"auc": "max"},
        columns=("purity",),
        more_is_better=("purity",),
        baselines=lambda data: baselines,
    )
