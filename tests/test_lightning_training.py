"""A user's LightningModule as a training run: one epoch a step, resumed bit for bit, its callbacks left alone."""

from __future__ import annotations

import copy
import math
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, random_split

from trainables.base.errors import TrainingDiverged
from trainables.base.lightning_training import LightningRun, LightningTraining
from trainables.base.plain_state import same_value
from trainables.base.random_state import own_random
from trainables.base.training import TrainingConfig

L = pytest.importorskip("lightning.pytorch", reason="the extra 'lightning' is not installed")

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
bce = nn.functional.binary_cross_entropy_with_logits


class Config(TrainingConfig):
    epochs: int = 4
    batch_size: int = 32
    lr: float = 1e-2
    width: int = 8


def arrays(events: int, seed: int) -> dict[str, np.ndarray]:
    x = np.random.default_rng(seed).normal(size=(events, 4)).astype("f4")
    return {"x": x, "y": (x[:, 0] * x[:, 1] > 0).astype("f4")}


DATA = SimpleNamespace(train=arrays(210, 1), validation=arrays(90, 2))


class LitJet(L.LightningModule):  # type: ignore[misc, name-defined]
    """Dropout, batch normalisation, and a schedule over the whole run."""

    def __init__(self, lr: float, width: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 1)
        )

    def forward(self, x: Tensor) -> Any:
        return self.net(x)

    def training_step(self, batch: Any, place: int) -> Any:
        noise = float(np.random.normal()) * random.random() * 0.01  # noqa: NPY002
        loss = bce(self.net(batch["x"] + noise)[:, 0], batch["y"])
        self.log("train_loss", loss, on_epoch=True, on_step=False)
        return loss

    def validation_step(self, batch: Any, place: int) -> None:
        self.log("val_bce", bce(self.net(batch["x"])[:, 0], batch["y"]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), self.hparams["lr"])
        total = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.hparams["lr"], int(total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Constant(LitJet):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), self.hparams["lr"], momentum=0.9)


class Cosine(LitJet):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), self.hparams["lr"])
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_epochs)]


class Plateau(LitJet):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), self.hparams["lr"])
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val_bce"}}


class Adversaries(LitJet):
    """Two optimizers, stepped by hand."""

    def __init__(self, lr: float, width: int) -> None:
        super().__init__(lr, width)
        self.automatic_optimization = False
        self.critic = nn.Linear(1, 1)

    def training_step(self, batch: Any, place: int) -> Any:
        first, second = self.optimizers()
        for optimizer in (first, second):
            loss = bce(self.critic(self.net(batch["x"]))[:, 0], batch["y"])
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        self.log("train_loss", loss)

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(part.parameters(), self.hparams["lr"]) for part in (self.net, self.critic)]


class Rows(Dataset):  # type: ignore[type-arg]
    def __init__(self, part: Any) -> None:
        self.part = part

    def __len__(self) -> int:
        return len(self.part["x"])

    def __getitem__(self, place: int) -> Any:
        noise = 0.01 * (random.random() + np.random.random() + torch.rand(1).item())  # noqa: NPY002
        return {"x": torch.from_numpy(self.part["x"][place]) + noise, "y": self.part["y"][place]}


class JetData(L.LightningDataModule):  # type: ignore[misc, name-defined]
    """Splits by chance: the same events stay in the training."""

    workers = 0
    setups = 0

    def __init__(self, train: Any, validation: Any, batch_size: int) -> None:
        super().__init__()
        self.given, self.validation, self.size = train, validation, batch_size

    def setup(self, stage: str) -> None:
        type(self).setups += 1
        self.part, self.rest = random_split(Rows(self.given), [0.86, 0.14])

    def train_dataloader(self) -> Any:
        return DataLoader(
            self.part,
            self.size,
            shuffle=True,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            generator=torch.Generator().manual_seed(1),
        )

    def val_dataloader(self) -> Any:
        return DataLoader(Rows(self.validation), 50)


class WorkerData(JetData):
    workers = 2


class Counter(L.Callback):  # type: ignore[misc, name-defined]
    """A callback with a state of its own."""

    def __init__(self) -> None:
        self.batches = 0

    def on_train_batch_end(self, trainer: Any, module: Any, *rest: Any) -> None:
        self.batches += 1
        module.log("batches", float(self.batches))

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches = state["batches"]


KINDS = {
    module.__name__: LightningTraining(module, JetData) for module in (LitJet, Constant, Cosine, Plateau, Adversaries)
}
KINDS["workers"] = LightningTraining(LitJet, WorkerData)
KINDS["callbacks"] = LightningTraining(LitJet, JetData, trainer={"callbacks": [Counter()], "gradient_clip_val": 0.5})
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def start(kind: type[LightningRun], **hyperparameters: Any) -> LightningRun:
    return kind(Config(**hyperparameters), DATA, CPU)


def epochs(run: LightningRun, count: int) -> list[dict[str, float]]:
    return [run.train_epoch() | run.validate() for _ in range(count)]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return same_value(one, other)


def stored(state: Any, tmp_path: Path) -> Any:
    torch.save(state, tmp_path / "state.pt")
    return torch.load(tmp_path / "state.pt", weights_only=True)


@pytest.fixture(autouse=True)
def _nothing_is_written_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    yield
    assert list((tmp_path / "cwd").iterdir()) == []


# ---------------------------------------------------------------- resume


@every_kind
def test_a_resumed_run_goes_on_bit_for_bit(kind: type[LightningRun], tmp_path: Path) -> None:
    whole, first = start(kind), start(kind)
    expected = epochs(whole, 4)
    assert epochs(first, 2) == expected[:2]
    second = start(kind)
    second.load_state(stored(first.state(), tmp_path))
    assert same(second.state(), first.state())
    assert same(second.weights(), first.weights())
    assert epochs(second, 2) == expected[2:]
    assert same(second.state(), whole.state())
    assert same(second.weights(), whole.weights())
    assert second.finished


class Rates(L.Callback):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        self.seen: list[tuple[int, list[float]]] = []

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        rates = [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers]
        self.seen.append((trainer.global_step, rates))


@pytest.mark.filterwarnings("ignore:.*(does not have many workers|srun|LeafSpec|default to|logging interval)")
@pytest.mark.parametrize("name", ["LitJet", "Constant", "Cosine", "Adversaries"])
def test_epoch_by_epoch_steps_and_rates_are_those_of_one_fit(name: str, tmp_path: Path) -> None:
    """Schedules stretch over the whole run."""
    (ours, alone), module = (Rates(), Rates()), KINDS[name].module_class
    epochs(start(LightningTraining(module, JetData, trainer=lambda config: {"callbacks": [ours]})), 4)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "num_sanity_val_steps": 0}
    trainer = L.Trainer(max_epochs=4, callbacks=[alone], accelerator="cpu", default_root_dir=tmp_path, **quiet)
    with own_random(1, CPU):
        trainer.fit(module(1e-2, 8), datamodule=JetData(DATA.train, DATA.validation, 32))
    assert ours.seen == alone.seen
    assert len(ours.seen) == 4


@every_kind
def test_a_state_is_a_copy(kind: type[LightningRun]) -> None:
    run = start(kind)
    epochs(run, 1)
    state, weights = run.state(), run.weights()
    kept, kept_weights = copy.deepcopy(state), copy.deepcopy(weights)
    epochs(run, 1)
    assert not same(run.weights(), weights)
    run.load_state(state)
    epochs(run, 1)
    assert same(state, kept)
    assert same(weights, kept_weights)


@pytest.mark.parametrize("epochs_before", [0, 1])
def test_a_run_that_was_used_takes_over_a_state_too(epochs_before: int) -> None:
    kind = KINDS["callbacks"]
    donor, used, fresh = start(kind), start(kind), start(kind)
    epochs(donor, epochs_before)
    epochs(used, 2)
    for heir in (used, fresh):
        heir.load_state(donor.state())
    assert epochs(used, 1) == epochs(fresh, 1)
    assert same(used.state(), fresh.state())


def test_a_seed_determines_a_run_and_another_another() -> None:
    one, again, other = (start(KINDS["LitJet"], seed=seed) for seed in (0, 0, 1))
    assert not same(one.weights(), other.weights())
    torch.rand(3)
    assert epochs(one, 1) == epochs(again, 1)
    assert epochs(other, 1) != [one.validate()]


def generators() -> tuple[Any, ...]:
    legacy = np.random.get_state()  # noqa: NPY002
    return random.getstate(), legacy[1].tolist(), legacy[2:], torch.get_rng_state().tolist()


@every_kind
def test_the_callers_generators_stay_as_they_were(kind: type[LightningRun], tmp_path: Path) -> None:
    before = generators()
    run = start(kind)
    run.validate()
    epochs(run, 1)
    run.predict(DATA.validation["x"])
    run.write_report(tmp_path)
    assert generators() == before
    assert (tmp_path / "curves.csv").exists()


# ---------------------------------------------------------------- rates


@pytest.mark.parametrize("name", ["LitJet", "Constant", "Cosine", "Plateau"])
def test_a_rate_that_may_change_keeps_this_runs_own_value(name: str) -> None:
    kind = KINDS[name]
    donor, unmoved, heir = start(kind), start(kind), start(kind, lr=0.05)
    epochs(donor, 1)
    unmoved.load_state(donor.state())
    heir.load_state(donor.state())
    assert same(heir.weights(), donor.weights())
    again = start(kind, lr=0.05)
    again.load_state(heir.state())  # before it trains
    (moved,), (plain,), (third,) = epochs(heir, 1), epochs(unmoved, 1), epochs(again, 1)
    assert moved["lr"] == pytest.approx(5 * plain["lr"])
    assert third == moved
    assert not same(heir.weights(), unmoved.weights())
    if name != "Plateau":
        whole = epochs(start(kind, lr=0.05), 2)
        assert moved["lr"] == whole[1]["lr"]


# ---------------------------------------------------------------- what goes wrong


class Broken(Constant):
    before: Any = None

    def training_step(self, batch: Any, place: int) -> Any:
        if place < 2:
            return super().training_step(batch, place)
        type(self).before = {name: one.detach().clone() for name, one in self.named_parameters()}
        return super().training_step(batch, place) / 0


class Ended(L.Callback):  # type: ignore[misc, name-defined]
    seen: Any = None

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        type(self).seen = exception


def test_an_update_that_is_not_finite_is_refused_and_the_run_has_diverged() -> None:
    run = start(LightningTraining(Broken, JetData, trainer={"callbacks": Ended()}))
    before = generators()
    with pytest.raises(TrainingDiverged) as caught:
        run.train_epoch()
    assert (caught.value.reason, caught.value.epoch, caught.value.evidence["update"]) == ("not_finite", 1, 3)
    assert same(Broken.before, {name: run.weights()[name] for name in Broken.before})
    assert generators() == before
    assert Ended.seen is caught.value


class Interrupting(L.Callback):  # type: ignore[misc, name-defined]
    def on_train_batch_end(self, *arguments: Any) -> None:
        raise KeyboardInterrupt


def test_an_interrupt_stays_one_and_further_ones_are_heard() -> None:
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        start(LightningTraining(LitJet, JetData, trainer={"callbacks": Interrupting()})).train_epoch()
    assert signal.getsignal(signal.SIGINT) is handler


def test_what_cannot_be_is_said() -> None:
    class Wider(Config):
        depth: int = 2

    class Keeps(Counter):
        def state_dict(self) -> Any:
            return {"batches": object()}

    with pytest.raises(TypeError, match="depth of Wider: neither LitJet nor JetData"):
        KINDS["LitJet"](Wider(), DATA, CPU)
    with pytest.raises(TypeError, match="'max_epochs' is set by the platform: use epochs"):
        start(LightningTraining(LitJet, JetData, trainer={"max_epochs": 3}))
    with pytest.raises(TypeError, match="none"):
        LightningTraining(nn.Linear, JetData)
    with pytest.raises(TypeError, match=r"checkpoint\.callbacks.*builtins\.object"):
        start(LightningTraining(LitJet, JetData, trainer={"callbacks": [Keeps()]})).train_epoch()


# ---------------------------------------------------------------- the user's own


def test_early_stopping_of_the_user_ends_the_run(tmp_path: Path) -> None:
    stopping = L.callbacks.EarlyStopping("val_bce", patience=1, min_delta=10.0)
    run = start(LightningTraining(LitJet, JetData, trainer={"callbacks": [stopping]}), epochs=9)
    epochs(run, 1)
    assert not run.finished
    again = start(LightningTraining(LitJet, JetData, trainer={"callbacks": [stopping]}), epochs=9)
    again.load_state(stored(run.state(), tmp_path))
    for one in (run, again):
        epochs(one, 1)
        assert one.finished
        assert one.progress == 1.0
    assert again.epoch == 2


def test_loggers_and_checkpoints_of_the_user_write_where_they_say(tmp_path: Path) -> None:
    def arguments(config: Config) -> dict[str, Any]:
        logger = L.loggers.CSVLogger(tmp_path / "mine", name="csv", version=f"lr{config.lr}")
        keep = L.callbacks.ModelCheckpoint(tmp_path / "kept", monitor="val_bce", save_last=True)
        return {"logger": logger, "callbacks": [keep]}

    epochs(start(LightningTraining(LitJet, JetData, trainer=arguments)), 2)
    table = (tmp_path / "mine" / "csv" / "lr0.01" / "metrics.csv").read_text()
    assert table.count("\n") > 4
    assert (tmp_path / "kept" / "last.ckpt").exists()


def test_trials_share_no_callback() -> None:
    first, second = start(KINDS["callbacks"]), start(KINDS["callbacks"])
    assert [one["batches"] for one in epochs(first, 2)] == [6, 12]
    assert [one["batches"] for one in epochs(second, 1)] == [6]


def test_each_epoch_has_an_order_of_its_own() -> None:
    """Though each makes its loader anew, with a generator of one seed."""
    seen: list[list[float]] = []

    class Watched(LitJet):
        def training_step(self, batch: Any, place: int) -> Any:
            seen[-1].extend(batch["y"].tolist())
            return super().training_step(batch, place)

    run = start(LightningTraining(Watched, JetData))
    for _ in range(2):
        seen.append([])
        run.train_epoch()
    assert len(seen[0]) == len(seen[1])
    assert seen[0] != seen[1]
    assert sorted(seen[0]) == sorted(seen[1])


def test_data_are_set_up_once_in_a_run() -> None:
    JetData.setups = 0
    epochs(start(KINDS["LitJet"]), 3)
    assert JetData.setups == 1


def test_hyperparameters_go_where_they_are_named() -> None:
    class Everything(LitJet):
        def __init__(self, config: Any, shapes: Any, **rest: Any) -> None:
            self.got = config, shapes, rest
            super().__init__(rest["lr"], rest["width"])

    run = start(LightningTraining(Everything, JetData), width=6)
    config, shapes, rest = run.module.got
    assert (config, shapes["x"], rest) == (run.config, (4,), {"lr": 0.01, "width": 6})
    model = type(run).from_weights(run.config, run.weights())
    assert model.module.got[1] == {"x": (4,), "y": ()}


def test_metrics_are_floats_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    (metrics,) = epochs(start(KINDS["LitJet"]), 1)
    assert {"train_loss", "val_bce", "lr"} <= metrics.keys()
    assert all(type(value) is float and math.isfinite(value) for value in metrics.values())
    assert "".join(capfd.readouterr()) == ""


def test_a_model_is_made_again_from_its_weights_without_data(tmp_path: Path) -> None:
    run = start(KINDS["LitJet"])
    epochs(run, 1)
    model = type(run).from_weights(run.config, stored(run.weights(), tmp_path), "cpu")
    predicted = run.predict(DATA.validation["x"])
    assert predicted.shape == (90, 1)
    np.testing.assert_array_equal(model.predict(DATA.validation["x"]), predicted)
    assert model.score(**DATA.validation)["val_bce"] == pytest.approx(run.validate()["val_bce"], abs=0.02)  # its noise


# ---------------------------------------------------------------- from a user's own script


@pytest.mark.slow
def test_a_module_defined_in_a_script_trains_in_another_process(tmp_path: Path) -> None:
    """As Ray sends it: by value. It is one of pytorch_lightning, the other name of the package."""
    pytest.importorskip("pytorch_lightning")
    script = tmp_path / "mine.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            import pytorch_lightning as pl
            import ray.cloudpickle as cloudpickle
            import torch
            from torch import nn
            from trainables.base.lightning_training import LightningTraining
            from trainables.base.training import TrainingConfig

            class Config(TrainingConfig):
                lr: float = 1e-3

            class Lit(pl.LightningModule):
                def __init__(self, lr, epochs):
                    super().__init__()
                    self.lr, self.net = lr, nn.Linear(2, 1)

                def training_step(self, batch, place):
                    loss = self.net(batch[0]).square().mean()
                    self.log("loss", loss, on_epoch=True)
                    return loss

                def train_dataloader(self):
                    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(16, 2)), 4)

                def configure_optimizers(self):
                    return torch.optim.Adam(self.parameters(), self.lr)

            with open(sys.argv[1], "wb") as file:
                cloudpickle.dump((LightningTraining(Lit), Config(epochs=2)), file)
            """
        )
    )
    reader = """
import pickle, sys, torch
kind, config = pickle.load(open(sys.argv[1], "rb"))
run = kind(config, None, torch.device("cpu"))
while not run.finished:
    metrics = run.train_epoch() | run.validate()
print("trained", sorted(metrics))
"""
    packed = tmp_path / "packed.pkl"
    for command in ([str(script), str(packed)], ["-c", reader, str(packed)]):
        ended = subprocess.run(
            [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
        )
        assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("trained ['loss'")
