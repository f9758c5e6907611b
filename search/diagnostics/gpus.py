"""Whether Ray and torch see the same GPUs on every node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from search.diagnostics.context import DiagnosticContext
from search.diagnostics.finding import Finding, fine, nodes_by_text, warning, wrong
from search.diagnostics.nodes import Node
from search.diagnostics.probes.gpus import gpus


def check(context: DiagnosticContext) -> Iterator[Finding]:
    """Compare the GPUs that Ray counted when it started with those that torch can use."""
    cluster = context.connected_cluster
    results = cluster.run(gpus, limit_s=context.node_limit_s)
    yield from results.error_findings("GPUs")
    nodes = {node.name: node for node in cluster.nodes}
    kinds_of = {}
    for name, seen in results.values.items():
        if problem := _problem(nodes[name], seen):
            yield problem
        else:
            counts = Counter(seen["names"]).items()
            kinds_of[name] = ", ".join(f"{number} {kind}" for kind, number in counts) or "none"
    for kinds, names in nodes_by_text(kinds_of).items():
        yield fine(f"GPUs of {names}", kinds)


def _problem(node: Node, seen: Mapping[str, Any]) -> Finding | None:
    of_ray, of_torch, what = int(node.resources.get("GPU", 0)), seen["torch"], f"GPUs of {node.name}"
    if seen["driver"] > 0 and of_torch == 0:
        found = f"torch {seen['version']} sees none" + (f" (CUDA {seen['cuda']})" if seen["cuda"] else "")
        fix = "python -c 'import torch; torch.cuda.init()' there says why: mostly a driver that is too old"
        if not seen["cuda"]:
            fix = "pip install --force-reinstall torch there, in a build with CUDA: see https://pytorch.org"
        return wrong(what, found, f"{seen['driver']} as nvidia-smi", fix)
    found = f"{of_ray} for Ray, {of_torch} for torch"
    if of_ray > of_torch:
        return wrong(what, found, "as many for both", f"ray stop there, then ray start with --num-gpus {of_torch}")
    if of_ray < of_torch:
        fix = f"ray start with --num-gpus {of_torch} there"
        return warning(what, found, "as many for both, or some stay idle", fix)
    return None
