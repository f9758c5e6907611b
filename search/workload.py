"""Define what a workload is: one model problem, everything that the platform needs to know of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import UsageError
from trainables.base.objectives import Constraint
from trainables.contract import (
    CompareSeeds,
    CompareTrials,
    Data,
    DrawHoldout,
    EvaluateBaselines,
    EvaluateModel,
    JoinModels,
    LoadArrays,
    LoadData,
    LoadHoldout,
    PackageModel,
    ScoreBaselines,
    SimulateData,
    SuggestPoint,
)
from trainables.data.array_loader import ArrayLoader
from trainables.data.files import DataSettings
from trainables.export.array_models import NEEDED, ArrayModels

if TYPE_CHECKING:
    from trainables.base.objectives import Mode
    from trainables.base.training import Training, TrainingConfig
    from trainables.data.ingest import FileKind
    from trainables.evaluation.scores import Evaluation

__all__ = ["Chain", "Data", "DefaultPromotion", "Defaults", "Promotion", "Ranked", "Tolerance", "Workload"]


def not_given(_settings: Any, _cache_dir: Path, /) -> Data:
    """Stand for a ``load_data`` that a workload did not give."""
    raise NotImplementedError


def no_figures(_reports: Mapping[str, Any], _folder: Path, /) -> None:
    """Draw nothing."""


def no_evaluations(_data: Any, _holdout: Any, _replicas: int, /) -> Mapping[str, Evaluation]:
    """Evaluate no naive predictor."""
    return {}


def draw_evaluations(evaluations: Mapping[str, Evaluation], file: Path, reference: str | None, /) -> None:
    """Draw all evaluations as those of models."""
    from trainables.evaluation.holdout_plots import draw_evaluations  # draws, so not for --help

    draw_evaluations(evaluations, (), file, reference)


def nothing(_data: Any, /) -> Mapping[str, Mapping[str, float]]:
    """Score no naive predictor, quote no result."""
    return {}


Ranked = Sequence[tuple[Mapping[str, Any], Mapping[str, float]]]  # complete trials, best first: point, metrics


@dataclass(frozen=True)
class Defaults:
    """A workload's own budget of a search, where the user gives none."""

    trials: int = 20
    epochs: int = 20
    presets: tuple[str, ...] | None = None  # None: all
    fixed: Mapping[str, Any] = field(default_factory=dict)  # hyperparameters that are not searched


@dataclass(frozen=True)
class Tolerance:
    """By how much a metric may be worse than the champion's: larger, or smaller where more of it is better."""

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
    watched: Mapping[str, Tolerance]  # metrics that must not become worse by more than this
    load_holdout: LoadHoldout
    evaluate: EvaluateModel
    naive: EvaluateBaselines
    draw: DrawHoldout
    package: PackageModel
    replicas: int = 1_000


@dataclass(frozen=True, kw_only=True)
class DefaultPromotion:
    """How models that are trained on arrays by name are promoted: the same score on resampled events of the holdout.

    Their training offers ``from_weights``, ``score`` and ``predict``, as ``TorchTraining`` does.
    """

    preset: str = ""  # the reference beside the champion; empty: none
    watched: Mapping[str, Tolerance] = field(default_factory=dict)
    replicas: int = 200  # each costs as much as one scoring
    onnx: bool = False  # write an ONNX file, too


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One model problem: everything the platform needs to know of it.

    The first five fields and one of ``load`` and ``load_data`` are required. Each of the others adds a capability.

    Raises
    ------
    UsageError
        A field cannot be right. The message names it.
    """

    name: str  # of its MLflow experiment and registered model
    training: type[Training]
    config: type[TrainingConfig]
    suggest: SuggestPoint
    objectives: Mapping[str, Mode]  # the first is the default
    load: LoadArrays | None = None  # arrays by name, one row an event: splits, fingerprint and holdout are made of them
    load_data: LoadData = not_given  # in place of ``load``: for streams and caches of its own

    # what people read
    title: str = ""  # empty: the name
    columns: tuple[str, ...] = ()  # metrics beside the objective in every leaderboard; X_error is shown as that of X
    compare: CompareTrials = no_figures  # of several trials
    compare_seeds: CompareSeeds = no_figures  # of points that were trained with several seeds

    # the space: points to begin with, what is searched on demand, what may change within a run, what takes memory
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    optional: tuple[str, ...] = ()  # hyperparameters fixed at their default unless freed with --free
    mutable: tuple[str, ...] = ()  # hyperparameters that population based training may change
    # hyperparameters that make a trial take more memory, and by what their values are compared; none: every integer
    sizing: Mapping[str, Callable[[Any], float]] = field(default_factory=dict)

    # scores
    more_is_better: tuple[str, ...] = ()  # further metrics: columns, watched ones; of all others less is better
    constraints: tuple[Constraint, ...] = ()
    baselines: ScoreBaselines = nothing  # naive predictors
    references: ScoreBaselines = nothing  # published results
    objective_version: str = "1"  # with ``load``: change it where the meaning of a score changes

    # data
    settings: type[DataSettings] = DataSettings
    files: FileKind | None = None  # how input files are checked before a search
    simulate_data: SimulateData | None = None  # lets tests and the doctor train without files

    # budgets
    demo: Defaults = Defaults()  # without --data: the carried sample on two cores, in minutes
    full: Defaults = Defaults()  # with --data

    # chains
    builds_on: tuple[str, ...] = ()  # workloads whose trained models are part of this one's data,
    join: JoinModels | None = None  # which this makes of them

    promotion: Promotion | DefaultPromotion | None = DefaultPromotion()
    word: str = ""  # by which commands find it: its name, or FILE.py:ATTRIBUTE or MODULE:ATTRIBUTE

    def __post_init__(self) -> None:
        _require_fields(self)
        made: dict[str, Any] = {"title": self.title or self.name, "word": self.word or self.name}
        if self.load is not None:
            made["load_data"] = ArrayLoader(self.load, self.name, self.objective_version)
            if self.load_data not in (not_given, made["load_data"]):
                raise UsageError(f"Workload {self.name!r} gives both load and load_data. Leave one of them out.")
        for name, value in made.items():
            object.__setattr__(self, name, value)

    @property
    def directions(self) -> dict[str, Mode]:
        """Which values of a metric are better, for all commands; of a metric that is not named, less is better."""
        return {**dict.fromkeys(self.more_is_better, "max"), **self.objectives}

    @property
    def promoted_by(self) -> Promotion | None:
        """How its models are promoted; None: they cannot be."""
        given = self.promotion
        if not isinstance(given, DefaultPromotion):
            return given
        load_holdout = getattr(self.load_data, "load_holdout", None)  # of ArrayLoader and TableLoader
        if load_holdout is None or not all(hasattr(self.training, name) for name in NEEDED):
            return None
        objective, mode = next(iter(self.objectives.items()))
        models = ArrayModels(self.training, self.config, self.word, objective, given.onnx, mode)
        return Promotion(
            preset=given.preset,
            watched=given.watched,
            load_holdout=load_holdout,
            evaluate=models.evaluate,
            naive=no_evaluations,
            draw=draw_evaluations,
            package=models.package,
            replicas=given.replicas,
        )


def _require_fields(workload: Workload) -> None:
    """Refuse what would only be noticed when trials run."""
    name, fields = f"Workload {workload.name!r}", workload.config.model_fields
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", workload.name):
        raise UsageError(
            f"{name}: expected a name of up to 60 letters, digits, dots, dashes and underscores, the first a letter or "
            "digit, because it becomes a part of file names and of MLflow's."
        )
    if workload.load is None and workload.load_data is not_given:
        raise UsageError(f"{name} gives neither load(files) nor load_data(settings, cache): it needs one of them.")
    if not workload.objectives:
        raise UsageError(f'{name} has no objective. Give at least one, as in objectives={{"auc": "max"}}.')
    for metric, mode in workload.objectives.items():
        if mode not in ("min", "max"):
            raise UsageError(f'{name}: objective {metric!r} is {mode!r}, expected "min" or "max".')
    if wrong := [metric for metric in workload.more_is_better if workload.objectives.get(metric) == "min"]:
        raise UsageError(f"{name}: {wrong[0]} is minimised as an objective and stands in more_is_better.")
    if wrong := [str(one) for one in workload.constraints if not isinstance(one, Constraint)]:
        raise UsageError(
            f'{name}: constraints holds {wrong[0]!r}, expected Constraint("bias", 0.02) for a largest value or '
            'Constraint("auc", 0.9, ">=") for a smallest one.'
        )
    for what in ("optional", "mutable", "sizing"):
        if unknown := [key for key in getattr(workload, what) if key not in fields]:
            raise UsageError(f"{name}: {what} names {unknown[0]!r}, which {workload.config.__name__} does not have.")
    preset = workload.promotion.preset if workload.promotion else ""
    if preset and preset not in workload.presets:
        there = ", ".join(workload.presets) or "none"
        raise UsageError(f"{name}: promotion compares with preset {preset!r}, which is none of its presets ({there}).")
    if bool(workload.builds_on) != (workload.join is not None):
        raise UsageError(f"{name}: builds_on and join go together; one of them is missing.")


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Searches one after another, each on the winners of the ones before."""

    name: str
    title: str
    workloads: tuple[str, ...]  # all with the same data settings
    columns: tuple[str, ...]  # metrics in the table at the end; the first is the one to compare
    # (complete trials of each workload, the last one's baselines and references) -> label -> metrics
    rows: Callable[[Mapping[str, Ranked], Mapping[str, Mapping[str, float]]], Mapping[str, Mapping[str, float]]]
