"""The tiny workload with everything that a promotion needs; the holdout scores of a model follow from its x."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from evaluations import evaluated
from numpy.typing import NDArray
from tiny import TinyConfig, TinyData, TinyTraining, make_tiny

from search.promotion.retrain import FIRST_SEED
from search.workload import Promotion, Tolerance, Workload
from trainables.base.training import TrainedModel
from trainables.evaluation.scores import Evaluation
from trainables.export.manifest import Column, Description, Output
from trainables.export.package import Package, write_package

EVENTS, HOLDOUT_SEED = 200, 99
WATCHED = {"size": Tolerance(absolute=0.2)}


class LuckyConfig(TinyConfig):
    luck: float = 0.0  # taken off the loss in a search, but in no later training
    unlucky_seeds: int = 0  # of the new seeds, so many diverge


class LuckyTraining(TinyTraining):
    def train_epoch(self) -> dict[str, float]:
        config = self.config
        assert isinstance(config, LuckyConfig)
        new = config.seed - FIRST_SEED
        if 0 <= new < config.unlucky_seeds:
            self.config = config.model_copy(update={"diverge_epoch": 1})
        return super().train_epoch()

    def validate(self) -> dict[str, float]:
        config = self.config
        assert isinstance(config, LuckyConfig)
        lucky = config.luck if config.seed < FIRST_SEED else 0.0
        found = super().validate()
        return found | {"loss": found["loss"] - lucky}


@dataclass(frozen=True)
class PromotableData(TinyData):
    validation: int = 1  # seed of its events


def hard(events: int) -> NDArray[np.float64]:
    """How hard the events of a part are, for every model."""
    return np.random.default_rng(events).exponential(0.1, EVENTS)


def evaluate(
    model: TrainedModel, _upstream: Mapping[str, TrainedModel], events: int, _data: Any, _replicas: int, _device: Any
) -> Evaluation:
    """Loss and size of a model on the events of this seed."""
    return of(float(model.weights["x"]), events)


def of(x: float, events: int = HOLDOUT_SEED) -> Evaluation:
    own_N = np.random.default_rng((events, int(abs(x) * 1e6))).normal(0, 0.05, EVENTS)
    loss_N = hard(events) + (x - 0.3) ** 2 + own_N - own_N.mean()
    return replace(evaluated({"loss": loss_N, "size": np.full(EVENTS, abs(x))}), holdout=f"events-{events}")


def naive(_data: Any, holdout: int, _replicas: int) -> dict[str, Evaluation]:
    return {"guess": of(-1.0, holdout)}


def draw(evaluations: Mapping[str, Evaluation], file: Path, reference: str | None) -> None:
    file.write_text(f"{list(evaluations)} against {reference}")


def package(
    model: TrainedModel, upstream: Mapping[str, TrainedModel], _holdout: Any, _data: Any, about: Any, folder: Path
) -> Package:
    description = Description(
        loader=f"{Path(__file__).with_name('served_tiny.py')}:load",
        inputs=(Column(name="x_cm", unit="cm", lowest=0.0, highest=1.0),),
        output=Output(name="loss", unit="1", shape=(), description="nothing"),
        rules=("for tests",),
        data={},
        onnx={},
        example=((0.5,),),
        about=dict(about),
    )
    return write_package(folder, description, model, upstream, {})


class Holdout(int):
    """Seed of its events."""

    def __len__(self) -> int:
        return EVENTS


def make_promotable(**presets: dict[str, Any]) -> Workload:
    """The workload; it is compared with the preset ``plain``."""
    presets = {"plain": {"x": -0.2}, **presets}
    tiny = make_tiny(**presets)
    return replace(
        tiny,
        training=LuckyTraining,
        config=LuckyConfig,
        load_data=lambda settings, cache: PromotableData(),
        promotion=Promotion(
            preset="plain",
            watched=WATCHED,
            load_holdout=lambda settings, cache: Holdout(HOLDOUT_SEED),
            evaluate=evaluate,
            naive=naive,
            draw=draw,
            package=package,
        ),
    )
