"""Make the scheduler that stops weak trials early, or changes trials as they run."""

from __future__ import annotations

import random
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)

from search.config.spec import SearchSpec

# Rungs are placed on a trial's own progress, not on its epochs. For zdc progress begins after the learning-rate peak
# of the trial's own cycle. Before it, and between cycles of other lengths, losses at one epoch do not compare because
# of OneCycleLR and the noise schedule, and ASHA would stop the patient schedules first.
_CLOCK = "progress_percent"
_FIRST_RUNG_PERCENT = 25
_EARLY_RUNG_PERCENT = 10  # measured, as its factor of 3: benchmarks/2026-11-29-methods.md
_SHARP_RUNG_PERCENT = 2  # or the first epoch of a short training
_ROUNDING = 1e-9  # of a share of epochs


class PresetsRunOn:
    """Mixin of a scheduler that never stops presets; as references of the search they still take part in its cuts."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision: str = super().on_trial_result(tune_controller, trial, result)  # type: ignore[misc]
        spared = decision == TrialScheduler.STOP and trial.config["preset"] is not None
        return str(TrialScheduler.CONTINUE) if spared else decision


class Asha(PresetsRunOn, ASHAScheduler):  # type: ignore[misc]
    """Asynchronous successive halving; the rungs include the presets' values."""


class Median(PresetsRunOn, MedianStoppingRule):  # type: ignore[misc]
    """The median stopping rule; it ignores results without the metric, such as a diverged trial's last one."""

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

    Presets may be copied from, and copy no other trial. Tune refuses a search algorithm beside PBT because most expect
    their points to be kept; ours proposes the first population, and records say that its points were changed.
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


def make_scheduler(spec: SearchSpec) -> TrialScheduler:
    """Make the scheduler that a search asks for, on the clock that all of them share."""
    match spec.scheduler:
        case "asha":
            return Asha(time_attr=_CLOCK, max_t=100, grace_period=_FIRST_RUNG_PERCENT, reduction_factor=2)
        case "asha-early":
            return Asha(time_attr=_CLOCK, max_t=100, grace_period=_EARLY_RUNG_PERCENT, reduction_factor=3)
        case "asha-sharp":
            first = max(_SHARP_RUNG_PERCENT, 100 / spec.epochs * (1 - _ROUNDING))
            return Asha(time_attr=_CLOCK, max_t=100, grace_period=first, reduction_factor=4)
        case "median":
            return Median(time_attr=_CLOCK, grace_period=_FIRST_RUNG_PERCENT, min_time_slice=float("inf"))
        case "pbt":
            return Pbt(
                time_attr=_CLOCK,
                perturbation_interval=_FIRST_RUNG_PERCENT,
                custom_explore_fn=Explore(_mutable_ranges(spec), spec.seed),
                log_config=False,
                require_attrs=False,
            )
    return FIFOScheduler()


def _mutable_ranges(spec: SearchSpec) -> dict[str, BaseDistribution]:
    ranges = spec.space.distributions
    return {name: ranges[name] for name in spec.workload.mutable if name in ranges}


class Explore:
    """Perturb each mutable hyperparameter a little up or down, inside its range: the step of population based training.

    By a factor of 0.8 or 1.25 where the range is logarithmic, else by a tenth of the range; an integer by one step at
    least. A choice is drawn anew.
    """

    def __init__(self, ranges: Mapping[str, BaseDistribution], seed: int) -> None:
        self._ranges, self._random = dict(ranges), random.Random(seed)

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        hyperparameters = dict(config["hyperparameters"])
        for name in sorted(self._ranges.keys() & hyperparameters.keys()):
            hyperparameters[name] = self._moved(hyperparameters[name], self._ranges[name])
        return config | {"hyperparameters": hyperparameters}

    def _moved(self, value: Any, distribution: BaseDistribution) -> Any:
        if isinstance(distribution, CategoricalDistribution):
            return self._random.choice(distribution.choices)
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        low, high, up = distribution.low, distribution.high, self._random.random() < 0.5
        moved = value * (1.25 if up else 0.8) if distribution.log else value + (0.1 if up else -0.1) * (high - low)
        if isinstance(distribution, IntDistribution):
            step = distribution.step
            moved = max(moved, value + step) if up else min(moved, value - step)
            moved = low + round((moved - low) / step) * step
        return min(max(moved, low), high)
