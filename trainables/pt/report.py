"""Write the report of a finished pT trial: first its tables, then its figures from them alone."""

# K pT bins, P points of a curve

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainables.base.checkpoint import FIGURE_DATA
from trainables.evaluation.tables import read_arrays, read_columns, write_arrays, write_columns
from trainables.pt import event_plots, plots
from trainables.pt.combined import BRANCH_ROWS, CombinedData
from trainables.pt.cutflow import SELECTIONS
from trainables.pt.detector import ClusterDphi, cluster_dphi
from trainables.pt.distributions import arrays_of, count_predictions, count_residuals, counts_of
from trainables.pt.event_map import map_of
from trainables.pt.metrics import Scores, score
from trainables.pt.naive import REPORT, compares_with_reference, fit_c, naive_scores, reference_columns
from trainables.pt.tables import (
    ANGLE_CURVE_TABLE,
    CUT_FLOW_TABLE,
    DETECTOR_TABLE,
    EFFICIENCY_TABLE,
    LOSS_TABLE,
    RESPONSE_TABLE,
    UNCORRECTED,
    Columns,
    columns_of,
    read_detector_table,
    read_efficiency_table,
    read_response_table,
    write_cut_flow_table,
    write_detector_table,
    write_efficiency_table,
    write_response_table,
)

if TYPE_CHECKING:
    from trainables.pt.data import PtData

LABEL = "this trial"
EFFICIENCY_BIN_GEV = 0.5
PREDICTIONS, DETECTOR = "predictions", "detector"  # maps of events


def write_tables(
    folder: Path,
    data: PtData,
    scores: Scores,
    points: Mapping[str, list[float]],
    curve: tuple[NDArray[Any], NDArray[Any]] | None = None,
    uncorrected: Scores | None = None,
) -> None:
    """Write the tables of a report into an existing folder, and what ``draw_report`` needs beyond them.

    Parameters
    ----------
    scores : Scores
        Of the model on the validation events.
    points : mapping of str to list of float
        Losses and rates along the epochs, ``LossHistory.points``; empty before the first epoch.
    curve : two arrays (P,), optional
        1/dphi in 1/rad and the model's pT there in GeV; of a model of the angle alone.
    uncorrected : Scores, optional
        Of the same model without its post-correction.
    """
    of_data = _of_data(data)
    others = dict(of_data.others)
    if compares_with_reference(data.binning, data.selection):
        others[REPORT] = reference_columns(scores.used)
    in_table = others | ({UNCORRECTED: columns_of(uncorrected.curve)} if uncorrected is not None else {})
    write_response_table(folder / RESPONSE_TABLE, scores.curve, in_table)
    edges_gev = np.arange(0, data.binning.max_pt_gev + EFFICIENCY_BIN_GEV / 2, EFFICIENCY_BIN_GEV)
    write_efficiency_table(
        folder / EFFICIENCY_TABLE,
        {selection: data.cut_flow.efficiency(selection, edges_gev) for selection in SELECTIONS},
    )
    write_cut_flow_table(folder / CUT_FLOW_TABLE, data.cut_flow)
    write_detector_table(folder / DETECTOR_TABLE, of_data.study)
    if points:
        write_columns(folder / LOSS_TABLE, points)
    if curve is not None:
        columns = {"inverse_dphi_per_rad": curve[0], "pt_gev": curve[1]}
        write_columns(folder / ANGLE_CURVE_TABLE, {name: np.asarray(one_P).tolist() for name, one_P in columns.items()})
    arrays: dict[str, NDArray[Any] | float | str] = {
        "selection": data.selection,
        "data_range": np.array([float(1 / dphi) for dphi in (data.train.dphi_N.max(), data.train.dphi_N.min())]),
        "c": of_data.c,
        **count_predictions(scores).arrays(PREDICTIONS),
        **of_data.study.map.arrays(DETECTOR),
        **arrays_of(count_residuals(scores)),
    }
    write_arrays(folder / FIGURE_DATA, arrays)


@dataclass(frozen=True)
class _OfData:
    """What is the same in the reports of all trials of the same data."""

    data: PtData
    others: Mapping[str, Columns]  # predictors beside the model: formulas, and its branches
    study: ClusterDphi
    c: float  # of pT = C / dphi


_last_of_data: list[_OfData] = []  # of this process, whose trials have the same data


def _of_data(data: PtData) -> _OfData:
    if not _last_of_data or _last_of_data[0].data is not data:
        study = cluster_dphi((data.train, data.validation), data.binning)
        _last_of_data[:] = [_OfData(data, _others(data), study, fit_c(data.train))]
    return _last_of_data[0]


def _others(data: PtData) -> dict[str, Columns]:
    others = naive_scores(data)
    if isinstance(data, CombinedData):
        truth_N = data.validation.truth_N3[:, 0]
        branches = zip(BRANCH_ROWS, data.validation_branch_N2.T, strict=True)
        others |= {name: score(pred_N, truth_N, data.binning) for name, pred_N in branches}
    return {name: columns_of(other.curve) for name, other in others.items()}


def draw_report(folder: Path) -> None:
    """Draw the figures for a physicist's first look from what ``write_tables`` wrote, into the same folder."""
    arrays = read_arrays(folder / FIGURE_DATA)
    curve, others = read_response_table(folder / RESPONSE_TABLE)
    if uncorrected := others.pop(UNCORRECTED, None):
        columns: dict[str, Any] = {f"{name}_K": value_K for name, value_K in uncorrected.items()}
        plots.plot_correction(folder / "post_correction.png", curve, replace(curve, **columns))
    plots.plot_widths(folder / "resolution_vs_pt.png", {LABEL: curve}, others)
    plots.plot_biases(folder / "bias_vs_pt.png", {LABEL: curve}, others)
    event_plots.plot_distributions(folder / "response_distributions.png", curve, counts_of(arrays))
    event_plots.plot_predictions(folder / "predicted_vs_true.png", map_of(arrays, PREDICTIONS))
    efficiencies = read_efficiency_table(folder / EFFICIENCY_TABLE)
    event_plots.plot_efficiencies(folder / "efficiency_vs_pt.png", efficiencies, str(arrays["selection"]))
    study = read_detector_table(folder / DETECTOR_TABLE, map_of(arrays, DETECTOR))
    event_plots.plot_detector(folder / "cluster_dphi_vs_pt.png", study)
    if (table := folder / ANGLE_CURVE_TABLE).exists():
        column, (low, high) = read_columns(table), arrays["data_range"].tolist()
        angle_curve = column["inverse_dphi_per_rad"], column["pt_gev"]
        event_plots.plot_angle_curve(folder / "pt_vs_inverse_dphi.png", *angle_curve, (low, high), float(arrays["c"]))
    if (table := folder / LOSS_TABLE).exists():
        points = {name: value_P.tolist() for name, value_P in read_columns(table).items()}
        plots.plot_losses(folder / "losses.png", points)
