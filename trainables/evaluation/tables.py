"""Write columns of numbers to a CSV file, and arrays to an npz file, and read them back without loss."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_columns(path: Path, columns: Mapping[str, Sequence[float]]) -> None:
    """Write columns of equal length under their names."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read what ``write_columns`` wrote."""
    with path.open(newline="") as file:
        names, *rows = csv.reader(file)
    return dict(zip(names, np.array(rows, dtype=np.float64).reshape(-1, len(names)).T, strict=True))


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any] | float | str]) -> None:
    """Write arrays, numbers and texts under their names, compressed."""
    named: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    np.savez_compressed(path, **named)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read what ``write_arrays`` wrote; no code in the file is run."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
