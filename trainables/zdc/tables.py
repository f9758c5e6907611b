"""The tables of a trial's report, mse(E) and losses, to CSV and back without loss."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.zdc.metrics import MseCurve

MSE_TABLE, LOSS_TABLE = "mse_vs_energy.csv", "losses.csv"
NAIVE = "mse_of_"  # column names of the naive predictors begin so


def write_mse_table(path: Path, curve: MseCurve, naive: Mapping[str, MseCurve]) -> None:
    """One row for each energy bin with enough events; the naive predictors' mse in the last columns."""
    columns = {
        "low_edge_mev": curve.low_edge_mev_K,
        "high_edge_mev": curve.high_edge_mev_K,
        "events": curve.events_K,
        "mse": curve.mse_K,
        "floor": curve.floor_K,
        "excess": curve.mse_K - curve.floor_K,
        "error": curve.error_K,
    } | {NAIVE + name: other.mse_K for name, other in naive.items()}
    write_columns(path, {name: column.tolist() for name, column in columns.items()})


def read_mse_table(path: Path) -> tuple[MseCurve, dict[str, NDArray[np.float64]]]:
    """The curve, and the mse of each naive predictor in the same bins."""
    column = read_columns(path)
    curve = MseCurve(
        low_edge_mev_K=column["low_edge_mev"],
        high_edge_mev_K=column["high_edge_mev"],
        events_K=column["events"].astype(np.int64),
        mse_K=column["mse"],
        floor_K=column["floor"],
        error_K=column["error"],
    )
    return curve, {name.removeprefix(NAIVE): mse_K for name, mse_K in column.items() if name.startswith(NAIVE)}


def write_columns(path: Path, columns: Mapping[str, list[float]]) -> None:
    """Columns of equal length under their names."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    """What ``write_columns`` wrote."""
    with path.open(newline="") as file:
        names, *rows = csv.reader(file)
    return dict(zip(names, np.array(rows, dtype=np.float64).reshape(-1, len(names)).T, strict=True))
