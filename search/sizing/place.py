"""A free place on the cluster for the moment of one trial: asked of Ray, and given back whatever happens."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
import torch
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from search.errors import SearchError
from search.sizing.moment import LONGER, Measured, measure
from trainables.training import Training

Bundle = Mapping[str, float]

_PLACE_S = 30.0  # to wait for a free place
_START_S = 180.0  # for a process that loads torch, data to come to its node, and a workload to begin
_END_S = 10.0  # for that process to go


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
            task = ray.remote(num_cpus=wish["CPU"], num_gpus=gpus, max_retries=0, max_calls=1)(measure)
            there = PlacementGroupSchedulingStrategy(place)
            counts = [count for count in threads if count <= max(wish["CPU"], 1)]
            device = "cuda" if gpus else "cpu"
            running = task.options(scheduling_strategy=there).remote(training, config, data, device, counts, seconds)
            return _answer(running, _START_S + LONGER * seconds * (len(counts) + 1))
    raise ProbeError(f"no free place for {_words(wishes[-1])} within {_PLACE_S:.0f} s")


def _words(wish: Bundle) -> str:
    return " and ".join(f"{amount:g} {kind}" for kind, amount in wish.items())


@contextmanager
def _place(wish: Bundle) -> Iterator[PlacementGroup | None]:
    """Room on one node, or None where none gets free."""
    group = placement_group([dict(wish)])
    try:
        yield group if group.wait(_PLACE_S) else None
    finally:
        remove_placement_group(group)


def _answer(running: Any, limit_s: float) -> Measured:
    try:
        measured: Measured = ray.get(running, timeout=limit_s)
    except ray.exceptions.GetTimeoutError as error:
        raise ProbeError(f"no end within {limit_s:.0f} s") from error
    except ray.exceptions.RayError as error:
        raise ProbeError(str(error)) from error
    finally:  # with Ctrl-C, too: Ray must not be left while a task of ours is running
        ray.cancel(running, force=True)
        ray.wait([running], timeout=_END_S)
    return measured


def smallest_gpu() -> int:
    """Bytes of memory of the smallest kind of GPU; a node whose GPUs are all taken just now is not heard."""
    task = ray.remote(num_cpus=0, num_gpus=0.001, max_retries=0)(_gpu_bytes)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
    asked = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote() for node in nodes
    ]
    ready, late = ray.wait(asked, num_returns=len(asked), timeout=_PLACE_S) if asked else ([], [])
    for one in late:
        ray.cancel(one, force=True)
    told = []
    for one in ready:
        try:
            told.append(int(ray.get(one)))
        except ray.exceptions.RayError:
            continue  # a node that tells nothing
    return min(told, default=sys.maxsize)


def _gpu_bytes() -> int:
    return int(torch.cuda.get_device_properties(0).total_memory)
