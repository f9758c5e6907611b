"""Read the columns of HDF5 files: datasets, of groups too, and the fields of compound datasets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from trainables.base.errors import DataError
from trainables.data.files import unreadable
from trainables.data.stamps import open_bytes
from trainables.data.table_file import Rows, TableFile


@contextmanager
def opened(file: str, inside: str = "") -> Iterator[HDF5Table]:
    """Open an HDF5 file, or a group or dataset inside of it, for a ``with`` block.

    Raises
    ------
    UnreadableFile
        The file is none, or broken.
    DataError
        h5py is not installed, or nothing has the name ``inside``.
    """
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{file}: reading HDF5 files needs h5py. Run: pip install 'hep-search[hdf5]'") from error
    with ExitStack() as stack:
        try:
            source = stack.enter_context(open_bytes(file)) if "://" in file else file
            hdf5 = stack.enter_context(h5py.File(source, "r"))
        except MemoryError:
            raise
        except Exception as error:  # a broken file may make h5py raise anything
            raise unreadable(file, "as an HDF5 file", error) from error
        if inside and inside not in hdf5:
            raise DataError(f"{file}: no group or dataset '{inside}'; there are: {', '.join(hdf5) or 'none'}.")
        yield HDF5Table(file, hdf5[inside] if inside else hdf5)


class HDF5Table(TableFile):
    """An open HDF5 file or group: a column is a dataset, by its path, or a field of a compound dataset.

    The fields of the only dataset have their own names, those of one among several ``DATASET/FIELD``. Single values,
    which belong to no event, are no columns.
    """

    def __init__(self, file: str, group: Any) -> None:
        self.file, self._group = file, group

    @cached_property
    def _columns(self) -> dict[str, tuple[Any, str]]:
        """The dataset and the field of each column."""
        import h5py

        datasets: dict[str, Any] = {}

        def add(name: str, found: Any) -> None:
            if isinstance(found, h5py.Dataset) and found.shape:
                datasets[name] = found

        try:
            if isinstance(self._group, h5py.Dataset):
                add("", self._group)
            else:
                self._group.visititems(add)
        except (OSError, RuntimeError, KeyError) as error:
            raise self.unreadable("in its list of datasets", error) from error
        columns: dict[str, tuple[Any, str]] = {}
        for name, dataset in datasets.items():
            prefix = f"{name}/" if len(datasets) > 1 else ""
            if dataset.dtype.names:
                columns |= {prefix + field: (dataset, field) for field in dataset.dtype.names}
            else:
                columns[name or self._group.name.rpartition("/")[2]] = (dataset, "")
        return columns

    @property
    def names(self) -> list[str]:
        return list(self._columns)

    def rows(self, names: Sequence[str]) -> int:
        return self.equally_long({name: len(self._columns[name][0]) for name in names})

    def chunks(self, names: Sequence[str]) -> Iterator[Rows]:
        rows = self.rows(names)
        columns = {name: self._columns[name] for name in names}
        for name, (dataset, field) in columns.items():
            self.numbers(name, np.empty(0, dataset.dtype[field] if field else dataset.dtype))
        datasets = {dataset.name: dataset for dataset, _ in columns.values()}.values()
        step = self.step(sum(dataset.dtype.itemsize * prod(dataset.shape[1:]) for dataset in datasets))
        kept_together = max((dataset.chunks[0] for dataset in datasets if dataset.chunks), default=1)
        step = max(step // kept_together, 1) * kept_together  # so that none is decompressed twice
        for start in range(0, rows, step):
            try:
                read = {dataset.name: dataset[start : start + step] for dataset in datasets}
            except MemoryError:
                raise
            except Exception as error:  # as above
                raise self.unreadable(f"from row {start} on", error) from error
            parts = {
                name: read[dataset.name][field] if field else read[dataset.name]
                for name, (dataset, field) in columns.items()
            }
            yield {name: self.numbers(name, part) for name, part in parts.items()}
