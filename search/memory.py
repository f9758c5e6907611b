"""Trials of earlier searches beside a study: its sampler sees them, nobody else does.

They are kept in a study of their own in the same storage. The study of a search holds its own trials alone, so that
its numbers, its counts and its best trial are those of the search, whatever it began with.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

_SUFFIX = ".warm"


def keep(storage: BaseStorage, name: str, directions: Sequence[StudyDirection], trials: Iterable[FrozenTrial]) -> None:
    """Put complete trials of earlier searches beside the study of that name, in place of what is there."""
    beside = name + _SUFFIX
    if beside in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=beside, storage=storage)
    if trials := list(trials):
        optuna.create_study(study_name=beside, storage=storage, directions=directions).add_trials(trials)


def kept(storage: BaseStorage, name: str) -> list[FrozenTrial]:
    """What ``keep`` put beside the study of that name."""
    beside = name + _SUFFIX
    if beside not in optuna.get_all_study_names(storage):
        return []
    return optuna.load_study(study_name=beside, storage=storage).get_trials()


class Remembering(BaseSampler):
    """A sampler to which a study seems to begin with complete trials of earlier searches."""

    def __init__(self, sampler: BaseSampler, earlier: Sequence[FrozenTrial]) -> None:
        self._sampler, self._earlier = sampler, earlier
        self._seen: _Seen | None = None

    def _as_seen(self, study: Study) -> Study:
        if self._seen is None:
            self._seen = _Seen(study, self._earlier)
        return self._seen

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(self._as_seen(study), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(self._as_seen(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(self._as_seen(study), trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(self._as_seen(study), trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._sampler.after_trial(self._as_seen(study), trial, state, values)

    def reseed_rng(self) -> None:
        self._sampler.reseed_rng()


class _Seen(Study):
    """The study as its sampler sees it.

    Samplers tell trials apart, and sort them, by number. Those of earlier searches get numbers from -1 up to below 0:
    before all of the study's own and equal to none; and not below -1, where the search of GPSampler for the parameters
    that all trials have in common would pass them over.
    """

    def __init__(self, study: Study, earlier: Sequence[FrozenTrial]) -> None:
        super().__init__(study.study_name, study._storage, study.sampler, study.pruner)
        self._study = study
        self._earlier = [copy.copy(trial) for trial in earlier]
        for place, trial in enumerate(self._earlier):
            trial.number = -1 + place / len(earlier)  # type: ignore[assignment]

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        own = self._study._get_trials(deepcopy, states, use_cache)
        if states is not None and TrialState.COMPLETE not in states:
            return own
        return [*(copy.deepcopy(self._earlier) if deepcopy else self._earlier), *own]
