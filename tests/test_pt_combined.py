"""What pt-combined is given: one-hot bins at their edges, predictions of the branch models themselves, corrections."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import trainables.pt.combined
from trainables.base.errors import DataError
from trainables.base.training import TrainedModel
from trainables.pt.combined import (
    BRANCH_ROWS,
    CombinedData,
    combined_baselines,
    combined_inputs,
    join_branches,
    pt_one_hot,
)
from trainables.pt.config import PtCombinedConfig, PtDphiConfig, PtEnergyConfig
from trainables.pt.data import PtData
from trainables.pt.metrics import score
from trainables.pt.model import in_chunks
from trainables.pt.naive import naive_predictors
from trainables.pt.simulate import simulate_combined_data, simulate_data
from trainables.pt.train import PtCombinedTraining, PtDphiTraining, PtEnergyTraining

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> PtData:
    return simulate_data(700, 1)


@pytest.fixture(scope="module")
def branches(data: PtData) -> dict[str, PtEnergyTraining | PtDphiTraining]:
    small = {"width": 8, "batch_size": 64, "epochs": 1, "learning_rate": 1e-2}
    trainings = {
        "pt-energy": PtEnergyTraining(PtEnergyConfig(**small, features="full"), data, CPU),
        "pt-dphi": PtDphiTraining(PtDphiConfig(**small, depth=2), data, CPU),
    }
    for training in trainings.values():
        training.train_epoch()
    return trainings


@pytest.fixture(scope="module")
def models(branches: dict[str, PtEnergyTraining | PtDphiTraining]) -> dict[str, TrainedModel]:
    return {
        name: TrainedModel(name, f"run of {name}", training.config.model_dump(), training.weights())
        for name, training in branches.items()
    }


@pytest.fixture(scope="module")
def joined(data: PtData, models: dict[str, TrainedModel]) -> CombinedData:
    return join_branches(data, models)


# ---------------------------------------------------------------- the inputs


@pytest.mark.parametrize(
    ("pt", "hot"),
    [
        *[(0.0, 0), (0.9999, 0), (1.0, 1), (np.nextafter(np.float32(2), np.float32(0)), 1), (5.5, 5), (9.0, 9)],
        (np.nextafter(np.float32(10), np.float32(0)), 9),
        *[(pt, None) for pt in (10.0, 10.5, 1e30, -1e-6, -0.5, -3.0, -1e30)],
    ],
)
def test_one_hot_bins_are_closed_below_and_open_above(pt: float, hot: int | None) -> None:
    row = pt_one_hot(np.array([pt], dtype=np.float32))[0]
    assert row.tolist() == [1.0 if column == hot else 0.0 for column in range(10)]


def test_the_fourteen_inputs_stand_in_the_order_of_the_report(data: PtData) -> None:
    """[1/dphi, pT of model 2, cluster energy, pT of model 1], then the bins of half the sum of both pT."""
    events = data.validation
    energy_pt = np.linspace(-2, 12, len(events), dtype=np.float32)
    dphi_pt = energy_pt[::-1] * 0.3 + 1
    inputs = combined_inputs(events, np.stack((energy_pt, dphi_pt), axis=1))
    assert inputs.shape == (len(events), 14)
    assert inputs.dtype == np.float32
    np.testing.assert_allclose(inputs[:, 0], 1 / events.dphi_N, rtol=1e-6)
    np.testing.assert_array_equal(inputs[:, 1], dphi_pt)
    np.testing.assert_array_equal(inputs[:, 2], events.cluster_N24[:, 0, 3])
    np.testing.assert_array_equal(inputs[:, 3], energy_pt)
    np.testing.assert_array_equal(inputs[:, 4:], pt_one_hot(0.5 * (energy_pt + dphi_pt)))


# ---------------------------------------------------------------- the branches


def test_branch_predictions_are_those_of_the_branch_networks(
    data: PtData, joined: CombinedData, branches: dict[str, PtEnergyTraining | PtDphiTraining]
) -> None:
    for column, training in enumerate(branches.values()):
        with torch.no_grad():
            one_by_one = torch.cat([training.network(row[None]) for row in training.validation_NF])
        np.testing.assert_allclose(joined.validation_branch_N2[:, column], one_by_one, rtol=1e-5, atol=1e-6)
        scores = score(joined.validation_branch_N2[:, column], data.validation.truth_N3[:, 0], data.binning)
        assert scores.numbers().items() <= training.validate().items()
    assert len(joined.train_branch_N2) == len(data.train)


def test_joined_data_are_others_where_the_branches_are(
    data: PtData, joined: CombinedData, models: dict[str, TrainedModel]
) -> None:
    assert joined.summary == data.summary
    assert joined.objective_version == data.objective_version
    assert joined.fingerprint not in ("", data.fingerprint)
    assert join_branches(data, models).fingerprint == joined.fingerprint
    other = dict(models["pt-dphi"].weights)
    other["head.bias"] = other["head.bias"] + 1
    changed = join_branches(data, models | {"pt-dphi": replace(models["pt-dphi"], weights=other)})
    assert changed.fingerprint != joined.fingerprint
    values = {**models["pt-dphi"].hyperparameters, "seed": 7}
    changed = join_branches(data, models | {"pt-dphi": replace(models["pt-dphi"], hyperparameters=values)})
    assert changed.fingerprint != joined.fingerprint


def test_joined_data_are_the_same_where_another_cpu_rounds_the_predictions_in_its_own_way(
    data: PtData, joined: CombinedData, models: dict[str, TrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_chunks_elsewhere(*arguments: Any) -> torch.Tensor:
        return torch.nextafter(in_chunks(*arguments), torch.tensor(torch.inf))

    monkeypatch.setattr(trainables.pt.combined, "in_chunks", in_chunks_elsewhere)
    elsewhere = join_branches(data, models)
    assert (elsewhere.validation_branch_N2 != joined.validation_branch_N2).any()
    assert elsewhere.fingerprint == joined.fingerprint


def test_a_missing_branch_is_named(data: PtData, models: dict[str, TrainedModel]) -> None:
    with pytest.raises(DataError, match="no model of pt-dphi"):
        join_branches(data, {"pt-energy": models["pt-energy"]})


def test_a_branch_that_predicts_nonsense_is_named(data: PtData, models: dict[str, TrainedModel]) -> None:
    broken = {name: weight * torch.nan for name, weight in models["pt-energy"].weights.items()}
    with pytest.raises(DataError, match=r"pt-energy of run of pt-energy: \d+ of \d+ predictions are not finite"):
        join_branches(data, models | {"pt-energy": replace(models["pt-energy"], weights=broken)})


def test_baselines_are_the_formulas_and_both_branches(joined: CombinedData) -> None:
    rows = combined_baselines(joined)
    assert set(rows) == {*naive_predictors(joined), *BRANCH_ROWS}
    truth = joined.validation.truth_N3[:, 0]
    for column, name in enumerate(BRANCH_ROWS):
        assert rows[name] == score(joined.validation_branch_N2[:, column], truth, joined.binning).numbers()


# ---------------------------------------------------------------- the correction in a run


SMALL = {"width": 16, "batch_size": 64, "epochs": 6, "learning_rate": 1e-2}


def finished(data: CombinedData, **config: object) -> PtCombinedTraining:
    training = PtCombinedTraining(PtCombinedConfig(**SMALL | config), data, CPU)  # type: ignore[arg-type]
    while not training.finished:
        training.train_epoch()
    return training


@pytest.fixture(scope="module")
def plain() -> PtCombinedTraining:
    return finished(simulate_combined_data(700, 1), post_correction="none")


def test_the_correction_changes_predictions_and_not_the_training(plain: PtCombinedTraining) -> None:
    given = finished(plain.data, post_correction="given", post_start=5.0, post_offset=0.02, post_slope=0.08)
    for name, weight in plain.weights().items():
        assert torch.equal(weight, given.weights()[name]) != name.startswith("correction")
    scores, uncorrected = given.validate(), plain.validate()
    for name in ("resolution", "bias"):
        assert scores[f"{name}_uncorrected"] == uncorrected[name] == uncorrected[f"{name}_uncorrected"]
        assert scores[name] != uncorrected[name]


def test_given_numbers_act_from_their_start_on(plain: PtCombinedTraining) -> None:
    given = finished(plain.data, post_correction="given", post_start=5.0, post_offset=0.02, post_slope=0.08)
    with torch.no_grad():
        before, after = (training.network(training.validation_NF) for training in (plain, given))
    high = before >= 5
    assert 0 < int(high.sum()) < len(high)
    assert torch.equal(after[~high], before[~high])
    torch.testing.assert_close(after[high], before[high] * (1.02 + 0.08 * (before[high] - 5)))


def test_a_fitted_correction_lowers_the_bias_of_training_events() -> None:
    """Which a short training leaves at the end of the spectrum."""
    data = simulate_combined_data(6000, 2)
    none, fitted = (finished(data, post_correction=kind, post_start=7.5) for kind in ("none", "fitted"))
    weights = fitted.weights()
    assert weights["correction.start"] == 7.5
    with torch.no_grad():
        ratio = {
            kind: (training.network(training.train_NF) / training.truth_N)[training.truth_N > 8.5].median().item()
            for kind, training in {"none": none, "fitted": fitted}.items()
        }
    assert ratio["none"] < 0.98
    assert abs(ratio["fitted"] - 1) < 0.5 * abs(ratio["none"] - 1)


def test_where_nothing_reaches_the_start_nothing_is_corrected() -> None:
    fitted = finished(simulate_combined_data(700, 1), post_correction="fitted", post_start=1000.0)
    assert fitted.weights()["correction.offset"] == fitted.weights()["correction.slope"] == 0
    assert fitted.validate()["resolution"] == fitted.validate()["resolution_uncorrected"]
