"""The methods that are compared: ours, through the classes that a search uses, and those of others as shipped."""

from __future__ import annotations

import itertools
import logging
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import optuna
from optuna.trial import TrialState
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from benchmarks.methods.replay import Replicate, Trial
from benchmarks.methods.table import CubeTrial
from search.config.settings import Budget, Site
from search.config.settings import Method as MethodFlags
from search.config.space import Space
from search.config.spec import SearchSpec
from search.tuning.history_sampler import HistorySampler
from search.tuning.optuna_searcher import OptunaSearcher
from search.tuning.recorder import Recorder
from search.tuning.samplers import make_sampler
from search.tuning.schedulers import Asha, make_scheduler
from search.tuning.study import _MOST_SEEN
from trainables.base.objectives import Goal
from trainables.data.files import DataSettings

START_POINTS = 10  # random ones, the same for all methods, after the presets
LATENCY_S = {"random": 0.002, "qmc": 0.005, "tpe": 0.02, "cmaes": 0.01, "gp": 0.8}  # of one proposal, on one core
_LOSS = "loss"
_MOST_TRIALS = 100_000
Proposal = tuple[Any, Mapping[str, Any], str | None]


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
        score = {"scalar_score": trial.loss, "metrics": {_LOSS: trial.loss}, "best": {}}
        return result | score | {"done": trial.ended == "complete"}

    def _call(self, event: str, tune_trial: TuneTrial, **info: Any) -> None:
        for callback in self._callbacks:
            getattr(callback, event)(iteration=0, trials=[], trial=tune_trial, **info)


class Ours(TuneLoop):
    """Our searcher, recorder and scheduler, as a search of this platform wires them."""

    def __init__(self, replicate: Replicate, sampler: str, scheduler: str) -> None:
        spec = spec_of(replicate, sampler, scheduler)
        inner = make_sampler(spec.method.sampler, spec.seed)
        most = _MOST_SEEN.get(type(inner))
        study = optuna.create_study(direction="minimize", sampler=HistorySampler(inner, (), most) if most else inner)
        searcher = OptunaSearcher(study, spec)
        for point in start_points(replicate):
            study.enqueue_trial(point)
        searcher._left = _MOST_TRIALS  # the replay ends by compute
        super().__init__(searcher, scheduler_of(scheduler, spec), [Recorder([searcher])], nested=True)
        self.latency_s = LATENCY_S[spec.method.sampler]


def spec_of(replicate: Replicate, sampler: str, scheduler: str) -> SearchSpec:
    """Return the specification of a search of the table, as the searcher and schedulers read it."""
    table, setting = replicate.table, replicate.setting
    workload: Any = SimpleNamespace(name=table.name, mutable=())
    return SearchSpec(
        workload=workload,
        name=table.name,
        data=cast(DataSettings, None),
        budget=Budget(seed=replicate.seed),
        method=MethodFlags(sampler=cast(Any, sampler)),
        site=Site(name="bench"),
        space=Space(suggest=table.suggest, fixed={}, preset_fixed={}, presets=replicate.presets),
        goal=Goal({_LOSS: "min"}),
        trials=round(setting.budget),
        epochs=table.epochs,
        scheduler=scheduler,
    )


def scheduler_of(words: str, spec: SearchSpec) -> TrialScheduler:
    """Return our scheduler of that name, or its class with the rungs of ``epoch:FIRST:ETA[:one]``, ``percent:...``."""
    clock, *numbers = words.split(":")
    if clock not in ("epoch", "percent"):
        return make_scheduler(spec)
    first, eta = int(numbers[0]), float(numbers[1])
    last = spec.epochs if clock == "epoch" else 100
    most = first if "one" in numbers else last
    scheduler = Asha(
        time_attr="epoch" if clock == "epoch" else "progress_percent",
        max_t=max(most, first),
        grace_period=first,
        reduction_factor=eta,
        stop_last_trials=False,
    )
    if most < last:
        scheduler._max_t = last  # the one rung is made; whoever passes it trains to the end
    return scheduler


def start_points(replicate: Replicate) -> list[dict[str, Any]]:
    """Return the random points that all methods try first."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=replicate.seed))
    return [replicate.table.suggest(study.ask()) for _ in range(START_POINTS)]


def first_points(replicate: Replicate) -> list[tuple[dict[str, Any], str | None]]:
    """Return presets with their names, then start points."""
    presets = [(dict(point), name) for name, point in replicate.presets.items()]
    return [*presets, *((point, None) for point in start_points(replicate))]


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
        self._study = optuna.create_study(direction="minimize", sampler=sampler, pruner=pruner)
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


@dataclass(frozen=True)
class _Maker:
    words: str
    make: Callable[[Replicate], Any]


_OTHERS: dict[str, _Maker] = {
    "ray": _Maker("Ray's OptunaSearch and ASHAScheduler as shipped", Ray),
    "optuna-sh": _Maker(
        "Optuna's TPESampler and SuccessiveHalvingPruner as shipped",
        lambda one: PlainOptuna(
            one, optuna.samplers.TPESampler(seed=one.seed), optuna.pruners.SuccessiveHalvingPruner()
        ),
    ),
    "optuna-hyperband": _Maker(
        "Optuna's TPESampler and HyperbandPruner as shipped",
        lambda one: PlainOptuna(
            one,
            optuna.samplers.TPESampler(seed=one.seed),
            optuna.pruners.HyperbandPruner(max_resource=one.table.epochs),
        ),
    ),
    "random": _Maker("random points, each trained to its end", lambda one: Random(one, FIFOScheduler())),
    "random+ray-asha": _Maker(
        "random points, Ray's ASHAScheduler as shipped",
        lambda one: Random(one, ASHAScheduler(max_t=one.table.epochs)),
    ),
}
KNOWN = {
    "ours": "our searcher and scheduler with the defaults of a search",
    "ours:SAMPLER+SCHEDULER": "the same with other ones by name; SCHEDULER also epoch:FIRST:ETA, percent:FIRST:ETA",
    **{name: maker.words for name, maker in _OTHERS.items()},
    "random+SCHEDULER": "random points with a scheduler of ours; epoch:1:8:one stops seven of eight at epoch 1",
}


def make_method(name: str, replicate: Replicate) -> Any:
    """Make a method of that name for one replicate; nothing in it depends on another replicate."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray").setLevel(logging.ERROR)
    np.random.seed(replicate.seed % 2**32)  # noqa: NPY002 - Ray's ASHA draws its bracket from it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name in _OTHERS:
            return _OTHERS[name].make(replicate)
        if name == "ours":
            return Ours(replicate, "tpe", "asha")
        if found := re.fullmatch(r"ours:(\w+)\+([\w:.]+)", name):
            return Ours(replicate, found[1], found[2])
        if found := re.fullmatch(r"random\+([\w:.]+)", name):
            return Random(replicate, scheduler_of(found[1], spec_of(replicate, "random", found[1])))
    raise SystemExit(f"--methods {name}: unknown. There are: {', '.join(KNOWN)}")
