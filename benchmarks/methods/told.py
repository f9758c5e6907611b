"""Variants of what a sampler is told of stopped trials, for the ablation: none of them is part of a search."""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Container, Sequence

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.tuning.history_sampler import HistorySampler, StudyView


class RankedSampler(HistorySampler):
    """A sampler to which every ended trial has one comparable value: its place among all."""

    def _as_seen(self, study: Study) -> Study:
        if self._seen is None:
            self._seen = _RankedView(study, self._earlier, self._most, places)
        return self._seen


class LastValueSampler(HistorySampler):
    """A sampler to which a stopped trial is complete with its last value, as Ray tells it."""

    def _as_seen(self, study: Study) -> Study:
        if self._seen is None:
            self._seen = _RankedView(study, self._earlier, self._most, last_values)
        return self._seen


class _RankedView(StudyView):
    def __init__(self, study: Study, earlier: Sequence[FrozenTrial], most: int, value_of: object) -> None:
        super().__init__(study, earlier, most)
        self._value_of, self._copies = value_of, dict[float, FrozenTrial]()
        self._ranked = 0

    def _all(self, states: Container[TrialState] | None, use_cache: bool) -> list[FrozenTrial]:
        trials = super()._all(states, use_cache)
        if states is not None and TrialState.PRUNED not in states:
            return trials
        ended = [one for one in super()._all((TrialState.COMPLETE, TrialState.PRUNED), use_cache) if _usable(one)]
        if len(ended) != self._ranked:
            self._ranked = len(ended)
            values = self._value_of(ended)  # type: ignore[operator]
            self._copies = {trial.number: _complete(trial, values[trial.number]) for trial in ended}
        return [self._copies.get(trial.number, trial) for trial in trials]


def _usable(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE or bool(trial.intermediate_values)


def _complete(trial: FrozenTrial, value: float) -> FrozenTrial:
    one = copy.copy(trial)
    one.state, one.values = TrialState.COMPLETE, [value]
    return one


def last_values(trials: Sequence[FrozenTrial]) -> dict[int, float]:
    return {
        one.number: one.values[0] if one.state == TrialState.COMPLETE else one.intermediate_values[one.last_step]
        for one in trials
    }


def places(trials: Sequence[FrozenTrial]) -> dict[int, float]:
    """Return the place of each trial: complete ones by their value; a stopped one among those that went on.

    Compared at the step at which it stopped, it is placed behind as many of those that went on as were better there.
    """
    order = sorted((one for one in trials if one.state == TrialState.COMPLETE), key=lambda one: one.values[0])
    stopped: dict[int, list[FrozenTrial]] = {}
    for one in trials:
        if one.state == TrialState.PRUNED:
            stopped.setdefault(int(one.last_step or 0), []).append(one)
    for step in sorted(stopped, reverse=True):
        went_on = [place for place, one in enumerate(order) if step in one.intermediate_values]
        values = sorted(order[place].intermediate_values[step] for place in went_on)
        keyed = [((place + 0.0, 0, 0.0), one) for place, one in enumerate(order)]
        for one in stopped[step]:
            value = one.intermediate_values[step]
            better = bisect_left(values, value)
            behind = went_on[better - 1] + 0.5 if better else -1.0
            keyed.append(((behind, 1, value), one))
        order = [one for _, one in sorted(keyed, key=lambda pair: (pair[0], pair[1].number))]
    return {one.number: float(place) for place, one in enumerate(order)}
