"""Whether a candidate takes the champion's place: decided on the holdout, with an interval, by fixed rules."""

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
    """Yes or no, every reason for a no, and the numbers behind it: candidate less champion."""

    passed: bool
    reasons: tuple[str, ...]  # of a yes without a champion, too
    differences: Mapping[str, Difference]  # by metric, the first objective first; empty where there is no champion

    @property
    def told(self) -> str:
        """Why, in words."""
        if self.reasons:
            return "; ".join(self.reasons)
        name, found = next(iter(self.differences.items()))
        return f"{name} {told(found)} against the champion, and nothing watched got worse beyond its tolerance"


@dataclass(frozen=True)
class Gate:
    """The rules.

    - On every objective the candidate must be better than the champion, and on one of them so by more than the
      interval: that is the first one, where the goal has only one.
    - So must the mean over all seeds of its hyperparameters be, on the first objective: else it is one lucky seed.
    - No watched metric may be worse than the champion's by more than its tolerance.

    The first candidate of all needs numbers only. One that is not finite never helps anybody. Two models that predict
    the same differ by exactly 0: no.
    """

    goal: Goal
    watched: Mapping[str, Tolerance]
    confidence: float

    def decide(self, candidate: Evaluation, seeds: Sequence[Evaluation], champion: Evaluation | None) -> Verdict:
        """The verdict on a candidate, one of the models of its hyperparameters, against the champion."""
        if champion is None:
            missing = self._not_finite(candidate)
            return Verdict(not missing, tuple(missing) or ("there is no champion yet",), {})
        differences = {name: difference(candidate, champion, name, self.confidence) for name in self._names}
        reasons = [
            *self._not_better(differences[self.goal.objective]),
            *self._lucky(seeds, champion),
            *self._others_worse(differences),
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
        name, sign = self.goal.objective, self._sign(self.goal.objective)
        end = found.high if sign > 0 else found.low  # that of its ends which is worst for the candidate
        if sign * end < 0:
            return []
        return [f"{name} is not better beyond the {self.confidence:.0%} interval: {told(found)} against the champion"]

    def _lucky(self, seeds: Sequence[Evaluation], champion: Evaluation) -> list[str]:
        name = self.goal.objective
        mean, theirs = statistics.fmean(seed.numbers()[name] for seed in seeds), champion.numbers()[name]
        if self._sign(name) * (mean - theirs) < 0:
            return []
        return [f"{name} is {mean:.4g} on average over its {len(seeds)} seeds, the champion's {theirs:.4g}"]

    def _others_worse(self, differences: Mapping[str, Difference]) -> list[str]:
        others = [name for name in self.goal.objectives if name != self.goal.objective]
        return [
            f"{name} got worse: {told(differences[name])}"
            for name in others
            if not self._sign(name) * differences[name].value <= 0
        ]

    def _watched_worse(self, differences: Mapping[str, Difference], champion: Evaluation) -> list[str]:
        reasons = []
        for name, tolerance in self.watched.items():
            allowed = tolerance.of(champion.numbers()[name])
            if not differences[name].value <= allowed:
                reasons.append(f"{name} got worse by more than {allowed:.2g} ({tolerance}): {told(differences[name])}")
        return reasons

    def _sign(self, objective: str) -> int:
        return 1 if self.goal.objectives[objective] == "min" else -1


def told(found: Difference) -> str:
    """A difference with its interval, for people."""
    return f"{found.value:+.3g} [{found.low:+.3g}, {found.high:+.3g}]"
