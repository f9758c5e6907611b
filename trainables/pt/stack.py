"""Several trainings of a pT model as one batched program: what ``PtTraining.train_epoch`` does, for all of them."""

# K runs, N events, U updates of an epoch, B batch, R rows (B and the probe), L hidden layers, W width, G angles of the
# grid, P points of the boundary table

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import torch

from trainables.base.errors import TrainingDiverged
from trainables.base.stack import TrainingStack
from trainables.pt.config import PtEnergyConfig
from trainables.pt.stack_program import StackProgram

if TYPE_CHECKING:
    from trainables.pt.data import PtData
    from trainables.pt.train import PtTraining

NUMBER_BYTES = 4  # of float32


class PtStack(TrainingStack):
    """A stack of trainings of one pT model. They share the events, which are on the device once.

    Parameters
    ----------
    slots : int
        K at most. On the CPU only the runs of a call are computed; elsewhere always all slots, so that the shapes of
        the program stay the same and it can be recorded.
    """

    def __init__(self, slots: int, device: torch.device) -> None:
        self.device = device
        self.padded = device.type != "cpu"
        self._slots: list[PtTraining | None] = [None] * slots
        self._program: StackProgram | None = None

    @staticmethod
    def shape_of(config: Any) -> Hashable | None:
        features = config.features if isinstance(config, PtEnergyConfig) else None
        return type(config).__name__, features, config.width, config.depth, config.batch_size

    @staticmethod
    def excerpt(config: Any, data: PtData, updates: int) -> PtData:
        count = int(min(updates * config.batch_size, len(data.train)))
        train = {field.name: getattr(data.train, field.name)[:count] for field in fields(data.train)}
        cut: dict[str, Any] = {"train": replace(data.train, **train)}
        if hasattr(data, "train_branch_N2"):
            cut["train_branch_N2"] = data.train_branch_N2[:count]
        return replace(data, **cut)

    @staticmethod
    def slot_bytes(config: Any, data: PtData) -> int:
        """Count parameters with moments, activations, and the features of validation; those of training are shared."""
        rows = min(config.batch_size, len(data.train)) + 100
        widths = config.width * config.depth
        parameters = 60 * config.width + config.width**2 * (config.depth - 1)
        events = 60 * len(data.validation) + 2 * len(data.train)  # an order is of whole numbers of eight bytes
        return NUMBER_BYTES * int(10 * parameters + 5 * rows * widths + events)

    def put(self, training: Any) -> int:
        free = [slot for slot, one in enumerate(self._slots) if one is None]
        if not free:
            raise ValueError(f"all {len(self._slots)} slots of the stack are taken")
        others = [one for one in self._slots if one is not None]
        if any(one is training for one in others):
            raise ValueError("this run is in the stack already")
        if others:
            _share_events(training, others[0])
        self._slots[free[0]] = training
        return free[0]

    def take(self, slot: int) -> None:
        if self._slots[slot] is None:
            raise ValueError(f"slot {slot} of the stack is free already")
        self._slots[slot] = None
        if not any(self._slots):
            self._program = None  # it holds the events

    def train_epoch(self, slots: Collection[int]) -> dict[int, dict[str, float] | TrainingDiverged]:
        if free := sorted(slot for slot in slots if self._slots[slot] is None):
            raise ValueError(f"slots {free} of the stack are free: there is nothing to train")
        if not slots:
            return {}
        of_members = range(len(self._slots)) if self.padded else sorted(slots)
        members = [self._slots[slot] if slot in slots else None for slot in of_members]
        first = next(one for one in members if one is not None)
        if self._program is None or not self._program.fits(members):
            self._program = StackProgram(first, len(members))
        self._program.train_epoch(members)
        return {slot: _end_of(one) for slot, one in zip(of_members, members, strict=True) if one is not None}


def _end_of(training: PtTraining) -> dict[str, float] | TrainingDiverged:
    try:
        return training.end_epoch()
    except TrainingDiverged as diverged:
        return diverged


def _share_events(training: PtTraining, other: PtTraining) -> None:
    """Let a run use the events of another, if they are the same."""
    shapes = [PtStack.shape_of(one.config) for one in (training, other)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"a run of shape {shapes[0]} cannot enter a stack of shape {shapes[1]}")
    for name in ("train_NF", "truth_N", "validation_NF"):
        mine, theirs = getattr(training, name), getattr(other, name)
        if mine is not theirs and not (mine.dtype == theirs.dtype and torch.equal(mine, theirs)):
            raise ValueError(f"a run on other events ({name}) cannot enter a stack; all runs of a stack share them")
        setattr(training, name, theirs)
