"""What every format of tables offers: named columns, row i of each is event i, in chunks; errors that name a column."""

# N rows of one chunk

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.base.errors import DataError
from trainables.data.files import unreadable

CHUNK_BYTES = 8 << 20  # of the needed columns, about
NUMBERS = "biuf"  # kinds of numpy: truth values, whole and real numbers
KINDS = {"U": "text", "S": "text", "O": "objects (text, or lists of any length)", "M": "dates", "m": "durations"}

Rows = dict[str, NDArray[Any]]


class TableFile(ABC):
    """An open file of columns. Rows have any fixed shape."""

    file: str
    what: str = "column"  # as a message calls one of ``names``

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """The columns of the file, those that cannot be read included."""

    @property
    def hidden(self) -> list[str]:
        """Further columns, which are read only where they are asked for."""
        return []

    @abstractmethod
    def rows(self, names: Sequence[str]) -> int:
        """Return the number of rows of these columns. Raises DataError where they are not equally long."""

    @abstractmethod
    def chunks(self, names: Sequence[str]) -> Iterator[Rows]:
        """Yield consecutive rows of these columns. Memory: some MB, or what the format keeps together.

        Raises
        ------
        UnreadableFile
            At any chunk.
        DataError
            A column is not numbers of a fixed shape.
        """

    def choose(self, names: Sequence[str] | None) -> list[str]:
        """Return the asked columns, or all of the file. Raises DataError for one that is missing."""
        present = self.names
        if names is None:
            if not present:
                raise DataError(f"{self.file}: holds no {self.what} at all.")
            return present
        for name in names:
            if name not in present and name not in self.hidden:
                nearest = get_close_matches(name, [*present, *self.hidden], n=3, cutoff=0.4) or present[:5]
                there = ", ".join(repr(other) for other in nearest)
                raise DataError(
                    f"{self.file}: no {self.what} '{name}'; nearest of {len(present)}: {there}. Name the right one, or "
                    "write the file with it."
                )
        return list(names)

    def wrong_type(self, name: str, found: object, row: int | None = None) -> DataError:
        """Make the error for a column that does not hold numbers of a fixed shape."""
        where = "" if row is None else f"row {row}: "
        return DataError(
            f"{self.file}: {where}{self.what} '{name}': expected numbers, of one shape in all rows; found {found}. "
            "Leave it out (name those that are needed), or write it as numbers."
        )

    def numbers(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array in the byte order of all caches. Raises DataError where it does not hold numbers."""
        if array.dtype.kind not in NUMBERS or array.dtype.itemsize > 8:
            raise self.wrong_type(name, KINDS.get(array.dtype.kind, f"type {array.dtype}"))
        return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))

    def equally_long(self, lengths: dict[str, int]) -> int:
        """Return the length that all columns have. Raises DataError where two differ."""
        first, *others = lengths
        for name in others:
            if lengths[name] != lengths[first]:
                raise DataError(
                    f"{self.file}: expected one row an event in every {self.what}; found {lengths[first]} rows in "
                    f"'{first}', {lengths[name]} in '{name}'. Name the columns that belong together."
                )
        return lengths[first]

    def step(self, row_bytes: int) -> int:
        """Return how many rows of so many bytes make one chunk."""
        return max(1, CHUNK_BYTES // max(row_bytes, 1))

    def unreadable(self, where: str, error: Exception) -> DataError:
        """Make the error for what a library cannot read."""
        return unreadable(self.file, where, error)
