"""The base class of a user's PyTorch model: the laws of a run hold, whatever the user's code draws or keeps."""

from __future__ import annotations

import copy
import math
import random
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from trainables.base.curve_report import CurveReport
from trainables.base.errors import DataError, TrainingDiverged
from trainables.base.named_arrays import accepted_names
from trainables.base.plain_state import plain_copy, same_value
from trainables.base.torch_training import TorchTraining
from trainables.base.training import TrainingConfig

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
bce = nn.functional.binary_cross_entropy_with_logits


class Config(TrainingConfig):
    epochs: int = 4
    batch_size: int = 32
    lr: float = 1e-2
    weight_decay: float = 0.0
    width: int = 8


def arrays(events: int, seed: int) -> dict[str, np.ndarray]:
    x = np.random.default_rng(seed).normal(size=(events, 4)).astype("f4")
    return {"x": x, "y": (x[:, 0] * x[:, 1] > 0).astype("f4"), "run": np.full(events, "a")}


DATA = SimpleNamespace(train=arrays(210, 1), validation=arrays(90, 2), fingerprint="f", summary=(), holdout=None)


class Plain(TorchTraining):
    """Dropout, batch normalisation, and draws from every global generator."""

    def build(self) -> Any:
        width = self.config.width
        net = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 1))
        return net, self.optimizer_of(net)

    def optimizer_of(self, net: nn.Module) -> Any:
        return torch.optim.AdamW(net.parameters(), self.config.lr, weight_decay=self.config.weight_decay)

    def loss(self, x: Tensor, y: Tensor) -> Any:
        noise = torch.from_numpy(np.random.normal(size=x.shape).astype("f4")) * random.random() * 0.1  # noqa: NPY002
        return bce(self.network(x + noise)[:, 0], y)

    def score(self, x: np.ndarray, y: np.ndarray) -> Any:
        logit = self.predict(x)[:, 0]
        spread = np.random.normal() * 1e-9  # noqa: NPY002
        return {
            "accuracy": np.mean((logit > 0) == y),
            "bce": bce(torch.from_numpy(logit), torch.from_numpy(y)) + spread,
        }


class EveryEpoch(Plain):
    def build(self) -> Any:
        net, optimizer = super().build()
        return net, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.config.epochs)


class EveryUpdate(Plain):
    schedule_per = "update"

    def build(self) -> Any:
        net, optimizer = super().build()
        total = self.config.epochs * self.updates_per_epoch
        return net, optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, self.config.lr, total)


class Plateau(Plain):
    schedule_on = "bce"

    def build(self) -> Any:
        net, optimizer = super().build()
        return net, optimizer, [torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)]


class Momentum(Plain):
    """Its rate is lowered by the user's own code."""

    def optimizer_of(self, net: nn.Module) -> Any:
        return torch.optim.SGD(net.parameters(), self.config.lr, momentum=0.9, weight_decay=self.config.weight_decay)

    def train_batch(self, batch: Any) -> Any:
        loss = self.loss(batch["x"], batch["y"])
        self.update(loss)
        self.optimizers["optimizer"].param_groups[0]["lr"] *= 0.98
        return loss


class Gan(TorchTraining):
    """Two networks with an optimizer each, noise, and a running mean of the user's own."""

    seen = 0.0

    def build(self) -> Any:
        generator = nn.Sequential(nn.Linear(2, self.config.width), nn.Tanh(), nn.Linear(self.config.width, 4))
        critic = nn.Sequential(nn.Linear(4, self.config.width), nn.Dropout(0.1), nn.Linear(self.config.width, 1))
        adam = torch.optim.Adam
        return (
            {"generator": generator, "critic": critic},
            {
                "generator": adam(generator.parameters(), self.config.lr, betas=(0.5, 0.9)),
                "critic": adam(critic.parameters(), 2 * self.config.lr),
            },
        )

    def forward(self, events: Tensor) -> Any:
        return {"fake": self.network["generator"](torch.randn(len(events), 2)), "row": (events, events[:, 0])}

    def train_batch(self, batch: Any) -> Any:
        x = batch["x"]
        fake = self.network["generator"](torch.randn(len(x), 2))
        logits = self.network["critic"](torch.cat((x, fake.detach())))[:, 0]
        truth = torch.cat((torch.ones(len(x)), torch.zeros(len(x))))
        critic = bce(logits, truth)
        self.update(critic, "critic")
        generator = bce(self.network["critic"](fake)[:, 0], torch.ones(len(x)))
        self.update(generator, "generator")
        self.seen = 0.9 * self.seen + generator.item()
        return {"generator": generator, "critic": critic, "seen": self.seen}

    def score(self, x: np.ndarray) -> Any:
        return {"distance": abs(self.predict(x)["fake"].mean() - x.mean())}

    def extra_state(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


class Noisy(Dataset):  # type: ignore[type-arg]
    """Draws from every global generator, in whichever process reads it."""

    def __init__(self, part: Any) -> None:
        self.part = part

    def __len__(self) -> int:
        return len(self.part["x"])

    def __getitem__(self, place: int) -> Any:
        noise = random.random() + np.random.random() + torch.rand(1).item()  # noqa: NPY002
        return {"in": torch.from_numpy(self.part["x"][place]) + 0.01 * noise, "truth": self.part["y"][place]}


class Loaders(Plain):
    """The loader stays, with a generator of its own and two workers that would outlive an epoch."""

    workers = 0
    loader: Any = None

    def loaders(self) -> Any:
        if self.loader is None:
            self.loader = DataLoader(
                Noisy(self.data.train),
                self.config.batch_size,
                shuffle=True,
                num_workers=self.workers,
                persistent_workers=self.workers > 0,
                generator=torch.Generator().manual_seed(1),
            )
        return self.loader, DataLoader(Noisy(self.data.validation), 50)

    def loss(self, batch: Any) -> Any:  # type: ignore[override]
        return {"loss": super().loss(batch["in"], batch["truth"]), "size": len(batch["in"])}

    def score(self, batches: Any) -> Any:  # type: ignore[override]
        return {"bce": np.mean([bce(self.network(batch["in"])[:, 0], batch["truth"]) for batch in batches])}


class Workers(Loaders):
    workers = 2


KINDS = [Plain, EveryEpoch, EveryUpdate, Plateau, Momentum, Gan, Loaders]
every_kind = pytest.mark.parametrize("kind", KINDS)


def start(kind: type[TorchTraining], **hyperparameters: Any) -> Any:
    return kind(Config(**hyperparameters), DATA, CPU)


def epochs(training: TorchTraining, count: int) -> list[dict[str, float]]:
    return [training.train_epoch() | training.validate() for _ in range(count)]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return same_value(one, other)


def stored(state: Any, tmp_path: Path) -> Any:
    """As a checkpoint holds it."""
    torch.save(state, tmp_path / "state.pt")
    return torch.load(tmp_path / "state.pt", weights_only=True)


# ---------------------------------------------------------------- resume


@pytest.mark.parametrize("kind", [*KINDS, Workers])
def test_a_resumed_run_goes_on_bit_for_bit(kind: type[TorchTraining], tmp_path: Path) -> None:
    whole, first = start(kind), start(kind)
    expected = epochs(whole, 4)
    assert epochs(first, 2) == expected[:2]
    second = start(kind)
    second.load_state(stored(first.state(), tmp_path))
    assert same(second.state(), first.state())
    assert epochs(second, 2) == expected[2:]
    assert same(second.state(), whole.state())
    assert same(second.weights(), whole.weights())
    assert second.finished


@every_kind
def test_a_run_that_was_used_takes_over_a_state_too(kind: type[TorchTraining]) -> None:
    donor, used, fresh = start(kind), start(kind), start(kind)
    epochs(donor, 1)
    epochs(used, 3)
    for heir in (used, fresh):
        heir.load_state(donor.state())
    assert epochs(used, 1) == epochs(fresh, 1)
    assert same(used.state(), fresh.state())


@every_kind
def test_a_state_is_a_copy(kind: type[TorchTraining]) -> None:
    training = start(kind)
    epochs(training, 1)
    state, weights = training.state(), training.weights()
    kept, kept_weights = copy.deepcopy(state), copy.deepcopy(weights)
    epochs(training, 1)
    assert not same(training.weights(), weights)
    assert same(state, kept)
    assert same(weights, kept_weights)
    training.load_state(state)
    epochs(training, 1)
    assert same(state, kept)


@every_kind
def test_a_seed_determines_a_run_and_another_another(kind: type[TorchTraining]) -> None:
    one, again, other = start(kind), start(kind), start(kind, seed=1)
    assert not same(one.weights(), other.weights())
    np.random.seed(5)  # noqa: NPY002 - whatever the caller drew before
    assert epochs(one, 2) == epochs(again, 2)
    assert not same(epochs(other, 2), one.history)


def generators() -> tuple[Any, ...]:
    legacy = np.random.get_state()  # noqa: NPY002
    return random.getstate(), legacy[1].tolist(), legacy[2:], torch.get_rng_state().tolist()


@every_kind
def test_the_callers_generators_stay_as_they_were(kind: type[TorchTraining], tmp_path: Path) -> None:
    random.seed(1)
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(3)
    before = generators()
    training = start(kind)
    epochs(training, 1)
    training.load_state(training.state())
    training.predict(DATA.validation["x"])
    training.write_report(tmp_path)
    assert generators() == before


def test_they_stay_so_where_an_epoch_fails() -> None:
    training = start(Broken)
    before = generators()
    with pytest.raises(TrainingDiverged):
        training.train_epoch()
    assert generators() == before


# ---------------------------------------------------------------- rates


@pytest.mark.parametrize("kind", [Plain, EveryEpoch, EveryUpdate, Plateau, Momentum, Loaders])
@pytest.mark.parametrize("key", ["lr", "weight_decay"])
def test_a_rate_that_may_change_keeps_this_runs_own_value(kind: type[TorchTraining], key: str) -> None:
    donor, same_rates, heir = start(kind), start(kind), start(kind, **{key: 0.05})
    epochs(donor, 2)
    same_rates.load_state(donor.state())
    heir.load_state(donor.state())
    assert same(heir.weights(), donor.weights())
    group = heir.optimizers["optimizer"].param_groups[0]
    if key == "weight_decay" or kind is Plain:
        assert group[key] == 0.05
    else:
        assert group[key] > 2 * same_rates.optimizers["optimizer"].param_groups[0][key]
    epochs(heir, 1)
    epochs(same_rates, 1)
    assert not same(heir.weights(), same_rates.weights())


@pytest.mark.parametrize("kind", [EveryEpoch, EveryUpdate])
def test_a_schedule_of_another_rate_goes_on_from_its_place(kind: type[TorchTraining]) -> None:
    donor, heir, whole = start(kind), start(kind, lr=0.05), start(kind, lr=0.05)
    epochs(donor, 2)
    heir.load_state(donor.state())
    expected = [epoch["lr"] for epoch in epochs(whole, 4)]
    assert [epoch["lr"] for epoch in epochs(heir, 2)] == expected[2:]
    assert len(set(expected)) > 2


def test_momenta_are_taken_over() -> None:
    donor, heir = start(Momentum), start(Momentum, lr=0.05)
    epochs(donor, 1)
    heir.load_state(donor.state())
    (momenta, ours) = (one.optimizers["optimizer"].state_dict()["state"] for one in (donor, heir))
    assert len(momenta) == 6
    assert same(plain_copy(momenta), plain_copy(ours))


def test_the_plateau_watches_a_score_and_lowers_the_rate() -> None:
    rates = [epoch["lr"] for epoch in epochs(start(Plateau), 4)]
    assert rates[0] == 1e-2
    assert rates[-1] < 1e-2


# ---------------------------------------------------------------- numbers that are not finite


class Broken(Plain):
    """Its loss is not finite in the third update, or one of its gradients is not."""

    how, count, before = "loss", 0, None

    def loss(self, x: Tensor, y: Tensor) -> Any:
        self.count += 1
        if self.count < 3:
            return super().loss(x, y)
        self.before = [parameter.detach().clone() for parameter in self.network.parameters()]
        loss = super().loss(x, y)
        return loss / 0 if self.how == "loss" else loss + 0 * torch.sqrt(0 * self.network[0].weight.sum())


class BrokenGradient(Broken):
    how = "gradient"


class BrokenFused(Broken):
    def optimizer_of(self, net: nn.Module) -> Any:
        return torch.optim.AdamW(net.parameters(), self.config.lr, fused=True)


@pytest.mark.parametrize("kind", [Broken, BrokenGradient, BrokenFused])
def test_an_update_that_is_not_finite_is_refused_and_the_run_has_diverged(kind: type[Broken]) -> None:
    training = start(kind)
    with pytest.raises(TrainingDiverged) as caught:
        training.train_epoch()
    assert (caught.value.reason, caught.value.epoch) == ("not_finite", 1)
    assert caught.value.evidence["update"] == 3
    assert not math.isfinite(caught.value.evidence["loss"] + caught.value.evidence["gradient_norm"])
    assert training.before is not None
    assert all(
        torch.equal(one, other) for one, other in zip(training.before, training.network.parameters(), strict=True)
    )
    with pytest.raises(TrainingDiverged):  # it does not recover
        training.train_epoch()


def test_a_part_of_the_loss_that_is_not_finite_is_evidence_too() -> None:
    class Part(Plain):
        def loss(self, x: Tensor, y: Tensor) -> Any:
            return {"loss": super().loss(x, y), "part": torch.tensor(float("nan"))}

    with pytest.raises(TrainingDiverged, match="train_part = nan"):
        start(Part).train_epoch()


def test_gradients_are_clipped() -> None:
    class Clipped(Momentum):
        clip_norm = 1e-6

        def train_batch(self, batch: Any) -> Any:
            return TorchTraining.train_batch(self, batch)

    training = start(Clipped)
    before = training.weights()
    training.train_epoch()
    moved = max((training.weights()[name] - before[name]).abs().max().item() for name in ("0.weight", "4.weight"))
    assert 0 < moved < 1e-5


# ---------------------------------------------------------------- what the user gives and gets


@every_kind
def test_metrics_are_floats_with_loss_rate_and_scores(kind: type[TorchTraining]) -> None:
    training = start(kind)
    (metrics,) = epochs(training, 1)
    assert all(type(value) is float and math.isfinite(value) for value in metrics.values())
    rates = {"lr_generator", "lr_critic"} if kind is Gan else {"lr"}
    losses = {"train_generator", "train_critic", "train_seen"} if kind is Gan else {"train_loss"}
    assert rates | losses <= metrics.keys()
    assert training.validate() == training.validate()
    assert training.history == [{"epoch": 1.0, **metrics}]


def test_parts_of_a_loss_are_recorded() -> None:
    (metrics,) = epochs(start(Loaders), 1)
    assert metrics["train_size"] == pytest.approx(210 / 7)  # six batches of 32 and one of 18


def test_predict_changes_nothing_and_gives_arrays() -> None:
    training = start(Plain)
    epochs(training, 1)
    modes = [module.training for module in training.network.modules()]
    state = training.state()
    whole = training.predict(DATA.validation["x"])
    training.predict_batch = 7
    parts = training.predict(torch.from_numpy(DATA.validation["x"]))
    assert isinstance(whole, np.ndarray)
    assert whole.shape == (90, 1)
    np.testing.assert_allclose(parts, whole, rtol=1e-5)
    assert training.predict(DATA.validation["x"].astype("f8")).dtype == np.float32
    assert training.predict(np.empty((0, 4))).shape == (0, 1)
    assert [module.training for module in training.network.modules()] == modes
    assert same(training.state(), state)


def test_a_forward_that_works_in_place_leaves_the_callers_array() -> None:
    class InPlace(Plain):
        def forward(self, x: Tensor) -> Any:
            return self.network(x.mul_(0))

    x = DATA.validation["x"].copy()
    x.flags.writeable = False  # as in Ray's shared memory
    start(InPlace).predict(x)
    np.testing.assert_array_equal(x, DATA.validation["x"])


def test_training_a_batch_may_be_wrapped() -> None:
    class Wrapped(Plain):
        batches = 0

        def train_batch(self, batch: Any) -> Any:
            self.batches += 1
            return super().train_batch(batch)

    training = start(Wrapped)
    assert epochs(training, 2) == epochs(start(Plain), 2)
    assert training.batches == 2 * training.updates_per_epoch


def test_dicts_and_tuples_are_predicted_as_such() -> None:
    training = start(Gan)
    training.predict_batch = 40
    predicted = training.predict(DATA.validation["x"])
    assert predicted["fake"].shape == (90, 4)
    np.testing.assert_array_equal(predicted["row"][0], DATA.validation["x"])
    assert predicted["row"][1].shape == (90,)
    np.testing.assert_array_equal(training.predict(DATA.validation["x"])["fake"], predicted["fake"])


def test_modules_that_the_user_froze_stay_frozen() -> None:
    class Frozen(Plain):
        def build(self) -> Any:
            net, optimizer = super().build()
            net[1].eval()
            return net, optimizer

    training = start(Frozen)
    before = training.weights()["1.running_mean"]
    epochs(training, 1)
    assert torch.equal(training.weights()["1.running_mean"], before)


@pytest.mark.parametrize("kind", [Plain, Loaders])
def test_each_epoch_has_an_order_of_its_own_and_repeats_no_event(kind: type[TorchTraining]) -> None:
    seen: list[list[float]] = []

    class Watched(kind):  # type: ignore[misc, valid-type]
        def loss(self, *batch: Any, **named: Any) -> Any:
            x = named["x"] if named else batch[0]["truth"]
            seen[-1].extend(x.flatten().tolist())
            return super().loss(*batch, **{name: named[name] for name in named if name in ("x", "y")})

    training = start(Watched)
    for _ in range(3):
        seen.append([])
        training.train_epoch()
    assert seen[0] != seen[1] != seen[2] != seen[0]
    if kind is Plain:
        assert all(len(set(epoch)) == len(epoch) == 4 * 32 * 6 for epoch in seen)


def test_a_batch_is_cut_to_the_sample_and_arrays_to_what_is_asked_for() -> None:
    (metrics,) = epochs(start(Plain, batch_size=100_000), 1)
    assert math.isfinite(metrics["train_loss"])


def test_arrays_of_any_number_type_reach_the_network() -> None:
    train = {name: array.astype(">f8") for name, array in DATA.train.items() if name != "run"}
    training = Plain(Config(), SimpleNamespace(train=train, validation=DATA.validation), CPU)
    assert epochs(training, 2) == epochs(start(Plain), 2)


def test_bf16_is_used_where_it_is_asked_for() -> None:
    class Half(Plain):
        precision = "bf16"

        def loss(self, x: Tensor, y: Tensor) -> Any:
            assert self.network(x).dtype == torch.bfloat16
            return super().loss(x, y)

    training = start(Half)
    epochs(training, 1)
    assert training.predict(DATA.validation["x"]).dtype == np.float32
    assert all(weight.dtype in (torch.float32, torch.int64) for weight in training.weights().values())

    class Asks(Config):
        precision: str = "bf16"

    epochs(Half(Asks(), DATA, CPU), 1)
    with pytest.raises(ValueError, match="fp16"):
        Plain(Asks(precision="fp16"), DATA, CPU)


def test_the_report_shows_all_epochs_of_a_resumed_run(tmp_path: Path) -> None:
    from trainables.evaluation.tables import read_columns

    first, second = start(EveryEpoch), start(EveryEpoch)
    epochs(first, 2)
    second.load_state(stored(first.state(), tmp_path))
    epochs(second, 2)
    second.write_report(tmp_path)
    assert (tmp_path / "curves.png").stat().st_size > 5_000
    columns = read_columns(tmp_path / "curves.csv")
    assert columns["epoch"].tolist() == [1, 2, 3, 4]
    assert {"train_loss", "lr", "accuracy", "bce"} <= columns.keys()


# ---------------------------------------------------------------- models from weights


class Shaped(Plain):
    """Takes its size from the data, and its normalisation too."""

    def build(self) -> Any:
        net = Normed(self.shapes["x"][0])
        return net, self.optimizer_of(net)

    def prepare(self) -> None:
        self.network.mean.copy_(torch.from_numpy(self.data.train["x"].mean(0)))


class Normed(nn.Module):
    mean: Tensor

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.net = nn.Linear(inputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.net(x - self.mean)
        return found


@pytest.mark.parametrize("kind", [Plain, EveryUpdate, Gan, Shaped, Loaders])
def test_a_model_is_made_again_from_its_weights_without_data(kind: type[TorchTraining], tmp_path: Path) -> None:
    training = start(kind)
    epochs(training, 2)
    model = kind.from_weights(training.config, stored(training.weights(), tmp_path), "cpu")
    x = DATA.validation["x"]
    assert same(plain_copy(model.predict(x)), plain_copy(training.predict(x)))
    assert same(model.weights(), training.weights())
    if kind in (Plain, EveryUpdate, Shaped):
        scores = model.score(x, DATA.validation["y"])
        assert scores["accuracy"] == training.validate()["accuracy"]
    with pytest.raises((RuntimeError, DataError), match=r"self\.data|hold no event"):
        model.train_epoch()


def test_several_networks_have_their_names_before_their_weights() -> None:
    weights = start(Gan).weights()
    assert {name.partition(".")[0] for name in weights} == {"generator", "critic"}
    assert start(Plain).weights().keys() == start(Plain).network.state_dict().keys()


def test_building_from_data_is_refused_at_once() -> None:
    class Reads(Plain):
        def build(self) -> Any:
            self.config_width = self.data.train["x"].shape[1]
            return super().build()

    with pytest.raises(RuntimeError, match=r"self\.shapes.*prepare"):
        start(Reads)


def use_all(kind: type[TorchTraining]) -> None:
    training = start(kind)
    epochs(training, 1)
    training.state()


def test_a_user_who_returns_something_else_is_told_so() -> None:
    class Alone(Plain):
        def build(self) -> Any:
            return super().build()[0]

    class Swapped(Plain):
        def build(self) -> Any:
            return super().build()[::-1]

    class Outside(Plain):
        def build(self) -> Any:
            net, _ = super().build()
            return net, torch.optim.Adam([*net.parameters(), nn.Parameter(torch.zeros(1))])

    class Unreduced(Plain):
        def loss(self, x: Tensor, y: Tensor) -> Any:
            return bce(self.network(x)[:, 0], y, reduction="none")

    class Misnamed(Plain):
        def loss(self, xx: Tensor, y: Tensor) -> Any:  # type: ignore[override]
            return super().loss(xx, y)

    class Strings(Plain):
        def loss(self, x: Tensor, y: Tensor, run: Tensor) -> Any:  # type: ignore[override]
            return super().loss(x, y)

    class Scores(Plain):
        def score(self, x: np.ndarray, y: np.ndarray) -> Any:
            return {"curve": x[:, 0]}

    class Nothing(TorchTraining):
        def build(self) -> Any:
            return Plain.build(self)  # type: ignore[arg-type]

        optimizer_of = Plain.optimizer_of

    class Object(Gan):
        def extra_state(self) -> Any:
            return {"seen": object()}

    wrong: dict[type[TorchTraining], tuple[type[Exception], str]] = {
        Alone: (TypeError, r"\(network, optimizer\)"),
        Swapped: (TypeError, "not a torch.nn.Module"),
        Outside: (ValueError, "1 parameters of optimizer belong to no network"),
        Unreduced: (ValueError, r"shape \(32,\)"),
        Misnamed: (TypeError, "'xx'.* x, y, run: did you mean 'x'"),
        Strings: (DataError, "array 'run' is of type <U1"),
        Scores: (TypeError, "'curve'"),
        Nothing: (NotImplementedError, "neither loss"),
        Object: (TypeError, "state.extra.seen is a builtins.object"),
    }
    for kind, (error, words) in wrong.items():
        with pytest.raises(error, match=words):
            use_all(kind)


def test_arrays_without_events_or_of_unequal_length_are_data_errors() -> None:
    for train, words in (({}, "no array"), (arrays(0, 1), "no event"), ({**DATA.train, "y": np.ones(3)}, "differ")):
        with pytest.raises(DataError, match=words):
            Plain(Config(), SimpleNamespace(train=train, validation=DATA.validation), CPU).train_epoch()


def test_a_function_takes_what_it_names_or_everything() -> None:
    assert accepted_names(lambda x, y=None: None, ["y", "x", "z"]) == ["x", "y"]
    assert accepted_names(lambda x, **others: None, ["y", "x", "z"]) == ["y", "x", "z"]


# ---------------------------------------------------------------- from a user's own script


@pytest.mark.slow
def test_a_model_defined_in_a_script_trains_in_another_process(tmp_path: Path) -> None:
    """As Ray sends it: its class and its configuration travel by value."""
    script = tmp_path / "mine.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            import numpy as np
            import ray.cloudpickle as cloudpickle
            import torch
            from torch import nn
            from trainables.base.torch_training import TorchTraining
            from trainables.base.training import TrainingConfig

            class Config(TrainingConfig):
                lr: float = 1e-3

            class Mine(TorchTraining):
                def build(self):
                    net = nn.Linear(2, 1)
                    return net, torch.optim.Adam(net.parameters(), self.config.lr)

                def loss(self, x, y):
                    return (self.network(x)[:, 0] - y).square().mean()

                def score(self, x, y):
                    return {"mse": np.square(self.predict(x)[:, 0] - y).mean()}

            x = np.random.default_rng(1).normal(size=(64, 2)).astype("f4")
            part = {"x": x, "y": x[:, 0]}
            with open(sys.argv[1], "wb") as file:
                cloudpickle.dump((Mine, Config(epochs=2, batch_size=8), part), file)
            """
        )
    )
    reader = """
import pickle, sys, types, torch
kind, config, part = pickle.load(open(sys.argv[1], "rb"))
training = kind(config, types.SimpleNamespace(train=part, validation=part), torch.device("cpu"))
while not training.finished:
    metrics = training.train_epoch() | training.validate()
again = kind(type(config)(**config.model_dump()), training.data, torch.device("cpu"))
again.load_state(training.state())
assert again.validate()["mse"] == metrics["mse"]
try:
    type(config)(lrr=1)
except ValueError as error:
    assert "Extra inputs" in str(error)
    print("trained", round(metrics["mse"], 3))
"""
    packed = tmp_path / "packed.pkl"
    for command in ([str(script), str(packed)], ["-c", reader, str(packed)]):
        ended = subprocess.run(
            [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
        )
        assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("trained")


# ---------------------------------------------------------------- the report, part of it elsewhere


def test_the_figure_is_drawn_from_the_table_alone(tmp_path: Path) -> None:
    training = CurveReport()
    training.history = [{"epoch": 1.0, "train_loss": 0.7, "auc": 0.5}, {"epoch": 2.0, "train_loss": 0.6, "lr": 0.1}]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    training.write_report(whole)
    training.write_tables(parts)
    assert not (parts / "curves.png").exists(), "a trial waits for no figure"
    CurveReport.draw_report(parts)
    assert (parts / "curves.png").read_bytes() == (whole / "curves.png").read_bytes()
    assert {file.name for file in whole.iterdir()} == {"curves.csv", "curves.png"}


def test_a_report_of_the_users_own_is_written_where_the_model_is(tmp_path: Path) -> None:
    class WithWeights(CurveReport):
        history = ({"epoch": 1.0, "train_loss": 0.7},)

        def write_report(self, folder: Path) -> None:
            super().write_report(folder)
            (folder / "weights.txt").write_text("3.5")

    WithWeights().write_tables(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"curves.csv", "curves.png", "weights.txt"}
