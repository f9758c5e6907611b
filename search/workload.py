"""Define what a workload is: one model problem, everything that the platform needs to know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainables.contract import (
    CompareTrials,
    Data,
    DrawHoldout,
    EvaluateBaselines,
    EvaluateModel,
    JoinModels,
    LoadData,
    LoadHoldout,
    PackageModel,
    ScoreBaselines,
    SimulateData,
)

if TYPE_CHECKING:
    import optuna

    from trainables.base.objectives import Mode
    from trainables.base.training import Training, TrainingConfig
    from trainables.data.files import DataSettings
    from trainables.data.ingest import FileKind

__all__ = ["Chain", "Data", "Defaults", "Promotion", "Ranked", "Tolerance", "Workload"]

Ranked = Sequence[tuple[Mapping[str, Any], Mapping[str, float]]]  # complete trials, best first: point, metrics


@dataclass(frozen=True)
class Defaults:
    """A workload's own budget of a search, where the user gives none."""

    trials: int
    epochs: int
    presets: tuple[str, ...]
    fixed: Mapping[str, Any]  # hyperparameters that are not searched


@dataclass(frozen=True)
class Tolerance:
    """By how much a metric of which less is better may be worse than the champion's."""

    relative: float = 0.0  # of the champion's value
    absolute: float = 0.0
    to: str = ""  # metric of the champion that ``relative`` is a share of; empty: the same metric

    def of(self, metric: str, champion: Mapping[str, float]) -> float:
        """Return what is allowed for a metric, from the champion's metrics."""
        return self.absolute + self.relative * abs(champion[self.to or metric])

    def __str__(self) -> str:
        relative = f"{self.relative:.3g} of the champion's {self.to}".rstrip()
        parts = [relative] * bool(self.relative) + [f"{self.absolute:g}"] * bool(self.absolute)
        return " + ".join(parts) or "0"


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """How a workload's models are evaluated on the holdout, and packaged for their users."""

    preset: str  # the reference beside the champion
    watched: Mapping[str, Tolerance]  # metrics of which less is better
    load_holdout: LoadHoldout
    evaluate: EvaluateModel
    naive: EvaluateBaselines
    draw: DrawHoldout
    package: PackageModel
    replicas: int = 1_000


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One model problem: everything the platform needs to know of it."""

    name: str
    title: str
    training: type[Training]
    config: type[TrainingConfig]
    settings: type[DataSettings]
    load_data: LoadData
    simulate_data: SimulateData
    suggest: Callable[[optuna.Trial], dict[str, Any]]
    presets: Mapping[str, Mapping[str, Any]]
    optional: tuple[str, ...]  # hyperparameters fixed at their default unless freed with --free
    mutable: tuple[str, ...]  # hyperparameters that population based training may change within a run
    # hyperparameters that make a trial take more memory, and by what their values are compared
    sizing: Mapping[str, Callable[[Any], float]] = field(default_factory=dict)
    objectives: Mapping[str, Mode]  # the first is the default
    limits: Mapping[str, float] = field(default_factory=dict)  # metrics and the largest value that each may have
    columns: tuple[str, ...]  # metrics beside the objective in every leaderboard; X_error is shown as that of X
    baselines: ScoreBaselines  # naive predictors
    references: ScoreBaselines = field(default=lambda data: {})  # published results
    compare: CompareTrials
    demo: Defaults  # without --data: the carried sample on two cores, in minutes
    full: Defaults  # with --data
    builds_on: tuple[str, ...] = ()  # workloads whose trained models are part of this one's data,
    join: JoinModels | None = None  # which this makes of them
    files: FileKind | None = None  # how input files are checked before a search
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
