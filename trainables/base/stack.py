"""The contract of a stack: several training runs of one shape, trained as one batched program."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # configurations and --help need no torch
    import torch

    from trainables.base.errors import TrainingDiverged
    from trainables.base.training import Training, TrainingConfig


class TrainingStack(ABC):
    """Train several runs of one shape as one batched program: continuous batching of trials.

    A small network leaves a device idle: each update is a queue of tiny kernels. A stack makes one update of all its
    runs with the same number of kernels. What a run does in a slot is what it does alone, up to the order in which
    sums are rounded: it draws from its own generators, has its own hyperparameters, and is refused its own bad
    updates. Its neighbours come, go and diverge without its noticing.

    Between two calls of ``train_epoch`` each ``Training`` in a slot is whole: it may be validated, saved, loaded with
    another state and reported as if it were alone. Runs enter and leave at the end of any epoch, whatever the epoch
    of the others.
    """

    @staticmethod
    @abstractmethod
    def shape_of(config: TrainingConfig) -> Hashable | None:
        """Return what must be equal for runs to share a stack, for runs on the same data; None: it trains alone."""

    @abstractmethod
    def __init__(self, slots: int, device: torch.device) -> None:
        """Make a stack of free slots, numbered from 0."""

    @abstractmethod
    def put(self, training: Training) -> int:
        """Enter a run at the end of an epoch, fresh or after ``load_state``; return its slot.

        Raises
        ------
        ValueError
            No slot is free, or the run has not the shape or not the events of those that are in the stack.
        """

    @abstractmethod
    def train_epoch(self, slots: Collection[int]) -> dict[int, dict[str, float] | TrainingDiverged]:
        """Train one epoch of the runs in these slots; return for each what its ``train_epoch`` alone returns.

        For a run that diverged the error stands in place of its numbers; it stays in its slot until it is taken. Runs
        in other slots do not change by a bit.

        Raises
        ------
        ValueError
            A slot is free.
        """

    @abstractmethod
    def take(self, slot: int) -> None:
        """Free a slot. Its run keeps its state and trains on alone, or in another stack."""

    @staticmethod
    @abstractmethod
    def excerpt(config: TrainingConfig, data: Any, updates: int) -> Any:
        """Return data whose epoch has at most this many updates, for a measurement of speed."""

    @staticmethod
    @abstractmethod
    def slot_bytes(config: TrainingConfig, data: Any) -> int:
        """Estimate the memory of one slot on the device, in bytes."""
