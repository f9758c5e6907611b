"""Select the trials of earlier searches from which the sampler of a new one learns, and say why others are left out.

A trial is taken if a trial of today at its point would be the same run: the same objectives and objective version, as
many epochs, the same values of what is fixed, and each searched parameter inside of today's range. What it ran with
counts, not what was searched then: a parameter that was fixed then and is searched now has that one value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, create_trial
from pydantic import ValidationError

from search.config.space import PartiallyFixedTrial
from search.config.spec import SearchSpec
from search.engine.past_trials import Earlier, EarlierSearch, find_earlier
from search.errors import UsageError
from search.storage.location import Storage
from search.tracking.client import Experiment
from search.workload import Data


@dataclass(frozen=True)
class WarmStart:
    """Trials of earlier searches for the sampler of a new one."""

    trials: tuple[FrozenTrial, ...] = ()
    lines: tuple[str, ...] = ()  # for people: of each earlier search, how many, and why not the others
    warnings: tuple[str, ...] = ()


def warm_start(spec: SearchSpec, data: Data, storage: Storage, experiment: Experiment | None) -> WarmStart:
    """Select complete trials of earlier searches (``--warm-from``) that fit the specification.

    Each search is read from its study in the storage, or else from MLflow.

    Parameters
    ----------
    experiment : Experiment, optional
        None: no server is contacted.

    Raises
    ------
    UsageError
        There is no search of that name; it is of another workload; no trial of any can be taken.
    TrackingError
        MLflow is asked and refuses.
    """
    taken: list[FrozenTrial] = []
    lines, warnings = [], []
    measure = _Measure(spec, data.objective_version, needs_all=spec.sampler == "gp")
    for name in spec.method.warm_from:
        search = find_earlier(name, spec.workload.name, storage, experiment)
        trials, line = _choose(name, search, measure)
        taken += trials
        lines.append(line)
        if trials and search.fingerprint[:36] != data.fingerprint[:36]:
            warnings.append(f"{name} ran on other data: its values may not be those that these data give")
    if not taken:
        about = "\n".join(lines)
        raise UsageError(f"--warm-from: no trial fits this search. Leave it out to begin without.\n{about}")
    return WarmStart(tuple(taken), tuple(lines), tuple(warnings))


def _choose(name: str, search: EarlierSearch, measure: _Measure) -> tuple[list[FrozenTrial], str]:
    taken, left, dropped = [], dict[str, int](), set[str]()
    details: dict[str, set[str]] = {}
    for trial in search.trials:
        try:
            fitted = measure.fit(trial)
        except _LeftOutError as reason:
            left[reason.why] = left.get(reason.why, 0) + 1
            details.setdefault(reason.why, set()).update(reason.names)
            continue
        fitted.user_attrs = {"warm_from": name, "trial": trial.label}
        taken.append(fitted)
        dropped |= measure.unknown(trial)
    line = f"warm start from {name} ({search.source}): {len(taken)} of {len(search.trials)} trials taken"
    why = [f"{count} {reason}{_in_brackets(details[reason])}" for reason, count in left.items()]
    line += f"; left: {', '.join(why)}" if why else ""
    return taken, line + (f"; without what is no hyperparameter any more{_in_brackets(dropped)}" if dropped else "")


def _in_brackets(names: set[str]) -> str:
    return f" ({', '.join(sorted(names))})" if names else ""


# ---------------------------------------------------------------- does a trial fit?


class _LeftOutError(Exception):
    """A trial that is not taken."""

    def __init__(self, why: str, *names: str) -> None:
        super().__init__(why)
        self.why, self.names = why, names  # of the hyperparameters or metrics that it is about


class _Measure:
    """The specification of today, against which earlier trials are compared."""

    def __init__(self, spec: SearchSpec, objective_version: str, *, needs_all: bool) -> None:
        self._space, self._goal, self._epochs = spec.space, spec.goal, spec.epochs
        self._config = spec.workload.config
        self._defaults = {name: info.default for name, info in self._config.model_fields.items()}
        self._searched = spec.space.distributions.keys()
        self._version, self._needs_all = objective_version, needs_all

    def fit(self, trial: Earlier) -> FrozenTrial:
        """Return the trial as one of today's study; raise ``_LeftOutError`` where it does not fit."""
        if not trial.complete:
            raise _LeftOutError("not complete")
        if trial.objectives != self._goal.objectives.keys():
            raise _LeftOutError("with other objectives", *trial.objectives)
        if trial.objective_version != self._version:
            raise _LeftOutError("of another objective version", trial.objective_version)
        point = self._parsed(trial.hyperparameters)
        if point.get("epochs") != self._epochs:
            raise _LeftOutError("of another number of epochs", str(point.get("epochs")))
        if other := [name for name, value in self._unsearched() if point.get(name, self._defaults[name]) != value]:
            raise _LeftOutError("with other values of what is held", *other)
        answers = self._answers(point)
        needed = [*self._goal.objectives, *self._goal.constrained]
        if lacking := [name for name in needed if not math.isfinite(trial.metrics.get(name, math.nan))]:
            raise _LeftOutError("without a metric that is an objective or constrained", *lacking)
        return create_trial(
            params=answers.params,
            distributions=answers.distributions,
            values=[trial.metrics[name] for name in self._goal.objectives],
            constraints=self._goal.excesses(trial.metrics),
        )

    def unknown(self, trial: Earlier) -> set[str]:
        """Return the hyperparameters that exist no longer."""
        return trial.hyperparameters.keys() - self._config.model_fields.keys()

    def _unsearched(self) -> Iterator[tuple[str, Any]]:
        """Yield what all sampled trials of today have in common."""
        for name, default in self._defaults.items():
            if name not in self._searched and name not in ("epochs", "seed"):
                yield name, self._space.fixed.get(name, default)

    def _parsed(self, hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of today's configuration, as it reads them; nan where it refuses a value."""
        point: dict[str, Any] = {}
        for name in hyperparameters.keys() & self._config.model_fields.keys():
            point[name] = math.nan
            with suppress(ValidationError):
                point[name] = getattr(self._config.model_validate({name: hyperparameters[name]}), name)
        return point

    def _answers(self, point: Mapping[str, Any]) -> _Answers:
        """Return what a trial of today at that point would have been asked for."""
        answers = _Answers(point, self._defaults)
        self._space.suggest(PartiallyFixedTrial(answers, self._space.fixed))  # type: ignore[arg-type]
        if answers.outside:
            raise _LeftOutError("outside of the ranges of today", *answers.outside)
        if not answers.params:
            raise _LeftOutError("with no parameter that is searched today")
        if self._needs_all and answers.missing:
            raise _LeftOutError("without a parameter that sampler gp needs of each", *answers.missing)
        return answers


@dataclass
class _Answers:
    """Answer a space's questions with an earlier point in place of an Optuna trial; record what was asked."""

    point: Mapping[str, Any]
    defaults: Mapping[str, Any]  # answers where the point has none, or one that is out of range: a branch must be gone
    params: dict[str, Any] = field(default_factory=dict)
    distributions: dict[str, BaseDistribution] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._answer(name, FloatDistribution(low, high, log, step), low))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._answer(name, IntDistribution(low, high, log, step), low))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._answer(name, CategoricalDistribution(choices), choices[0])

    def _answer(self, name: str, distribution: BaseDistribution, last_resort: Any) -> Any:
        if name in self.point and _within(distribution, self.point[name]):
            self.params[name], self.distributions[name] = self.point[name], distribution
            return self.point[name]
        (self.outside if name in self.point else self.missing).append(name)
        return self.defaults[name] if _within(distribution, self.defaults.get(name)) else last_resort


def _within(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except (TypeError, ValueError):  # no number, or none of the choices
        return False
