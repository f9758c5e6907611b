"""One trial as epochs, results and files of a checkpoint, whoever drives it; it needs no Ray."""

from __future__ import annotations

import math
import socket
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainables.base.checkpoint import BEST_FILE, LAST_FILE, REPORT_ERROR, REPORT_FOLDER, STATE_FILE, best_weights
from trainables.base.errors import TrainingDiverged
from trainables.base.objectives import Goal
from trainables.base.training import Training, TrainingConfig
from trainables.runtime.disk_space import is_full


@dataclass(frozen=True)
class TrialKind:
    """What all trials of a search have in common."""

    training: type[Training]
    config: type[TrainingConfig]
    data: Any
    goal: Goal


class TrialRun:
    """A training run with what a trial knows beyond it: its best epoch, and its results.

    A result is nested: ``metrics`` are the physics, everything else is about the trial. ``outcome`` is ``running``,
    ``complete`` or ``diverged``. A diverged epoch carries no metrics at all, so that no scheduler or sampler can take
    a number for it. ``trainables.base.checkpoint`` names what a checkpoint holds.
    """

    def __init__(self, kind: TrialKind, hyperparameters: Mapping[str, Any], device: torch.device) -> None:
        self._goal, self._device = kind.goal, device
        self.training = kind.training(kind.config(**hyperparameters), kind.data, device)
        self.best: dict[str, Any] = {"epoch": 0, "value": None, "order": None, "weights": {}}
        self._complete = False

    def step(self) -> dict[str, Any]:
        """Train and validate one epoch; return its result."""
        started = time.perf_counter()
        try:
            trained: dict[str, float] | TrainingDiverged = self.training.train_epoch()
        except TrainingDiverged as diverged:
            trained = diverged
        return self.result_of(trained, time.perf_counter() - started)

    def result_of(self, trained: dict[str, float] | TrainingDiverged, trained_s: float) -> dict[str, Any]:
        """Validate an epoch that was trained, perhaps beside others, and return its result.

        Parameters
        ----------
        trained : dict of str to float, or TrainingDiverged
            What ``Training.train_epoch`` returned or raised.
        trained_s : float
            Seconds of this trial that it took.
        """
        started = time.perf_counter()
        training = self.training
        try:
            if isinstance(trained, TrainingDiverged):
                raise trained
            # numbers of numpy and torch too, which no event log could store
            metrics = {name: float(value) for name, value in {**trained, **training.validate()}.items()}
            _require_finite(metrics, training.epoch)
        except TrainingDiverged as diverged:
            about = {
                "outcome": "diverged",
                "reason": diverged.reason,
                "evidence": diverged.evidence,
                "done": True,
            }
            return about | {"epoch": diverged.epoch} | self._about(started, trained_s)
        self._complete = training.finished
        self._keep_best(metrics)
        metrics["train_seconds"] = trained_s
        metrics["validate_seconds"] = time.perf_counter() - started
        return {
            "metrics": metrics,
            "scalar_score": self._goal.scalar_score(metrics),
            "outcome": "complete" if training.finished else "running",
            "done": training.finished,
            "epoch": training.epoch,
            "best": {"epoch": self.best["epoch"], "value": self.best["value"]},
        } | self._about(started, trained_s)

    def _about(self, started: float, trained_s: float) -> dict[str, Any]:
        return {
            "progress_percent": 100.0 * self.training.progress,
            "epoch_seconds": trained_s + time.perf_counter() - started,
            "host": socket.gethostname(),
            "device": _device_name(self._device),
        }

    def _keep_best(self, metrics: dict[str, float]) -> None:
        order = list(self._goal.order(metrics))
        if self.best["order"] is None or order < self.best["order"]:
            value, training = metrics[self._goal.objective], self.training
            self.best = {"epoch": training.epoch, "value": value, "order": order, "weights": training.weights()}

    def save_checkpoint(self, folder: Path) -> None:
        """Write the files of a checkpoint into an existing folder."""
        best = {name: value for name, value in self.best.items() if name != "weights"}
        _save({"training": self.training.state(), "best": best}, folder / STATE_FILE)
        _save(self.best["weights"], folder / BEST_FILE)
        if self._complete:
            _save(self.training.weights(), folder / LAST_FILE)
            self._write_report(folder / REPORT_FOLDER)

    def _write_report(self, folder: Path) -> None:
        """Write the report, or its tables alone; what fails is recorded, because it must not cost a trained model."""
        folder.mkdir(exist_ok=True)
        try:
            self.training.write_tables(folder)
        except Exception as error:
            if is_full(error):
                raise  # then it is not the drawing that failed
            (folder / REPORT_ERROR).write_text(traceback.format_exc())

    def load_checkpoint(self, folder: Path) -> None:
        """Go on from the state and the best epoch of a checkpoint."""
        saved = torch.load(folder / STATE_FILE, map_location=self._device, weights_only=True)
        self.training.load_state(saved["training"])
        self.best = saved["best"] | {"weights": best_weights(folder)}


def _save(content: dict[str, Any], file: Path) -> None:
    with file.open("wb") as opened:  # given a path, torch reports a failure, but not that the disk is full
        torch.save(content, opened)


def _require_finite(metrics: dict[str, float], epoch: int) -> None:
    bad = {name: value for name, value in metrics.items() if not math.isfinite(value)}
    if bad:
        raise TrainingDiverged("not_finite", epoch, bad)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
