"""Training of a user's PyTorch model: the user gives networks, loss and score, and everything else is done here.

class PhotonID(TorchTraining):
    def build(self):
        network = nn.Sequential(nn.Linear(8, self.config.width), nn.ReLU(), nn.Linear(self.config.width, 1))
        return network, torch.optim.Adam(network.parameters(), self.config.lr)

    def loss(self, x, y):  # a mini-batch of the arrays, by name, on the device
        return nn.functional.binary_cross_entropy_with_logits(self.network(x)[:, 0], y)

    def score(self, x, y):  # the validation arrays
        return {"auc": roc_auc_score(y, self.predict(x)[:, 0])}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from trainables.base.built import Built
from trainables.base.curve_report import CurveReport
from trainables.base.errors import DataError, TrainingDiverged
from trainables.base.guard import Guard, NotFiniteError
from trainables.base.loaders import batches_on, seed_loader
from trainables.base.means import Means, plain_numbers
from trainables.base.named_arrays import (
    EpochBatches,
    accepted_names,
    check_arrays,
    float_type_of,
    is_numeric,
    takes_all,
    to_tensor,
)
from trainables.base.plain_state import plain_copy
from trainables.base.predicting import evaluating
from trainables.base.random_state import own_random, seed_of
from trainables.base.rates import Position, load_optimizer_state, optimizer_state, rates_of
from trainables.base.shapes import WithoutData
from trainables.base.torch_model import TorchModel
from trainables.base.training import Training


class TorchTraining(CurveReport, TorchModel, Training):
    """One training run of a user's networks, one pass over the training events an epoch.

    A user gives ``build``, ``loss`` (or ``train_batch``) and ``score``. Everything that changes while it trains is in
    the networks, optimizers and schedulers, or in ``extra_state()``. Whatever is drawn at random in an epoch, by torch,
    NumPy, Python or the workers of a DataLoader, depends on the configuration's seed and on the epoch alone: an epoch
    is a function of these and of the state, so a resumed run goes on bit for bit (on a GPU, as far as its kernels are
    deterministic), and the caller's generators stay as they were.

    ``self.epoch`` is the number of finished epochs: 0 in ``loss`` of the first one, 1 in the first ``score``.
    """

    clip_norm: float | None = None  # largest norm of the gradients of an update
    schedule_per: Literal["epoch", "update"] = "epoch"  # after which schedulers are stepped
    schedule_on = "train_loss"  # what ReduceLROnPlateau watches: a number of the training, or a metric of score()

    def __init__(self, config: Any, data: Any, device: torch.device) -> None:
        self.history: list[dict[str, float]] = []  # of each epoch
        self._batches: EpochBatches | None = None
        self._loss_names: list[str] | None = None
        self._own_loaders = type(self).loaders is not TorchTraining.loaders
        super().__init__(config, data, device)

    # ---------------------------------------------------------------- what the user gives

    def loss(self, *batch: Any, **arrays: Any) -> Any:
        """Return the loss of a mini-batch, or a dict with ``loss`` and further parts, which are recorded.

        It is called with those arrays that it names, as keywords; with ``loaders()`` it receives a batch of the loader.
        """
        raise NotImplementedError(f"{type(self).__name__} defines neither loss() nor train_batch()")

    def score(self, *batches: Any, **arrays: Any) -> Any:
        """Return the metrics of the present model on the validation arrays that it names.

        The networks are in eval mode and without gradients. Where ``loaders()`` returns two, it receives the batches
        of the second, on the device.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define score()")

    def loaders(self) -> Any:
        """Return a DataLoader of training batches, or two: of training and of validation.

        It is called once for each pass, so that no state stays in a loader. A dataset that is costly to open may be
        kept on ``self``; random generators of its own are seeded from ``self.epoch``.
        """
        raise NotImplementedError

    def train_batch(self, batch: Any) -> Any:
        """Train on one mini-batch: a dict of arrays, or what the loader gives; return what is recorded of it.

        A GAN overrides it and calls ``self.update(loss, "generator")`` for each of its optimizers.
        """
        returned = self.loss(batch) if self._own_loaders else self.loss(**self._named_by_loss(batch))
        parts = returned if isinstance(returned, Mapping) else {"loss": returned}
        if not isinstance(loss := parts.get("loss"), Tensor):
            raise TypeError("loss() returns a tensor, or a dict with the tensor 'loss' and further parts")
        self.update(loss)
        return parts

    def extra_state(self) -> dict[str, Any]:
        """Return numbers and tensors of the user's own that change while it trains and stand in no network."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what ``extra_state()`` returned."""

    # ---------------------------------------------------------------- what the platform gives

    def update(self, loss: Tensor, *optimizers: str) -> None:
        """Make one update by the named optimizers (all, if none is named) unless its numbers are not finite."""
        if loss.numel() != 1:
            raise ValueError(f"a loss is one number, this is a tensor of shape {tuple(loss.shape)}: return its mean()")
        names = optimizers or tuple(self.optimizers)
        chosen = [self.optimizers[name] for name in names]
        try:
            with torch.autocast(self.device.type, enabled=False):
                self._guard.update(loss.reshape(()), chosen, self.clip_norm)
        except NotFiniteError as bad:
            raise TrainingDiverged("not_finite", self.epoch + 1, bad.evidence) from None
        if self.schedule_per == "update":
            for position in self._positions:
                if position.scheduler.optimizer in chosen:
                    position.step()

    @property
    def updates_per_epoch(self) -> int:
        """Mini-batches of an epoch, for schedules that ``build()`` makes; 1 where there are no data."""
        if isinstance(self._data, WithoutData):
            return 1
        if not self._own_loaders:
            events = check_arrays(self._arrays("train"), "training")
            return int(events // min(self.config.batch_size, events))
        building, self._building = self._building, False
        try:
            return len(self._loader(0))
        finally:
            self._building = building

    def train_epoch(self) -> dict[str, float]:
        epoch, means = self.epoch + 1, Means()
        self._is_new = False
        with own_random(seed_of(self.config.seed, "train", epoch), self.device):
            for batch in self._epoch_batches(epoch):
                with self._autocast():
                    recorded = self.train_batch(batch)
                means.add(recorded)
            if not means.count:
                raise DataError("the loader of loaders() gave no batch: it has fewer events than a batch, or none")
            numbers = {f"train_{name}": value for name, value in means.take().items()}
            rates = rates_of(self.optimizers)
            self._stop_if_not_finite(epoch, numbers)
        self.epoch = epoch
        self.history.append({"epoch": float(epoch)} | numbers | rates)
        if self.schedule_per == "epoch":
            for position in self._positions:
                position.step(self._watched(numbers) if position.needs_metric else None)
        return numbers | rates

    def validate(self) -> dict[str, float]:
        with own_random(seed_of(self.config.seed, "validate", self.epoch), self.device), evaluating(self.network):
            if self._own_loaders and (loader := self._loader(1)) is not None:
                seed_loader(loader, seed_of(self.config.seed, "order"), 0)
                scored = self.score(batches_on(loader, self.device))
            else:
                arrays = self._arrays("validation")
                scored = self.score(**{name: arrays[name] for name in accepted_names(self.score, arrays)})
        numbers = plain_numbers(scored, "score()")
        if self.history and self.history[-1]["epoch"] == self.epoch:
            self.history[-1] |= numbers
        return numbers

    def state(self) -> dict[str, Any]:
        optimizers = {name: optimizer_state(one, self._options[name]) for name, one in self.optimizers.items()}
        copied: dict[str, Any] = plain_copy(
            {
                "epoch": self.epoch,
                "updates": self._guard.made,
                "network": self.network.state_dict(),
                "optimizers": optimizers,
                "schedulers": [position.state() for position in self._positions],
                "history": self.history,
                "extra": self.extra_state(),
            }
        )
        return copied

    def load_state(self, state: dict[str, Any]) -> None:
        state = plain_copy(state)  # optimizers would otherwise work in the caller's tensors, wherever these are
        if not self._is_new:
            self._construct()
        self.epoch, self._guard.made = state["epoch"], state["updates"]
        self.network.load_state_dict(state["network"])
        for position, saved in zip(self._positions, state["schedulers"], strict=True):
            position.replay(saved)
        for name, optimizer in self.optimizers.items():
            load_optimizer_state(optimizer, state["optimizers"][name], self._options[name])
        self.history = state["history"]
        self.load_extra_state(state["extra"])
        self._is_new = False

    # ---------------------------------------------------------------- inside

    def _construct(self) -> Built:
        built = super()._construct()
        self.optimizers: dict[str, Optimizer] = built.optimizers
        self._options, self._positions = built.options, built.positions
        if self.schedule_per == "update" and any(map(_watches, self._positions)):
            raise ValueError("ReduceLROnPlateau is stepped after an epoch: leave schedule_per at 'epoch'")
        self._guard, self._is_new = Guard(self.device), True
        return built

    def _loader(self, which: int) -> Any:
        """Return the loader of training (0) or of validation (1, None where there is none)."""
        loaders = self.loaders()
        both = tuple(loaders) if isinstance(loaders, tuple | list) else (loaders, None)
        return both[which]

    def _epoch_batches(self, epoch: int) -> Iterator[Any]:
        order = seed_of(self.config.seed, "order", epoch)
        if self._own_loaders:
            loader = self._loader(0)
            seed_loader(loader, order, epoch)
            return batches_on(loader, self.device)
        if self._batches is None:
            self._batches = self._resident()
        return self._batches.of_epoch(order)

    def _resident(self) -> EpochBatches:
        """Bring the training arrays that the loss names to the device, where they stay."""
        arrays = self._arrays("train")
        check_arrays(arrays, "training")
        if type(self).train_batch is not TorchTraining.train_batch or takes_all(self.loss):
            named = [name for name, array in arrays.items() if is_numeric(array)]
        else:
            named = accepted_names(self.loss, arrays)
        float_type = float_type_of(self.network)
        tensors = {name: to_tensor(arrays[name], name, float_type, self.device) for name in named}
        return EpochBatches(tensors, self.config.batch_size)

    def _named_by_loss(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self._loss_names is None:
            self._loss_names = accepted_names(self.loss, batch)
        return {name: batch[name] for name in self._loss_names}

    def _stop_if_not_finite(self, epoch: int, numbers: Mapping[str, float]) -> None:
        try:
            self._guard.check()
        except NotFiniteError as bad:
            raise TrainingDiverged("not_finite", epoch, bad.evidence) from None
        if bad_numbers := {name: value for name, value in numbers.items() if not abs(value) < float("inf")}:
            raise TrainingDiverged("not_finite", epoch, bad_numbers)

    def _watched(self, numbers: Mapping[str, float]) -> float:
        """Return what ReduceLROnPlateau watches; a metric of score() costs one more validation."""
        known = dict(numbers)
        if self.schedule_on not in known:
            known |= self.validate()
        if self.schedule_on not in known:
            raise ValueError(f"schedule_on is {self.schedule_on!r}, and there are {', '.join(known)}")
        return known[self.schedule_on]


def _watches(position: Position) -> bool:
    return position.needs_metric
