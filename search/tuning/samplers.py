"""Make the Optuna sampler that proposes points."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.samplers._tpe import _truncnorm
from optuna.trial import FrozenTrial

optuna.logging.set_verbosity(optuna.logging.WARNING)

TPE: dict[str, Any] = {"multivariate": True, "group": True, "constant_liar": True}  # how a search uses it


class RepeatableSampler(RandomSampler):
    """Draw random points, each from the seed and its trial's number alone.

    A search that resumes after a crash draws the points that it would have drawn.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._seed = seed

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        words = (self._seed, trial.number, *param_name.encode())
        seed = int(np.random.SeedSequence(words).generate_state(1)[0])
        return RandomSampler(seed).sample_independent(study, trial, param_name, param_distribution)


def speed_up_tpe() -> None:
    """Let SciPy compute the logarithm of the normal distribution for Optuna's TPE.

    Optuna computes it in a loop over numbers, which takes most of the time of a proposal where hyperparameters are
    integers. The points are the same but for rounding. An Optuna that has no such function stays as it is.
    """
    from scipy.special import log_ndtr

    if hasattr(_truncnorm, "_log_ndtr"):
        _truncnorm._log_ndtr = log_ndtr


def make_sampler(name: str, seed: int, known: int = 0) -> BaseSampler:
    """Make the sampler of that name; TPE is multivariate, grouped, and accounts for running trials.

    Parameters
    ----------
    known : int
        Trials that the study has already. With them the seed changes, so that a resumed study does not draw its first
        points again. (A QMC sampler keeps its place in the study, and random points follow from trial numbers.)
    """
    if known and name not in ("qmc", "random"):
        seed = int(np.random.SeedSequence((seed, known)).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "tpe":
                speed_up_tpe()
                return TPESampler(seed=seed, **TPE)
            case "gp":
                return GPSampler(seed=seed)
            case "cmaes":
                return CmaEsSampler(seed=seed, warn_independent_sampling=False)
            case "qmc":
                return QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
            case "random":
                return RepeatableSampler(seed)
    raise ValueError(f"no sampler is called {name!r}")
