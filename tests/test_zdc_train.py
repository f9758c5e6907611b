"""Training runs of the ZDC model: what an epoch is made of, what ends a run, what a checkpoint must hold."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from trainables.base.errors import DataError, TrainingDiverged
from trainables.zdc import train as train_module
from trainables.zdc.binning import OBJECTIVES, Binning
from trainables.zdc.config import ZDCConfig
from trainables.zdc.data import ZDCData, naive_predictors
from trainables.zdc.simulate import simulate_data
from trainables.zdc.train import ZDCTraining

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"hidden_dim": 4, "batch_size": 64, "epochs": 4}
ADVERSARY = {
    "loss_adversarial",
    "loss_dis",
    "discriminator_accuracy",
    "lr_dis",
    "dis_updates",
    "noise_strength",
}


@pytest.fixture(scope="module")
def data() -> ZDCData:
    return simulate_data(400, 1)


def begin(data: ZDCData, **config: Any) -> ZDCTraining:
    return ZDCTraining(ZDCConfig(**SMALL | config), data, CPU)


def flat(state: Any) -> list[Any]:
    """Every number of a state, in order."""
    if isinstance(state, torch.Tensor):
        return list(state.reshape(-1).tolist())
    if isinstance(state, dict):
        return [number for key in sorted(state, key=str) for number in flat(state[key])]
    if isinstance(state, list | tuple):
        return [number for part in state for number in flat(part)]
    return [state]


@pytest.mark.parametrize("ratio", ["1:1", "3:1", "1:5", "2:3", "1:50"])
def test_each_iteration_makes_exactly_the_updates_of_its_ratio(data: ZDCData, ratio: str) -> None:
    training = begin(data, dis_gen_ratio=ratio, epochs=2)
    made: list[str] = []
    for name, updates in (("dis", training.dis), ("gen", training.gen)):
        make = updates.make
        updates.make = lambda loss, name=name, make=make: (made.append(name), make(loss))[1]  # type: ignore[method-assign,misc]
    numbers = training.train_epoch()
    dis, gen = (int(part) for part in ratio.split(":"))
    iteration = dis * ["dis"] + gen * ["gen"]
    iterations = max(1, (len(data.train) // 64) // gen)
    assert made == iterations * iteration
    assert (numbers["dis_updates"], numbers["gen_updates"]) == (iterations * dis, iterations * gen)


def test_regression_only_makes_one_generator_update_a_batch(data: ZDCData) -> None:
    numbers = begin(data, gan=False, dis_gen_ratio="3:5").train_epoch()
    assert numbers["gen_updates"] == len(data.train) // 64
    assert not ADVERSARY & set(numbers)
    assert numbers["loss_gen"] == numbers["loss_regression"]


def test_an_epoch_shows_the_generator_each_event_at_most_once_in_a_fresh_order(data: ZDCData) -> None:
    training = begin(data)
    orders = []
    for _ in range(2):
        training.gen_batches.start_epoch()
        orders.append(torch.cat([training.gen_batches.draw() for _ in range(training.gen_batches.batches)]))
        assert len(orders[-1].unique()) == len(orders[-1]) > len(data.train) - 64
    assert not torch.equal(*orders)


@pytest.mark.parametrize("ratio", ["1:1", "2:3"])
def test_both_cycles_reach_their_own_maximum_and_end_with_their_own_last_update(data: ZDCData, ratio: str) -> None:
    training = begin(data, dis_gen_ratio=ratio, max_lr_gen=3e-4, max_lr_dis=5e-4, pct_start=0.5)
    rates: dict[str, list[float]] = {"gen": [], "dis": []}
    for name, updates in (("gen", training.gen), ("dis", training.dis)):
        update = updates._optimizer.update
        updates._optimizer.update = lambda gradients, lr, name=name, update=update: (  # type: ignore[method-assign,misc]
            rates[name].append(lr),
            update(gradients, lr),
        )
    while not training.finished:
        training.train_epoch()
    for name, peak in (("gen", 3e-4), ("dis", 5e-4)):
        assert max(rates[name]) == peak
        assert rates[name][0] < peak / 10
        assert rates[name][-1] == min(rates[name]) == pytest.approx(peak / 25e4)
    assert len(rates["dis"]) / len(rates["gen"]) == int(ratio[0]) / int(ratio[2])


@pytest.mark.parametrize("gan", [True, False])
def test_keys_stay_the_same_and_numbers_finite_over_all_epochs(data: ZDCData, gan: bool) -> None:
    training = begin(data, gan=gan)
    before = set(training.validate())
    epochs = []
    while not training.finished:
        epochs.append((training.train_epoch(), training.validate()))
    assert len({(frozenset(trained), frozenset(scores)) for trained, scores in epochs}) == 1
    assert set(epochs[0][1]) == before
    assert before > set(OBJECTIVES)
    assert set(epochs[0][0]) >= (ADVERSARY if gan else set())
    numbers = torch.tensor([number for pair in epochs for part in pair for number in part.values()])
    assert torch.isfinite(numbers).all()


def test_one_batch_and_one_epoch_are_enough(data: ZDCData) -> None:
    training = begin(data, batch_size=100_000, epochs=1, dis_gen_ratio="1:1")
    assert training.train_epoch()["gen_updates"] == 1
    assert training.finished
    assert training.progress == 1


def test_progress_begins_after_the_peak_of_the_cycle(data: ZDCData) -> None:
    training = begin(data, epochs=10, pct_start=0.4)
    progress = []
    for training.epoch in range(11):
        progress.append(training.progress)
    assert progress == pytest.approx([0, 0, 0, 0, 0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])


def test_one_seed_gives_the_same_numbers_and_another_seed_others(data: ZDCData) -> None:
    first, again, other = (
        (training.train_epoch(), training.validate())
        for training in (begin(data, seed=7), begin(data, seed=7), begin(data, seed=8))
    )
    assert first == again
    assert first[1]["bce"] != other[1]["bce"]


def test_training_draws_nothing_from_the_global_random_state(data: ZDCData) -> None:
    before = torch.random.get_rng_state()
    training = begin(data)
    training.train_epoch()
    training.validate()
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("gan", [True, False])
def test_resuming_from_a_checkpoint_changes_nothing(data: ZDCData, gan: bool) -> None:
    whole = begin(data, gan=gan)
    whole.train_epoch()
    file = io.BytesIO()
    torch.save(whole.state(), file)
    file.seek(0)
    resumed = begin(data, gan=gan, seed=99)  # even the seed comes from the checkpoint
    resumed.load_state(torch.load(file, weights_only=True))
    while not whole.finished:
        assert whole.train_epoch() == resumed.train_epoch()
        assert whole.validate() == resumed.validate()
    assert flat(whole.state()) == flat(resumed.state())
    assert len(resumed.history.points["step"]) == len(whole.history.points["step"])


def test_a_state_is_a_snapshot(data: ZDCData) -> None:
    training = begin(data)
    training.train_epoch()
    state = training.state()
    kept = flat(state)
    training.train_epoch()
    assert flat(state) == kept
    loaded = begin(data)
    loaded.load_state(state)
    loaded.train_epoch()
    assert flat(state) == kept


def test_a_checkpoint_of_an_earlier_version_has_no_excess_by_epoch(data: ZDCData) -> None:
    donor, heir = begin(data), begin(data)
    donor.train_epoch()
    donor.validate()
    state = donor.state()
    assert list(state.pop("excess_by_epoch")) == [1]
    heir.load_state(state)
    heir.train_epoch()
    heir.validate()
    assert list(heir.excess_by_epoch) == [2]


def test_after_loading_the_own_mutable_hyperparameters_act(data: ZDCData) -> None:
    donor = begin(data)
    donor.train_epoch()
    heir = begin(data, max_lr_gen=2e-4, max_lr_dis=4e-4, adversarial_weight=0.5)
    heir.load_state(donor.state())
    donor_numbers, numbers = donor.train_epoch(), heir.train_epoch()
    assert numbers["lr_gen"] / donor_numbers["lr_gen"] == pytest.approx(2e-4 / 9e-4)
    assert numbers["lr_dis"] / donor_numbers["lr_dis"] == pytest.approx(4e-4 / 1e-3)
    assert numbers["loss_gen"] == pytest.approx(
        numbers["loss_regression"] + 0.5 * numbers["loss_adversarial"], rel=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"hidden_dim": 8},
        {"batch_size": 32},
        {"epochs": 3},
        {"seed": 1},
        {"gan": False},
        {"dis_gen_ratio": "2:1"},
        {"max_lr_gen": 1e-3},
        {"max_lr_dis": 2e-3},
        {"pct_start": 0.6},
        {"noise_shape": "cosine"},
        {"noise_shape": "constant"},
        {"noise_start": 0.5},
        {"noise_end": 1.3},
        {"adversarial_weight": 0.1},
        {"normalise": False},
        {"smoothing": 0.0},
        {"gradient_clip_norm": 0.01},
    ],
    ids=lambda change: "-".join(f"{key}={value}" for key, value in change.items()),
)
def test_every_hyperparameter_changes_what_is_trained(data: ZDCData, change: dict[str, Any]) -> None:
    plain, changed = begin(data), begin(data, **change)
    for training in (plain, changed):
        training.train_epoch()
        training.train_epoch()
    assert flat(plain.weights()) != flat(changed.weights())


def test_bf16_is_refused_without_cuda(data: ZDCData) -> None:
    with pytest.raises(ValueError, match=r"bf16 is for CUDA devices, this run is on cpu"):
        begin(data, precision="bf16")


@pytest.mark.parametrize(
    "change",
    [
        {"dis_gen_ratio": "0:1"},
        {"dis_gen_ratio": "1"},
        {"hidden_dim": 6},
        {"smoothing": 0.5},
        {"max_lr": 1e-3},
    ],
)
def test_nonsense_is_refused_before_the_first_batch(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ZDCConfig(**change)


def test_too_narrow_bins_are_refused_before_the_first_batch(data: ZDCData) -> None:
    narrow = ZDCData(data.train, data.validation, Binning(bin_width_mev=1.0), "narrow", ())
    with pytest.raises(DataError, match="bin-width-mev"):
        ZDCTraining(ZDCConfig(**SMALL), narrow, CPU)


@pytest.mark.parametrize("network", ["gen", "dis"])
def test_what_is_not_finite_is_refused_before_it_reaches_the_weights(data: ZDCData, network: str) -> None:
    training = begin(data)
    training.train_epoch()
    updates = getattr(training, network)
    make = updates.make

    def poisoned(loss: torch.Tensor) -> None:
        make(loss * torch.nan if updates.made == training.iterations + 2 else loss)

    updates.make = poisoned
    with pytest.raises(TrainingDiverged) as caught:
        training.train_epoch()
    assert caught.value.reason == "not_finite"
    assert caught.value.epoch == 2
    assert caught.value.evidence[f"update_{network}"] == training.iterations + 3
    assert training.epoch == 1
    assert all(torch.isfinite(weight).all() for weight in updates.network.state_dict().values())


def test_a_discriminator_that_has_won_ends_the_run(data: ZDCData, monkeypatch: pytest.MonkeyPatch) -> None:
    rising = iter(range(1, 10_000))
    monkeypatch.setattr(train_module, "discriminator_accuracy", lambda *_: torch.tensor(0.999))
    monkeypatch.setattr(
        train_module, "adversarial_loss", lambda fake: 0 * fake.sum() + torch.tensor(next(rising) / 100)
    )
    training = begin(data, epochs=9)
    for _epoch in (1, 2, 3):
        training.train_epoch()
    with pytest.raises(TrainingDiverged) as caught:
        training.train_epoch()
    assert (caught.value.reason, caught.value.epoch) == ("discriminator_won", 4)
    assert caught.value.evidence["discriminator_accuracy"] == pytest.approx(0.999)


def test_an_accurate_discriminator_alone_ends_nothing(data: ZDCData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_module, "discriminator_accuracy", lambda *_: torch.tensor(0.999))
    monkeypatch.setattr(train_module, "adversarial_loss", lambda fake: 0 * fake.sum() + 5)
    training = begin(data, epochs=6)
    while not training.finished:
        training.train_epoch()


def test_one_map_for_all_events_ends_the_run_once_it_may_be_judged(data: ZDCData) -> None:
    training = begin(data)
    torch.nn.init.zeros_(training.generator.head.weight)
    training.validate()  # before the peak of the cycle nothing is judged
    training.epoch = 3
    with pytest.raises(TrainingDiverged) as caught:
        training.validate()
    assert (caught.value.reason, caught.value.epoch) == ("constant_mask", 3)


def test_weights_are_copies_with_the_normalisation(data: ZDCData) -> None:
    training = begin(data)
    weights = training.weights()
    training.train_epoch()
    assert "normalisation.offset_6" in weights
    assert not torch.equal(weights["head.weight"], training.weights()["head.weight"])
    assert not any(tensor.requires_grad for tensor in weights.values())


@pytest.mark.slow
def test_it_trains_where_no_search_library_is_installed() -> None:
    program = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ray", "mlflow", "optuna"):
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Blocker())
import torch
from trainables.zdc import plots, report
from trainables.zdc.config import ZDCConfig
from trainables.zdc.simulate import simulate_data
from trainables.zdc.train import ZDCTraining

torch.set_num_threads(1)
training = ZDCTraining(ZDCConfig(epochs=1, hidden_dim=4), simulate_data(300, 0), torch.device("cpu"))
while not training.finished:
    print(training.train_epoch() | training.validate())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mse_high" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("gan", [True, False])
def test_a_short_run_beats_both_naive_predictors(gan: bool) -> None:
    data = simulate_data(5000, 5)
    training = begin(data, gan=gan, hidden_dim=8, batch_size=64, epochs=4, max_lr_gen=3e-3)
    while not training.finished:
        training.train_epoch()
    scores = training.validate()
    for naive in naive_predictors(data).values():
        assert scores["brier"] < 0.85 * naive["brier"]
        assert scores["bce"] < 0.85 * naive["bce"]
