"""Drive a Tune searcher and scheduler as Tune's own controller does, without a cluster."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import optuna
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from benchmarks.methods.replay import Replicate, Trial

START_POINTS = 10  # random ones, the same for all methods, after the presets
LATENCY_S = {"random": 0.002, "qmc": 0.005, "tpe": 0.02, "cmaes": 0.01, "gp": 0.8}  # of one proposal, on one core
LOSS = "loss"
Proposal = tuple[Any, Mapping[str, Any], str | None]


def start_points(replicate: Replicate) -> list[dict[str, Any]]:
    """Return the random points that all methods try first."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=replicate.seed))
    return [replicate.table.suggest(study.ask()) for _ in range(START_POINTS)]


def first_points(replicate: Replicate) -> list[tuple[dict[str, Any], str | None]]:
    """Return presets with their names, then start points."""
    presets = [(dict(point), name) for name, point in replicate.presets.items()]
    return [*presets, *((point, None) for point in start_points(replicate))]


class TuneLoop:
    """A Tune searcher and scheduler with callbacks, called in the order of Tune's own controller."""

    def __init__(self, searcher: Searcher, scheduler: TrialScheduler, callbacks: Sequence[Any], nested: bool) -> None:
        self._searcher, self._scheduler, self._callbacks, self._nested = searcher, scheduler, callbacks, nested
        self.whole_only, self.latency_s = nested, LATENCY_S["tpe"]
        self._numbers = itertools.count()
        self._controller: Any = SimpleNamespace(get_live_trials=list, get_trials=list, search_alg=searcher)
        scheduler.set_search_properties("scalar_score", "min")

    def propose(self) -> Proposal | None:
        trial_id = f"{next(self._numbers):05d}"
        config = self._searcher.suggest(trial_id)
        if config is None or config == Searcher.FINISHED:
            return None
        trial = TuneTrial("bench", config=config, trial_id=trial_id, stub=True, _setup_default_resource=False)
        self._scheduler.on_trial_add(self._controller, trial)
        trial.set_status(TuneTrial.RUNNING)
        self._call("on_trial_start", trial)
        if self._nested:
            return trial, config["hyperparameters"], config["preset"]
        return trial, {key: value for key, value in config.items() if key != "preset"}, None

    def report(self, trial: Trial, progress: float) -> bool:
        tune_trial, result = trial.key, self._result(trial, progress)
        stop = self._scheduler.on_trial_result(self._controller, tune_trial, result) == TrialScheduler.STOP
        if not stop:
            self._searcher.on_trial_result(tune_trial.trial_id, result)
        self._call("on_trial_result", tune_trial, result=result)
        tune_trial.update_last_result(result)
        if stop:
            self._complete(tune_trial)
        return not stop

    def end(self, trial: Trial, progress: float) -> None:
        tune_trial = trial.key
        if trial.ended == "diverged" and not self._nested:  # an exception in the user's own loop
            self._scheduler.on_trial_error(self._controller, tune_trial)
            self._searcher.on_trial_complete(tune_trial.trial_id, error=True)
            return
        result = self._result(trial, progress)
        self._call("on_trial_result", tune_trial, result=result)
        tune_trial.update_last_result(result)
        self._complete(tune_trial)

    def _complete(self, tune_trial: TuneTrial) -> None:
        self._scheduler.on_trial_complete(self._controller, tune_trial, tune_trial.last_result)
        self._searcher.on_trial_complete(tune_trial.trial_id, result=tune_trial.last_result)
        tune_trial.set_status(TuneTrial.TERMINATED)
        self._call("on_trial_complete", tune_trial)

    def _result(self, trial: Trial, progress: float) -> dict[str, Any]:
        result = {"epoch": trial.epoch, "training_iteration": trial.epoch, "progress_percent": progress}
        if self._nested:  # as ``EpochTrainable`` reports
            result |= {"epoch_seconds": 0.0, "host": "", "device": "", "outcome": trial.ended or "running"}
        if trial.ended == "diverged":
            return result | {"reason": "not_finite", "evidence": {}, "done": True}
        score = {"scalar_score": trial.loss, "metrics": {LOSS: trial.loss}, "best": {}}
        return result | score | {"done": trial.ended == "complete"}

    def _call(self, event: str, tune_trial: TuneTrial, **info: Any) -> None:
        for callback in self._callbacks:
            getattr(callback, event)(iteration=0, trials=[], trial=tune_trial, **info)
