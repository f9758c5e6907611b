"""The tables of a trial's report, mse(E), its excess by epoch, and losses, as CSV without loss of precision."""

# E epochs, K energy bins

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.evaluation.tables import read_columns, write_columns
from trainables.zdc.metrics import MseCurve

MSE_TABLE, LOSS_TABLE, EPOCH_TABLE = "mse_vs_energy.csv", "losses.csv", "excess_by_epoch.csv"
EPOCH = "epoch_"  # columns of EPOCH_TABLE
NAIVE = ("mse_of_", "floor_of_", "error_of_")  # column names of the naive predictors begin so


@dataclass(frozen=True)
class ExcessMap:
    """The excess over the floor of each energy bin with enough events, as it was after each epoch."""

    low_edge_mev_K: NDArray[np.float64]
    high_edge_mev_K: NDArray[np.float64]
    error_K: NDArray[np.float64]  # 1 sigma, after the last epoch
    epochs: tuple[int, ...]
    excess_EK: NDArray[np.float64]


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


def write_epoch_table(path: Path, curve: MseCurve, excess_by_epoch: Mapping[int, Sequence[float]]) -> None:
    """Write the excess of each energy bin, one column an epoch, beside the error of the last one."""
    columns = {
        "low_edge_mev": curve.low_edge_mev_K.tolist(),
        "high_edge_mev": curve.high_edge_mev_K.tolist(),
        "error": curve.error_K.tolist(),
    }
    write_columns(path, columns | {f"{EPOCH}{epoch}": excess_by_epoch[epoch] for epoch in sorted(excess_by_epoch)})


def read_epoch_table(path: Path) -> ExcessMap:
    """Read what ``write_epoch_table`` wrote."""
    column = read_columns(path)
    by_epoch = {int(name.removeprefix(EPOCH)): value_K for name, value_K in column.items() if name.startswith(EPOCH)}
    return ExcessMap(
        column["low_edge_mev"],
        column["high_edge_mev"],
        column["error"],
        tuple(by_epoch),
        np.array([*by_epoch.values()]),
    )


def _scores(curve: MseCurve) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    return curve.mse_K, curve.floor_K, curve.error_K
