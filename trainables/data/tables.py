"""Read tables of any format by the names of their columns: whole ones into memory, or in chunks of a fixed type."""

# N rows of one chunk; row i of each column is event i

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.base.errors import DataError
from trainables.data.cache_writer import Column
from trainables.data.files import UnreadableFile, expand_files
from trainables.data.stamps import stamp_file
from trainables.data.table_file import Rows, TableFile
from trainables.data.table_headers import FORMATS, SUFFIXES, suffix_of

_READERS = {"ROOT": "root_tables", "Parquet": "parquet_files", "HDF5": "hdf5_files", ".npz": "npz_files"}


def read_table(
    files: str | Path | Sequence[str | Path], columns: Sequence[str] | None = None, tree: str = ""
) -> dict[str, NDArray[Any]]:
    """Read Parquet, HDF5, .npz or ROOT files into memory: arrays by name, row i of each is event i.

    Parameters
    ----------
    files : str, Path, or sequence of them
        Files, globs, folders, ``.list`` files, ``root://`` URLs; of several the rows follow one another in the order
        of their names.
    columns : sequence of str, optional
        None: all of the first file. Lists that have one length in all rows become arrays (N, length).
    tree : str
        The tree of ROOT files, or the group of HDF5 files; empty: the only tree, the whole file.

    Raises
    ------
    DataError
        A file cannot be read, a column is missing, not numbers of one shape, or of another type than in the file
        before.
    """
    names = [str(file) for file in ([files] if isinstance(files, str | Path) else files)]
    found = expand_files(names)
    for file in found:
        stamp_file(file)
    types = table_types(found, columns, tree)
    chunks = [rows for file in found for rows in read_rows(file, types, tree)]
    empty = {name: np.empty((0, *column.row_shape), column.dtype) for name, column in types.items()}
    return {name: np.concatenate([empty[name], *(rows[name] for rows in chunks)]) for name in types}


def open_table(file: str, tree: str = "") -> AbstractContextManager[TableFile]:
    """Open a table for a ``with`` block; its suffix says of which format it is.

    Raises
    ------
    UnreadableFile
        It is not of that format, or broken.
    DataError
        Another suffix; h5py is missing; nothing has the name ``tree``.
    """
    kind = FORMATS.get(suffix_of(file))
    if kind is None:
        raise DataError(
            f"{file}: expected a file that ends with {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}; found "
            f"'{suffix_of(file)}'. Name other files, or write them in one of these formats."
        )
    opened: AbstractContextManager[TableFile] = import_module(f"trainables.data.{_READERS[kind]}").opened(file, tree)
    return opened


def table_types(files: Sequence[str], columns: Sequence[str] | None, tree: str = "") -> dict[str, Column]:
    """Return type and row shape of each column, of the first file with rows that can be read.

    Raises
    ------
    UnreadableFile
        There is none.
    DataError
        A column is missing there, or not numbers of one shape.
    """
    problem = UnreadableFile("no file at all was named.")
    for file in files:
        try:
            stamp_file(file)
            with open_table(file, tree) as table:
                names = table.choose(columns)
                for rows in table.chunks(names):
                    if len(rows[names[0]]):
                        return {name: _type(rows[name]) for name in names}
            problem = no_rows(file)
        except UnreadableFile as error:
            problem = error
    raise problem


def no_rows(file: str) -> UnreadableFile:
    """Make the error for a file without any row."""
    return UnreadableFile(f"{file}: no events: the table is empty. Was its job cut off?")


def read_rows(file: str, types: Mapping[str, Column], tree: str = "") -> Iterator[Rows]:
    """Yield consecutive rows of a file, checked to be of these types. Raises as ``TableFile.chunks`` does."""
    with open_table(file, tree) as table:
        for rows in table.chunks(table.choose(list(types))):
            for name, array in rows.items():
                if len(array) and (found := _type(array)) != types[name]:
                    raise DataError(
                        f"{file}: {table.what} '{name}': expected {_describe(types[name])} as in the files before it, "
                        f"found {_describe(found)}. Write the files alike, or name them apart."
                    )
            yield rows


def _type(array: NDArray[Any]) -> Column:
    return Column(array.dtype.str, array.shape[1:])


def _describe(column: Column) -> str:
    shape = f" of shape {column.row_shape}" if column.row_shape else ""
    return f"{np.dtype(column.dtype).name}{shape}"
