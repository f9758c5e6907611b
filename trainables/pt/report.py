"""Write the report of a finished pT trial: its figures, and the tables behind them."""

# K pT bins, P points of a curve

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainables.evaluation.tables import write_columns
from trainables.pt import event_plots, plots
from trainables.pt.combined import BRANCH_ROWS, CombinedData
from trainables.pt.cutflow import SELECTIONS, Efficiency
from trainables.pt.detector import cluster_dphi
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
    write_cut_flow_table,
    write_detector_table,
    write_efficiency_table,
    write_response_table,
)

if TYPE_CHECKING:
    from trainables.pt.data import PtData

LABEL = "this trial"
EFFICIENCY_BIN_GEV = 0.5


def write_report(
    folder: Path,
    data: PtData,
    scores: Scores,
    points: Mapping[str, list[float]],
    curve: tuple[NDArray[Any], NDArray[Any]] | None = None,
    uncorrected: Scores | None = None,
) -> None:
    """Write figures for a physicist's first look, and the tables behind them, into an existing folder.

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
    _write_scores(folder, data, scores, uncorrected)
    _write_detector(folder, data)
    if curve is not None:
        _write_curve(folder, data, *curve)
    if points:
        write_columns(folder / LOSS_TABLE, points)
        plots.plot_losses(folder / "losses.png", points)


def _write_scores(folder: Path, data: PtData, scores: Scores, uncorrected: Scores | None) -> None:
    others = _others(data, scores)
    if uncorrected is not None:
        plots.plot_correction(folder / "post_correction.png", scores.curve, uncorrected.curve)
    in_table = others | ({UNCORRECTED: columns_of(uncorrected.curve)} if uncorrected is not None else {})
    write_response_table(folder / RESPONSE_TABLE, scores.curve, in_table)
    plots.plot_widths(folder / "resolution_vs_pt.png", {LABEL: scores.curve}, others)
    plots.plot_biases(folder / "bias_vs_pt.png", {LABEL: scores.curve}, others)
    event_plots.plot_distributions(folder / "response_distributions.png", scores)
    event_plots.plot_predictions(folder / "predicted_vs_true.png", scores)


def _others(data: PtData, scores: Scores) -> dict[str, Columns]:
    """Collect what is shown beside the model: formulas, its branches, and the published report where comparable."""
    others = naive_scores(data)
    if isinstance(data, CombinedData):
        truth_N = data.validation.truth_N3[:, 0]
        branches = zip(BRANCH_ROWS, data.validation_branch_N2.T, strict=True)
        others |= {name: score(pred_N, truth_N, data.binning) for name, pred_N in branches}
    columns: dict[str, Columns] = {name: columns_of(other.curve) for name, other in others.items()}
    if compares_with_reference(data.binning, data.selection):
        columns[REPORT] = reference_columns(scores.used)
    return columns


def _write_detector(folder: Path, data: PtData) -> None:
    edges_gev = np.arange(0, data.binning.max_pt_gev + EFFICIENCY_BIN_GEV / 2, EFFICIENCY_BIN_GEV)
    efficiencies: dict[str, Efficiency] = {
        selection: data.cut_flow.efficiency(selection, edges_gev) for selection in SELECTIONS
    }
    write_efficiency_table(folder / EFFICIENCY_TABLE, efficiencies)
    write_cut_flow_table(folder / CUT_FLOW_TABLE, data.cut_flow)
    event_plots.plot_efficiencies(folder / "efficiency_vs_pt.png", efficiencies, data.selection)
    study = cluster_dphi((data.train, data.validation), data.binning)
    write_detector_table(folder / DETECTOR_TABLE, study)
    event_plots.plot_detector(folder / "cluster_dphi_vs_pt.png", study, data.binning)


def _write_curve(folder: Path, data: PtData, inverse_dphi_P: NDArray[Any], pt_gev_P: NDArray[Any]) -> None:
    columns = {"inverse_dphi_per_rad": inverse_dphi_P, "pt_gev": pt_gev_P}
    write_columns(folder / ANGLE_CURVE_TABLE, {name: np.asarray(value_P).tolist() for name, value_P in columns.items()})
    data_range = (float(1 / data.train.dphi_N.max()), float(1 / data.train.dphi_N.min()))
    angle_curve = np.asarray(inverse_dphi_P, np.float64), np.asarray(pt_gev_P, np.float64)
    event_plots.plot_angle_curve(folder / "pt_vs_inverse_dphi.png", *angle_curve, data_range, fit_c(data.train))
