"""Estimate what more trials would gain, and say whether something else would gain more.

The mean record of m trials, taken from all choices of m of the last values, falls with m as it will go on to fall: as a
power of m, whose exponent two doublings tell. Of a gain only a part is the models' own, because a record is also a
lucky seed: in the mean the share of the spread that is not seed noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from search.reporting.precision import seed_error
from search.reporting.standings import spread_of
from search.storage.trial_record import study_trials
from trainables.base.objectives import Goal

if TYPE_CHECKING:
    from search.storage.trial_record import TrialRecord

MORE = 50  # trials
FEWEST = 16  # complete sampled trials that keep the constraints: fewer have no history
_RECENT = 24  # of the latter half of the values, whose points a sampler proposed when it had learnt; at least
_LEAST, _MOST = 1e-3, 1.5  # exponent: a logarithm, and faster than any smooth optimum


@dataclass(frozen=True)
class Outlook:
    """What more trials are expected to gain."""

    trials: int
    objective: str
    gain: float  # of the objective, in the mean
    noise: float | None  # of its value over seeds; None: unknown
    min_effect: float = 0.0
    raced: bool = False  # the noise was measured by a race

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Outlook:
        """Rebuild an outlook from JSON."""
        return cls(**content)

    def __str__(self) -> str:
        noise = "unknown: --race N measures it" if self.noise is None else f"{self.noise:.1g}"
        said = (
            f"{self.trials} more trials are expected to gain {self.gain:.1g} of {self.objective} (seed noise {noise})"
        )
        if self.gain < self.min_effect:
            return f"{said}: less than --min-effect {self.min_effect:g}"
        if self.noise is None or self.gain >= self.noise:
            return said
        instead = "more validation events" if self.raced else "a race (--race N) or more validation events"
        return f"{said}: less than chance; what helps is {instead}, not more trials"


def look_ahead(
    goal: Goal, records: Iterable[TrialRecord], noise: float | None = None, min_effect: float = 0.0
) -> Outlook | None:
    """Estimate the gain of more trials like the last ones; None: too few are complete, or there is no one objective.

    Parameters
    ----------
    records : iterable of TrialRecord
        Trials in any order.
    noise : float, optional
        Standard deviation of the objective over seeds, as a race measured it; else its statistical error is taken,
        where the workload gives one.
    """
    trials = sorted(study_trials(records), key=lambda one: one.number)
    complete = [one for one in trials if one.outcome == "complete" and goal.violation(one.metrics) == 0]
    sampled = [one for one in complete if one.preset is None]
    if goal.several or len(sampled) < FEWEST:
        return None
    ended = sum(one.outcome is not None and one.preset is None for one in trials)
    sign, name = goal.sign(goal.objective), goal.objective
    raced, noise = noise is not None, seed_error(goal, [one.metrics for one in complete]) if noise is None else noise
    gain = expected_gain(
        [sign * one.metrics[name] for one in sampled],
        min(sign * one.metrics[name] for one in complete),
        MORE * len(sampled) / ended,
        noise or 0.0,
    )
    return Outlook(MORE, name, gain, noise, min_effect, raced)


def expected_gain(values: Sequence[float], best: float, more: float, noise: float) -> float:
    """Return by how much the best of the models is expected to become better.

    Parameters
    ----------
    values : sequence of float
        Of the complete sampled trials in their order; less is better.
    best : float
        The best value so far, of the others too.
    more : float
        Number of further complete trials.
    noise : float
        Standard deviation over seeds.
    """
    recent = np.sort(np.asarray(values[-max(_RECENT, math.ceil(len(values) / 2)) :]))
    sizes = [recent.size // parts for parts in (8, 4, 2)]
    records = [_mean_record(recent, size) for size in sizes]
    first, second = records[0] - records[1], records[1] - records[2]
    _, spread = spread_of(recent)
    if second <= 0 or not spread:
        return 0.0
    exponent = min(max(math.log(first / second) / math.log(sizes[1] / sizes[0]), _LEAST), _MOST)
    height = second / (sizes[1] ** -exponent - sizes[2] ** -exponent)
    gain = float(height * (len(values) ** -exponent - (len(values) + more) ** -exponent))
    gain -= max(0.0, min(values) - best)  # what others are ahead
    return max(0.0, gain) * max(0.0, 1 - (noise / spread) ** 2)


def _mean_record(ascending: NDArray[np.float64], size: int) -> float:
    """Return the mean of the least of ``size`` values, over all choices of so many."""
    chance, rest, mean = 1.0, ascending.size, 0.0
    for value in ascending:
        taken = size / rest  # that the choice has this value, if it has no smaller one
        mean += chance * taken * float(value)
        chance *= 1 - taken
        rest -= 1
        if chance <= 0 or rest < size:
            break
    return mean
