"""The first entries of an input file, as the reader of its workload takes them."""

from __future__ import annotations

from search.workloads import WORKLOADS
from trainables.base.errors import DataError
from trainables.data.ingest import FileKind
from trainables.data.root_trees import opened, trees_in


def workload_of(file: str) -> str:
    """The first workload whose trees a file holds.

    Raises
    ------
    DataError
        There is none, or the file cannot be read.
    """
    with opened(file) as root_file:
        there = trees_in(root_file)
    kinds = _kinds()
    for name, kind in kinds.items():
        if kind.trees & there.keys():
            return name
    wanted = ", ".join(sorted({tree for kind in kinds.values() for tree in kind.trees}))
    raise DataError(f"{file}: no tree of any workload ({wanted}); trees there: {', '.join(sorted(there)) or 'none'}.")


def first_entries(file: str, workload: str) -> int:
    """Read the first chunk; returns the number of entries of the whole file.

    Raises
    ------
    DataError
        What is wrong with the file.
    """
    reader = _kinds()[workload].reader()
    entries = reader.count_entries(file)
    next(reader.read(file))
    return entries


def _kinds() -> dict[str, FileKind]:
    return {name: workload.files for name, workload in WORKLOADS.items() if workload.files}
