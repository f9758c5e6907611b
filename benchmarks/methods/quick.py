"""Let Optuna's TPE propose the same points in less time, for all methods alike, so that long replays can be computed.

Optuna computes two functions of the normal distribution in a loop over numbers, and asks all ended trials anew for what
cannot change any more. Here SciPy computes the functions, and each ended trial is asked once.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe import _truncnorm, sampler
from optuna.search_space import IntersectionSearchSpace
from optuna.search_space.group_decomposed import _SearchSpaceGroup
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from scipy.special import erf, log_ndtr

Parts = dict[tuple[Any, str], Any]
AS_SHIPPED: Parts = {
    (place, name): getattr(place, name)
    for place, name in (
        (_truncnorm, "_log_ndtr"),
        (_truncnorm, "erf"),
        (TPESampler, "_get_internal_repr"),
        (_SearchSpaceGroup, "add_distributions"),
        (IntersectionSearchSpace, "calculate"),
        (sampler, "_get_infeasible_trial_score"),
        (sampler, "_get_pruned_trial_score"),
    )
}


def _internal_repr(
    self: TPESampler, trials: list[FrozenTrial], search_space: dict[str, BaseDistribution], study: Study
) -> dict[str, np.ndarray]:
    names = tuple(search_space)
    known = self.__dict__.setdefault("_rows", {}).setdefault(names, {})
    rows = []
    for trial in trials:
        row = known.get(trial.number)
        if row is None:
            params = self._get_params(trial, study)
            whole = search_space.keys() <= params.keys()
            row = [search_space[name].to_internal_repr(params[name]) for name in names] if whole else []
            if trial.state.is_finished():
                known[trial.number] = row
        if row:
            rows.append(row)
    column_DP = np.ascontiguousarray(np.array(rows, dtype=float).reshape(len(rows), len(names)).T)
    return dict(zip(names, column_DP, strict=True))


def _add_distributions(self: Any, distributions: dict[str, BaseDistribution]) -> None:
    known = self.__dict__.setdefault("_known", set())
    if (names := frozenset(distributions)) not in known:  # the same names once more change no group
        known.add(names)
        AS_SHIPPED[_SearchSpaceGroup, "add_distributions"](self, distributions)


def _intersection(self: Any, study: Study, use_cache: bool = False) -> dict[str, BaseDistribution]:
    known = self.__dict__.setdefault("_known", set())
    for trial in study._get_trials(deepcopy=False, use_cache=use_cache):
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and trial.number not in known:
            known.add(trial.number)
            before = trial.distributions if self._search_space is None else self._search_space
            self._search_space = {name: one for name, one in before.items() if trial.distributions.get(name) == one}
    return copy.deepcopy(dict(sorted((self._search_space or {}).items())))


def _infeasible_score(trial: FrozenTrial) -> float:
    return float(_once(trial, "_get_infeasible_trial_score"))


def _pruned_score(trial: FrozenTrial, study: Study) -> Any:
    return _once(trial, "_get_pruned_trial_score", study)


def _once(trial: FrozenTrial, name: str, *study: Study) -> Any:
    """Ask once for the score of an ended trial, and keep it in the trial."""
    if name not in trial.__dict__:
        trial.__dict__[name] = AS_SHIPPED[sampler, name](trial, *study)
    return trial.__dict__[name]


# SciPy's logarithm agrees with Optuna's to 1e-13, or 1e-15 where it is that small
QUICK: Parts = dict(
    zip(
        AS_SHIPPED,
        (log_ndtr, erf, _internal_repr, _add_distributions, _intersection, _infeasible_score, _pruned_score),
        strict=True,
    )
)


def compute_quickly() -> None:
    """Replace these parts of Optuna in this process."""
    for (place, name), part in QUICK.items():
        setattr(place, name, part)
