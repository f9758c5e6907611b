"""What counts as better: the direction of each metric, objectives, and constraints that go before them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Mode = Literal["min", "max"]
Kind = Literal["<=", ">="]  # of a constraint: a largest value, or a smallest one
Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Constraint:
    """A bound that a metric has to keep: the largest value that it may have, or the smallest one.

    Raises
    ------
    ValueError
        The kind is neither "<=" nor ">=", or the bound is NaN.
    """

    metric: str
    bound: float
    kind: Kind = "<="

    def __post_init__(self) -> None:
        if self.kind not in ("<=", ">=") or math.isnan(self.bound):
            about = f"{self.metric!r}, {self.bound!r}, {self.kind!r}"
            raise ValueError(f'Constraint({about}): expected a metric, a number, and "<=" or ">="')

    @property
    def key(self) -> str:
        """Name in studies and in files of searches; of a largest value the metric's own, as it has always been."""
        return self.metric if self.kind == "<=" else f"{self.metric}>="

    def excess(self, metrics: Metrics) -> float:
        """Return how far the metric is beyond the bound, as a share of the bound; 0 or less: it is kept.

        For a bound of 0 it is the distance itself.

        Raises
        ------
        KeyError
            The metric is missing.
        """
        if self.metric not in metrics:
            raise KeyError(f"{self.metric} has a constraint and is no metric of this model: {', '.join(metrics)}")
        sign = 1 if self.kind == "<=" else -1
        value, largest = sign * metrics[self.metric], sign * self.bound
        return value / largest - 1 if largest > 0 else (value - largest) / (-largest or 1.0)

    def is_kept(self, metrics: Metrics) -> bool:
        return self.excess(metrics) <= 0

    @property
    def in_words(self) -> str:
        return f"{self.metric} at {'most' if self.kind == '<=' else 'least'} {self.bound:g}"

    def __str__(self) -> str:
        return f"{self.metric} {self.kind} {self.bound:g}"


def stored_constraints(constraints: Iterable[Constraint]) -> dict[str, float]:
    """Return constraints as the value of ``limits`` in the files of a search: {"bias": 0.02, "auc>=": 0.9}."""
    return {constraint.key: constraint.bound for constraint in constraints}


def read_constraints(stored: Mapping[str, float]) -> tuple[Constraint, ...]:
    """Rebuild constraints from the output of ``stored_constraints``."""
    return tuple(
        Constraint(key.removesuffix(">="), bound, ">=" if key.endswith(">=") else "<=") for key, bound in stored.items()
    )


@dataclass(frozen=True)
class Goal:
    """One objective, or several, and the constraints; schedulers and live views look at the first objective.

    A trial that keeps all constraints is better than one that does not; of two that do not, the one that exceeds them
    less is better.
    Source: Deb, Comput. Methods Appl. Mech. Eng. 186 (2000) 311.
    """

    objectives: Mapping[str, Mode]
    constraints: Sequence[Constraint] = ()
    directions: Mapping[str, Mode] = field(default_factory=dict)  # of further metrics; of any other, less is better

    @property
    def objective(self) -> str:
        return next(iter(self.objectives))

    @property
    def mode(self) -> Mode:
        return self.objectives[self.objective]

    @property
    def several(self) -> bool:
        return len(self.objectives) > 1

    @property
    def constrained(self) -> tuple[str, ...]:
        """Names of the metrics that have a constraint, each once."""
        return tuple(dict.fromkeys(constraint.metric for constraint in self.constraints))

    def sign(self, metric: str) -> int:
        """Return 1 where less of a metric is better, -1 where more is."""
        return -1 if self.objectives.get(metric, self.directions.get(metric)) == "max" else 1

    def is_better(self, metric: str, one: float, other: float) -> bool:
        """Return whether one value of a metric is better than another one; NaN is neither better nor worse."""
        return self.sign(metric) * one < self.sign(metric) * other

    def measured_by(self, metrics: Collection[str]) -> Goal:
        """Return the goal with only those constraints whose metrics are among these."""
        return replace(self, constraints=tuple(one for one in self.constraints if one.metric in metrics))

    def excesses(self, metrics: Metrics) -> dict[str, float]:
        """Return by which share each constraint is exceeded, by its key; 0 or less: kept."""
        return {constraint.key: constraint.excess(metrics) for constraint in self.constraints}

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
        if not self.constraints:
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
        return tuple(self.sign(name) * metrics[name] for name in self.objectives)

    def __str__(self) -> str:
        return " and ".join(f"{name} ({mode}imised)" for name, mode in self.objectives.items())
