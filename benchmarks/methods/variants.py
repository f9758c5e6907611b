"""Variants of our samplers by name, for the ablation: ``tpe,independent,starts=24,random=33``."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from benchmarks.methods.told import LastValueSampler, RankedSampler
from search.tuning.history_sampler import HistorySampler
from search.tuning.samplers import TPE, RepeatableSampler, make_sampler
from search.tuning.study import _MOST_SEEN

TOLD = {"": HistorySampler, "places": RankedSampler, "last": LastValueSampler}
_MOST_BELOW = 25  # good trials of TPE, whatever their share: as Optuna's
WORDS = {
    "independent": "TPE for each hyperparameter alone, rather than of all together",
    "no-group": "TPE without groups of hyperparameters that exist together",
    "no-liar": "TPE that does not reckon with running trials",
    "starts=N": "random points before TPE begins",
    "candidates=N": "points of which TPE takes the best",
    "below=PERCENT": "trials that count as good ones (Optuna: 10, 25 trials at most)",
    "random=PERCENT": "points that are drawn at random between those of TPE",
    "seen=N": "ended trials that the sampler sees, the best and the newest",
    "told=last": "a stopped trial is complete with its last value, as Ray tells it",
    "told=places": "every ended trial has its place among all",
}


def variant_of(words: str, seed: int) -> BaseSampler:
    """Make a sampler as a search does, or a variant of TPE: its name, then words of ``WORDS`` behind commas."""
    name, *changes = words.split(",")
    told, most, settings, share = "", None, dict[str, Any](), 0
    for change in changes:
        key, _, value = change.partition("=")
        match key:
            case "independent":
                settings |= {"multivariate": False, "group": False}
            case "no-group":
                settings["group"] = False
            case "no-liar":
                settings["constant_liar"] = False
            case "starts":
                settings["n_startup_trials"] = int(value)
            case "candidates":
                settings["n_ei_candidates"] = int(value)
            case "below":
                settings["gamma"] = _Below(int(value))
            case "random":
                share = int(value)
            case "seen":
                most = int(value)
            case "told":
                told = value
            case _:
                raise SystemExit(f"variant {change} of a sampler: unknown. There are: {', '.join(WORDS)}")
    sampler = _tpe(seed, share, settings) if settings or share else make_sampler(name, seed)
    most = most or next((count for kind, count in _MOST_SEEN.items() if isinstance(sampler, kind)), None)
    return TOLD[told](sampler, (), most) if most else sampler


def _tpe(seed: int, share: int, settings: dict[str, Any]) -> TPESampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _WithRandomPoints(share, seed=seed, **TPE | settings)


class _Below:
    """Number of trials that count as good ones."""

    def __init__(self, percent: int) -> None:
        self._percent = percent

    def __call__(self, ended: int) -> int:
        return min(math.ceil(self._percent * ended / 100), _MOST_BELOW)


class _WithRandomPoints(TPESampler):
    """TPE that draws a share of its points at random, as BOHB does (Falkner et al., arXiv:1807.01774)."""

    def __init__(self, percent: int, seed: int, **settings: Any) -> None:
        super().__init__(seed=seed, **settings)
        self._percent, self._seed, self._uniform = percent, seed, RepeatableSampler(seed)

    def _at_random(self, trial: FrozenTrial) -> bool:
        draw = np.random.default_rng((self._seed, trial.number)).random()
        return bool(100 * draw < self._percent)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {} if self._at_random(trial) else super().infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {} if self._at_random(trial) else super().sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        one = self._uniform if self._at_random(trial) else super()
        return one.sample_independent(study, trial, param_name, param_distribution)
