"""Whether the input files are whole and the workload's reader reads them: it must on the head, and may elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search.config.catalogue import find_workload
from search.diagnostics.context import DiagnosticContext
from search.diagnostics.finding import Finding, fine, nodes_by_text, warning, wrong
from search.diagnostics.probes.data import Stamp, stamp_files
from search.workloads import WORKLOADS
from trainables.base.errors import DataError
from trainables.data.files import expand_files
from trainables.data.root_trees import no_tree, opened, trees_in
from trainables.data.stamps import Stamp as StampOfFile
from trainables.data.stamps import stamp_file
from trainables.data.table_headers import SUFFIXES, suffix_of
from trainables.runtime.disk_space import megabytes

if TYPE_CHECKING:
    from search.diagnostics.nodes import Cluster, Node
    from trainables.data.ingest import FileKind

STAMPED, READ = 200, 10  # files, at most
_MOST_PROBLEMS = 3


def check(context: DiagnosticContext) -> Iterator[Finding]:
    """Compare size and a sample of the content of the files on all nodes; read the first entries of some of them."""
    if not context.data:
        yield fine("data", "no --data: the carried sample")
        return
    kinds = _file_kinds(context.workload)
    try:
        files = expand_files(
            context.data, sorted({end for kind in kinds.values() for end in kind.suffixes}) or SUFFIXES
        )
    except DataError as error:
        yield wrong("data", str(error), "files that the workload reads", "correct --data")
        return
    own = {kind.stamp for kind in kinds.values()}
    stamp = own.pop() if len(own) == 1 else stamp_file
    stamps = stamp_files(_evenly_chosen(files, STAMPED), stamp)
    readable = {file: found for file, found in stamps.items() if not isinstance(found, str)}
    yield from _unreadable([found for found in stamps.values() if isinstance(found, str)])
    if readable:
        nodes = context.cluster.nodes if context.cluster else []
        if context.cluster:
            nodes = yield from _check_same_files(context, context.cluster, readable, stamp)
        if kinds:
            yield from _check_readable(context, readable, len(files), nodes)
        else:
            what = f"workload {context.workload} names no kind of file"
            yield fine(
                "data", f"{_sample(readable, len(files))}, there{_on(context, nodes)}; content not checked: {what}"
            )


def _evenly_chosen(files: Sequence[str], most: int) -> list[str]:
    """Choose files at even distances, the first and the last included."""
    if len(files) <= most:
        return list(files)
    return [files[round(index * (len(files) - 1) / (most - 1))] for index in range(most)]


def _unreadable(problems: Sequence[str]) -> Iterator[Finding]:
    fix = "copy it again, correct --data or --workload, or --skip-bad-files"
    for problem in problems[:_MOST_PROBLEMS]:
        yield wrong("data", problem, "a file that can be read", fix)
    if len(problems) > _MOST_PROBLEMS:
        yield wrong("data", f"{len(problems) - _MOST_PROBLEMS} more such files", fix="as above")


def _check_readable(
    context: DiagnosticContext, stamps: dict[str, Stamp], files: int, nodes: Sequence[Node]
) -> Iterator[Finding]:
    """Read the first entries here, and on the nodes that have the same files and need no code of the user's for it."""
    entries: dict[str, int] = {}
    problems, workload = [], context.workload or ""
    for file in _evenly_chosen(list(stamps), READ):
        try:
            workload = workload or workload_of(file)
            entries[file] = read_first_entries(file, workload)
        except DataError as error:
            problems.append(str(error))
    context.workload = workload or None  # for the check of a trial
    yield from _unreadable(problems)
    if not entries:
        return
    how = f"there{_on(context, nodes)} and read as {workload} here"
    if context.cluster and workload in WORKLOADS:
        results = context.cluster.run(
            read_first_entries, next(iter(entries)), workload, limit_s=context.node_limit_s / 2, nodes=nodes
        )
        fix = "see the line about versions; ray logs cluster (worker-*.err) on that node has more"
        yield from _problems_of_nodes(context.cluster, results.errors, "that the first entries can be read", fix)
        nodes = [node for node in nodes if node.name in results.values]
        how = f"there and read as {workload} here{_on(context, nodes)}"
    yield fine("data", f"{_sample(stamps, files)}, {how}")


def _sample(stamps: Mapping[str, Stamp], files: int) -> str:
    of = f"{len(stamps)} of " if len(stamps) < files else ""
    return f"{of}{files} file{'s' * (files > 1)}, {megabytes(sum(size for size, _ in stamps.values()))}"


def _on(context: DiagnosticContext, nodes: Sequence[Node]) -> str:
    return f" and on {len(nodes)} of {len(context.cluster.nodes)} nodes" if context.cluster else ""


def workload_of(file: str) -> str:
    """Return the first carried workload whose trees a file holds, or that reads files of its suffix.

    Raises
    ------
    DataError
        There is none, or the file cannot be read.
    """
    kinds, suffix = _file_kinds(None), suffix_of(file)
    any_tree = [name for name, kind in kinds.items() if not kind.trees and suffix in kind.suffixes]
    wanted = sorted({tree for kind in kinds.values() for tree in kind.trees})
    if any_tree and suffix != ".root":
        return any_tree[0]
    with opened(file) as root_file:
        there = trees_in(root_file)
        for name in [*(name for name, kind in kinds.items() if kind.trees & there.keys()), *any_tree]:
            return name
        expected = f"one of {', '.join(repr(tree) for tree in wanted)}"
        raise no_tree(root_file, file, expected, "Correct --data, or name the --workload that reads it.")


def read_first_entries(file: str, workload: str) -> int:
    """Read the first chunk of a file; returns the number of entries of the whole file.

    Raises
    ------
    DataError
        What is wrong with the file.
    """
    reader = _file_kinds(workload)[workload].reader()
    entries = reader.count_entries(file)
    next(reader.read(file))
    return entries


def _file_kinds(workload: str | None) -> dict[str, FileKind]:
    """Return the kinds of files of one workload, or of all carried ones, by workload."""
    chosen = {workload: find_workload(workload)} if workload else WORKLOADS
    return {name: one.files for name, one in chosen.items() if one.files}


def _check_same_files(
    context: DiagnosticContext, cluster: Cluster, here: dict[str, Stamp], stamp: Callable[[str], StampOfFile]
) -> Generator[Finding, None, list[Node]]:
    """Report nodes with other files than this machine; returns the nodes with the same ones."""
    results = cluster.run(stamp_files, list(here), stamp, limit_s=context.node_limit_s / 2)
    yield from results.error_findings("data")
    problems = {}
    for node, there in results.values.items():
        different = [_difference(file, here[file], found) for file, found in there.items() if found != here[file]]
        if different:
            more = f" (and {len(different) - 1} more files)" if len(different) > 1 else ""
            problems[node] = different[0] + more
    fix = f"mount {Path(next(iter(here))).parent} there, or copy the files to the same path"
    yield from _problems_of_nodes(cluster, problems, "the same files as here", fix)
    return [node for node in cluster.nodes if node.name in results.values and node.name not in problems]


def _problems_of_nodes(cluster: Cluster, problems: dict[str, str], expected: str, fix: str) -> Iterator[Finding]:
    """Report a problem of the driver's node as wrong, and one of another node, which only gets arrays, as a warning."""
    drivers = [node.name for node in cluster.nodes if node.is_driver]
    for problem, nodes in nodes_by_text({name: text for name, text in problems.items() if name in drivers}).items():
        yield wrong(f"data on {nodes}", problem, expected, fix)
    fix = f"none is needed unless a search is started there, for only the head reads them; else {fix}"
    for problem, nodes in nodes_by_text({name: text for name, text in problems.items() if name not in drivers}).items():
        yield warning(f"data on {nodes}", problem, expected, fix)


def _difference(file: str, here: Stamp, there: Stamp | str) -> str:
    if isinstance(there, str):
        return there
    if there[0] != here[0]:
        return f"{file}: {there[0]} bytes there, {here[0]} here"
    return f"{file}: other content than here, although of the same size"
