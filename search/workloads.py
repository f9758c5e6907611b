"""The only place where physics and search meet: what a workload is, and the dict of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import optuna
import torch

import spaces.pt
import spaces.zdc
import trainables.pt.combined
import trainables.pt.data
import trainables.pt.evaluation
import trainables.pt.export
import trainables.pt.ingest
import trainables.pt.metrics
import trainables.pt.naive
import trainables.pt.plots
import trainables.pt.simulate
import trainables.zdc.binning
import trainables.zdc.data
import trainables.zdc.evaluation
import trainables.zdc.export
import trainables.zdc.ingest
import trainables.zdc.plots
import trainables.zdc.simulate
from trainables.base.objectives import Mode
from trainables.base.training import TrainedModel, Training, TrainingConfig
from trainables.data.files import DataSettings
from trainables.data.ingest import FileKind
from trainables.evaluation.scores import Evaluation
from trainables.export.package import Package
from trainables.pt.config import PtCombinedConfig, PtDphiConfig, PtEnergyConfig
from trainables.pt.train import PtCombinedTraining, PtDphiTraining, PtEnergyTraining
from trainables.zdc.config import ZDCConfig
from trainables.zdc.train import ZDCTraining

Ranked = Sequence[tuple[Mapping[str, Any], Mapping[str, float]]]  # complete trials, best first: point, metrics


class Data(Protocol):
    """What a workload's ``load_data`` returns: arrays for trials, and what people and records need of them."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def summary(self) -> Sequence[str]: ...
    @property
    def objective_version(self) -> str: ...  # values of different versions are never compared silently


@dataclass(frozen=True)
class Defaults:
    """A workload's own idea of a search, where the user says nothing."""

    trials: int
    epochs: int
    presets: tuple[str, ...]
    held: Mapping[str, Any]  # hyperparameters


@dataclass(frozen=True)
class Tolerance:
    """By how much a metric of which less is better may be worse than the champion's."""

    relative: float = 0.0  # of the champion's value
    absolute: float = 0.0

    def of(self, value: float) -> float:
        return self.absolute + self.relative * abs(value)

    def __str__(self) -> str:
        parts = [f"{self.relative:.3g} of the champion's"] * bool(self.relative) + [f"{self.absolute:g}"] * bool(
            self.absolute
        )
        return " + ".join(parts) or "0"


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """How a workload's models are judged on the holdout, and given to those who use them."""

    preset: str  # the yardstick beside the champion
    watched: Mapping[str, Tolerance]  # metrics of which less is better
    load_holdout: Callable[[Any, Path], Any]  # (settings, cache folder)
    # (model, models that it builds on, events, data, bootstrap replicas, device)
    evaluate: Callable[[TrainedModel, Mapping[str, TrainedModel], Any, Any, int, torch.device], Evaluation]
    naive: Callable[[Any, Any, int], Mapping[str, Evaluation]]  # (data, holdout, replicas): fitted on training events
    draw: Callable[[Mapping[str, Evaluation], Path, str | None], None]  # label -> scores; file; whom to compare with
    # (model, models that it builds on, holdout, data settings, what else there is to say, folder)
    package: Callable[[TrainedModel, Mapping[str, TrainedModel], Any, Any, Mapping[str, Any], Path], Package]
    replicas: int = 1_000


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One model problem: everything the platform needs to know of it."""

    name: str
    title: str
    training: type[Training]
    config: type[TrainingConfig]
    settings: type[DataSettings]
    load_data: Callable[[Any, Path], Data]
    simulate_data: Callable[[int, int], Data]  # (events, seed): small data for tests
    suggest: Callable[[optuna.Trial], dict[str, Any]]
    presets: Mapping[str, Mapping[str, Any]]
    optional: tuple[str, ...]  # hyperparameters held at their default unless freed with --also
    mutable: tuple[str, ...]  # hyperparameters that population based training may change within a run
    # hyperparameters that make a trial take more memory, and by what their values are compared
    sizing: Mapping[str, Callable[[Any], float]] = field(default_factory=dict)
    objectives: Mapping[str, Mode]  # the first is the default
    limits: Mapping[str, float] = field(default_factory=dict)  # metrics and the largest value that each may have
    columns: tuple[str, ...]  # metrics that stand beside the objective in every leaderboard
    baselines: Callable[[Any], Mapping[str, Mapping[str, float]]]  # naive predictors on the validation events
    references: Callable[[Any], Mapping[str, Mapping[str, float]]] = field(default=lambda data: {})  # published results
    compare: Callable[[Mapping[str, Path], Path], None]  # label -> report folder of a trial; writes figures
    demo: Defaults  # without --data: the carried sample on two cores, in minutes
    full: Defaults  # with --data
    builds_on: tuple[str, ...] = ()  # workloads whose trained models are part of this one's data,
    join: Callable[[Any, Mapping[str, TrainedModel]], Data] | None = None  # which this makes of them
    files: FileKind | None = None  # what is looked at before a search
    promotion: Promotion | None = None


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Searches one after another, each on the winners of the ones before."""

    name: str
    title: str
    workloads: tuple[str, ...]  # all with the same data settings
    columns: tuple[str, ...]  # metrics in the table at the end; the first is the one to compare
    # (complete trials of each workload, the last one's baselines and references) -> label -> metrics
    rows: Callable[[Mapping[str, Ranked], Mapping[str, Mapping[str, float]]], Mapping[str, Mapping[str, float]]]


PT_SMALL = {"batch_size": 64, "width": 64}  # for a sample of ten thousand events
PT_SIZING: dict[str, Callable[[Any], float]] = {"width": float, "depth": float, "batch_size": float}
PT: dict[str, Any] = {  # what the three pT models have in common
    "settings": trainables.pt.data.PtDataSettings,
    "load_data": trainables.pt.data.load_data,
    "optional": spaces.pt.OPTIONAL,
    "sizing": PT_SIZING,
    "objectives": trainables.pt.metrics.OBJECTIVES,
    "limits": trainables.pt.metrics.CONSTRAINTS,
    "compare": trainables.pt.plots.compare_trials,
    "files": trainables.pt.ingest.FILES,
    "promotion": Promotion(
        preset="report",
        watched={"bias": Tolerance(absolute=0.005)},
        load_holdout=trainables.pt.data.load_holdout,
        evaluate=trainables.pt.evaluation.evaluate_model,
        naive=trainables.pt.evaluation.naive_evaluations,
        draw=trainables.pt.plots.draw_holdout,
        package=trainables.pt.export.package,
    ),
}

WORKLOADS: dict[str, Workload] = {
    "zdc": Workload(
        name="zdc",
        title="ZDC fast simulation: six parameters of a particle to its 20x20 hit map",
        training=ZDCTraining,
        config=ZDCConfig,
        settings=trainables.zdc.data.ZDCDataSettings,
        load_data=trainables.zdc.data.load_data,
        simulate_data=trainables.zdc.simulate.simulate_data,
        suggest=spaces.zdc.suggest,
        presets=spaces.zdc.PRESETS,
        optional=spaces.zdc.OPTIONAL,
        mutable=spaces.zdc.MUTABLE,
        sizing={"gan": float, "hidden_dim": float, "batch_size": float},
        objectives=trainables.zdc.binning.OBJECTIVES,
        columns=("brier",),
        baselines=trainables.zdc.data.naive_predictors,
        compare=trainables.zdc.plots.compare_trials,
        demo=Defaults(
            trials=3,
            epochs=5,
            presets=("regression-only", "test26-lr4", "test26-lr4-ns1", "test26-lr8"),
            held={"hidden_dim": 8, "batch_size": 128},
        ),
        # 250,000 training events in batches of 1,024 are the report's 244 steps an epoch
        full=Defaults(trials=50, epochs=50, presets=tuple(spaces.zdc.PRESETS), held={}),
        files=trainables.zdc.ingest.FILES,
        promotion=Promotion(
            preset="test26-lr4",
            watched={"mse_low": Tolerance(relative=0.1), "brier": Tolerance(relative=0.02)},
            load_holdout=trainables.zdc.data.load_holdout,
            evaluate=trainables.zdc.evaluation.evaluate_model,
            naive=trainables.zdc.evaluation.naive_evaluations,
            draw=trainables.zdc.plots.draw_holdout,
            package=trainables.zdc.export.package,
        ),
    ),
    "pt-energy": Workload(
        name="pt-energy",
        title="electron pT in sPHENIX from positions and the calorimeter's energy",
        training=PtEnergyTraining,
        config=PtEnergyConfig,
        **PT | {"sizing": PT_SIZING | {"features": ("energy", "full").index}},
        simulate_data=trainables.pt.simulate.simulate_data,
        suggest=spaces.pt.suggest_energy,
        presets=spaces.pt.PRESETS_ENERGY,
        mutable=spaces.pt.MUTABLE_ENERGY,
        columns=("bias", "core_sigma", "tail"),
        baselines=trainables.pt.naive.naive_predictors,
        demo=Defaults(trials=3, epochs=25, presets=("report", "small-sample"), held=PT_SMALL),
        full=Defaults(trials=50, epochs=200, presets=tuple(spaces.pt.PRESETS_ENERGY), held={}),
    ),
    "pt-dphi": Workload(
        name="pt-dphi",
        title="electron pT in sPHENIX from the bending angle",
        training=PtDphiTraining,
        config=PtDphiConfig,
        **PT | {"sizing": PT_SIZING | {"monotonic": float, "boundary": float}},
        simulate_data=trainables.pt.simulate.simulate_data,
        suggest=spaces.pt.suggest_dphi,
        presets=spaces.pt.PRESETS_DPHI,
        mutable=spaces.pt.MUTABLE_DPHI,
        columns=("bias", "core_sigma", "tail", "monotonic_violation", "boundary_error"),
        baselines=trainables.pt.naive.naive_predictors,
        demo=Defaults(trials=3, epochs=25, presets=("report", "small-sample"), held=PT_SMALL),
        full=Defaults(trials=50, epochs=500, presets=tuple(spaces.pt.PRESETS_DPHI), held={}),
    ),
    "pt-combined": Workload(
        name="pt-combined",
        title="electron pT in sPHENIX from both models together",
        training=PtCombinedTraining,
        config=PtCombinedConfig,
        **PT,
        simulate_data=trainables.pt.simulate.simulate_combined_data,
        suggest=spaces.pt.suggest_combined,
        presets=spaces.pt.PRESETS_COMBINED,
        mutable=spaces.pt.MUTABLE_COMBINED,
        columns=("bias", "core_sigma", "tail"),
        baselines=trainables.pt.combined.combined_baselines,
        references=trainables.pt.naive.references,
        demo=Defaults(trials=3, epochs=25, presets=("report", "small-sample"), held=PT_SMALL),
        full=Defaults(trials=50, epochs=300, presets=tuple(spaces.pt.PRESETS_COMBINED), held={}),
        builds_on=trainables.pt.combined.BRANCHES,
        join=trainables.pt.combined.join_branches,
    ),
}

CHAINS: dict[str, Chain] = {
    "pt": Chain(
        name="pt",
        title="electron pT, the three models one after another",
        workloads=("pt-energy", "pt-dphi", "pt-combined"),
        columns=trainables.pt.combined.CORRECTED_NUMBERS,
        rows=trainables.pt.combined.chain_rows,
    ),
}
