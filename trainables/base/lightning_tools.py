"""Lightning's own parts of a run: the callback that ends each fit after one epoch, checkpoints in memory, silence.

Lightning is there as ``lightning`` or as ``pytorch_lightning``, whose classes do not fit together: the parts are made
from the package that the user's module comes from.
"""

from __future__ import annotations

import importlib
import logging
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from trainables.base.errors import TrainingDiverged
from trainables.base.loaders import seed_loader
from trainables.base.plain_state import plain_copy
from trainables.base.random_state import own_random
from trainables.base.rates import Options, Position, Settings, options_of, settle

IN_MEMORY = "in-memory"  # the path that stands for a checkpoint which is no file
ROOTS = {"lightning.pytorch": "lightning.fabric", "pytorch_lightning": "lightning_fabric"}  # each with its lower half


ADVICE = (  # to people who start Lightning themselves, or who write it
    "does not have many workers",
    "is smaller than the logging interval",
    "The `srun` command is available",
    "Checkpoint directory .* exists and is not empty",  # by the fit of the epoch before
    "treespec, LeafSpec.* is deprecated",
)


@dataclass
class Resume:
    """What one fit begins with and what it leaves behind."""

    epoch: int  # finished ones
    order: int  # seed of the loaders in this epoch
    checkpoint: dict[str, Any] | None = None  # Lightning's
    built: list[Options] | None = None  # of the run that the checkpoint is of, if its rates were others
    fresh: list[Options] = field(default_factory=list)  # of this one
    stopped: bool = False  # by a callback of the user's


def package_of(module_class: type) -> Any:
    """Return the package of Lightning that a module's class comes from.

    Raises
    ------
    TypeError
        It is no LightningModule.
    """
    for parent in module_class.__mro__:
        if parent.__name__ == "LightningModule":
            for root in ROOTS:
                if parent.__module__.startswith(root):
                    return importlib.import_module(root)
    raise TypeError(f"LightningTraining needs a LightningModule's class, and {module_class!r} is none")


def alone_here(package: Any) -> Any:
    """Return the environment of one process; that of a batch system is the search's, not this trial's."""
    environments = importlib.import_module(f"{ROOTS[package.__name__]}.plugins.environments")
    return environments.LightningEnvironment()


@contextmanager
def silence(package: Any) -> Iterator[None]:
    """Keep Lightning's advice and its lines about devices and stops out of a trial's output."""
    loggers = [logging.getLogger(name) for name in (package.__name__, "lightning.fabric", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for advice in ADVICE:
            warnings.filterwarnings("ignore", message=f".*{advice}")
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def keeping_interrupts() -> Iterator[None]:
    """Let Ctrl-C be a KeyboardInterrupt: Lightning makes the end of the process of it, and ignores any further one."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


@cache
def memory_io(package: Any) -> type:
    """Make the class that keeps the platform's checkpoint in memory; those of the user's callbacks go to files."""

    class MemoryIO(package.plugins.TorchCheckpointIO):  # type: ignore[misc]
        content: Any = None

        def save_checkpoint(self, checkpoint: Any, path: Any, *rest: Any, **options: Any) -> None:
            if str(path) == IN_MEMORY:
                self.content = checkpoint
            else:
                super().save_checkpoint(checkpoint, path, *rest, **options)

        def load_checkpoint(self, path: Any, *rest: Any, **options: Any) -> Any:
            return self.content if str(path) == IN_MEMORY else super().load_checkpoint(path, *rest, **options)

    return MemoryIO


@cache
def one_epoch(package: Any) -> type:
    """Make the class of the callback that ends a fit after one epoch and guards it."""

    class OneEpoch(package.Callback):  # type: ignore[misc]
        def __init__(self, resume: Resume) -> None:
            self.resume = resume
            self._present: list[Options] = []
            self._schedules: list[Any] = []

        def on_fit_start(self, trainer: Any, module: Any) -> None:
            """Note what was built of this run's configuration, before the checkpoint's values come over it."""
            resume = self.resume
            resume.fresh = [options_of(optimizer) for optimizer in trainer.optimizers]
            if resume.built is not None and resume.checkpoint is not None:
                self._schedules = [
                    _replayed(config.scheduler, saved)
                    for config, saved in zip(
                        trainer.lr_scheduler_configs, resume.checkpoint["lr_schedulers"], strict=True
                    )
                ]
                self._present = [options_of(optimizer) for optimizer in trainer.optimizers]

        def on_train_start(self, trainer: Any, module: Any) -> None:
            trainer.callbacks.remove(self)  # to the end: it sees what those of the user's decided
            trainer.callbacks.append(self)
            _seed_all(trainer.train_dataloader, self.resume.order, self.resume.epoch)
            if self._present:
                self._adopt(trainer)

        def on_validation_start(self, trainer: Any, module: Any) -> None:
            _seed_all(trainer.val_dataloaders, self.resume.order, 0)

        def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
            if str(trainer.precision).startswith("16"):
                return  # its scaler skips such updates, as a part of its work
            parameters = [one for group in optimizer.param_groups for one in group["params"]]
            norm = float(nn.utils.clip_grad_norm_(parameters, float("inf")))
            if not norm < float("inf"):
                evidence = {"update": float(trainer.global_step + 1), "gradient_norm": norm}
                raise TrainingDiverged("not_finite", self.resume.epoch + 1, evidence)

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            self.resume.stopped = bool(trainer.should_stop)
            trainer.should_stop = True

        def _adopt(self, trainer: Any) -> None:
            """Give options that the configuration or a schedule sets this run's values."""
            assert self.resume.built is not None
            parts = zip(trainer.optimizers, self.resume.fresh, self._present, self.resume.built, strict=True)
            for optimizer, fresh, present, built in parts:
                restored = options_of(optimizer)
                settle(optimizer, Settings(fresh, present, built, restored))
                if _is_on_plateau(optimizer, trainer):
                    for group, was, now, old in zip(optimizer.param_groups, restored, fresh, built, strict=True):
                        group["lr"] = was["lr"] * (now["lr"] / old["lr"])
            for config, state in zip(trainer.lr_scheduler_configs, self._schedules, strict=True):
                if state is not None:
                    config.scheduler.load_state_dict(state)

    return OneEpoch


def stopped_by_user(resume: Resume, callbacks: Sequence[Any]) -> bool:
    """Decide whether a callback of the user's ended the run: EarlyStopping may decide after all others."""
    return resume.stopped or any(getattr(callback, "stopped_epoch", 0) > 0 for callback in callbacks)


def set_up_once(datamodule: Any, seed: int, device: torch.device) -> None:
    """Let a data module prepare itself for the first fit alone, with a seed of its own: a split is the same each epoch.

    Lightning would do it again in each fit.
    """
    prepare, setup = datamodule.prepare_data, datamodule.setup
    done = set[str]()

    def prepare_once() -> None:
        if "prepare" not in done:
            done.add("prepare")
            prepare()

    def setup_once(stage: str) -> None:
        if stage not in done:
            done.add(stage)
            with own_random(seed, device):
                setup(stage)

    datamodule.prepare_data, datamodule.setup = prepare_once, setup_once
    datamodule.teardown = lambda stage: None


def plain_checkpoint(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Copy Lightning's checkpoint without the arguments of module and data module, which the configuration gives."""
    kept = {name: part for name, part in checkpoint.items() if "hyper_parameters" not in name and "hparams" not in name}
    copied: dict[str, Any] = plain_copy(kept, "checkpoint")
    return copied


def metrics_of(trainer: Any) -> dict[str, float]:
    """Return what module and callbacks logged in this epoch."""
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def _replayed(scheduler: Any, saved: Mapping[str, Any]) -> Any:
    """Step a fresh scheduler to the position of another; None: its position cannot be reached without metrics."""
    if isinstance(scheduler, ReduceLROnPlateau) or not isinstance(saved.get("last_epoch"), int):
        return None
    Position(scheduler).replay({"steps": saved["last_epoch"], "values": []})
    return scheduler.state_dict()


def _is_on_plateau(optimizer: Any, trainer: Any) -> bool:
    schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
    return any(isinstance(one, ReduceLROnPlateau) and one.optimizer is optimizer for one in schedulers)


def _seed_all(loaders: Any, seed: int, epoch: int) -> None:
    """Seed a loader, or all in lists and dicts of them."""
    if isinstance(loaders, Mapping):
        loaders = list(loaders.values())
    if isinstance(loaders, list | tuple):
        for place, loader in enumerate(loaders):
            _seed_all(loader, seed + 16 * place, epoch)
    elif loaders is not None:
        seed_loader(loaders, seed, epoch)
