"""Whether a trial runs on every node: one epoch of a tiny one, with the share that a search would give it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from search.diagnostics.cluster import Node
from search.diagnostics.context import Setup
from search.diagnostics.finding import Finding, alike, fine, warning, wrong
from search.diagnostics.probes.machine import nothing
from search.diagnostics.probes.training import one_epoch
from search.tuning.resources import Share
from search.workloads import WORKLOADS

EVENTS = 600
_ROOM = 0.25  # of the time, to wait for a free place


def check(setup: Setup) -> Iterator[Finding]:
    """Data and classes go to the nodes as those of a search do: through Ray's object store, code by its name."""
    share = setup.share
    if not share:
        yield warning("trial", "no node with room for one", "a trial on each node", "see the line about room")
        return
    fitting = [node for node in setup.joined.nodes if _fits(node, share)]
    room = setup.joined.ask(nothing, limit_s=_ROOM * setup.patience_s, nodes=fitting, resources=share.bundle)
    if room.silent:
        found = "no free place just now"
        yield warning(
            f"trial on {', '.join(room.silent)}", found, "one to try it in", "look again when the cluster is idle"
        )
    workload = WORKLOADS[setup.workload or next(iter(WORKLOADS))]
    data, config = workload.simulate_data(EVENTS, 0), workload.config(epochs=1, **workload.demo.fixed)
    answers = setup.joined.ask(
        one_epoch, workload.training, config, data, share.device, share.threads,
        limit_s=(1 - _ROOM) * setup.patience_s, nodes=[node for node in fitting if node.name in room.of],
        resources=share.bundle,
    )  # fmt: skip
    mend = "see the lines above; whole story: ray logs cluster (worker-*.err) on that node"
    for reason, nodes in alike(answers.silent).items():
        yield wrong(f"trial of {workload.name} on {nodes}", reason, "one epoch", mend)
    good = {}
    for name, told in answers.of.items():
        bad = [metric for metric, value in told["metrics"].items() if not math.isfinite(value)]
        if bad:
            yield wrong(f"trial of {workload.name} on {name}", f"{', '.join(bad)} not finite", "numbers", mend)
        else:
            good[name] = told
    if good:
        yield _fine(workload.name, good)


def _fits(node: Node, share: Share) -> bool:
    return all(node.resources.get(kind, 0) >= amount for kind, amount in share.bundle.items())


def _fine(workload: str, good: Mapping[str, Mapping[str, object]]) -> Finding:
    slowest = max(float(str(told["seconds"])) for told in good.values())
    devices = ", ".join(sorted({str(told["device"]) for told in good.values()}))
    nodes = "node" if len(good) == 1 else "nodes"
    return fine("trial", f"one epoch of {workload} on {len(good)} {nodes} ({devices}), {slowest:.1f} s at most")
