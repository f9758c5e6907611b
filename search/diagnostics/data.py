"""Whether the input files are there and can be read by their workload: on the head; elsewhere it is good to know."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search.diagnostics.context import Setup
from search.diagnostics.finding import Finding, alike, fine, warning, wrong
from search.diagnostics.probes.data import Stamp, stamps
from search.diagnostics.readers import first_entries, workload_of
from trainables.base.errors import DataError
from trainables.data.files import expand_files
from trainables.runtime.disk_space import megabytes

if TYPE_CHECKING:
    from search.diagnostics.cluster import Cluster, Node

STAMPED, READ = 200, 10  # files, at most
_SHOWN = 3  # of many faults


def check(setup: Setup) -> Iterator[Finding]:
    """Sizes and samples of the content of all files, here and there; the first entries of some, here and there."""
    if not setup.data:
        yield fine("data", "no --data: the carried sample")
        return
    try:
        files = expand_files(setup.data)
    except DataError as problem:
        yield wrong("data", str(problem), "ROOT files", "correct --data")
        return
    here = stamps(_spread(files, STAMPED))
    good = {file: stamp for file, stamp in here.items() if not isinstance(stamp, str)}
    yield from _bad([stamp for stamp in here.values() if isinstance(stamp, str)])
    if good:
        yield from _readable(setup, good, len(files))


def _spread(files: Sequence[str], most: int) -> list[str]:
    """Some of many, evenly chosen, the first and the last with them."""
    if len(files) <= most:
        return list(files)
    return [files[round(index * (len(files) - 1) / (most - 1))] for index in range(most)]


def _bad(problems: Sequence[str]) -> Iterator[Finding]:
    for problem in problems[:_SHOWN]:
        yield wrong(
            "data", problem, "a ROOT file that can be read", "copy it again, correct --data, or --skip-bad-files"
        )
    if len(problems) > _SHOWN:
        yield wrong("data", f"{len(problems) - _SHOWN} more such files", mend="as above")


def _readable(setup: Setup, stamped: dict[str, Stamp], files: int) -> Iterator[Finding]:
    entries: dict[str, int] = {}
    problems, workload = [], setup.workload or ""
    for file in _spread(list(stamped), READ):
        try:
            workload = workload or workload_of(file)
            entries[file] = first_entries(file, workload)
        except DataError as problem:
            problems.append(str(problem))
    setup.workload = workload or None  # whose trial is tried, too
    yield from _bad(problems)
    on_nodes = ""
    if setup.cluster:
        nodes = yield from _same(setup, setup.cluster, stamped)
        if entries:
            nodes = yield from _read_there(setup, setup.cluster, nodes, next(iter(entries)), workload)
        on_nodes = f" and on {len(nodes)} of {len(setup.cluster.nodes)} nodes"
    if entries:
        size = megabytes(sum(size for size, _ in stamped.values()))
        sample = f"{len(stamped)} of {files} files, {size}" if len(stamped) < files else f"{files} files, {size}"
        yield fine("data", f"{sample}, there and read as {workload} here{on_nodes}".replace("1 files", "1 file"))


def _same(setup: Setup, cluster: Cluster, here: dict[str, Stamp]) -> Generator[Finding, None, list[Node]]:
    """The nodes that have the same files."""
    answers = cluster.ask(stamps, list(here), limit_s=setup.patience_s / 2)
    yield from answers.complaints("data")
    problems = {}
    for node, there in answers.of.items():
        faults = [_difference(file, here[file], stamp) for file, stamp in there.items() if stamp != here[file]]
        if faults:
            problems[node] = faults[0] + (f" (and {len(faults) - 1} more files)" if len(faults) > 1 else "")
    mend = f"mount {Path(next(iter(here))).parent} there, or copy the files to the same path"
    yield from _there(cluster, problems, "the same files as here", mend)
    return [node for node in cluster.nodes if node.name in answers.of and node.name not in problems]


def _read_there(
    setup: Setup, cluster: Cluster, nodes: Sequence[Node], file: str, workload: str
) -> Generator[Finding, None, list[Node]]:
    """Those of the nodes that read the first entries of a file."""
    answers = cluster.ask(first_entries, file, workload, limit_s=setup.patience_s / 2, nodes=nodes)
    mend = "see the line about versions; ray logs cluster (worker-*.err) on that node has more"
    yield from _there(cluster, answers.silent, "that the first entries can be read", mend)
    return [node for node in nodes if node.name in answers.of]


def _there(cluster: Cluster, problems: dict[str, str], expected: str, mend: str) -> Iterator[Finding]:
    """A fault of the node that drives a search stops it; the others are given the arrays by it."""
    driving = [node.name for node in cluster.nodes if node.drives]
    for problem, nodes in alike({name: text for name, text in problems.items() if name in driving}).items():
        yield wrong(f"data on {nodes}", problem, expected, mend)
    for problem, nodes in alike({name: text for name, text in problems.items() if name not in driving}).items():
        mend_it = f"none is needed unless a search is started there, for only the head reads them; else {mend}"
        yield warning(f"data on {nodes}", problem, expected, mend_it)


def _difference(file: str, here: Stamp, there: Stamp | str) -> str:
    if isinstance(there, str):
        return there
    if there[0] != here[0]:
        return f"{file}: {there[0]} bytes there, {here[0]} here"
    return f"{file}: other content than here, although of the same size"
