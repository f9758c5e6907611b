"""Run any Training as a Ray Tune trial: one step an epoch, checkpoints, reuse of actors; alone imports ray here."""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pyarrow.fs import FileSystem, LocalFileSystem
from ray import tune

from trainables.runtime.disk_space import Patience, after, is_full, retry, size_of
from trainables.runtime.gpu_memory import GpuPart, keep_to
from trainables.runtime.object_store import as_folder, checkpoints_up_to, is_away
from trainables.runtime.output import print_safely

if TYPE_CHECKING:  # a trial that is trained in a stack elsewhere needs no torch
    from trainables.base.objectives import Goal
    from trainables.base.training import Training, TrainingConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Machine:
    """What a trial may use of the machine that it runs on."""

    threads: int
    device: str
    gpu_part: GpuPart | None = None
    patience: Patience = field(default_factory=Patience)


class PatientTrainable(tune.Trainable):  # type: ignore[misc]
    """A trial whose checkpoints wait for a disk that is full or a store that is away, and that resumes from them."""

    _patience = Patience()
    _checkpoint_bytes = 0

    @abstractmethod
    def start_fresh(self, config: dict[str, Any]) -> None:
        """Begin the trial of this configuration at its first epoch."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether the trial has had its last epoch."""

    def start(self, config: dict[str, Any]) -> None:
        """Begin the trial of this configuration, or go on with it where a search is resumed."""
        self.start_fresh(config)
        if config.get("continue_from"):  # the search was interrupted and is resumed
            self._resume(config, str(config["continue_from"]))

    def _resume(self, config: dict[str, Any], last: str) -> None:
        """Load the last checkpoint, or an earlier one where a crash left the last one broken.

        Without any of them the trial starts again: its epochs are the same again. (On a retry Tune loads the newest
        checkpoint of this process next, and the one named may be deleted.) A checkpoint of the last epoch cannot be
        resumed: where the search did not record the trial's end, the last epoch is repeated.
        """
        for checkpoint in self._retry(lambda: checkpoints_up_to(self._files, last)):
            try:
                self._retry(lambda checkpoint=checkpoint: self._load(checkpoint))  # type: ignore[misc]
                if not self.finished:
                    break
            except Exception as error:  # torch may raise anything at a broken file
                print_safely(f"checkpoint {checkpoint} cannot be used: {error}")
            self.start_fresh(config)

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


class EpochTrainable(PatientTrainable):
    """One trial in its own process: ``TrialRun`` says what its results and checkpoints hold."""

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
        import torch

        from trainables.base.trial_run import TrialKind

        torch.set_num_threads(machine.threads)  # two trials on two cores must not run four threads
        self._kind = TrialKind(training, training_config, data, goal)
        self._patience, self._checkpoint_bytes = machine.patience, 0
        self._device = torch.device(machine.device)
        if machine.gpu_part:
            keep_to(machine.gpu_part, self._device)
        self.start(config)

    def start_fresh(self, config: dict[str, Any]) -> None:
        from trainables.base.trial_run import TrialRun

        self.run = TrialRun(self._kind, config["hyperparameters"], self._device)

    @property
    def finished(self) -> bool:
        return self.run.training.finished

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start another trial in this actor: of the previous one only the data stay."""
        del self.run  # free its memory before taking more
        self.start(new_config)
        return True

    def step(self) -> dict[str, Any]:
        return self.run.step()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        self.run.save_checkpoint(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        self.run.load_checkpoint(Path(checkpoint_dir))
