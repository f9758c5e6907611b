"""Give a sampler trials of earlier searches beside the study's own, and of very many trials only a part.

Trials of earlier searches are stored in a study of their own in the same storage. The study of a search holds its own
trials alone, so that its numbers, counts and best trial are those of the search, whatever the sampler learnt from.
"""

from __future__ import annotations

import copy
import heapq
from collections.abc import Container, Iterable, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

_SUFFIX = ".warm"
_BEST_SHARE = 4  # one in so many of the trials that a sampler sees may be there for its values


def keep(storage: BaseStorage, name: str, directions: Sequence[StudyDirection], trials: Iterable[FrozenTrial]) -> None:
    """Store complete trials of earlier searches beside the study of that name, replacing what is there."""
    beside = name + _SUFFIX
    if beside in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=beside, storage=storage)
    if trials := list(trials):
        optuna.create_study(study_name=beside, storage=storage, directions=directions).add_trials(trials)


def kept(storage: BaseStorage, name: str) -> list[FrozenTrial]:
    """Return what ``keep`` stored beside the study of that name."""
    beside = name + _SUFFIX
    if beside not in optuna.get_all_study_names(storage):
        return []
    return optuna.load_study(study_name=beside, storage=storage).get_trials()


class HistorySampler(BaseSampler):
    """A sampler that sees complete trials of earlier searches, and at most ``most`` ended trials.

    Parameters
    ----------
    earlier : sequence of FrozenTrial
    most : int
        Ended trials that it sees. What a sampler takes for a point grows with them, and TPE itself gives old trials
        little weight. Of more the best are seen, and the newest.
    """

    def __init__(self, sampler: BaseSampler, earlier: Sequence[FrozenTrial], most: int) -> None:
        self._sampler, self._earlier, self._most = sampler, earlier, most
        self._seen: StudyView | None = None

    def _as_seen(self, study: Study) -> Study:
        if self._seen is None:
            self._seen = StudyView(study, self._earlier, self._most)
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


class StudyView(Study):
    """A study as its sampler sees it.

    Samplers distinguish and sort trials by number. Those of earlier searches get numbers from -1 up to below 0:
    before all of the study's own and equal to none; and not below -1, where the search of GPSampler for the parameters
    that all trials have in common would skip them.
    """

    def __init__(self, study: Study, earlier: Sequence[FrozenTrial], most: int) -> None:
        super().__init__(study.study_name, study._storage, study.sampler, study.pruner)
        self._study, self._most = study, most
        self._earlier = [copy.copy(trial) for trial in earlier]
        for place, trial in enumerate(self._earlier):
            trial.number = -1 + place / len(earlier)  # type: ignore[assignment]
        self._ended, self._passed_over = 0, frozenset[float]()

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        trials = self._all(states, use_cache)
        passed_over = self._too_many(use_cache)
        seen = [trial for trial in trials if trial.number not in passed_over] if passed_over else trials
        return copy.deepcopy(seen) if deepcopy else seen

    def _all(self, states: Container[TrialState] | None, use_cache: bool) -> list[FrozenTrial]:
        own = self._study._get_trials(False, states, use_cache)
        return own if states is not None and TrialState.COMPLETE not in states else [*self._earlier, *own]

    def _too_many(self, use_cache: bool) -> frozenset[float]:
        """Return the numbers of the ended trials that are neither among the best nor among the newest."""
        ended = self._all((TrialState.COMPLETE, TrialState.PRUNED), use_cache)
        if len(ended) != self._ended and len(ended) > self._most:
            best = self._best([trial for trial in ended if trial.state == TrialState.COMPLETE])
            others = [trial.number for trial in ended if trial.number not in best]
            self._ended, self._passed_over = len(ended), frozenset(others[: len(ended) - self._most])
        return self._passed_over

    def _best(self, complete: Sequence[FrozenTrial]) -> set[float]:
        """Return the numbers of the best by each objective; trials that keep the constraints go first."""
        signs = [1 if direction == StudyDirection.MINIMIZE else -1 for direction in self._study.directions]
        count = self._most // _BEST_SHARE // len(signs)

        def by(objective: int) -> list[FrozenTrial]:
            return heapq.nsmallest(
                count, complete, key=lambda trial: (_violation(trial), signs[objective] * trial.values[objective])
            )

        return {trial.number for objective in range(len(signs)) for trial in by(objective)}


def _violation(trial: FrozenTrial) -> float:
    return sum(excess for excess in trial.constraints.values() if excess > 0)
