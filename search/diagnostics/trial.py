"""Whether a trial runs on every node: one epoch of a tiny one, with the share that a search would give it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from search.config.catalogue import find_workload
from search.diagnostics.context import DiagnosticContext
from search.diagnostics.finding import Finding, fine, nodes_by_text, warning, wrong
from search.diagnostics.nodes import Node
from search.diagnostics.probes.machine import no_operation
from search.diagnostics.probes.training import train_one_epoch
from search.tuning.resources import Share
from search.workloads import WORKLOADS

EVENTS = 600
_RESERVING = 0.25  # of the time: to wait for free resources


def check(context: DiagnosticContext) -> Iterator[Finding]:
    """Send data through Ray's object store and code by its name, as a search does."""
    share, cluster = context.share, context.connected_cluster
    if not share:
        yield warning("trial", "no node with room for one", "a trial on each node", "see the line about room")
        return
    fitting = [node for node in cluster.nodes if _fits(node, share)]
    free = cluster.run(
        no_operation, limit_s=_RESERVING * context.node_limit_s, nodes=fitting, resources=share.bundle
    )  # fmt: skip
    if free.errors:
        what, found = f"trial on {', '.join(free.errors)}", "no free place just now"
        yield warning(what, found, "one to try it in", "look again when the cluster is idle")
    workload = find_workload(context.workload or next(iter(WORKLOADS)))
    if workload.simulate_data is None:
        yield fine(
            "trial", f"{workload.name} not checked, it has no simulate_data; {next(iter(WORKLOADS))} in its place"
        )
        workload = WORKLOADS[next(iter(WORKLOADS))]
    assert workload.simulate_data is not None
    data, config = workload.simulate_data(EVENTS, 0), workload.config(epochs=1, **workload.demo.fixed)
    results = cluster.run(
        train_one_epoch, workload.training, config, data, share.device, share.threads,
        limit_s=(1 - _RESERVING) * context.node_limit_s,
        nodes=[node for node in fitting if node.name in free.values], resources=share.bundle,
    )  # fmt: skip
    fix = "see the lines above; whole story: ray logs cluster (worker-*.err) on that node"
    for reason, nodes in nodes_by_text(results.errors).items():
        yield wrong(f"trial of {workload.name} on {nodes}", reason, "one epoch", fix)
    good = {}
    for name, epoch in results.values.items():
        bad = [metric for metric, value in epoch["metrics"].items() if not math.isfinite(value)]
        if bad:
            yield wrong(f"trial of {workload.name} on {name}", f"{', '.join(bad)} not finite", "numbers", fix)
        else:
            good[name] = epoch
    if good:
        yield _fine(workload.name, good)


def _fits(node: Node, share: Share) -> bool:
    return all(node.resources.get(kind, 0) >= amount for kind, amount in share.bundle.items())


def _fine(workload: str, epochs: Mapping[str, Mapping[str, object]]) -> Finding:
    slowest = max(float(str(epoch["seconds"])) for epoch in epochs.values())
    devices = ", ".join(sorted({str(epoch["device"]) for epoch in epochs.values()}))
    nodes = "node" if len(epochs) == 1 else "nodes"
    return fine("trial", f"one epoch of {workload} on {len(epochs)} {nodes} ({devices}), {slowest:.1f} s at most")
