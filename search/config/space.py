"""The search space of one search: what a workload suggests, less the hyperparameters that are fixed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

_DRAWS = 64  # enough random points to meet each branch of a conditional space


@dataclass(frozen=True)
class Space:
    """Ranges of the searched hyperparameters, values of the fixed ones, and the presets.

    Parameters
    ----------
    suggest : callable
        The workload's define-by-run space: asks an Optuna trial for each hyperparameter.
    fixed : mapping of str to object
        Values of hyperparameters that sampled trials do not search.
    preset_fixed : mapping of str to object
        The same for presets. A value that the preset itself names takes precedence.
    presets : mapping of str to mapping
        Named points, run before the sampled ones.
    """

    suggest: Callable[[optuna.Trial], dict[str, Any]]
    fixed: Mapping[str, Any]
    preset_fixed: Mapping[str, Any]
    presets: Mapping[str, Mapping[str, Any]]

    def point(self, trial: optuna.Trial) -> dict[str, Any]:
        """Return the hyperparameters of a trial; a preset's own were enqueued with it."""
        preset = trial.user_attrs.get("preset")
        named = self.presets[preset] if preset else {}
        fixed = self.preset_fixed if preset else self.fixed
        fixed = {name: value for name, value in fixed.items() if name not in named}
        return {**self.suggest(PartiallyFixedTrial(trial, fixed)), **fixed, **named}  # type: ignore[arg-type]

    @cached_property
    def distributions(self) -> Mapping[str, BaseDistribution]:
        """Range of every parameter that a sampled trial can have, learnt once from random points."""
        import optuna

        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        found: dict[str, BaseDistribution] = {}
        for _ in range(_DRAWS):
            trial = study.ask()
            self.suggest(PartiallyFixedTrial(trial, self.fixed))  # type: ignore[arg-type]
            found |= trial.distributions
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return ranges, fixed values and presets as JSON values, under the words that search directories use."""
        ranges = {name: distribution._asdict() for name, distribution in sorted(self.distributions.items())}
        presets = {name: dict(point) for name, point in self.presets.items()}
        return {"searched": ranges, "held": dict(self.fixed), "presets": presets}


class PartiallyFixedTrial:
    """An Optuna trial whose fixed hyperparameters are answered here, so that they never enter the study."""

    def __init__(self, trial: optuna.Trial, fixed: Mapping[str, Any]) -> None:
        self._trial, self._fixed = trial, fixed

    def __getattr__(self, attribute: str) -> Any:
        method = getattr(self._trial, attribute)
        if not attribute.startswith("suggest_"):
            return method
        return lambda name, *args, **kwargs: self._fixed[name] if name in self._fixed else method(name, *args, **kwargs)
