"""Measure whether a stack trains more than one run after another, and how many slots train most."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from trainables.base.errors import TrainingDiverged
from trainables.base.stack import TrainingStack
from trainables.base.training import Training, TrainingConfig

SLOTS = (4, 8, 16, 32)
LEAST_GAIN = 1.2  # below it a stack is not worth that its runs wait for each other
NEARLY = 0.97  # of the largest gain: of stacks that train about as much, the smallest
MEMORY_SHARE = 0.5  # of what is free now
ROUNDS = 3
MOST_UPDATES = 64  # of a timed epoch

Epoch = Callable[[], object]


def best_slots(
    training_type: type[Training], config: TrainingConfig, data: Any, device: torch.device, seconds: float = 2.0
) -> int:
    """Return the number of slots with which a stack makes most updates of all its runs a second; 1: train alone.

    Short epochs of one run alone and of stacks take turns, for about ``seconds`` besides the time to build the runs. A
    stack of 8 (or of 4, where memory holds no more) must make 1.2 times the updates of one run after another.
    """
    stack_type = training_type.stack_type
    if stack_type is None or stack_type.shape_of(config) is None:
        return 1
    if not (held := slots_in_memory(stack_type, config, data, device)):
        return 1
    began = time.perf_counter()
    single = _Runs(training_type, stack_type, config, stack_type.excerpt(config, data, 1), device)
    update_s = _times({1: single.epochs_of(1)}, began, rounds=2)[1]
    first = min(8, held[-1])
    if 2 * update_s * (1 + first) > seconds:  # to warm up, and timed: so much arithmetic fills any device
        return 1
    updates = int(min(max(seconds / (ROUNDS * sum(SLOTS) * update_s), 1), MOST_UPDATES))
    runs = _Runs(training_type, stack_type, config, stack_type.excerpt(config, data, updates), device)
    began = time.perf_counter()
    gains = _gains({slots: runs.epochs_of(slots) for slots in (1, first)}, began + seconds / 2)
    if gains[first] < LEAST_GAIN:
        return 1
    turns_s = 2 * updates * update_s / gains[first]  # of each run
    others = [slots for slots in held if slots != first and slots * turns_s <= seconds / 2]
    if not others:
        return first
    gains |= _gains({slots: runs.epochs_of(slots) for slots in (1, *others)}, time.perf_counter() + seconds / 2)
    return min(slots for slots, gain in gains.items() if gain >= NEARLY * max(gains.values()))


def slots_in_memory(
    stack_type: type[TrainingStack], config: TrainingConfig, data: Any, device: torch.device
) -> list[int]:
    """Return those of 4, 8, 16 and 32 slots that half of the free memory holds."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
    else:
        free = psutil.virtual_memory().available
    each = stack_type.slot_bytes(config, data)
    return [slots for slots in SLOTS if slots * each <= MEMORY_SHARE * free]


@dataclass(frozen=True)
class _Runs:
    """Runs of one configuration and other seeds."""

    training_type: type[Training]
    stack_type: type[TrainingStack]
    config: TrainingConfig
    data: Any
    device: torch.device

    def epochs_of(self, slots: int) -> Epoch:
        """Return what trains one epoch of each of this many runs in a stack; of 1, alone."""
        runs = [
            self.training_type(self.config.model_copy(update={"seed": seed}), self.data, self.device)
            for seed in range(slots)
        ]
        if slots == 1:
            return runs[0].train_epoch
        stack = self.stack_type(slots, self.device)
        entered = [stack.put(run) for run in runs]
        return lambda: stack.train_epoch(entered)


def _gains(epochs: Mapping[int, Epoch], until: float) -> dict[int, float]:
    """Return by slots how many times as many updates a second are made as by one run alone, which is among them."""
    seconds = _times(epochs, until, ROUNDS)
    return {slots: slots * seconds[1] / spent for slots, spent in seconds.items() if slots != 1}


def _times(epochs: Mapping[int, Epoch], until: float, rounds: int) -> dict[int, float]:
    """Return the least seconds of an epoch of each: they take turns, and the first turn, which is whole, warms up."""
    spent: dict[int, list[float]] = {slots: [] for slots in epochs}
    for turn in range(rounds + 1):
        for slots, epoch in epochs.items():
            began = time.perf_counter()
            with suppress(TrainingDiverged):  # it has made all its updates
                epoch()
            spent[slots].append(time.perf_counter() - began)
        if turn and time.perf_counter() > until:
            break
    return {slots: min(of_slots[1:]) for slots, of_slots in spent.items()}
