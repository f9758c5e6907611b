"""The tables of a trial's report, mse(E) and losses, as CSV without loss of precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.evaluation.tables import read_columns, write_columns
from trainables.zdc.metrics import MseCurve

MSE_TABLE, LOSS_TABLE = "mse_vs_energy.csv", "losses.csv"
NAIVE = ("mse_of_", "floor_of_", "error_of_")  # column names of the naive predictors begin so


def write_mse_table(path: Path, curve: MseCurve, naive: Mapping[str, MseCurve]) -> None:
    """Write one row for each energy bin with enough events; the naive predictors in the last columns."""
    columns = {
        "low_edge_mev": curve.low_edge_mev_K,
        "high_edge_mev": curve.high_edge_mev_K,
        "events": curve.events_K,
        "mse": curve.mse_K,
        "floor": curve.floor_K,
        "excess": curve.excess,
        "error": curve.error_K,
        "energy_only": curve.energy_only_K,
    }
    for name, other in naive.items():
        columns |= {start + name: column_K for start, column_K in zip(NAIVE, _scores(other), strict=True)}
    write_columns(path, {name: column.tolist() for name, column in columns.items()})


def read_mse_table(path: Path) -> tuple[MseCurve, dict[str, MseCurve]]:
    """Read the curve and those of the naive predictors in the same bins.

    Tables of objective version zdc-1 hold ``energy_only`` as their floor, and no other; it is NaN here.
    """
    column = read_columns(path)
    unknown_K = np.full(len(column["mse"]), np.nan)
    if "energy_only" not in column:
        column |= {"energy_only": column["floor"], "floor": unknown_K}
    curve = MseCurve(
        low_edge_mev_K=column["low_edge_mev"],
        high_edge_mev_K=column["high_edge_mev"],
        events_K=column["events"].astype(np.int64),
        mse_K=column["mse"],
        floor_K=column["floor"],
        energy_only_K=column["energy_only"],
        error_K=column["error"],
    )
    naive = {}
    for name in [name.removeprefix(NAIVE[0]) for name in column if name.startswith(NAIVE[0])]:
        mse_K, floor_K, error_K = (column.get(start + name, unknown_K) for start in NAIVE)
        naive[name] = replace(curve, mse_K=mse_K, floor_K=floor_K, error_K=error_K)
    return curve, naive


def _scores(curve: MseCurve) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    return curve.mse_K, curve.floor_K, curve.error_K
