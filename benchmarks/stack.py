"""A stack of pT trainings against the same trainings one after another: updates of a model a second.

    python -m benchmarks.stack
    python -m benchmarks.stack --slots 1 4 8 --repeats 9 --model pt-energy

Prints Markdown. Epochs of one training alone and of each stack take turns in one process, so that a busy machine
disturbs them alike. On the CPU seconds are those of the process, on a GPU those of the clock.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import tyro

from benchmarks.machine import begin_on
from trainables.base.stack_speed import best_slots
from trainables.pt.config import CONFIGS, PtConfig
from trainables.pt.data import PtData
from trainables.pt.simulate import simulate_combined_data
from trainables.pt.stack import PtStack
from trainables.pt.train import PtCombinedTraining, PtDphiTraining, PtEnergyTraining, PtTraining

TRAININGS: dict[str, type[PtTraining]] = {
    "pt-energy": PtEnergyTraining,
    "pt-dphi": PtDphiTraining,
    "pt-combined": PtCombinedTraining,
}
SIZES = ((64, 64, 24), (128, 256, 6), (256, 1024, 1))  # width, batch, updates of a timed epoch


def main(
    model: Literal["pt-energy", "pt-dphi", "pt-combined"] = "pt-dphi",
    slots: tuple[int, ...] = (1, 4, 8, 16, 32),
    dropout: float = 0.2,
    penalties: bool = False,
    repeats: int = 5,
    threads: int = 1,
) -> None:
    """Measure and print.

    Parameters
    ----------
    penalties : bool
        With both penalties of pt-dphi.
    repeats : int
        Timed epochs of each way, after one that is not timed.
    threads : int
        Of PyTorch, on the CPU.
    """
    device, machine = begin_on(threads)
    print(f"{machine}; {model}, dropout {dropout}\n")
    print("| width, batch | alone | " + " | ".join(f"stack of {count}" for count in slots) + " | chosen |")
    print("|---" * (len(slots) + 3) + "|")
    data = simulate_combined_data(9000, 1)
    off = {"monotonic": False, "boundary": False} if model == "pt-dphi" and not penalties else {}
    for width, batch_size, updates in SIZES:
        config = CONFIGS[model](width=width, batch_size=batch_size, dropout=dropout, epochs=10_000, **off)
        rates = measure(TRAININGS[model], config, PtStack.excerpt(config, data, updates), device, slots, repeats)
        alone = statistics.median(rates[0])
        cells = [f"{alone:,.0f}"]
        for count in slots:
            gain = statistics.median(ours / base for ours, base in zip(rates[count], rates[0], strict=True))
            cells.append(f"{statistics.median(rates[count]):,.0f} ({gain:.2f}x)")
        best = best_slots(TRAININGS[model], config, data, device)
        print(f"| {width}, {batch_size:,} | {' | '.join(cells)} | {'alone' if best == 1 else best} |", flush=True)


def measure(
    training: type[PtTraining],
    config: PtConfig,
    data: PtData,
    device: torch.device,
    slots: tuple[int, ...],
    repeats: int,
) -> dict[int, list[float]]:
    """Updates of a model a second in each repeat, by slots; 0 is one training without a stack."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time

    def runs(count: int) -> list[PtTraining]:
        return [training(config.model_copy(update={"seed": seed}), data, device) for seed in range(count)]

    alone = runs(1)[0]
    epochs: dict[int, Callable[[], object]] = {0: alone.train_epoch}
    for count in slots:
        stack = PtStack(count, device)
        entered = [stack.put(run) for run in runs(count)]
        epochs[count] = partial(stack.train_epoch, entered)
    rates: dict[int, list[float]] = {count: [] for count in epochs}
    for repeat in range(repeats + 1):
        for count, epoch in epochs.items():
            began = clock()
            epoch()
            if repeat:
                rates[count].append(max(count, 1) * alone.batches.batches / (clock() - began))
    return rates


if __name__ == "__main__":
    tyro.cli(main)
