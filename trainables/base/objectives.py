"""What counts as better: objectives with their directions, and constraints that go before them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Mode = Literal["min", "max"]
Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Goal:
    """One objective, or several, and the constraints; schedulers and live views look at the first objective.

    A constraint is the largest value that a metric may have. A trial that keeps all constraints is better than one
    that does not; of two that do not, the one that exceeds them less is better.
    Source: Deb, Comput. Methods Appl. Mech. Eng. 186 (2000) 311.
    """

    objectives: Mapping[str, Mode]
    limits: Mapping[str, float] = field(default_factory=dict)  # constraints: metric -> its largest value

    @property
    def objective(self) -> str:
        return next(iter(self.objectives))

    @property
    def mode(self) -> Mode:
        return self.objectives[self.objective]

    @property
    def several(self) -> bool:
        return len(self.objectives) > 1

    def excesses(self, metrics: Metrics) -> dict[str, float]:
        """Return by which share each constraint is exceeded; 0 or less: kept."""
        return {name: metrics[name] / limit - 1 for name, limit in self.limits.items()}

    def violation(self, metrics: Metrics) -> float:
        """Sum the excesses; 0: all constraints are kept."""
        return sum(max(excess, 0.0) for excess in self.excesses(metrics).values())

    def order(self, metrics: Metrics) -> tuple[float, ...]:
        """Return the sort key of which the least is the best."""
        return self.violation(metrics), *self._signed(metrics)

    def scalar_score(self, metrics: Metrics) -> float:
        """Return the order as one number for schedulers: the least is the best.

        Without constraints it is the objective itself (its negative where it is maximised). With constraints, trials
        that keep them lie below 2, by the objective, and the others above, by their violation.
        """
        signed, violation = self._signed(metrics)[0], self.violation(metrics)
        if not self.limits:
            return signed
        return 2.0 + violation if violation > 0 else math.atan(signed)

    def front(self, scores: Sequence[Metrics]) -> list[bool]:
        """Mark the scores that no other one dominates: the Pareto front."""
        return [not any(self._dominates(other, one) for other in scores) for one in scores]

    def ranked(self, scores: Sequence[Metrics]) -> list[tuple[int, bool]]:
        """Return the index of each score, best first, and whether it is the best of all or in the front.

        Of several objectives the Pareto front comes first, by the first objective.
        """
        front = self.front(scores) if self.several else [False] * len(scores)
        indices = sorted(range(len(scores)), key=lambda index: (not front[index], *self.order(scores[index])))
        return [(index, front[index] or (rank == 0 and not self.several)) for rank, index in enumerate(indices)]

    def _dominates(self, one: Metrics, other: Metrics) -> bool:
        violations = self.violation(one), self.violation(other)
        if max(violations) > 0 and violations[0] != violations[1]:
            return violations[0] < violations[1]
        ours, theirs = self._signed(one), self._signed(other)
        return ours != theirs and all(a <= b for a, b in zip(ours, theirs, strict=True))

    def _signed(self, metrics: Metrics) -> tuple[float, ...]:
        return tuple(metrics[name] if mode == "min" else -metrics[name] for name, mode in self.objectives.items())

    def __str__(self) -> str:
        return " and ".join(f"{name} ({mode}imised)" for name, mode in self.objectives.items())
