"""Replace ``auto`` by numbers: benchmark one trial on the cluster, or use what an earlier process measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.storage.disk import write_atomically
from search.tuning.autosize.benchmark import Measurement
from search.tuning.autosize.placement import BenchmarkError, run_on_cluster, smallest_gpu_memory
from search.tuning.autosize.share import Proposal, on_cpus, on_gpus
from search.tuning.autosize.worst_case import describe_sizes, largest_point
from search.tuning.concurrency import nodes_with_room
from search.tuning.failures import OUT_OF_MEMORY, cause_of, reason_of
from search.tuning.resources import Nodes, Share, share_of
from trainables.runtime.disk_space import megabytes

if TYPE_CHECKING:
    from search.config.settings import Site
    from search.config.spec import SearchSpec

SIZING = "sizing.json"  # in the search directory
GPU_BENCHMARK_S, CPU_BENCHMARK_S = 12.0, 4.0  # on a CPU: for each number of threads
_THREADS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class BenchmarkRequest:
    """What is to be measured. A measurement holds for an equal request only."""

    spec: SearchSpec
    point: Mapping[str, Any]
    on_gpu: bool
    cpus: float  # of the trial on a GPU
    cluster: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        point = {name: value for name, value in self.point.items() if name != "seed"}
        return {"point": point, "on_gpu": self.on_gpu, "cpus": self.cpus, "cluster": list(self.cluster)}


def resolve_share(spec: SearchSpec, data: Any, nodes: Nodes, folder: Path, report: Callable[[str], object]) -> Share:
    """Return the share of one trial, measured where the flags say ``auto``, and report what was measured.

    Parameters
    ----------
    nodes : sequence of mappings of str to float
        Resources of each node of the cluster.
    folder : Path
        The search directory. The measurement is stored there, for a search that is resumed on the same cluster.

    Raises
    ------
    ClusterError
        Not a single trial fits.
    """
    site, max_concurrent = spec.site, spec.budget.max_concurrent
    nodes = nodes_with_room(site, nodes, report)
    unmeasured = share_of(site, nodes, max_concurrent, spec.samples)
    if not _needs_benchmark(site, unmeasured):
        return unmeasured
    request = BenchmarkRequest(spec, largest_point(spec), unmeasured.gpus > 0, unmeasured.cpus, _cluster(nodes))
    measured, when = _stored_measurement(request, folder), " when the search began"
    if measured is None:
        when = ""
        try:
            measured = _measure(request, data, nodes)
        except BenchmarkError as error:
            report(_failure(request, str(error), unmeasured))
            return unmeasured
        write_atomically(folder / SIZING, json.dumps(request.as_dict() | {"measured": measured.as_dict()}, indent=1))
    proposal = on_gpus(measured, nodes, unmeasured.cpus) if request.on_gpu else on_cpus(measured, nodes)
    share = share_of(
        site.model_copy(update={"cpus_per_trial": proposal.cpus, "gpus_per_trial": proposal.gpus}),
        nodes,
        max_concurrent,
        spec.samples,
        memory=proposal.memory,
        gpu_context=proposal.gpu_context,
    )
    report(_success(request, measured, proposal, when))
    return share


def _needs_benchmark(site: Site, unmeasured: Share) -> bool:
    """Whether the flags leave something to measure: the fraction of a GPU, or the cores where there is no GPU."""
    if site.gpus_per_trial == "auto":
        return unmeasured.gpus > 0 or site.cpus_per_trial in (None, "auto")
    return site.cpus_per_trial == "auto" and not unmeasured.gpus


def _cluster(nodes: Nodes) -> tuple[str, ...]:
    """Describe the nodes, so that the same cluster is recognised on another day."""
    kinds = [sorted(key for key in node if key.startswith("accelerator_type:")) for node in nodes]
    described = [
        f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs {' '.join(kind)}".strip()
        for node, kind in zip(nodes, kinds, strict=True)
    ]
    return tuple(sorted(described))


def _stored_measurement(request: BenchmarkRequest, folder: Path) -> Measurement | None:
    """Read what an earlier process of this search measured for an equal request."""
    try:
        content = json.loads((folder / SIZING).read_text())
        measured = Measurement.from_dict(content.pop("measured"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return measured if content == json.loads(json.dumps(request.as_dict())) else None


def _measure(request: BenchmarkRequest, data: Any, nodes: Nodes) -> Measurement:
    workload = request.spec.workload
    config = workload.config(**request.point)
    if request.on_gpu:
        bundles, threads = [{"CPU": request.cpus, "GPU": 1.0}], [max(1, int(request.cpus))]
        measured = run_on_cluster(workload.training, config, data, bundles, threads, GPU_BENCHMARK_S)
        return replace(measured, gpu_free=min(measured.gpu_free, smallest_gpu_memory()))
    cores = min((int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1), default=1)
    threads = [count for count in _THREADS if count <= cores]
    bundles = [{"CPU": float(threads[-1])}, {"CPU": 1.0}]  # one core, where other searches use the cluster as well
    return run_on_cluster(workload.training, config, data, bundles, threads, CPU_BENCHMARK_S)


def _success(request: BenchmarkRequest, measured: Measurement, proposal: Proposal, when: str) -> str:
    """One line: the trial, what it took, and the share that follows."""
    if request.on_gpu:
        busy = "" if measured.busy is None else f", {100 * measured.busy:.0f} % busy"
        took = f"{megabytes(measured.gpu_memory)} of a GPU's {megabytes(measured.gpu_free)}{busy}"
        each = f"{proposal.gpus:g} GPU each, {proposal.reason}"
    else:
        rates = ", ".join(f"{rate:.3g}/s with {threads}" for threads, rate in measured.rates.items())
        took = f"{megabytes(measured.memory)}; updates: {rates} threads"
        each = f"{proposal.cpus:g} CPU each, {proposal.reason}"
    return f"sizing   {_trial(request)}: {took}, in {measured.seconds:.0f} s{when}: {each}"


def _failure(request: BenchmarkRequest, error: str, share: Share) -> str:
    """One line: why nothing was measured, and the share that trials get instead."""
    trial = _trial(request)
    each = "a whole GPU" if share.gpus else f"{share.cpus:g} CPU"
    if cause_of(error) in OUT_OF_MEMORY:
        return f"warning  sizing: {trial} runs {reason_of(error)}; such points will fail. Each trial gets {each}."
    return f"warning  sizing: the benchmark of {trial} failed ({reason_of(error)}). Each trial gets {each}."


def _trial(request: BenchmarkRequest) -> str:
    sizes = describe_sizes(request.spec, request.point)
    return f"one trial at its largest ({sizes})" if sizes else "one trial"
