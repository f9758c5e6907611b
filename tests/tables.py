"""The same table in every format, for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uproot
from numpy.typing import NDArray

Table = dict[str, NDArray[Any]]


def table(rows: int = 200, seed: int = 1) -> Table:
    """Shapes of showers and what they are: an array of shape (3,) a row, a float, a whole number, a truth value."""
    rng = np.random.default_rng(seed)
    return {
        "shape": rng.normal(size=(rows, 3)).astype("<f4"),
        "energy": rng.exponential(size=rows),
        "layer": rng.integers(0, 9, rows).astype("<i4"),
        "photon": rng.random(rows) < 0.5,
    }


def write_parquet(path: Path, columns: Table) -> None:
    arrays = {
        name: pa.array(values)
        if values.ndim == 1
        else pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        for name, values in columns.items()
    }
    pq.write_table(pa.table(arrays), path, row_group_size=64)


def write_lists(path: Path, columns: Table) -> None:
    """Lists of any length, as pandas writes arrays."""
    pq.write_table(
        pa.table({name: pa.array(values.tolist(), _arrow(values)) for name, values in columns.items()}), path
    )


def _arrow(values: NDArray[Any]) -> pa.DataType:
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.list_(kind) if values.ndim > 1 else kind


def write_hdf5(path: Path, columns: Table) -> None:
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file.create_dataset(name, data=values, chunks=(50, *values.shape[1:]), compression="gzip")
        file["version"] = 3  # of no event
        file.attrs["author"] = "someone"


def write_newest_hdf5(path: Path, columns: Table) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        for name, values in columns.items():
            file[name] = values


def write_compound(path: Path, columns: Table) -> None:
    types = [(name, values.dtype, values.shape[1:]) for name, values in columns.items()]
    rows = np.empty(len(columns["energy"]), types)
    for name, values in columns.items():
        rows[name] = values
    with h5py.File(path, "w", userblock_size=512) as file:
        file["events"] = rows


def write_npz(path: Path, columns: Table) -> None:
    np.savez_compressed(path, **columns)


def write_by_columns(path: Path, columns: Table) -> None:
    """Arrays in Fortran's order and the other byte order."""
    np.savez(path, **{name: np.asfortranarray(v.astype(v.dtype.newbyteorder(">"))) for name, v in columns.items()})


def write_tree(path: Path, columns: Table) -> None:
    with uproot.recreate(path) as file:
        file.mktree("showers", {name: (v.dtype, v.shape[1:]) for name, v in columns.items()}).extend(columns)


def write_ntuple(path: Path, columns: Table) -> None:
    with uproot.recreate(path) as file:
        file.mkrntuple("showers", columns)


WRITERS: dict[str, tuple[str, Callable[[Path, Table], None]]] = {
    "parquet": ("x.parquet", write_parquet),
    "lists": ("x.parquet", write_lists),
    "hdf5": ("x.h5", write_hdf5),
    "newest-hdf5": ("x.hdf5", write_newest_hdf5),
    "compound": ("x.h5", write_compound),
    "npz": ("x.npz", write_npz),
    "by-columns": ("x.npz", write_by_columns),
    "tree": ("x.root", write_tree),
    "ntuple": ("x.root", write_ntuple),
}
FORMATS = ("parquet", "hdf5", "newest-hdf5", "npz", "tree", "ntuple")


def write(folder: Path, kind: str, columns: Table, stem: str = "x") -> Path:
    """Write a table as ``kind``, one of ``WRITERS``."""
    name, writer = WRITERS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name.replace("x.", f"{stem}.", 1)
    writer(path, columns)
    return path
