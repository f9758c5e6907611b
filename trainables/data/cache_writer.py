"""Write the columns of a cache in chunks, with their checksums; roll back the rows of a bad file."""

from __future__ import annotations

import errno
import hashlib
import math
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.base.errors import DataError


@dataclass(frozen=True)
class Column:
    """Type and shape of one row of a column."""

    dtype: str  # little-endian or one byte: "<f4", "|u1", "<u8"
    row_shape: tuple[int, ...] = ()

    @property
    def row_bytes(self) -> int:
        return np.dtype(self.dtype).itemsize * math.prod(self.row_shape)

    def checked(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return rows of this type and shape, contiguous; raises TypeError where they are of another."""
        array = np.ascontiguousarray(rows)
        if array.dtype != np.dtype(self.dtype) or array.shape[1:] != self.row_shape:
            raise TypeError(f"expected rows of {self}, found {array.dtype} {array.shape[1:]}")
        return array


class _ColumnFile:
    """A column of one part while it is written."""

    def __init__(self, path: Path, column: Column) -> None:
        self.column = column
        self.rows = 0
        self.crc32 = 0
        self.digest = hashlib.blake2b(digest_size=16)
        self.stream = path.open("wb")

    def append(self, rows: NDArray[Any]) -> None:
        array = self.column.checked(rows)
        data = array.tobytes()
        self.stream.write(data)
        self.crc32 = zlib.crc32(data, self.crc32)
        self.digest.update(data)
        self.rows += len(array)

    def mark(self) -> tuple[int, int, Any]:
        return self.rows, self.crc32, self.digest.copy()

    def rollback(self, mark: tuple[int, int, Any]) -> None:
        self.rows, self.crc32, digest = mark
        self.digest = digest.copy()
        self.stream.seek(self.rows * self.column.row_bytes)
        self.stream.truncate()


Mark = dict[tuple[str, str], tuple[int, int, Any]]


class CacheWriter:
    """Writer of a new cache, which appends rows to its parts. Memory: one chunk."""

    def __init__(self, folder: Path, columns: Mapping[str, Column], parts: Sequence[str]) -> None:
        self._files = {
            (part, name): _ColumnFile(folder / f"{part}.{name}", column)
            for part in parts
            for name, column in columns.items()
        }
        self.folder = folder
        self._columns = tuple(columns)
        self._parts = tuple(parts)
        self._row_bytes = sum(column.row_bytes for column in columns.values())
        self._expected_rows = 0

    def __enter__(self) -> CacheWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failure = error
        try:
            self.finish()
        except OSError as closing:
            failure = failure or closing
        if isinstance(failure, OSError) and failure.errno in (errno.ENOSPC, errno.EDQUOT):
            raise self._disk_full() from failure
        if failure is not None and failure is not error:
            raise failure

    def expect(self, rows: int) -> None:
        """Announce how many rows may come, so that a disk too small for them fails before the work.

        Raises
        ------
        DataError
            There is not enough room for them.
        """
        self._expected_rows = rows
        if shutil.disk_usage(self.folder).free < rows * self._row_bytes:
            raise self._disk_full()

    def _disk_full(self) -> DataError:
        needed, free = self._expected_rows * self._row_bytes / 1e9, shutil.disk_usage(self.folder).free / 1e9
        return DataError(
            f"{self.folder.parent}: the disk is full: the cache of {self._expected_rows} events needs "
            f"{needed:.3g} GB, found {free:.3g} GB free. Free some space, or choose a cache folder on "
            "another disk."
        )

    def append(self, part: str, columns: Mapping[str, NDArray[Any]]) -> None:
        """Add the same number of rows to every column of a part."""
        if set(columns) != set(self._columns) or len({len(rows) for rows in columns.values()}) != 1:
            lengths = {name: len(rows) for name, rows in columns.items()}
            raise TypeError(f"expected equal lengths of {self._columns}, found {lengths}")
        for name, rows in columns.items():
            self._files[part, name].append(rows)

    def rows(self, part: str) -> int:
        return self._files[part, self._columns[0]].rows

    def mark(self) -> Mark:
        """Return the present end of every column, for ``rollback``."""
        return {key: file.mark() for key, file in self._files.items()}

    def rollback(self, mark: Mark) -> None:
        """Remove all rows that were appended since ``mark``."""
        for key, file in self._files.items():
            file.rollback(mark[key])

    def finish(self) -> dict[str, dict[str, Any]]:
        """Close the files; return rows, checksums and content hashes of each part, for the manifest."""
        for file in self._files.values():
            file.stream.close()
        return {
            part: {
                "rows": self.rows(part),
                "crc32": {name: self._files[part, name].crc32 for name in self._columns},
                "content": {name: self._files[part, name].digest.hexdigest() for name in self._columns},
            }
            for part in self._parts
        }
