"""Methods of others as shipped, and random search."""

from __future__ import annotations

import itertools
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from benchmarks.methods.replay import Replicate, Trial
from benchmarks.methods.table import CubeTrial
from benchmarks.methods.tune_loop import LATENCY_S, Proposal, TuneLoop, first_points


class Ray(TuneLoop):
    """Ray's OptunaSearch and ASHAScheduler as shipped, with the largest number of epochs as ``max_t``."""

    def __init__(self, replicate: Replicate) -> None:
        self._first = first_points(replicate)
        searcher = OptunaSearch(
            space=replicate.table.suggest,
            metric="scalar_score",
            mode="min",
            seed=replicate.seed,
            points_to_evaluate=[point for point, _ in self._first],
        )
        super().__init__(searcher, ASHAScheduler(max_t=replicate.table.epochs), [], nested=False)
        self._asked = 0

    def propose(self) -> Proposal | None:
        proposed = super().propose()
        self._asked += 1
        if proposed is None or self._asked > len(self._first):
            return proposed
        return proposed[0], proposed[1], self._first[self._asked - 1][1]


class PlainOptuna:
    """Optuna's ask-and-tell loop with a sampler and a pruner as shipped."""

    whole_only = True

    def __init__(
        self, replicate: Replicate, sampler: optuna.samplers.BaseSampler, pruner: optuna.pruners.BasePruner
    ) -> None:
        self._study = optuna.create_study(
            study_name="bench",  # HyperbandPruner draws brackets from the name
            direction="minimize",
            sampler=sampler,
            pruner=pruner,
        )
        self._table, self._names = replicate.table, dict[int, str | None]()
        for number, (point, name) in enumerate(first_points(replicate)):
            self._study.enqueue_trial(point)
            self._names[number] = name
        self.latency_s = LATENCY_S["random" if isinstance(sampler, optuna.samplers.RandomSampler) else "tpe"]

    def propose(self) -> Proposal | None:
        trial = self._study.ask()
        return trial, self._table.suggest(trial), self._names.get(trial.number)

    def report(self, trial: Trial, progress: float) -> bool:
        trial.key.report(trial.loss, trial.epoch)
        if not trial.key.should_prune():
            return True
        self._study.tell(trial.key, state=TrialState.PRUNED)
        return False

    def end(self, trial: Trial, progress: float) -> None:
        if trial.ended == "diverged":
            self._study.tell(trial.key, state=TrialState.FAIL)
        else:
            trial.key.report(trial.loss, trial.epoch)
            self._study.tell(trial.key, trial.loss)


class Random(TuneLoop):
    """Random points with any scheduler."""

    def __init__(self, replicate: Replicate, scheduler: TrialScheduler) -> None:
        searcher = _RandomSearcher(replicate)
        super().__init__(searcher, scheduler, [], nested=True)
        self.latency_s = LATENCY_S["random"]


class _RandomSearcher(Searcher):  # type: ignore[misc]
    """First points, then random ones, as our searcher hands them over."""

    def __init__(self, replicate: Replicate) -> None:
        super().__init__()
        self._table, self._first = replicate.table, first_points(replicate)
        self._draws, self._number = replicate.rng("random points"), itertools.count()

    def suggest(self, trial_id: str) -> dict[str, Any]:
        number = next(self._number)
        point, preset = self._first[number] if number < len(self._first) else (self._draw(), None)
        return {"hyperparameters": point, "number": number, "preset": preset}

    def _draw(self) -> dict[str, Any]:
        names = [parameter.name for parameter in self._table.parameters]
        return self._table.suggest(CubeTrial(names, self._draws.random(len(names))))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None: ...
    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None: ...
