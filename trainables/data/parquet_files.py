"""Read the columns of Parquet files, row group by row group; lists of one length become arrays."""

# N rows of one batch

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.files import unreadable
from trainables.data.stamps import open_bytes
from trainables.data.table_file import Rows, TableFile


@contextmanager
def opened(file: str, _inside: str = "") -> Iterator[ParquetTable]:
    """Open a Parquet file for a ``with`` block. Raises ``UnreadableFile`` where it is none, or broken."""
    from pyarrow.parquet import ParquetFile

    with ExitStack() as stack:
        try:
            parquet = ParquetFile(stack.enter_context(open_bytes(file)), page_checksum_verification=True)
        except MemoryError:
            raise
        except Exception as error:  # a broken file may make pyarrow raise anything
            raise unreadable(file, "as a Parquet file", error) from error
        yield ParquetTable(file, stack.enter_context(parquet))


class ParquetTable(TableFile):
    """An open Parquet file. A folder ``KEY=VALUE`` around it, as Hive writes them, gives the column KEY."""

    def __init__(self, file: str, parquet: Any) -> None:
        self.file, self._parquet = file, parquet

    @cached_property
    def names(self) -> list[str]:
        return list(self._parquet.schema_arrow.names)

    @cached_property
    def _partitions(self) -> dict[str, str]:
        pairs = [part.partition("=") for part in PurePath(self.file).parent.parts]
        return {key: value for key, equals, value in pairs if equals and key and key not in self.names}

    @property
    def hidden(self) -> list[str]:
        return list(self._partitions)

    def rows(self, names: Sequence[str]) -> int:
        return int(self._parquet.metadata.num_rows)

    def chunks(self, names: Sequence[str]) -> Iterator[Rows]:
        own = [name for name in names if name in self.names]
        row = 0
        for batch in self._batches(own):
            rows = {name: self._column(name, batch.column(name), row) for name in own}
            yield rows | {name: self._partition(name, batch.num_rows) for name in names if name not in own}
            row += batch.num_rows

    def _batches(self, names: list[str]) -> Iterator[Any]:
        metadata = self._parquet.metadata
        size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        row_bytes = size * len(names) // max(1, metadata.num_rows * len(self.names))
        batches, row = self._parquet.iter_batches(batch_size=self.step(row_bytes), columns=names), 0
        while True:
            try:
                batch = next(batches, None)
            except MemoryError:
                raise
            except Exception as error:  # as above
                raise self.unreadable(f"from row {row} on", error) from error
            if batch is None:
                return
            row += batch.num_rows
            yield batch

    def _column(self, name: str, array: Any, row: int) -> NDArray[Any]:
        import pyarrow as pa
        from pyarrow import types

        kind = array.type
        real = types.is_floating(kind)
        if array.null_count and not real:  # of real numbers pandas writes NaN so
            first = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
            raise self.wrong_type(name, f"{array.null_count} missing values", row + first)
        if isinstance(kind, pa.FixedShapeTensorType):
            return self.numbers(name, array.to_numpy_ndarray())
        if types.is_fixed_size_list(kind):
            return self._lists(name, array, kind.list_size, row)
        if types.is_list(kind) or types.is_large_list(kind):
            lengths_N = array.value_lengths().to_numpy()
            differs_N = lengths_N != lengths_N[:1].repeat(len(lengths_N))
            if differs_N.any():
                bad = int(np.argmax(differs_N))
                found = f"lists of {lengths_N[0]} and of {lengths_N[bad]} values"
                raise self.wrong_type(name, found, row + bad)
            return self._lists(name, array, int(lengths_N[0]) if len(lengths_N) else 0, row)
        if not (real or types.is_integer(kind) or types.is_boolean(kind)):
            raise self.wrong_type(name, f"type {kind}")
        return self.numbers(name, array.to_numpy(zero_copy_only=False))

    def _lists(self, name: str, array: Any, length: int, row: int) -> NDArray[Any]:
        values = self._column(name, array.flatten(), row)
        return values.reshape(len(array), length, *values.shape[1:])

    def _partition(self, name: str, rows: int) -> NDArray[Any]:
        text = self._partitions[name]
        for kind in (np.int64, np.float64):
            try:
                return np.full(rows, kind(text))
            except ValueError:
                continue
        raise self.wrong_type(name, f"the text {text!r} in the name of its folder")
