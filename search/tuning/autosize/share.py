"""From what one trial took to the share of each: as many on a GPU or a node as fit, with head-room; arithmetic only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from search.errors import ClusterError
from search.tuning.autosize.benchmark import Measured
from search.tuning.resources import Nodes
from trainables.runtime.disk_space import megabytes

GROWTH = 1.2  # a trial may take so much more than in its moment,
USABLE = 0.9  # of this part of the memory
FULL = 0.9  # trials are added until the GPU is so busy; beyond that they only wait for each other
MOST_ON_A_GPU = 16  # they take turns on it
_WORTH_A_THREAD = 1.05  # a core must gain so much in a trial with more threads, or it trains another trial


@dataclass(frozen=True)
class Proposal:
    """The share of one trial."""

    cpus: float
    gpus: float
    memory: int  # bytes of a node's memory that are set aside for it
    gpu_context: int
    reason: str  # why not more of them, in a few words


def with_headroom(peak: int) -> int:
    """Bytes to reckon with for what took ``peak`` of them."""
    return math.ceil(GROWTH * peak / USABLE)


def on_gpus(measured: Measured, nodes: Nodes, cpus: float) -> Proposal:
    """A fraction of a GPU, or a whole one.

    Parameters
    ----------
    measured : Measured
        Its ``gpu_free`` that of the smallest GPU.
    cpus : float
        Cores of one trial.

    Raises
    ------
    ClusterError
        The trial took more than a GPU has.
    """
    if measured.gpu_memory > measured.gpu_free:
        raise ClusterError(
            f"Not one trial fits: the largest of this search took {megabytes(measured.gpu_memory)} of a GPU's memory, "
            f"and the smallest GPU has {megabytes(measured.gpu_free)}. Search smaller networks or batches."
        )
    memory = _of_node(measured, nodes)
    with_gpu = [node for node in nodes if node.get("GPU")]
    bounds = {
        f"{MOST_ON_A_GPU} at most": MOST_ON_A_GPU,
        "as many as its memory holds": measured.gpu_free // with_headroom(max(measured.gpu_memory, 1)),
        "as many as keep it busy": math.ceil(FULL / max(measured.busy, 0.01))
        if measured.busy is not None
        else MOST_ON_A_GPU,
        "as many as its node has cores for": max(
            int(node.get("CPU", 0) / cpus / node["GPU"] + 1e-9) for node in with_gpu
        ),
        "as many as its node has memory for": max(int(_room(node, memory) / node["GPU"]) for node in with_gpu),
    }
    trials, reason = _least(bounds)
    return Proposal(cpus, fraction_of(trials), memory, measured.gpu_context, reason)


def on_cpus(measured: Measured, nodes: Nodes) -> Proposal:
    """Cores: so many threads as gain most per core, and more only where memory lets no further trial in."""
    memory, threads = _of_node(measured, nodes), best_threads(measured.rates)
    by_cores = {place: int(node.get("CPU", 0.0) / threads + 1e-9) for place, node in enumerate(nodes)}
    fitting = {place: min(fits, _room(nodes[place], memory)) for place, fits in by_cores.items()}
    # cores that stay over on every node are shared out
    spread = [nodes[place]["CPU"] / fits for place, fits in fitting.items() if fits >= 1]
    cpus = max(float(threads), rounded_down(min(spread, default=0.0)))
    if all(by_cores[place] == fits for place, fits in fitting.items()):
        return Proposal(
            float(threads), 0.0, memory, 0, "one on every core" if threads == 1 else "where more threads gain most"
        )
    return Proposal(cpus, 0.0, memory, 0, "as many as its node has memory for")


def fraction_of(trials: int) -> float:
    """The largest fraction that Ray, which reckons in ten-thousandths, fits so often into one."""
    return rounded_down(1 / trials)


def rounded_down(share: float) -> float:
    return math.floor(share * 10_000 + 1e-6) / 10_000


def best_threads(rates: Mapping[int, float]) -> int:
    """The number of threads with the highest rate per thread: most updates of all trials on a node together."""
    best = min(rates)
    for threads in sorted(rates):
        if rates[threads] / threads > _WORTH_A_THREAD * rates[best] / best:
            best = threads
    return best


def _of_node(measured: Measured, nodes: Nodes) -> int:
    """Bytes to set aside on a node; of what one node can just hold, all that it has."""
    most = max((int(node["memory"]) for node in nodes if "memory" in node), default=0)
    if most and measured.memory > most:
        raise ClusterError(
            f"Not one trial fits: the largest of this search took {megabytes(measured.memory)} of memory, and no node "
            f"has more than {megabytes(most)} for trials. Search smaller networks or batches."
        )
    return min(with_headroom(measured.memory), most) if most else with_headroom(measured.memory)


def _room(node: Mapping[str, float], memory: int) -> int:
    """Trials for which a node has memory."""
    return int(node["memory"] // memory) if "memory" in node and memory else 10**9


def _least(bounds: Mapping[str, int]) -> tuple[int, str]:
    reason = min(bounds, key=lambda name: bounds[name])
    return max(1, bounds[reason]), reason
