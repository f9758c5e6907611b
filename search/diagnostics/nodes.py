"""Run a probe on every node of a Ray cluster, without waiting for nodes that do not answer."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.config.redaction import first_line
from search.diagnostics import probes
from search.diagnostics.finding import Finding, nodes_by_text, wrong
from trainables.runtime import machine_limits

ray.cloudpickle.register_pickle_by_value(probes)
ray.cloudpickle.register_pickle_by_value(machine_limits)  # which a probe uses


@dataclass(frozen=True)
class Node:
    """One node, as Ray lists it."""

    id: str
    host: str
    name: str  # the host's; with the beginning of the id where two nodes share a host
    resources: Mapping[str, float]
    is_driver: bool = False  # this process runs there, as the driver of a search would


@dataclass(frozen=True)
class NodeResults:
    """Results of a probe by the names of nodes, and the errors of the nodes without one."""

    values: dict[str, Any]
    errors: dict[str, str]

    def error_findings(self, what: str) -> Iterator[Finding]:
        """Report the errors, one finding for all nodes with the same one."""
        for error, nodes in nodes_by_text(self.errors).items():
            yield wrong(f"{what} of {nodes}", error, "an answer", "look into Ray's logs there: ray logs cluster")


@dataclass(frozen=True)
class Cluster:
    """The nodes that were alive when this process connected."""

    nodes: Sequence[Node]

    @classmethod
    def connected(cls) -> Cluster:
        """List the nodes of the cluster to which this process is connected."""
        alive = [node for node in ray.nodes() if node["Alive"]]
        hosts = Counter(node["NodeManagerHostname"] for node in alive)
        here = ray.get_runtime_context().get_node_id()
        return cls(
            [
                Node(
                    id=node["NodeID"],
                    host=node["NodeManagerHostname"],
                    name=_name(node, hosts),
                    resources=node["Resources"],
                    is_driver=node["NodeID"] == here,
                )
                for node in alive
            ]
        )

    def run(
        self,
        probe: Callable[..., Any],
        *arguments: Any,
        limit_s: float,
        nodes: Sequence[Node] | None = None,
        resources: Mapping[str, float] | None = None,
    ) -> NodeResults:
        """Call a function on each node, on all of them at the same time.

        Parameters
        ----------
        probe : callable
            Of ``search.diagnostics.probes``, which is sent to the nodes.
        limit_s : float
            Seconds from now on; a node that needs longer gets an error.
        nodes : sequence of Node, optional
            None: all.
        resources : mapping, optional
            ``CPU`` and ``GPU`` that the call reserves; None: it runs beside whatever runs there.
        """
        deadline, reserved = time.monotonic() + limit_s, resources or {}
        task = ray.remote(num_cpus=reserved.get("CPU", 0), num_gpus=reserved.get("GPU", 0), max_retries=0)(probe)
        calls = {
            node.name: task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(
                *arguments
            )
            for node in (self.nodes if nodes is None else nodes)
        }
        results = NodeResults({}, {})
        for name, call in calls.items():
            try:
                results.values[name] = ray.get(call, timeout=max(deadline - time.monotonic(), 0.01))
            except GetTimeoutError:
                ray.cancel(call)  # not by force: Ray 2.60 aborts the driver if the task ends at the same time
                results.errors[name] = f"no answer within {limit_s:.0f} s"
            except RayError as error:
                cause = error.cause if isinstance(error, RayTaskError) else error
                results.errors[name] = f"{type(cause).__name__}: {first_line(cause)}"
        return results


def _name(node: Mapping[str, Any], hosts: Mapping[str, int]) -> str:
    host = str(node["NodeManagerHostname"])
    return host if hosts[host] == 1 else f"{host}/{node['NodeID'][:6]}"
