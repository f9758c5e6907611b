"""Training of a user's LightningModule: one epoch a step, as the platform needs it, by Lightning's own Trainer.

TRAINING = LightningTraining(LitJet, JetData)  # a class, for Workload(training=...)
"""

from __future__ import annotations

import copy
import inspect
import tempfile
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from trainables.base.curve_report import CurveReport
from trainables.base.lightning_tools import (
    IN_MEMORY,
    Resume,
    alone_here,
    keeping_interrupts,
    memory_io,
    metrics_of,
    one_epoch,
    package_of,
    plain_checkpoint,
    set_up_once,
    silence,
    stopped_by_user,
)
from trainables.base.plain_state import cpu_copies, plain_copy
from trainables.base.predicting import evaluating, in_parts
from trainables.base.random_state import own_random, seed_of
from trainables.base.shapes import WithoutData, shapes_of, without_shapes
from trainables.base.training import Training, TrainingConfig

TrainerArguments = Mapping[str, Any] | Callable[[Any], Mapping[str, Any]]
PLATFORM = {  # arguments of the Trainer that are the platform's, and where the user says the same
    "max_epochs": "epochs of the configuration",
    "min_epochs": "epochs of the configuration",
    "max_steps": "epochs of the configuration",
    "min_steps": "epochs of the configuration",
    "max_time": "--time-limit",
    "accelerator": "--gpus-per-trial",
    "devices": "--gpus-per-trial",
    "num_nodes": "--gpus-per-trial",
    "strategy": "--gpus-per-trial",
    "fast_dev_run": "--epochs 1",
    "barebones": "nothing",
}
ALWAYS = TrainingConfig.model_fields.keys() | {"precision"}  # hyperparameters that the platform reads itself
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}


def LightningTraining(  # noqa: N802 - it stands where a class is named
    module_class: type,
    datamodule: type | None = None,
    *,
    trainer: TrainerArguments | None = None,
    inputs: tuple[str, ...] = (),
) -> type[LightningRun]:
    """Make the training class of a LightningModule's class and a LightningDataModule's.

    Parameters
    ----------
    module_class : type
        Built with those fields of the configuration that its ``__init__`` names (all, if it takes ``**``), and with
        ``config`` and ``shapes`` (array -> shape of one event) where it names these.
    datamodule : type, optional
        Built in the same way; it may also name ``data``, or ``train`` and ``validation``: the trial's arrays by name.
        Without it the module gives the loaders.
    trainer : mapping, or function of the configuration that returns one
        Further arguments of Lightning's Trainer: callbacks, logger, gradient_clip_val, accumulate_grad_batches ...
        A mapping is copied for each trial.
    inputs : tuple of str
        The arrays that the module's ``forward`` takes, in their order; a default promotion asks for them.

    Raises
    ------
    TypeError
        ``module_class`` is no LightningModule.
    """
    package_of(module_class)
    body: dict[str, Any] = {"module_class": module_class, "datamodule_class": datamodule, "inputs": inputs}
    body["trainer_arguments"] = staticmethod(trainer) if callable(trainer) else trainer or {}
    body["__module__"] = module_class.__module__
    return type(f"{module_class.__name__}Training", (LightningRun,), body)


class LightningRun(CurveReport, Training):
    """One training run of a LightningModule. Its metrics are what the module logs (``trainer.callback_metrics``).

    Each epoch is a fit of its own, which begins with the checkpoint of the epoch before. So a resumed run does what
    any run does at each epoch, and goes on bit for bit. ``max_epochs`` is that of the whole run, as schedules need it.
    ``setup`` of the data module runs once; hooks of a fit (``on_train_start``, ``on_train_end``) run in each epoch.
    Validation is a part of the fit, so ``validate`` returns what was logged there.
    """

    module_class: ClassVar[Any]
    datamodule_class: ClassVar[Any] = None
    trainer_arguments: ClassVar[Any] = {}
    inputs: ClassVar[tuple[str, ...]] = ()
    predict_batch = 8192  # events at a time in predict()

    def __init__(self, config: Any, data: Any, device: torch.device) -> None:
        self.config, self.data, self.device, self.epoch = config, data, torch.device(device), 0
        self.history: list[dict[str, float]] = []
        self._package = package_of(self.module_class)
        self._stopped = False
        self._checkpoint: dict[str, Any] | None = None
        self._built: Any = None  # options of optimizers as this configuration gives them
        self._configuration = config.model_dump(mode="json")  # that of the checkpoint
        with own_random(seed_of(config.seed, "build"), self.device), silence(self._package):
            self.module, self._taken = self._made(self.module_class, {})
            self._takes_shapes = "shapes" in self._taken
            is_fed = self.datamodule_class is not None and not isinstance(data, WithoutData)
            self.datamodule = self._data_module_of(data) if is_fed else None
        self._check_all_are_read(self._taken)
        self._arguments = self._asked_of_trainer()

    def train_epoch(self) -> dict[str, float]:
        seed, epoch = self.config.seed, self.epoch + 1
        ours = self.config.model_dump(mode="json")
        adopt = None if self._configuration == ours else self._built
        resume = Resume(self.epoch, seed_of(seed, "order", epoch), self._checkpoint, adopt)
        with tempfile.TemporaryDirectory() as folder, silence(self._package):
            trainer, memory = self._trainer(folder, one_epoch(self._package)(resume))
            memory.content = plain_copy(self._checkpoint) if self._checkpoint else None
            from_checkpoint = {"ckpt_path": IN_MEMORY} if self._checkpoint else {}
            with own_random(seed_of(seed, "train", epoch), self.device), keeping_interrupts():
                trainer.fit(self.module, datamodule=self.datamodule, **from_checkpoint)
                trainer.save_checkpoint(IN_MEMORY)
        self._checkpoint, memory.content = plain_checkpoint(memory.content), None
        self._built, self._configuration, self.epoch = plain_copy(resume.fresh), ours, epoch
        self._stopped = stopped_by_user(resume, trainer.callbacks)
        numbers = metrics_of(trainer)
        rates = [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers]
        names = ["lr"] if len(rates) == 1 else [f"lr_{number}" for number in range(len(rates))]
        numbers |= {name: float(rate) for name, rate in zip(names, rates, strict=True) if name not in numbers}
        self.history.append({"epoch": float(epoch)} | numbers)
        return numbers

    def validate(self) -> dict[str, float]:
        """Return what the module logged in the last epoch; before the first, validate the model as it is."""
        if self.history:
            return {name: value for name, value in self.history[-1].items() if name != "epoch"}
        return self._validated(self.datamodule)

    def score(self, **arrays: Any) -> dict[str, float]:
        """Validate the model on arrays by name, which the data module receives in place of the trial's."""
        if self.datamodule_class is None:
            raise TypeError(f"{type(self).__name__} has no data module that would make loaders of arrays")
        return self._validated(self._data_module_of(SimpleNamespace(train=arrays, validation=arrays)))

    def _validated(self, datamodule: Any) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder, silence(self._package):
            trainer, _ = self._trainer(folder)
            with own_random(seed_of(self.config.seed, "validate"), self.device):
                trainer.validate(self.module, datamodule=datamodule, verbose=False)
        return metrics_of(trainer)

    def _data_module_of(self, data: Any) -> Any:
        parts = {name: getattr(data, name, None) for name in ("train", "validation")}
        datamodule, taken = self._made(self.datamodule_class, {"data": data, **parts})
        self._taken |= taken
        set_up_once(datamodule, seed_of(self.config.seed, "build", 1), self.device)
        return datamodule

    @property
    def finished(self) -> bool:
        """A run ends after its epochs, or where a callback of the user's stopped it."""
        return self._stopped or super().finished

    @property
    def progress(self) -> float:
        return 1.0 if self._stopped else super().progress

    def state(self) -> dict[str, Any]:
        parts = {
            "epoch": self.epoch,
            "stopped": self._stopped,
            "checkpoint": self._checkpoint,
            "built": self._built,
            "configuration": self._configuration,
            "history": self.history,
        }
        copied: dict[str, Any] = plain_copy(parts)
        return copied

    def load_state(self, state: dict[str, Any]) -> None:
        state = plain_copy(state)
        if state["checkpoint"] is None:
            self.__init__(self.config, self.data, self.device)  # type: ignore[misc]
            return
        self._arguments = self._asked_of_trainer()  # callbacks without what they noted in this run
        self.epoch, self._stopped, self.history = state["epoch"], state["stopped"], state["history"]
        self._checkpoint, self._built = state["checkpoint"], state["built"]
        self._configuration = state["configuration"]
        self.module.load_state_dict(state["checkpoint"]["state_dict"], strict=self.module.strict_loading)

    def weights(self) -> dict[str, Tensor]:
        shapes = shapes_of(self.data).as_tensors() if self._takes_shapes else {}
        return cpu_copies(self.module.state_dict()) | shapes

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of a model of the same configuration."""
        self.module.load_state_dict(without_shapes(weights))

    @classmethod
    def from_weights(cls, config: Any, weights: Mapping[str, Tensor], device: torch.device | str = "cpu") -> Self:
        """Make a model that predicts, from its configuration and weights alone; it cannot be trained."""
        run = cls(config, WithoutData(weights), torch.device(device))
        run.load_weights(weights)
        run.module.eval()
        return run

    def predict(self, *inputs: Any, **named: Any) -> Any:
        """Call the module with arrays in eval mode, without gradients, some events at a time, and return arrays."""
        network = self.module.to(self.device)
        with own_random(seed_of(self.config.seed, "predict"), self.device), evaluating(network):
            return in_parts(network, network, (inputs, named), self.device, self.predict_batch)

    # ---------------------------------------------------------------- inside

    def _asked_of_trainer(self) -> dict[str, Any]:
        given = self.trainer_arguments
        asked = dict(given(self.config) if callable(given) else copy.deepcopy(given))
        for name in asked.keys() & PLATFORM.keys():
            raise TypeError(f"trainer argument {name!r} is set by the platform: use {PLATFORM[name]}")
        return asked

    def _trainer(self, folder: str, *ours: Any) -> tuple[Any, Any]:
        """Make a Trainer with the user's callbacks and loggers, and the place of its checkpoint."""
        package, memory = self._package, memory_io(self._package)()
        asked = dict(self._arguments)
        callbacks = asked.pop("callbacks", None) or []
        callbacks = list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]
        plugins = asked.pop("plugins", None) or []
        plugins = list(plugins) if isinstance(plugins, list | tuple) else [plugins]
        on_gpu = self.device.type == "cuda"
        index = self.device.index if self.device.index is not None or not on_gpu else torch.cuda.current_device()
        arguments = {
            "logger": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "enable_checkpointing": any(isinstance(one, package.callbacks.Checkpoint) for one in callbacks),
            **asked,
            "max_epochs": self.config.epochs,
            "accelerator": "gpu" if on_gpu else self.device.type,
            "devices": [index] if on_gpu else 1,
            "enable_progress_bar": False,
            "default_root_dir": folder,
            "callbacks": [*callbacks, *ours],
            "plugins": [*plugins, memory, alone_here(package)],
        }
        if precision := PRECISIONS.get(getattr(self.config, "precision", "")):
            arguments["precision"] = precision
        return package.Trainer(**arguments), memory

    def _made(self, kind: Any, offered: Mapping[str, Any]) -> tuple[Any, set[str]]:
        """Build a module with what it names, and say which these are; a ready one is copied."""
        if not isinstance(kind, type):
            return copy.deepcopy(kind), set()
        own = {name: getattr(self.config, name) for name in type(self.config).model_fields}
        offered = {"config": self.config, "shapes": shapes_of(self.data), **offered, **own}
        parameters = inspect.signature(kind).parameters.values()
        names = {one.name for one in parameters} & offered.keys()
        if any(one.kind is one.VAR_KEYWORD for one in parameters):
            names |= own.keys() - ALWAYS
        return kind(**{name: offered[name] for name in names}), names

    def _check_all_are_read(self, read: set[str]) -> None:
        """Refuse a hyperparameter that nothing reads: searching it would be a waste.

        Raises
        ------
        TypeError
            Neither module nor data module takes it.
        """
        unread = type(self.config).model_fields.keys() - read - ALWAYS
        if (
            unread
            and "config" not in read
            and not (callable(self.trainer_arguments) or isinstance(self.data, WithoutData))
        ):
            kinds = [self.module_class, *([self.datamodule_class] if self.datamodule_class else [])]
            takers = " nor ".join(getattr(kind, "__name__", type(kind).__name__) for kind in kinds)
            raise TypeError(
                f"{', '.join(sorted(unread))} of {type(self.config).__name__}: neither {takers} takes it. Name it in"
                " an __init__, or take it out of the configuration"
            )
