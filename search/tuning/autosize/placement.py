"""A free place on the cluster for the moment of one trial: asked of Ray, and given back whatever happens."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
import torch
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from search.errors import SearchError
from search.tuning.autosize.benchmark import LONGER, Measured, measure
from trainables.base.training import Training

Bundle = Mapping[str, float]

_PLACE_S = 30.0  # to wait for a free place
_START_S = 180.0  # for a process that loads torch, data to come to its node, and a workload to begin
_END_S = 10.0  # for that process to go
_LOOK_S = 0.2


class ProbeError(SearchError):
    """Nothing could be measured; the text of what stood in the way."""


def probe(
    training: type[Training], config: Any, data: Any, wishes: Sequence[Bundle], threads: Sequence[int], seconds: float
) -> Measured:
    """Run one trial for a moment where there is room for it.

    Parameters
    ----------
    wishes : sequence of mappings of str to float
        Resources by Ray's names; the next one where nobody gets free what the one before asks for.
    threads : sequence of int
        Numbers of them to train with, as far as there are cores, each for so many ``seconds``.

    Raises
    ------
    ProbeError
        There was no free place, or the trial failed, or did not end.
    """
    for wish in wishes:
        with _place(wish) as place:
            if place is None:
                continue
            gpus = wish.get("GPU", 0)
            there = PlacementGroupSchedulingStrategy(place)
            actor = ray.remote(num_cpus=wish["CPU"], num_gpus=gpus, scheduling_strategy=there)(_Moment).remote()
            counts = [count for count in threads if count <= max(wish["CPU"], 1)]
            device = "cuda" if gpus else "cpu"
            running = actor.measure.remote(training, config, data, device, counts, seconds)
            return _answer(actor, running, _START_S + LONGER * seconds * (len(counts) + 1))
    raise ProbeError(f"no free place for {_words(wishes[-1])} within {_PLACE_S:.0f} s")


class _Moment:
    """A process of its own, which can be ended at any time.

    An actor, for Ray 2.60 aborts a driver that cancels a task by force at the moment in which the task ends.
    """

    def measure(self, *arguments: Any) -> Measured:
        return measure(*arguments)


def _words(wish: Bundle) -> str:
    return " and ".join(f"{amount:g} {kind}" for kind, amount in wish.items())


@contextmanager
def _place(wish: Bundle) -> Iterator[PlacementGroup | None]:
    """Room on one node, or None where none gets free."""
    group = placement_group([dict(wish)])
    try:
        yield group if _within(_PLACE_S, lambda: group.wait(_LOOK_S)) else None
    finally:
        remove_placement_group(group)


def _answer(actor: Any, running: Any, limit_s: float) -> Measured:
    try:
        if not _within(limit_s, lambda: bool(ray.wait([running], timeout=_LOOK_S)[0])):
            raise ProbeError(f"no end within {limit_s:.0f} s")
        measured: Measured = ray.get(running)
    except ray.exceptions.RayError as error:
        raise ProbeError(str(error)) from error
    finally:
        ray.kill(actor)
        ray.wait([running], timeout=_END_S)
    return measured


def _within(limit_s: float, done: Callable[[], bool]) -> bool:
    """Whether it is done in time. Ctrl-C is heard between two looks, outside of Ray's own code."""
    deadline, pulled = time.monotonic() + limit_s, list[int]()
    before = signal.signal(signal.SIGINT, lambda number, _frame: pulled.append(number))
    try:
        while not (there := done()) and time.monotonic() < deadline and not pulled:
            pass
    finally:
        signal.signal(signal.SIGINT, before)
    if pulled:
        raise KeyboardInterrupt
    return there


def smallest_gpu() -> int:
    """Bytes of memory of the smallest kind of GPU; a node whose GPUs are all taken just now is not heard."""
    task = ray.remote(num_cpus=0, num_gpus=0.001, max_retries=0)(_gpu_bytes)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
    asked = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote() for node in nodes
    ]
    ready, late = ray.wait(asked, num_returns=len(asked), timeout=_PLACE_S) if asked else ([], [])
    for one in late:
        ray.cancel(one)
    told = []
    for one in ready:
        try:
            told.append(int(ray.get(one)))
        except ray.exceptions.RayError:
            continue  # a node that tells nothing
    return min(told, default=sys.maxsize)


def _gpu_bytes() -> int:
    return int(torch.cuda.get_device_properties(0).total_memory)
