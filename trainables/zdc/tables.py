"""The tables of a trial's report, mse(E) and losses, as CSV without loss of precision."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.evaluation.tables import read_columns, write_columns
from trainables.zdc.metrics import MseCurve

MSE_TABLE, LOSS_TABLE = "mse_vs_energy.csv", "losses.csv"
NAIVE = "mse_of_"  # column names of the naive predictors begin so


def write_mse_table(path: Path, curve: MseCurve, naive: Mapping[str, MseCurve]) -> None:
    """Write one row for each energy bin with enough events; the naive predictors' mse in the last columns."""
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
    """Read the curve, and the mse of each naive predictor in the same bins."""
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
