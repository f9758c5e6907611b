"""Asks every node of a Ray cluster the same question, and does not wait for one that stays silent."""

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
from search.diagnostics import probes as questions
from search.diagnostics.finding import Finding, alike, wrong

ray.cloudpickle.register_pickle_by_value(questions)


@dataclass(frozen=True)
class Node:
    """One node, as Ray knows it."""

    id: str
    host: str
    name: str  # that of the host; with the beginning of the id where two nodes share a host
    resources: Mapping[str, float]
    drives: bool = False  # this process runs there, as the driver of a search would


@dataclass(frozen=True)
class Answers:
    """What the nodes said, by name, and why others said nothing."""

    of: dict[str, Any]
    silent: dict[str, str]

    def complaints(self, what: str) -> Iterator[Finding]:
        """One finding for those that were silent for the same reason."""
        for reason, nodes in alike(self.silent).items():
            yield wrong(f"{what} of {nodes}", reason, "an answer", "look into Ray's logs there: ray logs cluster")


@dataclass(frozen=True)
class Cluster:
    """The nodes that were alive when it was joined."""

    nodes: Sequence[Node]

    @classmethod
    def joined(cls) -> Cluster:
        """The one that this process has joined."""
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
                    drives=node["NodeID"] == here,
                )
                for node in alive
            ]
        )

    def ask(
        self,
        question: Callable[..., Any],
        *arguments: Any,
        limit_s: float,
        nodes: Sequence[Node] | None = None,
        resources: Mapping[str, float] | None = None,
    ) -> Answers:
        """Call a function on each node, on all at the same time.

        Parameters
        ----------
        question : callable
            Of ``search.diagnostics.probes``; its result is the answer.
        limit_s : float
            From now on; who is not done then is silent.
        nodes : sequence of Node, optional
            None: all.
        resources : mapping, optional
            ``CPU`` and ``GPU`` that it takes; None: it runs beside whatever runs there.
        """
        deadline, taken = time.monotonic() + limit_s, resources or {}
        task = ray.remote(num_cpus=taken.get("CPU", 0), num_gpus=taken.get("GPU", 0), max_retries=0)(question)
        asked = {
            node.name: task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(
                *arguments
            )
            for node in (self.nodes if nodes is None else nodes)
        }
        answers = Answers({}, {})
        for name, reference in asked.items():
            try:
                answers.of[name] = ray.get(reference, timeout=max(deadline - time.monotonic(), 0.01))
            except GetTimeoutError:
                ray.cancel(reference)  # not by force: Ray 2.60 aborts us where the task ends at this very moment
                answers.silent[name] = f"no answer within {limit_s:.0f} s"
            except RayError as error:
                cause = error.cause if isinstance(error, RayTaskError) else error
                answers.silent[name] = f"{type(cause).__name__}: {first_line(cause)}"
        return answers


def _name(node: Mapping[str, Any], hosts: Mapping[str, int]) -> str:
    host = str(node["NodeManagerHostname"])
    return host if hosts[host] == 1 else f"{host}/{node['NodeID'][:6]}"
