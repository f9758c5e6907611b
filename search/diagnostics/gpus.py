"""Whether Ray and torch see the same GPUs on every node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from search.diagnostics.cluster import Node
from search.diagnostics.context import Setup
from search.diagnostics.finding import Finding, alike, fine, warning, wrong
from search.diagnostics.probes.gpus import gpus


def check(setup: Setup) -> Iterator[Finding]:
    """Ray counts what it was told or found when it began; torch what it can use."""
    answers = setup.joined.ask(gpus, limit_s=setup.patience_s)
    yield from answers.complaints("GPUs")
    nodes = {node.name: node for node in setup.joined.nodes}
    agreed = {}
    for name, told in answers.of.items():
        if problem := _problem(nodes[name], told):
            yield problem
        else:
            agreed[name] = _kinds(told)
    for kinds, those in alike(agreed).items():
        yield fine(f"GPUs of {those}", kinds)


def _problem(node: Node, told: Mapping[str, Any]) -> Finding | None:
    of_ray, of_torch, what = int(node.resources.get("GPU", 0)), told["torch"], f"GPUs of {node.name}"
    if told["driver"] > 0 and of_torch == 0:
        found = f"torch {told['version']} sees none" + (f" (CUDA {told['cuda']})" if told["cuda"] else "")
        mend = "python -c 'import torch; torch.cuda.init()' there says why: mostly a driver that is too old"
        if not told["cuda"]:
            mend = "pip install --force-reinstall torch there, in a build with CUDA: see https://pytorch.org"
        return wrong(what, found, f"{told['driver']} as nvidia-smi", mend)
    if of_ray > of_torch:
        found = f"{of_ray} for Ray, {of_torch} for torch"
        return wrong(what, found, "as many for both", f"ray stop there, then ray start with --num-gpus {of_torch}")
    if of_ray < of_torch:
        found = f"{of_ray} for Ray, {of_torch} for torch"
        return warning(
            what, found, "as many for both, or some stay idle", f"ray start with --num-gpus {of_torch} there"
        )
    return None


def _kinds(told: Mapping[str, Any]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in Counter(told["names"]).items()) or "none"
