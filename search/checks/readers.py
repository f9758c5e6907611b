"""The first entries of an input file, as the reader of its workload takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trainables.pt.ingest
import trainables.zdc.ingest
from trainables.errors import DataError
from trainables.ingest import FileReader
from trainables.pt.layouts import TREE
from trainables.split import SPLIT_NONE
from trainables.trees import opened, trees_in
from trainables.zdc.layouts import TREES


@dataclass(frozen=True)
class Reading:
    """How a workload reads its files, with the settings that it has without flags."""

    trees: frozenset[str]  # of which a file holds one
    reader: Callable[[], FileReader]


_ZDC = Reading(
    frozenset(TREES.values()),
    lambda: trainables.zdc.ingest.ZDCReader(trainables.zdc.ingest.Reading("auto", 0.0, True, SPLIT_NONE)),
)
_PT = Reading(
    frozenset({TREE}),
    lambda: trainables.pt.ingest.PtReader(trainables.pt.ingest.Reading("strict", -1, True, SPLIT_NONE)),
)
READINGS = {"zdc": _ZDC, "pt-energy": _PT, "pt-dphi": _PT, "pt-combined": _PT}  # by workload


def workload_of(file: str) -> str:
    """The first workload whose trees a file holds.

    Raises
    ------
    DataError
        There is none, or the file cannot be read.
    """
    with opened(file) as root_file:
        there = trees_in(root_file)
    for name, reading in READINGS.items():
        if reading.trees & there.keys():
            return name
    wanted = ", ".join(sorted({tree for reading in READINGS.values() for tree in reading.trees}))
    raise DataError(f"{file}: no tree of any workload ({wanted}); trees there: {', '.join(sorted(there)) or 'none'}.")


def first_entries(file: str, workload: str) -> int:
    """Read the first chunk; returns the number of entries of the whole file.

    Raises
    ------
    DataError
        What is wrong with the file.
    """
    reader = READINGS[workload].reader()
    entries = reader.count_entries(file)
    next(reader.read(file))
    return entries
