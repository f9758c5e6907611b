"""Report of a ZDC run: every figure and table is written, tables come back as they were."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

from trainables.evaluation.tables import read_columns, write_columns
from trainables.zdc.binning import Binning
from trainables.zdc.config import ZDCConfig
from trainables.zdc.metrics import ScoreSums
from trainables.zdc.plots import compare_seeds, compare_trials, plot_mse
from trainables.zdc.simulate import simulate_data
from trainables.zdc.tables import (
    EPOCH_TABLE,
    LOSS_TABLE,
    MSE_TABLE,
    read_epoch_table,
    read_mse_table,
    write_mse_table,
)
from trainables.zdc.train import ZDCTraining

FIGURES = {"mse_vs_energy.png", "masks.png", "input_distributions.png", "losses.png", "excess_by_epoch.png"}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    data, folders = simulate_data(500, 1), {}
    for label, gan in (("test26-lr4", True), ("regression-only", False)):
        folders[label] = tmp_path_factory.mktemp(label)
        config = ZDCConfig(hidden_dim=4, batch_size=64, epochs=2, gan=gan)
        training = ZDCTraining(config, data, torch.device("cpu"))
        for _ in range(config.epochs):
            training.train_epoch()
            training.validate()
        training.write_report(folders[label])
    return folders


def is_png(path: Path) -> bool:
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 10_000


def test_a_report_holds_all_figures_and_tables(reports: dict[str, Path]) -> None:
    for folder in reports.values():
        assert {path.name for path in folder.iterdir()} == FIGURES | {MSE_TABLE, LOSS_TABLE, EPOCH_TABLE}
        assert all(is_png(folder / name) for name in FIGURES)


def test_an_untrained_model_can_be_reported(tmp_path: Path) -> None:
    config = ZDCConfig(hidden_dim=4, batch_size=64)
    ZDCTraining(config, simulate_data(500, 1), torch.device("cpu")).write_report(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FIGURES - {"losses.png", "excess_by_epoch.png"} | {MSE_TABLE}


def test_trials_are_compared_from_their_reports(reports: dict[str, Path], tmp_path: Path) -> None:
    compare_trials(reports, tmp_path)
    assert is_png(tmp_path / "mse_vs_energy.png")
    assert is_png(tmp_path / "losses.png")


def test_seeds_of_a_point_are_drawn_together_also_without_epochs(reports: dict[str, Path], tmp_path: Path) -> None:
    both = list(reports.values())
    compare_seeds({"one point": both, "another": both[:1]}, tmp_path)
    figures = {"excess_vs_energy_over_seeds.png", "excess_by_epoch_over_seeds.png"}
    assert {path.name for path in tmp_path.iterdir()} == figures
    assert all(is_png(tmp_path / name) for name in figures)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / MSE_TABLE).write_bytes((both[0] / MSE_TABLE).read_bytes())
    compare_seeds({"one point": [bare, bare]}, bare)
    assert {path.suffix for path in bare.iterdir()} == {".csv", ".png"}
    assert len(list(bare.glob("*.png"))) == 1


def test_drawing_leaves_the_users_style_alone(reports: dict[str, Path], tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    compare_trials(reports, tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_losses_stand_in_the_table_against_steps(reports: dict[str, Path]) -> None:
    column = read_columns(reports["test26-lr4"] / LOSS_TABLE)
    assert {"step", "epoch", "lr_gen", "lr_dis", "loss_regression", "loss_dis"} < set(column)
    assert (np.diff(column["step"]) > 0).all()
    assert column["epoch"][-1] == 2
    assert "lr_dis" not in read_columns(reports["regression-only"] / LOSS_TABLE)


def test_the_excess_of_each_bin_is_kept_from_every_epoch(reports: dict[str, Path]) -> None:
    for folder in reports.values():
        last, by_epoch = read_mse_table(folder / MSE_TABLE)[0], read_epoch_table(folder / EPOCH_TABLE)
        assert by_epoch.epochs == (1, 2)
        np.testing.assert_array_equal(by_epoch.excess_EK[-1], last.excess)
        np.testing.assert_array_equal(by_epoch.error_K, last.error_K)
        assert (by_epoch.excess_EK[0] != by_epoch.excess_EK[1]).all()


def test_a_table_comes_back_as_it_was_and_can_be_drawn_with_gaps(tmp_path: Path) -> None:
    sums = ScoreSums(Binning(bin_width_mev=250.0, min_bin_count=3), torch.device("cpu"))
    random = torch.Generator().manual_seed(0)
    energy = torch.rand(400, generator=random) * 20
    energy = energy[(energy < 8) | (energy > 9)]
    prob = torch.rand(len(energy), 20, 20, generator=random)
    sums.add(energy, prob, torch.bernoulli(prob, generator=random))
    curve = sums.scores().curve
    write_mse_table(tmp_path / MSE_TABLE, curve, {"constant-mask": curve})
    again, naive = read_mse_table(tmp_path / MSE_TABLE)
    for name, column in vars(curve).items():
        np.testing.assert_array_equal(getattr(again, name), column)
        np.testing.assert_array_equal(getattr(naive["constant-mask"], name), column)
    plot_mse(tmp_path / "mse.png", again, naive)
    assert is_png(tmp_path / "mse.png")


def test_a_table_of_version_zdc_1_is_drawn_without_what_it_does_not_hold(tmp_path: Path) -> None:
    columns = {
        "low_edge_mev": [0.0, 1000.0],
        "high_edge_mev": [1000.0, 2000.0],
        "events": [30, 40],
        "mse": [2e-4, 3e-4],
        "floor": [3e-4, 2e-4],
        "excess": [-1e-4, 1e-4],
        "error": [1e-5, 2e-5],
        "mse_of_constant-mask": [5e-4, 6e-4],
    }
    write_columns(tmp_path / MSE_TABLE, columns)
    curve, naive = read_mse_table(tmp_path / MSE_TABLE)
    assert curve.energy_only_K.tolist() == columns["floor"]
    assert np.isnan(curve.excess).all()
    assert naive["constant-mask"].mse_K.tolist() == columns["mse_of_constant-mask"]
    plot_mse(tmp_path / "mse.png", curve, naive)
    assert is_png(tmp_path / "mse.png")
