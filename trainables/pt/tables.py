"""The tables of a trial's report as CSV: scores against pT, efficiency, cut flow and detector study."""

# K pT bins with enough events, B bins of the efficiency

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.evaluation.tables import read_columns, write_columns
from trainables.pt.cutflow import SELECTIONS, CutFlow, Efficiency
from trainables.pt.detector import ClusterDphi
from trainables.pt.event_map import EventMap
from trainables.pt.metrics import ResponseCurve

RESPONSE_TABLE, LOSS_TABLE = "response_vs_pt.csv", "losses.csv"
EFFICIENCY_TABLE, CUT_FLOW_TABLE = "efficiency_vs_pt.csv", "cut_flow.csv"
DETECTOR_TABLE, ANGLE_CURVE_TABLE = "cluster_dphi_vs_pt.csv", "pt_vs_inverse_dphi.csv"
UNCORRECTED = "without post-correction"  # a predictor of the response table
OF = " of "  # between a quantity and what it is of, in the name of a column
BINS = ("low_edge_gev", "high_edge_gev", "events")  # columns that are the same for all predictors

Columns = Mapping[str, NDArray[np.float64]]  # quantities of ResponseCurve against pT: resolution, median, ...


def columns_of(curve: ResponseCurve) -> dict[str, NDArray[np.float64]]:
    """Return the quantities of a curve, without its bins, under their names without shape."""
    return {name: value_K for name, value_K in _all_columns(curve).items() if name not in BINS}


def write_response_table(path: Path, curve: ResponseCurve, others: Mapping[str, Columns]) -> None:
    """Write one row for each pT bin with enough events: the model's scores, then those of other predictors."""
    columns = _all_columns(curve)
    for name, other in others.items():
        columns |= {f"{quantity}{OF}{name}": value_K for quantity, value_K in other.items()}
    write_columns(path, {name: column.tolist() for name, column in columns.items()})


def read_response_table(path: Path) -> tuple[ResponseCurve, dict[str, dict[str, NDArray[np.float64]]]]:
    """Read the model's curve, and the quantities of each other predictor in the same bins."""
    column = read_columns(path)
    others: dict[str, dict[str, NDArray[np.float64]]] = {}
    for title, value_K in column.items():
        quantity, of, name = title.partition(OF)
        if of:
            others.setdefault(name, {})[quantity] = value_K
    values: dict[str, Any] = {field.name: column[field.name.removesuffix("_K")] for field in fields(ResponseCurve)}
    values["events_K"] = values["events_K"].astype(np.int64)
    return ResponseCurve(**values), others


def _all_columns(curve: ResponseCurve) -> dict[str, NDArray[Any]]:
    return {field.name.removesuffix("_K"): getattr(curve, field.name) for field in fields(curve)}


def write_efficiency_table(path: Path, efficiencies: Mapping[str, Efficiency]) -> None:
    """Write one row for each pT bin: generated events, then by selection accepted ones and efficiency."""
    first = next(iter(efficiencies.values()))
    columns = {"low_edge_gev": first.low_edge_gev_B, "high_edge_gev": first.high_edge_gev_B}
    columns["generated"] = first.generated_B.astype(np.float64)
    for selection, efficiency in efficiencies.items():
        columns[f"accepted{OF}{selection}"] = efficiency.accepted_B.astype(np.float64)
        columns[f"efficiency{OF}{selection}"] = efficiency.efficiency_B
        columns[f"lower{OF}{selection}"], columns[f"upper{OF}{selection}"] = efficiency.lower_B, efficiency.upper_B
    write_columns(path, {name: column.tolist() for name, column in columns.items()})


def read_efficiency_table(path: Path) -> dict[str, Efficiency]:
    """Read the efficiency of each selection."""
    column = read_columns(path)
    return {
        selection: Efficiency(
            column["low_edge_gev"],
            column["high_edge_gev"],
            column["generated"].astype(np.int64),
            column[f"accepted{OF}{selection}"].astype(np.int64),
            *(column[f"{name}{OF}{selection}"] for name in ("efficiency", "lower", "upper")),
        )
        for selection in SELECTIONS
    }


def write_cut_flow_table(path: Path, cut_flow: CutFlow) -> None:
    """Write one row for each cut of each selection: events left after it, and their share of all generated ones."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("selection", "cut", "events_left", "share_left"))
        for selection in SELECTIONS:
            left = {"generated": cut_flow.events} | cut_flow.totals(selection)
            writer.writerows((selection, cut, n, n / max(cut_flow.events, 1)) for cut, n in left.items())


def write_detector_table(path: Path, study: ClusterDphi) -> None:
    """Write one row for each pT bin with enough events, without single events."""
    columns = {name.removesuffix("_K"): value for name, value in vars(study).items() if name.endswith("_K")}
    write_columns(path, {name: value_K.tolist() for name, value_K in columns.items()})


def read_detector_table(path: Path, events: EventMap) -> ClusterDphi:
    """Read the table of a study whose map of single events is given."""
    return ClusterDphi(map=events, **{f"{name}_K": value_K for name, value_K in read_columns(path).items()})
