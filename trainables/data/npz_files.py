"""Read the arrays of .npz files as columns, row by row from the archive, never a pickled object."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from trainables.data.files import unreadable
from trainables.data.stamps import open_bytes
from trainables.data.table_file import Rows, TableFile


@contextmanager
def opened(file: str, _inside: str = "") -> Iterator[NpzTable]:
    """Open an .npz file for a ``with`` block. Raises ``UnreadableFile`` where it is none, or broken."""
    with ExitStack() as stack:
        try:
            archive = zipfile.ZipFile(stack.enter_context(open_bytes(file)))
        except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
            raise unreadable(file, "as an .npz file", error) from error
        yield NpzTable(file, stack.enter_context(archive))


@dataclass(frozen=True)
class _Array:
    """What the header of an array says; the stream stands behind it."""

    stream: BinaryIO
    shape: tuple[int, ...]
    by_columns: bool  # Fortran's order: not row after row
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * prod(self.shape[1:])


class NpzTable(TableFile):
    """An open .npz file."""

    what = "array"

    def __init__(self, file: str, archive: zipfile.ZipFile) -> None:
        self.file, self._archive = file, archive

    @cached_property
    def names(self) -> list[str]:
        return [name.removesuffix(".npy") for name in self._archive.namelist() if name.endswith(".npy")]

    def rows(self, names: Sequence[str]) -> int:
        with ExitStack() as streams:
            return self.equally_long({name: self._open(name, streams).shape[0] for name in names})

    def chunks(self, names: Sequence[str]) -> Iterator[Rows]:
        rows = self.rows(names)
        with ExitStack() as streams:
            arrays = {name: self._open(name, streams) for name in names}
            whole = {name: self._whole(name, array) for name, array in arrays.items() if array.by_columns}
            step = self.step(sum(array.row_bytes for array in arrays.values()))
            for start in range(0, rows, step):
                part = slice(start, min(start + step, rows))
                yield {
                    name: self.numbers(name, whole[name][part] if name in whole else self._next(name, array, part))
                    for name, array in arrays.items()
                }

    def _open(self, name: str, streams: ExitStack) -> _Array:
        try:
            stream = cast(BinaryIO, streams.enter_context(self._archive.open(f"{name}.npy")))
            read = npy.read_array_header_1_0 if npy.read_magic(stream) == (1, 0) else npy.read_array_header_2_0
            shape, by_columns, dtype = read(stream)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
            raise self.unreadable(f"in its array '{name}'", error) from error
        if not shape:
            raise self.wrong_type(name, "a single value")
        self.numbers(name, np.empty(0, dtype))  # before anything is read: an object would be unpickled
        return _Array(stream, shape, by_columns and len(shape) > 1, dtype)

    def _next(self, name: str, array: _Array, rows: slice) -> NDArray[Any]:
        shape = (rows.stop - rows.start, *array.shape[1:])
        return np.frombuffer(self._read(name, array, rows), array.dtype).reshape(shape)

    def _whole(self, name: str, array: _Array) -> NDArray[Any]:
        data = self._read(name, array, slice(0, array.shape[0]))
        return np.frombuffer(data, array.dtype).reshape(array.shape[::-1]).T

    def _read(self, name: str, array: _Array, rows: slice) -> bytes:
        expected = (rows.stop - rows.start) * array.row_bytes
        try:
            data = array.stream.read(expected)
            if rows.stop == array.shape[0]:
                array.stream.read(1)  # the checksum is compared at the end
            if len(data) != expected:
                raise EOFError(f"expected {expected} bytes, found {len(data)}")
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise self.unreadable(f"in its array '{name}' from row {rows.start} on", error) from error
        return data
