"""Whether the nodes' clocks agree with this machine's."""

from __future__ import annotations

import time
from collections.abc import Iterator

from search.diagnostics.context import DiagnosticContext
from search.diagnostics.finding import Finding, fine, warning, wrong
from search.diagnostics.nodes import Cluster, Node
from search.diagnostics.probes.machine import current_time

WARN_S = 1.0  # then times in logs, of files and of runs mislead
WRONG_S = 30.0  # then certificates, tokens and time limits fail
_SAMPLES, _TIMEOUT_S = 5, 5
_FIX = "chronyc makestep there (or: timedatectl set-ntp true)"


def check(context: DiagnosticContext) -> Iterator[Finding]:
    """Compare clocks; the offset of one is uncertain by half of the time that a call takes."""
    cluster = context.connected_cluster
    first = cluster.run(current_time, limit_s=context.node_limit_s)  # the first call starts a process
    yield from first.error_findings("clock")
    largest_s, good = 0.0, 0
    for node in cluster.nodes:
        if node.name not in first.values:
            continue
        what = f"clock of {node.name}"
        measured = _offset(cluster, node)
        if measured is None:
            yield wrong(what, f"no answer within {_TIMEOUT_S} s", "an answer", "ray status; ray logs cluster")
            continue
        offset_s, uncertainty_s = measured
        excess_s = abs(offset_s) - uncertainty_s
        if excess_s > WARN_S:
            finding = wrong if excess_s > WRONG_S else warning
            found = f"{abs(offset_s):.1f} s {'ahead of' if offset_s > 0 else 'behind'} this machine"
            yield finding(what, found, f"less than {WARN_S:g} s", _FIX)
        else:
            largest_s, good = max(largest_s, abs(offset_s)), good + 1
    if good:
        found = f"within {max(largest_s, 0.01):.2f} s of this machine on {good} of {len(first.values)} nodes"
        yield fine("clocks", found)


def _offset(cluster: Cluster, node: Node) -> tuple[float, float] | None:
    """Return seconds by which a clock is ahead, and their uncertainty, of the quickest call; None without an answer."""
    samples = []
    for _ in range(_SAMPLES):
        began = time.time()
        results = cluster.run(current_time, limit_s=_TIMEOUT_S, nodes=[node])
        ended = time.time()
        if node.name not in results.values:
            break
        samples.append(((ended - began) / 2, results.values[node.name] - (began + ended) / 2))
    if not samples:
        return None
    uncertainty_s, offset_s = min(samples)
    return offset_s, uncertainty_s
