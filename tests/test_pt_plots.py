"""Report of a pT run: every figure and table is written, tables come back as they were, odd input does not crash."""

from __future__ import annotations

import csv
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot
import numpy as np
import pytest
from numpy.typing import NDArray

from trainables.base.checkpoint import FIGURE_DATA
from trainables.evaluation.tables import read_columns
from trainables.pt.cutflow import SELECTIONS, CutFlow
from trainables.pt.data import PtData
from trainables.pt.detector import cluster_dphi
from trainables.pt.distributions import count_predictions, count_residuals
from trainables.pt.event_plots import plot_angle_curve, plot_distributions, plot_predictions
from trainables.pt.metrics import PtBinning, Scores, score
from trainables.pt.naive import ANGLE_FORMULA, ENERGY_FORMULA, REPORT, naive_scores
from trainables.pt.plots import compare_seeds, compare_trials, plot_biases, plot_losses, plot_widths
from trainables.pt.report import draw_report, write_tables
from trainables.pt.simulate import simulate_combined_data, simulate_data
from trainables.pt.tables import (
    ANGLE_CURVE_TABLE,
    CUT_FLOW_TABLE,
    DETECTOR_TABLE,
    EFFICIENCY_TABLE,
    LOSS_TABLE,
    RESPONSE_TABLE,
    UNCORRECTED,
    columns_of,
    read_response_table,
    write_detector_table,
    write_response_table,
)

FIGURES = {
    "resolution_vs_pt.png",
    "bias_vs_pt.png",
    "response_distributions.png",
    "predicted_vs_true.png",
    "efficiency_vs_pt.png",
    "cluster_dphi_vs_pt.png",
}
TABLES = {RESPONSE_TABLE, EFFICIENCY_TABLE, CUT_FLOW_TABLE, DETECTOR_TABLE}
INVERSE_DPHI = np.geomspace(0.5, 200, 50)
POINTS = {
    "epoch": [1.0, 2.0, 3.0],
    "step": [10.0, 20.0, 30.0],
    "lr": [1e-3, 5e-4, 2e-4],
    "loss_monotonic": [0.2, 0.0, 0.0],
    "loss": [0.9, 0.1, 0.05],
    "loss_main": [0.7, 0.1, 0.05],
}


@pytest.fixture(scope="module")
def data() -> PtData:
    return simulate_data(4000, 1, PtBinning())


@pytest.fixture(scope="module")
def scores(data: PtData) -> Scores:
    return naive_scores(data)[ENERGY_FORMULA]


@pytest.fixture(scope="module")
def halved(scores: Scores) -> Scores:
    return score(0.5 * scores.pred_N, scores.truth_N, scores.binning)


@pytest.fixture(scope="module")
def full_report(data: PtData, scores: Scores, halved: Scores, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    write_report(folder, data, scores, POINTS, (INVERSE_DPHI, 0.19 * INVERSE_DPHI), halved)
    return folder


@pytest.fixture(scope="module")
def bare_report(data: PtData, scores: Scores, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bare")
    write_report(folder, data, scores, {})
    return folder


def write_report(folder: Path, *args: Any, **more: Any) -> None:
    write_tables(folder, *args, **more)
    draw_report(folder)
    (folder / FIGURE_DATA).unlink()


def is_png(path: Path) -> bool:
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 10_000


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_seeds_of_a_point_are_drawn_together(full_report: Path, bare_report: Path, tmp_path: Path) -> None:
    compare_seeds({"one point": [full_report, bare_report], "another": [bare_report]}, tmp_path)
    (figure,) = tmp_path.iterdir()
    assert figure.name == "resolution_and_bias_over_seeds.png"
    assert figure.stat().st_size > 10_000


def test_a_report_holds_all_figures_and_tables(full_report: Path) -> None:
    more_figures = {"losses.png", "pt_vs_inverse_dphi.png", "post_correction.png"}
    assert names(full_report) == FIGURES | more_figures | TABLES | {LOSS_TABLE, ANGLE_CURVE_TABLE}
    assert all(is_png(path) for path in full_report.glob("*.png"))
    for name, column in read_columns(full_report / LOSS_TABLE).items():
        assert column.tolist() == POINTS[name]
    angle = read_columns(full_report / ANGLE_CURVE_TABLE)
    np.testing.assert_array_equal(angle["inverse_dphi_per_rad"], INVERSE_DPHI)
    np.testing.assert_array_equal(angle["pt_gev"], 0.19 * INVERSE_DPHI)


def test_a_report_without_history_curve_or_correction_leaves_them_out(bare_report: Path) -> None:
    assert names(bare_report) == FIGURES | TABLES


def test_the_table_of_scores_comes_back_as_it_was_with_all_that_stands_beside_it(
    data: PtData, scores: Scores, halved: Scores, full_report: Path
) -> None:
    curve, others = read_response_table(full_report / RESPONSE_TABLE)
    for field in fields(curve):
        np.testing.assert_array_equal(getattr(curve, field.name), getattr(scores.curve, field.name))
        assert getattr(curve, field.name).dtype == getattr(scores.curve, field.name).dtype
    assert list(others) == [ANGLE_FORMULA, ENERGY_FORMULA, REPORT, UNCORRECTED]
    for name, expected in ((ANGLE_FORMULA, naive_scores(data)[ANGLE_FORMULA]), (UNCORRECTED, halved)):
        assert set(others[name]) == set(columns_of(expected.curve))
        for quantity, value in columns_of(expected.curve).items():
            np.testing.assert_array_equal(others[name][quantity], value)


@pytest.mark.slow
def test_the_report_stands_in_no_table_of_another_selection(data: PtData, scores: Scores, tmp_path: Path) -> None:
    write_report(tmp_path, replace(data, selection="loose"), scores, {})
    assert REPORT not in read_response_table(tmp_path / RESPONSE_TABLE)[1]


@pytest.mark.slow
def test_the_branches_of_a_combined_model_stand_in_its_table(tmp_path: Path) -> None:
    data = simulate_combined_data(1500, 3)
    write_report(tmp_path, data, naive_scores(data)[ENERGY_FORMULA], POINTS)
    _, others = read_response_table(tmp_path / RESPONSE_TABLE)
    assert list(others) == [ANGLE_FORMULA, ENERGY_FORMULA, "energy branch", "dphi branch"]
    # here the formulas stand in for the branches, in single precision
    np.testing.assert_allclose(others["dphi branch"]["resolution"], others[ANGLE_FORMULA]["resolution"], rtol=1e-5)


def test_efficiency_and_cut_flow_come_back_as_they_were(data: PtData, full_report: Path) -> None:
    column = read_columns(full_report / EFFICIENCY_TABLE)
    with (full_report / CUT_FLOW_TABLE).open(newline="") as file:
        cut_flow = list(csv.DictReader(file))
    for selection in SELECTIONS:
        expected = data.cut_flow.efficiency(selection, np.arange(0, 10.1, 0.5))
        for name in ("low_edge_gev", "high_edge_gev", "generated"):
            np.testing.assert_array_equal(column[name], getattr(expected, f"{name}_B"))
        for name in ("accepted", "efficiency", "lower", "upper"):
            np.testing.assert_array_equal(column[f"{name} of {selection}"], getattr(expected, f"{name}_B"))
        left = {row["cut"]: int(row["events_left"]) for row in cut_flow if row["selection"] == selection}
        assert left == {"generated": data.cut_flow.events} | data.cut_flow.totals(selection)


def test_the_detector_study_finds_the_core_of_known_deviations(data: PtData, tmp_path: Path) -> None:
    def shifted(seed: int, part: str) -> NDArray[np.float32]:
        events = getattr(data, part)
        dphi_N = np.random.default_rng(seed).normal(-2e-3, 3e-3, len(events))
        dphi_N[::7] = np.nan  # no point on the surface
        return np.asarray(dphi_N, np.float32)

    parts = tuple(
        replace(getattr(data, part), surface_dphi_N=shifted(seed, part))
        for seed, part in enumerate(("train", "validation"))
    )
    study = cluster_dphi(parts, PtBinning(bin_width_gev=5))
    assert study.map.events == sum(int(np.isfinite(part.surface_dphi_N).sum()) for part in parts)
    assert study.core_sigma_mrad_K == pytest.approx([3, 3], abs=0.35)
    assert study.peak_mrad_K == pytest.approx([-2, -2], abs=0.5)
    assert (study.peak_error_mrad_K < 0.3).all()
    write_detector_table(tmp_path / DETECTOR_TABLE, study)
    column = read_columns(tmp_path / DETECTOR_TABLE)
    assert {f"{name}_K" for name in column} == {field.name for field in fields(study) if field.name.endswith("_K")}
    for name, value_K in column.items():
        np.testing.assert_array_equal(value_K, getattr(study, f"{name}_K"))


@pytest.mark.slow
@pytest.mark.parametrize("width", [10.0, 5.0, 0.2])
def test_few_and_many_bins_can_be_drawn_without_the_report_beside_them(
    data: PtData, tmp_path: Path, width: float
) -> None:
    data = replace(data, binning=PtBinning(bin_width_gev=width, min_bin_count=10))
    write_report(tmp_path, data, naive_scores(data)[ENERGY_FORMULA], {})
    assert all(is_png(path) for path in tmp_path.glob("*.png"))
    assert REPORT not in read_response_table(tmp_path / RESPONSE_TABLE)[1]


@pytest.mark.slow
@pytest.mark.parametrize("prediction", ["nan", "constant", "negative", "huge"])
def test_hopeless_models_can_be_drawn(scores: Scores, tmp_path: Path, prediction: str) -> None:
    truth_N = scores.truth_N
    pred_N = {
        "nan": np.where(truth_N > 5, np.nan, truth_N),
        "constant": np.full_like(truth_N, 3.0),
        "negative": -truth_N,
        "huge": 1e9 * truth_N**3,
    }[prediction]
    hopeless = score(pred_N, truth_N, scores.binning)
    others = {ENERGY_FORMULA: columns_of(scores.curve)}
    plot_widths(tmp_path / "widths.png", {"hopeless": hopeless.curve}, others)
    plot_biases(tmp_path / "biases.png", {"good": scores.curve, "hopeless": hopeless.curve}, others)
    plot_distributions(tmp_path / "distributions.png", hopeless.curve, count_residuals(hopeless))
    plot_predictions(tmp_path / "predictions.png", count_predictions(hopeless))
    plot_losses(tmp_path / "losses.png", {name: column[:1] for name, column in POINTS.items()})
    pt = {"nan": np.nan, "huge": 1e9}.get(prediction, -1) * np.ones(50)
    plot_angle_curve(tmp_path / "curve.png", INVERSE_DPHI, pt, (1.0, 100.0), 0.19)
    assert all(is_png(path) for path in tmp_path.glob("*.png"))


@pytest.mark.slow
def test_a_sample_that_fills_no_bin_can_be_drawn(data: PtData, scores: Scores, tmp_path: Path) -> None:
    none = PtBinning(min_bin_count=100_000)
    empty = score(scores.pred_N, scores.truth_N, none)
    write_report(tmp_path, replace(data, binning=none, cut_flow=CutFlow()), empty, POINTS, uncorrected=empty)
    compare_trials({"empty": tmp_path}, tmp_path)
    assert all(is_png(path) for path in tmp_path.glob("*.png"))


@pytest.mark.slow
def test_unknown_points_on_the_surface_can_be_drawn(data: PtData, scores: Scores, tmp_path: Path) -> None:
    unknown = {
        part: replace(events, surface_dphi_N=np.full(len(events), np.nan, np.float32))
        for part, events in (("train", data.train), ("validation", data.validation))
    }
    write_report(tmp_path, replace(data, **unknown), scores, {})
    assert len(read_columns(tmp_path / DETECTOR_TABLE)["events"]) == 0


def test_trials_are_compared_from_their_reports(full_report: Path, bare_report: Path, tmp_path: Path) -> None:
    compare_trials({f"trial {number}": full_report for number in range(11)} | {"untrained": bare_report}, tmp_path)
    assert names(tmp_path) == {"resolution_vs_pt.png", "bias_vs_pt.png", "losses.png"}
    assert all(is_png(path) for path in tmp_path.iterdir())


def test_trials_without_a_history_are_compared_without_one(bare_report: Path, tmp_path: Path) -> None:
    compare_trials({"untrained": bare_report}, tmp_path)
    assert names(tmp_path) == {"resolution_vs_pt.png", "bias_vs_pt.png"}


@pytest.mark.slow
def test_drawing_leaves_the_users_style_and_pyplot_alone(
    data: PtData, scores: Scores, full_report: Path, tmp_path: Path
) -> None:
    before = dict(matplotlib.rcParams)
    write_report(tmp_path, data, scores, {})
    compare_trials({"trial": full_report}, tmp_path)
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.pyplot.get_fignums() == []


def test_a_table_of_bins_with_a_gap_comes_back(scores: Scores, tmp_path: Path) -> None:
    kept = (scores.truth_N < 3) | (scores.truth_N > 4)
    gapped = score(scores.pred_N[kept], scores.truth_N[kept], scores.binning)
    assert gapped.numbers()["bins_left_out"] == scores.numbers()["bins_left_out"] + 1
    write_response_table(tmp_path / RESPONSE_TABLE, gapped.curve, {})
    curve, others = read_response_table(tmp_path / RESPONSE_TABLE)
    np.testing.assert_array_equal(curve.low_edge_gev_K, gapped.curve.low_edge_gev_K)
    assert others == {}
    compare_trials({"with a gap": tmp_path}, tmp_path)
