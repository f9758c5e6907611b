"""Run any Training as a Ray Tune trial: one step an epoch, checkpoints, reuse of actors; alone imports ray here."""

from __future__ import annotations

import math
import socket
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from pyarrow.fs import FileSystem, LocalFileSystem
from ray import tune

from trainables.base.checkpoint import BEST_FILE, LAST_FILE, REPORT_ERROR, REPORT_FOLDER, STATE_FILE, best_weights
from trainables.base.errors import TrainingDiverged
from trainables.base.objectives import Goal
from trainables.base.training import Training, TrainingConfig
from trainables.runtime.disk_space import Patience, after, is_full, retry, size_of
from trainables.runtime.gpu_memory import GpuPart, keep_to
from trainables.runtime.object_store import as_folder, checkpoints_up_to, is_away
from trainables.runtime.output import print_safely

T = TypeVar("T")


@dataclass(frozen=True)
class Machine:
    """What a trial may use of the machine that it runs on."""

    threads: int
    device: str
    gpu_part: GpuPart | None = None
    patience: Patience = field(default_factory=Patience)


class EpochTrainable(tune.Trainable):  # type: ignore[misc]
    """One trial. Its result is nested: ``metrics`` are the physics, everything else is about the trial.

    ``outcome`` is ``running``, ``complete`` or ``diverged``. A diverged epoch carries no metrics at all, so that no
    scheduler or sampler can take a number for it. ``trainables.base.checkpoint`` names what a checkpoint holds.
    """

    def setup(
        self,
        config: dict[str, Any],
        *,
        training: type[Training],
        training_config: type[TrainingConfig],
        data: Any,
        goal: Goal,
        machine: Machine,
    ) -> None:
        torch.set_num_threads(machine.threads)  # two trials on two cores must not run four threads
        self._training_type, self._config_type, self._data = training, training_config, data
        self._goal = goal
        self._patience, self._checkpoint_bytes = machine.patience, 0
        self._device = torch.device(machine.device)
        if machine.gpu_part:
            keep_to(machine.gpu_part, self._device)
        self._start(config)

    def _start(self, config: dict[str, Any]) -> None:
        self._start_fresh(config)
        if config.get("continue_from"):  # the search was interrupted and is resumed
            self._resume(config, str(config["continue_from"]))

    def _start_fresh(self, config: dict[str, Any]) -> None:
        hyperparameters = self._config_type(**config["hyperparameters"])
        self._training = self._training_type(hyperparameters, self._data, self._device)
        self._best: dict[str, Any] = {"epoch": 0, "value": None, "order": None, "weights": {}}
        self._complete = False

    def _resume(self, config: dict[str, Any], last: str) -> None:
        """Load the last checkpoint, or an earlier one where a crash left the last one broken.

        Without any of them the trial starts again: its epochs are the same again. (On a retry Tune loads the newest
        checkpoint of this process next, and the one named may be deleted.) A checkpoint of the last epoch cannot be
        resumed: where the search did not record the trial's end, the last epoch is repeated.
        """
        for checkpoint in self._retry(lambda: checkpoints_up_to(self._files, last)):
            try:
                self._retry(lambda checkpoint=checkpoint: self._load(checkpoint))  # type: ignore[misc]
                if not self._training.finished:
                    break
            except Exception as error:  # torch may raise anything at a broken file
                print_safely(f"checkpoint {checkpoint} cannot be used: {error}")
            self._start_fresh(config)

    def _load(self, checkpoint: str) -> None:
        with as_folder(self._files, checkpoint) as folder:
            self.load_checkpoint(str(folder))

    @property
    def _files(self) -> FileSystem:
        """The file system of the search's checkpoints, with this worker's own access to it."""
        return self._storage.storage_filesystem if self._storage else LocalFileSystem()

    def _retry(self, read: Callable[[], T]) -> T:
        """Retry while a store is away."""
        leave = after(self._patience.limit_s)
        return retry(read, lambda: None, dict, print_safely, leave=leave, passing=self._may_pass)

    def _may_pass(self, error: BaseException) -> bool:
        return is_full(error) or is_away(error, self._files)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start another trial in this actor: of the previous one only the data stay."""
        del self._training, self._best  # free their memory before taking more
        self._start(new_config)
        return True

    def step(self) -> dict[str, Any]:
        started = time.perf_counter()
        training = self._training
        try:
            metrics = training.train_epoch()
            trained_s = time.perf_counter() - started
            # numbers of numpy and torch too, which no event log could store
            metrics = {name: float(value) for name, value in {**metrics, **training.validate()}.items()}
            _require_finite(metrics, training.epoch)
        except TrainingDiverged as diverged:
            about = {
                "outcome": "diverged",
                "reason": diverged.reason,
                "evidence": diverged.evidence,
                "done": True,
            }
            return about | {"epoch": diverged.epoch} | self._about(started)
        self._complete = training.finished
        self._keep_best(metrics)
        metrics["train_seconds"] = trained_s
        metrics["validate_seconds"] = time.perf_counter() - started - trained_s
        return {
            "metrics": metrics,
            "scalar_score": self._goal.scalar_score(metrics),
            "outcome": "complete" if training.finished else "running",
            "done": training.finished,
            "epoch": training.epoch,
            "best": {"epoch": self._best["epoch"], "value": self._best["value"]},
        } | self._about(started)

    def _about(self, started: float) -> dict[str, Any]:
        return {
            "progress_percent": 100.0 * self._training.progress,
            "epoch_seconds": time.perf_counter() - started,
            "host": socket.gethostname(),
            "device": _device_name(self._device),
        }

    def _keep_best(self, metrics: dict[str, float]) -> None:
        order = list(self._goal.order(metrics))
        if self._best["order"] is None or order < self._best["order"]:
            value, training = metrics[self._goal.objective], self._training
            self._best = {"epoch": training.epoch, "value": value, "order": order, "weights": training.weights()}

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Write a checkpoint into the search's storage; wait while a disk is full or the storage is away.

        Tune itself copies it there file by file. Where that fails no half checkpoint stays, and its number is used
        again.

        Raises
        ------
        DiskFullError
            There was no room for as long as ``Patience`` allows.
        """
        if checkpoint_dir or not self._storage:  # driven without Tune
            return super().save(checkpoint_dir)
        before = self._storage.current_checkpoint_index
        return retry(
            self._save_once,
            lambda: self._undo_save(before),
            self._needed_bytes,
            print_safely,  # into the worker's own log; the search reports it where people look
            leave=after(self._patience.limit_s),
            passing=self._may_pass,
        )

    def _needed_bytes(self) -> dict[Path, int]:
        needed = {Path(tempfile.gettempdir()): self._checkpoint_bytes}
        if self._storage.storage_filesystem.type_name == "local":
            needed[Path(self._storage.storage_fs_path)] = self._checkpoint_bytes + self._patience.reserve_bytes
        return needed

    def _save_once(self) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            try:
                return super().save(folder)
            finally:
                self._checkpoint_bytes = size_of(Path(folder))

    def _undo_save(self, index: int) -> None:
        storage = self._storage
        if storage.current_checkpoint_index != index:
            with suppress(OSError):
                storage.storage_filesystem.delete_dir(storage.checkpoint_fs_path)
            storage.current_checkpoint_index = index

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        folder = Path(checkpoint_dir)
        training = self._training
        best = {name: value for name, value in self._best.items() if name != "weights"}
        _save({"training": training.state(), "best": best}, folder / STATE_FILE)
        _save(self._best["weights"], folder / BEST_FILE)
        if self._complete:
            _save(training.weights(), folder / LAST_FILE)
            self._write_report(folder / REPORT_FOLDER)

    def _write_report(self, folder: Path) -> None:
        """Write the report, or its tables alone; what fails is recorded, because it must not cost a trained model."""
        folder.mkdir(exist_ok=True)
        try:
            self._training.write_tables(folder)
        except Exception as error:
            if is_full(error):
                raise  # then it is not the drawing that failed
            (folder / REPORT_ERROR).write_text(traceback.format_exc())

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        folder = Path(checkpoint_dir)
        saved = torch.load(folder / STATE_FILE, map_location=self._device, weights_only=True)
        self._training.load_state(saved["training"])
        self._best = saved["best"] | {"weights": best_weights(folder)}


def _save(content: dict[str, Any], file: Path) -> None:
    with file.open("wb") as opened:  # given a path, torch reports a failure, but not that the disk is full
        torch.save(content, opened)


def _require_finite(metrics: dict[str, float], epoch: int) -> None:
    bad = {name: value for name, value in metrics.items() if not math.isfinite(value)}
    if bad:
        raise TrainingDiverged("not_finite", epoch, bad)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
