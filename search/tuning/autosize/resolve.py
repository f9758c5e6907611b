"""Puts numbers in the place of ``auto``: one trial runs for a moment on the cluster, or an earlier process knew."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from search.config.settings import Site
from search.config.spec import SearchSpec
from search.storage.disk import write_atomically
from search.tuning.autosize.benchmark import Measured
from search.tuning.autosize.placement import ProbeError, probe, smallest_gpu
from search.tuning.autosize.share import Proposal, on_cpus, on_gpus
from search.tuning.autosize.worst_case import largest_point, words
from search.tuning.failures import OUT_OF_MEMORY, cause_of, reason_of
from search.tuning.resources import Nodes, Share, share_of
from trainables.runtime.disk_space import megabytes

SIZING = "sizing.json"  # in the folder of a search
GPU_MOMENT_S, CPU_MOMENT_S = 12.0, 4.0  # the latter for each number of threads
_THREADS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Question:
    """What is to be found out."""

    spec: SearchSpec
    point: Mapping[str, Any]
    on_gpu: bool
    cpus: float  # of the trial on a GPU
    cluster: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        point = {name: value for name, value in self.point.items() if name != "seed"}
        return {"point": point, "on_gpu": self.on_gpu, "cpus": self.cpus, "cluster": list(self.cluster)}


def sized_share(
    spec: SearchSpec,
    data: Any,
    site: Site,
    wanted: int | None,
    nodes: Nodes,
    folder: Path,
    say: Callable[[str], object],
) -> Share:
    """The share of one trial, measured where the flags say ``auto``; tells what was found.

    Parameters
    ----------
    wanted : int or None
        Trials at the same time that the user allows.
    folder : Path
        Of the search; what is measured stays there, for when it goes on in the same cluster.

    Raises
    ------
    ClusterError
        Not a single trial fits.
    """
    settled = share_of(site, nodes, wanted, spec.samples)  # as if nothing could be measured
    if not _is_asked(site, settled):
        return settled
    point = largest_point(spec)
    question = Question(spec, point, settled.gpus > 0, settled.cpus, _cluster(nodes))
    measured, when = _remembered(question, folder), " when the search began"
    if measured is None:
        when = ""
        try:
            measured = _measure(question, data, nodes)
        except ProbeError as error:
            say(_failure(question, str(error), settled))
            return settled
        write_atomically(folder / SIZING, json.dumps(question.as_dict() | {"measured": measured.as_dict()}, indent=1))
    proposal = on_gpus(measured, nodes, settled.cpus) if question.on_gpu else on_cpus(measured, nodes)
    numbers = {"cpus_per_trial": proposal.cpus, "gpus_per_trial": proposal.gpus}
    share = share_of(
        site.model_copy(update=numbers),
        nodes,
        wanted,
        spec.samples,
        memory=proposal.memory,
        gpu_context=proposal.gpu_context,
    )
    say(_finding(question, measured, proposal, when))
    return share


def _is_asked(site: Site, settled: Share) -> bool:
    """Whether there is anything to measure: with a GPU its fraction, without one the cores."""
    if site.gpus_per_trial == "auto":
        return settled.gpus > 0 or site.cpus_per_trial in (None, "auto")
    return site.cpus_per_trial == "auto" and not settled.gpus


def _cluster(nodes: Nodes) -> tuple[str, ...]:
    """Its nodes in words: the same for the same cluster on another day."""
    kinds = [sorted(key for key in node if key.startswith("accelerator_type:")) for node in nodes]
    told = [
        f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs {' '.join(kind)}".strip()
        for node, kind in zip(nodes, kinds, strict=True)
    ]
    return tuple(sorted(told))


def _remembered(question: Question, folder: Path) -> Measured | None:
    """What an earlier process of this search measured, if it asked the same."""
    try:
        content = json.loads((folder / SIZING).read_text())
        measured = Measured.from_dict(content.pop("measured"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    asked = json.loads(json.dumps(question.as_dict()))
    return measured if content == asked else None


def _measure(question: Question, data: Any, nodes: Nodes) -> Measured:
    workload = question.spec.workload
    config = workload.config(**question.point)
    if question.on_gpu:
        wishes, threads = [{"CPU": question.cpus, "GPU": 1.0}], [max(1, int(question.cpus))]
        measured = probe(workload.training, config, data, wishes, threads, GPU_MOMENT_S)
        return replace(measured, gpu_free=min(measured.gpu_free, smallest_gpu()))
    cores = min((int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1), default=1)
    threads = [count for count in _THREADS if count <= cores]
    wishes = [{"CPU": float(threads[-1])}, {"CPU": 1.0}]  # the latter where others use the cluster, too
    return probe(workload.training, config, data, wishes, threads, CPU_MOMENT_S)


def _finding(question: Question, measured: Measured, proposal: Proposal, when: str) -> str:
    """One line: the trial, what it took, what follows."""
    if question.on_gpu:
        busy = "" if measured.busy is None else f", {100 * measured.busy:.0f} % busy"
        took = f"{megabytes(measured.gpu_memory)} of a GPU's {megabytes(measured.gpu_free)}{busy}"
        each = f"{proposal.gpus:g} GPU each, {proposal.reason}"
    else:
        rates = ", ".join(f"{rate:.3g}/s with {threads}" for threads, rate in measured.rates.items())
        took = f"{megabytes(measured.memory)}; updates: {rates} threads"
        each = f"{proposal.cpus:g} CPU each, {proposal.reason}"
    return f"sizing   {_trial(question)}: {took}, in {measured.seconds:.0f} s{when}: {each}"


def _trial(question: Question) -> str:
    large = words(question.spec, question.point)
    return f"one trial at its largest ({large})" if large else "one trial"


def _failure(question: Question, told: str, share: Share) -> str:
    """What is done where nothing was measured."""
    what = _trial(question)
    each = "a whole GPU" if share.gpus else f"{share.cpus:g} CPU"
    if cause_of(told) in OUT_OF_MEMORY:
        return f"warning  sizing: {what} runs {reason_of(told)}; such points will fail. Each trial gets {each}."
    return f"warning  sizing: {what} could not be run for a moment ({reason_of(told)}). Each trial gets {each}."
