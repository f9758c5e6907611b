"""Workload, budget, method and site to a ray.tune.Tuner: trainable, sampler, scheduler, resources."""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

# Ours are the loggers, the live view and the folders; Tune's own stay off. Read by ray.tune when it is imported or run.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")  # a diverged epoch carries no metric, on purpose
os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")  # a sentence is told; the trial's folder has the traceback
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C pulls our brake

import optuna
from ray import tune
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)

from search.storage.disk import DiskSpaceGuard, checkpoint_patience
from search.storage.location import StoragePath
from search.tuning.optuna_searcher import OptunaSearcher
from search.tuning.recorder import Recorder
from search.tuning.resources import Share
from search.workloads import Workload
from trainables.base.objectives import Goal
from trainables.base.trainable import EpochTrainable
from trainables.runtime.gpu_memory import GpuPart

# Rungs stand on a trial's own progress, not on its epochs. For zdc progress begins after the learning-rate peak of
# the trial's own cycle: before it, and between cycles of other lengths, losses at one epoch do not compare (OneCycleLR
# and the noise schedule see to that), and ASHA would stop the patient schedules first.
_CLOCK = "progress_percent"
_FIRST_RUNG_PERCENT = 25


class StopController(tune.Stopper):  # type: ignore[misc]
    """Ends a search in good order: after the time limit, or when somebody pulls it.

    Tune asks it after each step, just before it writes its own state: ``guard`` may then hold the search.
    """

    def __init__(self, time_limit_s: float | None) -> None:
        self._deadline = time.monotonic() + time_limit_s if time_limit_s else float("inf")
        self.guard: DiskSpaceGuard | None = None
        self.reason = ""  # why the search was ended; empty: it was not

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"guard": None}  # Tune pickles its settings once at the start

    def request_stop(self, reason: str) -> None:
        self.reason = self.reason or reason

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if self.guard:
            self.guard(self.due)
        return self.due()

    def due(self) -> bool:
        if time.monotonic() > self._deadline:
            self.request_stop("time limit")
        return bool(self.reason)


class OwnSignals(tune.Callback):  # type: ignore[misc]
    """Tune takes SIGUSR1 for itself when it begins; it goes back to whom it belonged before: our brake."""

    def __init__(self) -> None:
        self._before = signal.getsignal(signal.SIGUSR1)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its settings once at the start

    def setup(self, *args: Any, **info: Any) -> None:
        if threading.current_thread() is threading.main_thread():  # elsewhere Tune has left it alone
            signal.signal(signal.SIGUSR1, self._before)


class PresetsRunOn:
    """Mixin of a scheduler: presets are the yardsticks of the search, so they are judged with but never stopped."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision: str = super().on_trial_result(tune_controller, trial, result)  # type: ignore[misc]
        spared = decision == TrialScheduler.STOP and trial.config["preset"] is not None
        return str(TrialScheduler.CONTINUE) if spared else decision


class Asha(PresetsRunOn, ASHAScheduler):  # type: ignore[misc]
    """Successive halving; the rungs know the presets' values."""


class Median(PresetsRunOn, MedianStoppingRule):  # type: ignore[misc]
    """The median rule, deaf to results without the metric: a diverged trial's last one."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = super().on_trial_result(tune_controller, trial, result)
        if decision == TrialScheduler.CONTINUE:
            self._stopped_trials.discard(trial)  # a spared preset
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if self._metric in result:
            super().on_trial_complete(tune_controller, trial, result)


class Pbt(PopulationBasedTraining):  # type: ignore[misc]
    """Population based training in which a trial takes over another's weights and settings, but stays itself.

    Presets may be copied from, and copy nobody. Tune refuses a search algorithm beside PBT, as one that expects its own
    points to be kept; ours proposes the first population and is told that its points were changed.
    """

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(SimpleNamespace(search_alg=None), trial)

    def _get_new_config(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        config, operations = super()._get_new_config(trial, trial_to_clone)
        own = trial.config["hyperparameters"]
        hyperparameters = config["hyperparameters"] | {name: own[name] for name in ("epochs", "seed")}
        return trial.config | {"hyperparameters": hyperparameters}, operations

    def _quantiles(self) -> tuple[list[Any], list[Any]]:
        lower, upper = super()._quantiles()
        return [trial for trial in lower if trial.config["preset"] is None], upper


def make_scheduler(name: str, workload: Workload, ranges: Mapping[str, Any], seed: int) -> TrialScheduler:
    """The scheduler of that name, on the clock that all of them share."""
    match name:
        case "asha":
            return Asha(time_attr=_CLOCK, max_t=100, grace_period=_FIRST_RUNG_PERCENT, reduction_factor=2)
        case "median":
            return Median(time_attr=_CLOCK, grace_period=_FIRST_RUNG_PERCENT, min_time_slice=float("inf"))
        case "pbt":
            return Pbt(
                time_attr=_CLOCK,
                perturbation_interval=_FIRST_RUNG_PERCENT,
                custom_explore_fn=Explore({name: ranges[name] for name in workload.mutable if name in ranges}, seed),
                log_config=False,
                require_attrs=False,
            )
    return FIFOScheduler()


class Explore:
    """Population based training's step: each mutable hyperparameter a little up or down, inside its range.

    By a factor of 0.8 or 1.25 where the range is logarithmic, else by a tenth of the range.
    """

    def __init__(self, ranges: Mapping[str, optuna.distributions.BaseDistribution], seed: int) -> None:
        self._ranges, self._random = dict(ranges), random.Random(seed)

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        hyperparameters = dict(config["hyperparameters"])
        for name in sorted(self._ranges.keys() & hyperparameters.keys()):
            distribution = self._ranges[name]
            assert isinstance(distribution, optuna.distributions.FloatDistribution)
            value, up = hyperparameters[name], self._random.random() < 0.5
            if distribution.log:
                moved = value * (1.25 if up else 0.8)
            else:
                moved = value + (0.1 if up else -0.1) * (distribution.high - distribution.low)
            hyperparameters[name] = min(max(moved, distribution.low), distribution.high)
        return config | {"hyperparameters": hyperparameters}


def make_tuner(
    workload: Workload,
    data: Any,
    searcher: OptunaSearcher,
    recorder: Recorder,
    scheduler: TrialScheduler,
    *,
    goal: Goal,
    share: Share,
    retries: int,
    stop_controller: StopController,
    place: StoragePath,
) -> tune.Tuner:
    """The Tuner of one search.

    Parameters
    ----------
    data : object
        What trials receive; goes into Ray's object store once, and every trial on a node maps the same memory.
    share : Share
        What one trial gets, and how many run at a time.
    place : StoragePath
        The search's own; the last part of its path is the name.
    """
    parent, _, name = place.path.rpartition("/")
    if place.url:  # nobody reads Tune's own state
        os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "86400"
        logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL)
    trainable = tune.with_parameters(
        EpochTrainable,
        training=workload.training,
        training_config=workload.config,
        data=data,
        goal=goal,
        threads=share.threads,
        device=share.device,
        gpu_part=GpuPart(share.gpus, share.gpu_context),
        patience=checkpoint_patience(),
    )
    return tune.Tuner(
        tune.with_resources(trainable, PlacementGroupFactory([share.bundle])),
        tune_config=tune.TuneConfig(
            metric="scalar_score",  # the goal's own order: a limit goes before the objective
            mode="min",
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=searcher.left,
            # a population takes turns on what there is; others wait until there is room for a whole trial
            max_concurrent_trials=None if isinstance(scheduler, Pbt) else share.concurrent,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: f"{trial.config['number']:05d}_{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=parent,
            storage_filesystem=place.files if place.url else None,
            callbacks=[recorder, OwnSignals()],
            stop=stop_controller,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=retries),
            checkpoint_config=_checkpoints(scheduler, place),
        ),
    )


def checkpoints_kept(scheduler: str) -> int:
    """Of a running trial: the last but one, too, for a process may be killed between two writes."""
    return 3 if scheduler == "pbt" else 2


def _checkpoints(scheduler: TrialScheduler, place: StoragePath) -> tune.CheckpointConfig:
    """In a URL the keeper deletes: Tune would write all its own state there at every second checkpoint of a trial."""
    if place.url:
        return tune.CheckpointConfig(checkpoint_frequency=1)
    kept = checkpoints_kept("pbt" if isinstance(scheduler, Pbt) else "")
    return tune.CheckpointConfig(num_to_keep=kept, checkpoint_frequency=1)
