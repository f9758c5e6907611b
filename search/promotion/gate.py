"""Decide by fixed rules, on the holdout and with an interval, whether a candidate replaces the champion."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.workload import Tolerance
from trainables.base.objectives import Goal
from trainables.evaluation.scores import Difference, Evaluation, difference


@dataclass(frozen=True)
class Verdict:
    """The decision on a candidate, its reasons, and the differences behind it: candidate less champion."""

    passed: bool
    reasons: tuple[str, ...]  # for a refusal, and for the acceptance of the first champion
    differences: Mapping[str, Difference]  # by metric, the first objective first; empty without a champion

    @property
    def explanation(self) -> str:
        """The reasons as one sentence."""
        if self.reasons:
            return "; ".join(self.reasons)
        name, found = next(iter(self.differences.items()))
        change = format_difference(found)
        return f"{name} {change} against the champion, and nothing watched got worse beyond its tolerance"


@dataclass(frozen=True)
class Gate:
    """Accept a candidate only by these rules.

    - On the first objective the candidate is better than the champion by more than the interval.
    - On the first objective the mean over all seeds of its hyperparameters is better than the champion, too, because
      otherwise the candidate is one lucky seed.
    - On no other objective is the candidate worse than the champion.
    - No watched metric is worse than the champion's by more than its tolerance.

    Without a champion finite scores are enough. A score that is not finite fails each rule about it. Two models with
    the same predictions differ by exactly 0, so that a model does not replace itself.
    """

    goal: Goal
    watched: Mapping[str, Tolerance]
    confidence: float

    def decide(self, candidate: Evaluation, seeds: Sequence[Evaluation], champion: Evaluation | None) -> Verdict:
        """Compare a candidate, one of the ``seeds`` of its hyperparameters, with the champion."""
        if champion is None:
            failed = self._not_finite(candidate)
            return Verdict(not failed, tuple(failed) or ("there is no champion yet",), {})
        differences = {name: difference(candidate, champion, name, self.confidence) for name in self._names}
        reasons = [
            *self._not_better(differences[self.goal.objective]),
            *self._mean_not_better(seeds, champion),
            *self._objectives_worse(differences),
            *self._watched_worse(differences, champion),
        ]
        return Verdict(not reasons, tuple(reasons), differences)

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.goal.objectives, *self.watched)))

    def _not_finite(self, candidate: Evaluation) -> list[str]:
        numbers = candidate.numbers()
        return [f"{name} is {numbers[name]:g}, no number" for name in self._names if not math.isfinite(numbers[name])]

    def _not_better(self, found: Difference) -> list[str]:
        name, sign = self.goal.objective, self.goal.sign(self.goal.objective)
        worst = found.high if sign > 0 else found.low  # end of the interval
        if sign * worst < 0:
            return []
        change = format_difference(found)
        return [f"{name} is not better beyond the {self.confidence:.0%} interval: {change} against the champion"]

    def _mean_not_better(self, seeds: Sequence[Evaluation], champion: Evaluation) -> list[str]:
        name = self.goal.objective
        mean, theirs = statistics.fmean(seed.numbers()[name] for seed in seeds), champion.numbers()[name]
        if self.goal.is_better(name, mean, theirs):
            return []
        return [f"{name} is {mean:.4g} on average over its {len(seeds)} seeds, the champion's {theirs:.4g}"]

    def _objectives_worse(self, differences: Mapping[str, Difference]) -> list[str]:
        others = [name for name in self.goal.objectives if name != self.goal.objective]
        return [
            f"{name} got worse: {format_difference(differences[name])}"
            for name in others
            if not self.goal.sign(name) * differences[name].value <= 0
        ]

    def _watched_worse(self, differences: Mapping[str, Difference], champion: Evaluation) -> list[str]:
        reasons = []
        for name, tolerance in self.watched.items():
            allowed = tolerance.of(name, champion.numbers())
            if not self.goal.sign(name) * differences[name].value <= allowed:
                change = format_difference(differences[name])
                reasons.append(f"{name} got worse by more than {allowed:.2g} ({tolerance}): {change}")
        return reasons


def format_difference(found: Difference) -> str:
    """Format a difference as ``value [low, high]``."""
    return f"{found.value:+.3g} [{found.low:+.3g}, {found.high:+.3g}]"
