"""Read the branches of a ROOT tree, or the fields of an RNTuple, as columns: one number, or as many, an event."""

# N entries of one chunk

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.base.errors import DataError
from trainables.data import root_trees as trees
from trainables.data.table_file import Rows, TableFile


@contextmanager
def opened(file: str, inside: str = "") -> Iterator[RootTable]:
    """Open the tree ``inside``, or the only one, of a ROOT file for a ``with`` block.

    Raises
    ------
    UnreadableFile
        The file is none, or broken, or has no such tree.
    DataError
        It has several trees, and none is named; its tree is of a class that is not read.
    """
    with trees.opened(file) as root_file:
        there = trees.trees_in(root_file)
        if not inside and len(there) > 1:
            raise DataError(f"{file}: holds several trees: {', '.join(sorted(there))}. Name one of them (tree=...).")
        name = inside or next(iter(there), "")
        expected = f"'{name}'" if name else "a tree"
        yield RootTable(file, trees.find_tree(root_file, file, name, expected, "Name one of them."), name)


class RootTable(TableFile):
    """An open tree."""

    what = "branch"

    def __init__(self, file: str, tree: Any, name: str) -> None:
        self.file, self._tree, self._name = file, tree, name

    @cached_property
    def _branches(self) -> dict[str, str]:
        """The branch of each column: podio's ``A/A.b`` is ``A.b``."""
        return {name.rpartition("/")[2]: name for name in self._tree.keys(recursive=True)}

    @property
    def names(self) -> list[str]:
        return list(self._branches)

    def rows(self, names: Sequence[str]) -> int:
        return int(self._tree.num_entries)

    def chunks(self, names: Sequence[str]) -> Iterator[Rows]:
        branches = {name: self._branches[name] for name in names}
        if self.rows(names) == 0:
            return
        for entry, fields in trees.stream(self._tree, self.file, branches):
            yield {name: self._column(name, fields[name], entry) for name in names}

    def _column(self, name: str, array: Any, entry: int) -> NDArray[Any]:
        import awkward as ak

        shape: list[int] = []
        while array.ndim > 1 and not array.fields:
            length_N = np.asarray(ak.to_numpy(ak.num(array, axis=1)))
            differs_N = length_N != length_N[:1].repeat(len(length_N))
            if differs_N.any():
                bad = int(np.argmax(differs_N))
                row = entry + bad if not shape else None
                raise self.wrong_type(name, f"lists of {length_N[0]} and of {length_N[bad]} values", row)
            shape.append(int(length_N[0]) if len(length_N) else 0)
            array = ak.flatten(array, axis=1)
        try:
            flat = np.asarray(ak.to_numpy(array, allow_missing=False))
        except (ValueError, TypeError) as error:
            raise self.wrong_type(name, f"type {array.type.content}") from error
        return self.numbers(name, flat.reshape(-1, *shape) if shape else flat)
