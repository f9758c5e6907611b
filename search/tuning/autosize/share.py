"""Arithmetic from what one trial took to the share of each: as many on a GPU or node as fit, with headroom."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search.errors import ClusterError
from trainables.runtime.disk_space import megabytes

if TYPE_CHECKING:
    from search.tuning.autosize.benchmark import Measurement
    from search.tuning.resources import Nodes

GROWTH = 1.2  # a trial may take so much more memory than in its benchmark
USABLE = 0.9  # part of the memory that all trials together may take
BUSY = 0.9  # trials are added until the GPU is so busy; more of them would only wait for each other
MAX_PER_GPU = 16  # trials, which take turns on it
_MIN_GAIN = 1.05  # of the rate per thread, for which a trial gets more threads instead of another trial


@dataclass(frozen=True)
class Proposal:
    """The share of one trial."""

    cpus: float
    gpus: float
    memory: int  # bytes of a node's memory that are reserved for it
    gpu_context: int
    reason: str  # what limits the number of trials


def with_headroom(peak: int) -> int:
    """Bytes of memory to plan for a measured peak."""
    return math.ceil(GROWTH * peak / USABLE)


def on_gpus(measured: Measurement, nodes: Nodes, cpus: float) -> Proposal:
    """Compute the share of a trial on a GPU: a fraction of it, or a whole one.

    Parameters
    ----------
    measured : Measurement
        With the ``gpu_free`` of the smallest GPU.
    cpus : float
        Cores of one trial.

    Raises
    ------
    ClusterError
        The trial took more than the smallest GPU has.
    """
    if measured.gpu_memory > measured.gpu_free:
        raise ClusterError(
            f"Not one trial fits: the largest of this search took {megabytes(measured.gpu_memory)} of a GPU's memory, "
            f"and the smallest GPU has {megabytes(measured.gpu_free)}. Search smaller networks or batches."
        )
    memory = _node_memory(measured, nodes)
    with_gpu = [node for node in nodes if node.get("GPU")]
    bounds = {
        f"{MAX_PER_GPU} at most": MAX_PER_GPU,
        "as many as its memory holds": measured.gpu_free // with_headroom(max(measured.gpu_memory, 1)),
        "as many as keep it busy": math.ceil(BUSY / max(measured.busy, 0.01))
        if measured.busy is not None
        else MAX_PER_GPU,
        "as many as its node has cores for": max(
            int(node.get("CPU", 0) / cpus / node["GPU"] + 1e-9) for node in with_gpu
        ),
        "as many as its node has memory for": max(
            int(_fits_in_memory(node, memory) / node["GPU"]) for node in with_gpu
        ),
    }
    trials, reason = _smallest(bounds)
    return Proposal(cpus, fraction_of(trials), memory, measured.gpu_context, reason)


def on_cpus(measured: Measurement, nodes: Nodes) -> Proposal:
    """Compute the cores of a trial: the threads with the best rate per core; more where memory limits the trials."""
    memory, threads = _node_memory(measured, nodes), best_threads(measured.rates)
    by_cores = [int(node.get("CPU", 0.0) / threads + 1e-9) for node in nodes]
    fitting = [min(fits, _fits_in_memory(node, memory)) for node, fits in zip(nodes, by_cores, strict=True)]
    if fitting == by_cores:
        reason = "one on every core" if threads == 1 else "where more threads gain most"
        return Proposal(float(threads), 0.0, memory, 0, reason)
    # cores that are left on every node go to its trials
    spread = [node["CPU"] / fits for node, fits in zip(nodes, fitting, strict=True) if fits >= 1]
    cpus = max(float(threads), _rounded_down(min(spread, default=0.0)))
    return Proposal(cpus, 0.0, memory, 0, "as many as its node has memory for")


def fraction_of(trials: int) -> float:
    """Return the largest fraction that fits so many times into one for Ray, which counts in ten-thousandths."""
    return _rounded_down(1 / trials)


def _rounded_down(share: float) -> float:
    return math.floor(share * 10_000 + 1e-6) / 10_000


def best_threads(rates: Mapping[int, float]) -> int:
    """Return the number of threads with the best rate per thread, and so the most updates of all trials of a node."""
    best = min(rates)
    for threads in sorted(rates):
        if rates[threads] / threads > _MIN_GAIN * rates[best] / best:
            best = threads
    return best


def _node_memory(measured: Measurement, nodes: Nodes) -> int:
    """Return the bytes to reserve on a node: the peak with headroom, at most what the largest node has."""
    most = max((int(node["memory"]) for node in nodes if "memory" in node), default=0)
    if most and measured.memory > most:
        raise ClusterError(
            f"Not one trial fits: the largest of this search took {megabytes(measured.memory)} of memory, and no node "
            f"has more than {megabytes(most)} for trials. Search smaller networks or batches."
        )
    return min(with_headroom(measured.memory), most) if most else with_headroom(measured.memory)


def _fits_in_memory(node: Mapping[str, float], memory: int) -> int:
    """Number of trials for which a node has memory."""
    return int(node["memory"] // memory) if "memory" in node and memory else 10**9


def _smallest(bounds: Mapping[str, int]) -> tuple[int, str]:
    reason = min(bounds, key=lambda name: bounds[name])
    return max(1, bounds[reason]), reason
