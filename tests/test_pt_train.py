"""Training runs of the pT models: what an epoch is made of, what the penalties do, what a checkpoint must hold."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pt_models import MODELS
from pydantic import ValidationError

from spaces.pt import PRESETS_COMBINED, PRESETS_DPHI, PRESETS_ENERGY
from trainables.base.errors import DataError, TrainingDiverged
from trainables.pt.config import PtCombinedConfig, PtDphiConfig, PtEnergyConfig
from trainables.pt.data import PtData
from trainables.pt.loss import BOUNDARY_PT_GEV, boundary_inverse_dphi
from trainables.pt.metrics import OBJECTIVES, PtBinning, score
from trainables.pt.model import load_network
from trainables.pt.simulate import simulate_combined_data, simulate_data

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"width": 16, "batch_size": 64, "epochs": 4, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def data() -> PtData:
    return simulate_combined_data(700, 1)  # pt-energy and pt-dphi see nothing of the branches


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def begin(model: str, data: PtData, **config: Any) -> Any:
    training, of_model = MODELS[model]
    return training(of_model(**SMALL | config), data, CPU)


def finish(training: Any) -> Any:
    while not training.finished:
        training.train_epoch()
    return training


def flat(state: Any) -> list[Any]:
    """Every number of a state, in order."""
    if isinstance(state, torch.Tensor):
        return list(state.reshape(-1).tolist())
    if isinstance(state, dict):
        return [number for key in sorted(state, key=str) for number in flat(state[key])]
    if isinstance(state, list | tuple):
        return [number for part in state for number in flat(part)]
    return [state]


# ---------------------------------------------------------------- an epoch


def test_an_epoch_shows_each_event_at_most_once_in_whole_batches(model: str, data: PtData) -> None:
    training = begin(model, data)
    drawn: list[torch.Tensor] = []
    draw = training.batches.draw
    training.batches.draw = lambda: (drawn.append(draw()), drawn[-1])[1]
    numbers = training.train_epoch()
    batches = len(data.train) // 64
    assert [len(index) for index in drawn] == batches * [64]
    assert len(torch.cat(drawn).unique()) == batches * 64
    assert numbers["updates"] == batches
    first = torch.cat(drawn)
    drawn.clear()
    training.train_epoch()
    assert not torch.equal(first, torch.cat(drawn))


def test_keys_stay_the_same_and_numbers_finite_over_all_epochs(model: str, data: PtData) -> None:
    training = begin(model, data)
    epochs = []
    while not training.finished:
        epochs.append((training.train_epoch(), training.validate()))
    assert len({(frozenset(trained), frozenset(scores)) for trained, scores in epochs}) == 1
    assert set(OBJECTIVES) <= set(epochs[0][1])
    numbers = torch.tensor([number for pair in epochs for part in pair for number in part.values()])
    assert torch.isfinite(numbers).all()
    assert {len(column) for column in training.history.points.values()} == {SMALL["epochs"]}


def test_the_learning_rate_is_constant_unless_a_final_one_is_given(data: PtData) -> None:
    training = begin("energy", data)
    assert {training.train_epoch()["lr"] for _ in range(4)} == {1e-3}
    falling = begin("energy", data, final_rate=0.01)
    rates = [falling.train_epoch()["lr"] for _ in range(4)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(1e-5)
    config = falling.config
    assert [config.rate_of(update, 101) for update in (0, 50, 100)] == pytest.approx([1e-3, 0.505e-3, 1e-5])
    assert config.rate_of(0, 1) == 1e-3


def test_the_scores_are_those_of_the_saved_model(model: str, data: PtData) -> None:
    training = begin(model, data)
    training.train_epoch()
    network = load_network(training.config, training.weights())
    pred = network(training.validation_NF).numpy()
    numbers = score(pred, data.validation.truth_N3[:, 0], data.binning).numbers()
    assert numbers.items() <= training.validate().items()


def test_one_seed_gives_the_same_numbers_and_another_seed_others(model: str, data: PtData) -> None:
    first, again, other = (
        (training.train_epoch(), training.validate()) for training in (begin(model, data, seed=s) for s in (7, 7, 8))
    )
    assert first == again
    assert first[1]["resolution"] != other[1]["resolution"]


def test_training_draws_nothing_from_the_global_random_state(model: str, data: PtData) -> None:
    before = torch.random.get_rng_state()
    training = begin(model, data, dropout=0.3)
    training.train_epoch()
    training.validate()
    assert torch.equal(before, torch.random.get_rng_state())


def test_validation_events_change_nothing_of_the_training(model: str, data: PtData) -> None:
    """Scaler, first constant, fitted correction: all from training events only."""
    strange = replace(
        data.validation,
        hit_N53=data.validation.hit_N53 * 1e6,
        cluster_N24=data.validation.cluster_N24 * -1e6,
        dphi_N=data.validation.dphi_N * 1e-3,
    )
    options = {"post_correction": "fitted", "post_start": 0.0} if model == "combined" else {}
    plain, changed = (begin(model, part, **options) for part in (data, replace(data, validation=strange)))
    for training in (plain, changed):
        finish(training)
    assert flat(plain.state()) == flat(changed.state())
    assert plain.validate()["resolution"] != changed.validate()["resolution"]


# ---------------------------------------------------------------- the penalties of pt-dphi


def penalties(data: PtData, **config: Any) -> dict[str, float]:
    numbers: dict[str, float] = begin("dphi", data, **config).train_epoch()
    return {name: value for name, value in numbers.items() if name in ("loss_monotonic", "loss_boundary")}


def test_the_size_of_a_penalty_does_not_depend_on_the_batch_size(data: PtData) -> None:
    """Without any update in between; the report's own definition would grow with the batch."""
    slow = {"learning_rate": 1e-12, "final_rate": 1.0, "seed": 5}
    one, other = (penalties(data, batch_size=size, **slow) for size in (32, 256))
    assert one == pytest.approx(other, rel=1e-4)
    assert one["loss_boundary"] > 0


def test_the_loss_is_the_sum_of_its_parts_by_their_weights(data: PtData) -> None:
    training = begin("dphi", data, lambda_mono=0.7, boundary_ramp=0.03, boundary_cap=0.05)
    for weight in (0.03, 0.05, 0.05):
        torch.nn.init.normal_(training.network.head.weight, generator=torch.Generator().manual_seed(2))
        numbers = training.train_epoch()
        parts = numbers["loss_main"] + 0.7 * numbers["loss_monotonic"] + weight * numbers["loss_boundary"]
        assert numbers["loss"] == pytest.approx(parts, rel=1e-5)
        assert numbers["loss_monotonic"] > 0


@pytest.mark.parametrize(
    ("config", "kept"),
    [
        ({}, {"loss_monotonic", "loss_boundary"}),
        ({"monotonic": False}, {"loss_boundary"}),
        ({"boundary": False}, {"loss_monotonic"}),
        ({"monotonic": False, "boundary": False}, set()),
    ],
)
def test_a_penalty_can_be_left_out(data: PtData, config: dict[str, bool], kept: set[str]) -> None:
    assert set(penalties(data, **config)) == kept


def test_weights_of_the_penalties_never_enter_the_scores(data: PtData) -> None:
    """A search would simply set them to zero."""
    models = [
        begin("dphi", data, **config)
        for config in (
            {"lambda_mono": 0.0, "boundary_ramp": 0.0},
            {"lambda_mono": 100.0, "boundary_ramp": 100.0, "boundary_cap": 1e4},
            {"monotonic": False, "boundary": False},
        )
    ]
    finish(models[0])
    for training in models[1:]:
        training.network.load_state_dict(models[0].network.state_dict())
        training.epoch = models[0].epoch
    scores = [training.validate() for training in models]
    assert scores[0] == scores[1] == scores[2]


def test_boundary_error_and_monotonic_violation_are_in_plain_units(data: PtData) -> None:
    """Of a network that says pT = a + b / dphi, the first is the mean relative deviation, the second a rise in GeV."""
    training = begin("dphi", data, depth=1, width=1)
    network = training.network
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), (1.0, 0.0, 0.1922, 0.0), strict=True):
            parameter.fill_(value)
    assert training.validate()["boundary_error"] == pytest.approx(0, abs=1e-3)
    assert training.validate()["monotonic_violation"] == 0
    with torch.no_grad():
        network.head.weight.fill_(-0.1)
        network.head.bias.fill_(30.0)
    numbers = training.validate()
    assert numbers["monotonic_violation"] == pytest.approx(0.1 * (200 - 0.5), rel=1e-5)
    expected = np.abs((30 - 0.1 * boundary_inverse_dphi().numpy()) / np.array(BOUNDARY_PT_GEV) - 1).mean()
    assert numbers["boundary_error"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_the_boundary_table_is_met_with_its_penalty_and_missed_without() -> None:
    data = simulate_data(4000, 3)
    config = {"width": 64, "batch_size": 128, "epochs": 40, "dropout": 0.0, "final_rate": 0.01, "peak_weight": 30.0}
    steep = {"boundary_ramp": 0.1, "boundary_cap": 2.0}
    held, free = (finish(begin("dphi", data, **config | term)) for term in (steep, {"boundary": False}))
    with_term, without = held.validate(), free.validate()
    assert with_term["boundary_error"] < 0.05
    assert without["boundary_error"] > 3 * with_term["boundary_error"]
    assert with_term["monotonic_violation"] < 1e-3


# ---------------------------------------------------------------- state


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_resuming_from_a_checkpoint_changes_nothing(model: str, data: PtData, dropout: float) -> None:
    options = {"dropout": dropout} | ({"post_correction": "fitted", "post_start": 1.0} if model == "combined" else {})
    whole = begin(model, data, **options)
    whole.train_epoch()
    file = io.BytesIO()
    torch.save(whole.state(), file)
    file.seek(0)
    resumed = begin(model, data, seed=99, **options)  # even the seed comes from the checkpoint
    resumed.load_state(torch.load(file, weights_only=True))
    assert whole.validate() == resumed.validate()
    while not whole.finished:
        assert whole.train_epoch() == resumed.train_epoch()
        assert whole.validate() == resumed.validate()
    assert flat(whole.state()) == flat(resumed.state())


def test_a_state_is_a_snapshot(model: str, data: PtData) -> None:
    training = begin(model, data)
    training.train_epoch()
    state = training.state()
    kept = flat(state)
    training.train_epoch()
    assert flat(state) == kept
    loaded = begin(model, data)
    loaded.load_state(state)
    loaded.train_epoch()
    assert flat(state) == kept


def test_after_loading_the_own_mutable_hyperparameters_act(data: PtData) -> None:
    donor = begin("dphi", data, weight_decay=0.0)
    donor.train_epoch()
    heirs = [begin("dphi", data, learning_rate=3e-4, weight_decay=decay) for decay in (0.0, 0.1)]
    for heir in heirs:
        heir.load_state(donor.state())
        assert heir.train_epoch()["lr"] == 3e-4
    weights = [heir.weights()["head.weight"].norm().item() for heir in heirs]
    assert weights[1] < weights[0]


@pytest.mark.parametrize(
    ("model", "change"),
    [
        *[(name, {"learning_rate": 2e-3}) for name in MODELS],
        ("energy", {"final_rate": 0.5}),
        ("energy", {"dropout": 0.4}),
        ("energy", {"weight_decay": 0.1}),
        ("energy", {"peak_weight": 9.0}),
        ("energy", {"peak_window": 0.5}),
        ("energy", {"width": 8}),
        ("energy", {"depth": 2}),
        ("energy", {"batch_size": 32}),
        ("energy", {"seed": 1}),
        ("energy", {"features": "full"}),
        ("dphi", {"monotonic": False}),
        ("dphi", {"boundary": False}),
        ("dphi", {"lambda_mono": 0.6}),
        ("dphi", {"boundary_ramp": 0.02}),
        ("dphi", {"boundary_cap": 0.001}),
        ("combined", {"post_correction": "none"}),
        ("combined", {"post_correction": "fitted", "post_start": 1.0}),
        ("combined", {"post_start": 9.0}),
        ("combined", {"post_offset": 0.03}),
        ("combined", {"post_slope": 0.0}),
    ],
    ids=str,
)
def test_every_hyperparameter_changes_the_model(data: PtData, model: str, change: dict[str, Any]) -> None:
    plain, changed = (begin(model, data, dropout=0.2), begin(model, data, **{"dropout": 0.2} | change))
    for training in (plain, changed):
        if model == "dphi":  # a network that rises with the angle, so that both penalties have something to say
            torch.nn.init.normal_(training.network.head.weight, generator=torch.Generator().manual_seed(2))
        finish(training)
    assert flat(plain.weights()) != flat(changed.weights())


@pytest.mark.parametrize(
    "change",
    [{"dropout": 1.0}, {"learning_rate": 0.0}, {"final_rate": 1.5}, {"peak_weight": 0.0}, {"depth": 0}, {"lr": 1e-3}],
    ids=str,
)
def test_nonsense_is_refused_before_the_first_batch(change: dict[str, Any]) -> None:
    for _, config in MODELS.values():
        with pytest.raises(ValidationError):
            config(**change)


# ---------------------------------------------------------------- the ways to fail


def test_too_narrow_bins_are_refused_before_the_first_batch(model: str, data: PtData) -> None:
    narrow = replace(data, binning=PtBinning(bin_width_gev=0.1))
    with pytest.raises(DataError, match="bin-width-gev"):
        begin(model, narrow)


def test_what_is_not_finite_is_refused_before_it_reaches_the_weights(model: str, data: PtData) -> None:
    training = begin(model, data)
    training.train_epoch()
    first = training.updates.made
    make = training.updates.make
    training.updates.make = lambda loss: make(loss * torch.nan if training.updates.made == first + 2 else loss)
    with pytest.raises(TrainingDiverged) as caught:
        training.train_epoch()
    assert (caught.value.reason, caught.value.epoch) == ("not_finite", 2)
    assert caught.value.evidence["update"] == first + 3
    assert training.epoch == 1
    assert all(torch.isfinite(weight).all() for weight in training.weights().values())


def test_an_absurd_learning_rate_gives_no_pretty_number(data: PtData) -> None:
    training = begin("dphi", data, learning_rate=1e6)
    with pytest.raises(TrainingDiverged, match="not_finite"):
        finish(training)


# ---------------------------------------------------------------- around it


def test_the_report_presets_are_the_reports_numbers() -> None:
    """Which the defaults are, and beside them the variants that the report implies."""
    shared = {"learning_rate": 5e-5, "peak_weight": 3, "peak_window": 0.2, "batch_size": 1024, "depth": 3}
    energy, dphi, combined = (
        config(**presets["report"]).model_dump()
        for config, presets in (
            (PtEnergyConfig, PRESETS_ENERGY),
            (PtDphiConfig, PRESETS_DPHI),
            (PtCombinedConfig, PRESETS_COMBINED),
        )
    )
    assert energy.items() >= (shared | {"width": 256, "dropout": 0.2, "epochs": 200, "features": "energy"}).items()
    penalties = {"lambda_mono": 0.3, "boundary_ramp": 0.005, "boundary_cap": 0.2, "monotonic": True, "boundary": True}
    assert dphi.items() >= (shared | penalties | {"width": 256, "dropout": 0.2, "epochs": 500}).items()
    correction = {"post_correction": "given", "post_start": 8.8, "post_offset": 0.02, "post_slope": 0.08}
    assert combined.items() >= (shared | correction | {"width": 128, "dropout": 0.0, "epochs": 300}).items()
    for config, report in ((PtEnergyConfig(), energy), (PtDphiConfig(), dphi), (PtCombinedConfig(), combined)):
        assert config.model_dump() == report
    assert {"no-dropout", "no-boundary", "no-monotonic"} <= PRESETS_DPHI.keys()
    assert {"no-correction", "fitted-correction"} <= PRESETS_COMBINED.keys()


def test_weights_are_copies(model: str, data: PtData) -> None:
    training = begin(model, data)
    weights = training.weights()
    training.train_epoch()
    assert not torch.equal(weights["head.weight"], training.weights()["head.weight"])
    assert not any(tensor.requires_grad for tensor in weights.values())


@pytest.mark.slow
def test_the_report_has_figures_and_tables(model: str, data: PtData, tmp_path: Path) -> None:
    training = begin(model, data)
    training.train_epoch()
    training.write_report(tmp_path)
    files = {path.name for path in tmp_path.iterdir()}
    assert {"resolution_vs_pt.png", "losses.png"} <= files
    assert ("pt_vs_inverse_dphi.png" in files) == (model == "dphi")
    assert ("post_correction.png" in files) == (model == "combined")


@pytest.mark.slow
def test_it_trains_where_neither_search_nor_drawing_is_installed() -> None:
    program = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ray", "mlflow", "optuna", "matplotlib", "mplhep"):
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Blocker())
import torch
from trainables.pt.config import PtEnergyConfig
from trainables.pt.simulate import simulate_data
from trainables.pt.train import PtEnergyTraining

torch.set_num_threads(1)
training = PtEnergyTraining(PtEnergyConfig(epochs=1, width=4), simulate_data(300, 0), torch.device("cpu"))
while not training.finished:
    print(training.train_epoch() | training.validate())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "resolution" in done.stdout
