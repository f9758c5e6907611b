"""Runs of many trials on one device: those of one shape train as a stack, the others one after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from trainables.base.stack import TrainingStack
from trainables.base.stack_speed import slots_in_memory
from trainables.base.trial_run import TrialKind, TrialRun

Result = dict[str, Any] | Exception  # of an epoch


class TrialGoneError(RuntimeError):
    """A trial whose run is not here (any more): its stack failed or was started again."""


@dataclass(frozen=True)
class _Group:
    """The runs of one shape and the stack that they share."""

    stack: TrainingStack
    slots: dict[str, int] = field(default_factory=dict)  # of trials


class StackGroups:
    """The runs of one device, by their trials, and in which stack each of them is.

    Runs train alone whose training has no stack, of whose shape memory holds no stack, for which no slot is free; on
    a GPU, where a stack computes all its slots, also a run that nobody shares a shape with.

    Parameters
    ----------
    slots : int
        Of each stack, and the number of runs in all.
    """

    def __init__(self, kind: TrialKind, slots: int, device: torch.device) -> None:
        self._kind, self._slots, self._device = kind, slots, device
        self._runs: dict[str, TrialRun] = {}
        self._groups: dict[Hashable, _Group] = {}
        self._shapes: dict[str, Hashable] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, trial: object) -> bool:
        return trial in self._runs

    @property
    def full(self) -> bool:
        """Whether there is room for no further trial."""
        return len(self._runs) >= self._slots

    def run(self, trial: str) -> TrialRun:
        """Return the run of a trial, which is whole between two epochs."""
        if trial not in self._runs:
            raise TrialGoneError(f"the run of trial {trial} is gone from its stack")
        return self._runs[trial]

    def join(self, trial: str, hyperparameters: Mapping[str, Any]) -> None:
        """Begin the run of a trial, in place of one that it may have had, and enter it into the stack of its shape."""
        self.leave(trial)
        run = TrialRun(self._kind, hyperparameters, self._device)
        self._runs[trial] = run
        shape = self._shape_of(run)
        if shape is None:
            return
        if shape not in self._groups:
            assert run.training.stack_type is not None
            self._groups[shape] = _Group(run.training.stack_type(self._slots, self._device))
        group = self._groups[shape]
        try:
            group.slots[trial] = group.stack.put(run.training)
        except ValueError:  # on other events: its own
            return
        self._shapes[trial] = shape

    def _shape_of(self, run: TrialRun) -> Hashable | None:
        stack_type, config = run.training.stack_type, run.training.config
        shape = stack_type.shape_of(config) if stack_type else None
        if shape is None or shape in self._groups:
            return shape
        assert stack_type is not None
        held = slots_in_memory(stack_type, config, self._kind.data, self._device)
        return shape if held and held[-1] >= min(self._slots, 32) else None

    def leave(self, trial: str) -> None:
        """Forget a trial, wherever it is; one that is not here changes nothing."""
        self._runs.pop(trial, None)
        shape = self._shapes.pop(trial, None)
        if shape is None:
            return
        group = self._groups[shape]
        group.stack.take(group.slots.pop(trial))
        if not group.slots:
            del self._groups[shape]  # with its buffers

    def train_epoch(self, trials: Collection[str]) -> Iterator[tuple[str, Result]]:
        """Train one epoch of these trials and yield the result of each as soon as it is there.

        A stack's seconds count for its trials in equal parts. Of what raises an error, which no divergence is, the
        state is not known: its trial leaves, of a whole stack all that were trained.
        """
        alone = [trial for trial in trials if trial not in self._shapes]
        for shape in list(dict.fromkeys(self._shapes[trial] for trial in trials if trial in self._shapes)):
            members = [trial for trial in trials if self._shapes.get(trial) == shape]
            if len(members) == 1 and self._device.type != "cpu":
                alone += members
                continue
            yield from self._train_stack(self._groups[shape], members)
        for trial in alone:
            yield trial, self._result(trial, self.run(trial).step)

    def _train_stack(self, group: _Group, members: list[str]) -> Iterator[tuple[str, Result]]:
        started = time.perf_counter()
        try:
            ended = group.stack.train_epoch([group.slots[trial] for trial in members])
        except Exception as error:
            for trial in members:
                self.leave(trial)
            yield from ((trial, error) for trial in members)
            return
        seconds = (time.perf_counter() - started) / len(members)
        for trial in members:
            trained = ended[group.slots[trial]]
            yield trial, self._result(trial, partial(self.run(trial).result_of, trained, seconds))

    def _result(self, trial: str, make: Callable[[], dict[str, Any]]) -> Result:
        try:
            return make()
        except Exception as error:
            self.leave(trial)
            return error
