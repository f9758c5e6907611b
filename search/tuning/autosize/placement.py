"""Run the benchmark of one trial on free resources of the cluster, and release them whatever happens."""

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
from search.tuning.autosize.benchmark import LIMIT_FACTOR, Measurement, run_benchmark
from trainables.base.training import Training

Bundle = Mapping[str, float]  # resources by Ray's names

_RESERVE_S = 30.0  # to wait for free resources
_START_S = 180.0  # for a process to load torch, for the data to reach its node, and for the training to begin
_KILL_S = 10.0  # for that process to end
_POLL_S = 0.2


class BenchmarkError(SearchError):
    """Nothing was measured; the message says why."""


def run_on_cluster(
    training: type[Training], config: Any, data: Any, bundles: Sequence[Bundle], threads: Sequence[int], seconds: float
) -> Measurement:
    """Run the benchmark in a process on some node.

    Parameters
    ----------
    bundles : sequence of mappings of str to float
        Resources to reserve; the next ones where the ones before do not get free.
    threads : sequence of int
        Numbers of threads to train with for so many ``seconds`` each, as far as the resources have cores.

    Raises
    ------
    BenchmarkError
        No resources got free, or the trial failed, or did not end.
    """
    for bundle in bundles:
        with _reserved(bundle) as group:
            if group is None:
                continue
            gpus = bundle.get("GPU", 0)
            strategy = PlacementGroupSchedulingStrategy(group)
            actor = ray.remote(num_cpus=bundle["CPU"], num_gpus=gpus, scheduling_strategy=strategy)(
                _BenchmarkActor
            ).remote()
            counts = [count for count in threads if count <= max(bundle["CPU"], 1)]
            device = "cuda" if gpus else "cpu"
            call = actor.run.remote(training, config, data, device, counts, seconds)
            return _result(actor, call, _START_S + LIMIT_FACTOR * seconds * (len(counts) + 1))
    wanted = " and ".join(f"{amount:g} {kind}" for kind, amount in bundles[-1].items())
    raise BenchmarkError(f"no free place for {wanted} within {_RESERVE_S:.0f} s")


class _BenchmarkActor:
    """A process that can be killed at any time.

    An actor, because Ray 2.60 aborts a driver that cancels a task by force while the task ends.
    """

    def run(self, *arguments: Any) -> Measurement:
        return run_benchmark(*arguments)


@contextmanager
def _reserved(bundle: Bundle) -> Iterator[PlacementGroup | None]:
    """Reserve resources of one node; None where they do not get free."""
    group = placement_group([dict(bundle)])
    try:
        yield group if _wait_for(lambda: group.wait(_POLL_S), _RESERVE_S) else None
    finally:
        remove_placement_group(group)


def _result(actor: Any, call: Any, limit_s: float) -> Measurement:
    try:
        if not _wait_for(lambda: bool(ray.wait([call], timeout=_POLL_S)[0]), limit_s):
            raise BenchmarkError(f"no end within {limit_s:.0f} s")
        measurement: Measurement = ray.get(call)
    except ray.exceptions.RayError as error:
        raise BenchmarkError(str(error)) from error
    finally:
        ray.kill(actor)
        ray.wait([call], timeout=_KILL_S)
    return measurement


def _wait_for(done: Callable[[], bool], limit_s: float) -> bool:
    """Poll until it is done; returns whether it is in time. Ctrl-C is raised between two polls, outside of Ray."""
    deadline, signals = time.monotonic() + limit_s, list[int]()
    before = signal.signal(signal.SIGINT, lambda number, _frame: signals.append(number))
    try:
        while not (is_done := done()) and time.monotonic() < deadline and not signals:
            pass
    finally:
        signal.signal(signal.SIGINT, before)
    if signals:
        raise KeyboardInterrupt
    return is_done


def smallest_gpu_memory() -> int:
    """Return the bytes of memory of the smallest GPU, without nodes on which all GPUs are in use."""
    task = ray.remote(num_cpus=0, num_gpus=0.001, max_retries=0)(_gpu_bytes)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
    calls = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote() for node in nodes
    ]
    ready, late = ray.wait(calls, num_returns=len(calls), timeout=_RESERVE_S) if calls else ([], [])
    for call in late:
        ray.cancel(call)
    sizes = []
    for call in ready:
        try:
            sizes.append(int(ray.get(call)))
        except ray.exceptions.RayError:
            continue  # a node on which torch finds no GPU
    return min(sizes, default=sys.maxsize)


def _gpu_bytes() -> int:
    return int(torch.cuda.get_device_properties(0).total_memory)
