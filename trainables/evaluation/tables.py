"""Write columns of numbers to a CSV file and read them back without loss."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

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
