"""Start or join Ray; settle which share of it one trial gets and how many trials fit."""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import ray

from search.config.addresses import ray_address, split_address
from search.config.redaction import first_line
from search.config.settings import Site
from search.errors import ClusterError
from search.tuning.local_ray import local_ray
from trainables.runtime import signals
from trainables.runtime.disk_space import megabytes
from trainables.runtime.gpu_memory import CONTEXT_BYTES
from trainables.runtime.imports import modules_to_send

Nodes = Sequence[Mapping[str, float]]  # resources of each node, by Ray's names


_PROXY_CPUS = 0.001  # that Ray keeps for what Tune holds of a trial in a stack


@dataclass(frozen=True)
class Share:
    """Resources of one trial, or of one server whose slots several trials share; the number of concurrent trials."""

    cpus: float
    gpus: float
    concurrent: int
    memory: int = 0  # bytes of its node's memory that Ray reserves; 0: unknown what a trial takes
    gpu_context: int = CONTEXT_BYTES  # bytes of its part of a GPU that CUDA itself takes
    slots: int = 1  # trials that are trained in one stack

    @property
    def bundle(self) -> dict[str, float]:
        """Resources that a trial requests of Ray, by its names."""
        if self.slots > 1:
            return {"CPU": _PROXY_CPUS}
        asked = {"CPU": self.cpus, "GPU": self.gpus, "memory": float(self.memory)}
        return {kind: amount for kind, amount in asked.items() if amount}

    @property
    def servers(self) -> int:
        """Number of the servers of stacks."""
        return math.ceil(self.concurrent / self.slots) if self.slots > 1 else 0

    @property
    def server_cpus(self) -> float:
        """What a server requests of Ray: its share without that of its trials."""
        return max(self.cpus - self.slots * _PROXY_CPUS, 0.0)

    def stacked(self, slots: int, most: int) -> Share:
        """Return the share with so many trials at most in a stack, and ``most`` at most in all.

        First every server gets a trial, for a core more is worth more than a slot more.
        """
        servers = min(self.concurrent, most)
        each = min(slots, math.ceil(most / servers))
        return replace(self, slots=each, concurrent=min(servers * each, most)) if each > 1 else self

    def as_dict(self) -> dict[str, float]:
        """Return the share under the names of the flags."""
        stack = {"stack": self.slots} if self.slots > 1 else {}
        return {"cpus_per_trial": self.cpus, "gpus_per_trial": self.gpus, "max_concurrent": self.concurrent} | stack

    @property
    def threads(self) -> int:
        return max(1, int(self.cpus))

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"


@contextmanager
def ray_session(address: str | None) -> Iterator[Nodes]:
    """Join the cluster at ``address``, or start one on this machine for as long as the search lives.

    Yields
    ------
    sequence of mappings of str to float
        Resources of each node.

    Raises
    ------
    ClusterError
        Nothing answers at ``address``, or no Ray starts on this machine.
    """
    address = _checked(address)
    for module in modules_to_send():
        ray.cloudpickle.register_pickle_by_value(module)
    if ray.is_initialized():
        yield live_nodes()
        return
    with _joined(address) if address else local_ray():
        yield live_nodes()


def _checked(address: str | None) -> str | None:
    try:
        return ray_address(address) if address else None
    except ValueError as error:
        raise ClusterError(f"--address (or $RAY_ADDRESS): {error}.") from error


@contextmanager
def _joined(address: str) -> Iterator[None]:
    try:
        _require_answer(address)
        with signals.kept_by_ray():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # a token that is refused, too; Ray raises plain ones
        raise ClusterError(
            f"No Ray cluster answers at {address}: {first_line(error)}\n"
            "Start one with: ray start --head; or leave out --address (and $RAY_ADDRESS) to use this machine."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def live_nodes() -> Nodes:
    """Return the resources of each node that is alive now."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _require_answer(address: str) -> None:
    """Require that something listens at the address, because Ray itself retries for many minutes."""
    scheme, _, rest = address.rpartition("://")
    if scheme in ("", "ray") and rest not in ("auto", "local"):
        socket.create_connection(split_address(rest), timeout=10).close()


def share_of(
    site: Site,
    nodes: Nodes,
    wanted: int | None,
    samples: int,
    *,
    memory: int = 0,
    gpu_context: int = CONTEXT_BYTES,
) -> Share:
    """Return the share of one trial on these nodes; auto without a measurement means one core and a whole GPU.

    Raises
    ------
    ClusterError
        Not a single trial fits on any of them.
    """
    asked_cpus, asked_gpus = site.cpus_per_trial, site.gpus_per_trial
    cpus = 1.0 if asked_cpus is None or asked_cpus == "auto" else asked_cpus
    gpus = float(has_gpus(nodes)) if asked_gpus is None or asked_gpus == "auto" else asked_gpus
    fits = sum(_fits(node, cpus, gpus, memory) for node in nodes)
    if fits < 1:
        there = "; ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
        of_memory = ""
        if memory:
            most = max((node.get("memory", 0.0) for node in nodes), default=0.0)
            of_memory = f" and {megabytes(memory)} of memory (the most that a node has is {megabytes(int(most))})"
        raise ClusterError(
            f"Not one trial fits: it asks for {cpus:g} CPUs and {gpus:g} GPUs{of_memory} on one node, and the "
            f"nodes have {there or 'nothing'}. Lower --cpus-per-trial or --gpus-per-trial."
        )
    return Share(cpus, gpus, min(fits, wanted or fits, samples), memory, gpu_context)


def trials_on(nodes: Nodes, share: Share) -> int:
    """Return the number of trials of this share that fit on the nodes."""
    return sum(_fits(node, share.cpus, share.gpus, share.memory) for node in nodes)


def has_gpus(nodes: Nodes) -> bool:
    return any(node.get("GPU") for node in nodes)


def _fits(node: Mapping[str, float], cpus: float, gpus: float, memory: int) -> int:
    """Return the number of trials that fit on a node; a fraction of a GPU lies on one GPU."""
    fits = math.floor(node.get("CPU", 0.0) / cpus + 1e-9)
    if memory and "memory" in node:
        fits = min(fits, int(node["memory"] // memory))
    if not gpus:
        return fits
    whole = node.get("GPU", 0.0)
    by_gpu = int(whole) * math.floor(1 / gpus + 1e-9) if gpus < 1 else math.floor(whole / gpus + 1e-9)
    return min(fits, by_gpu)


def gpu_names(nodes: Nodes) -> str:
    """Return the kinds of GPU, as Ray names them."""
    kinds = {key.removeprefix("accelerator_type:") for node in nodes for key in node if "accelerator_type:" in key}
    return ", ".join(sorted(kinds))
