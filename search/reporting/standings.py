"""Judge trials by the trainings of a race: means over new seeds, shrunk estimates, chances of being best.

Empirical Bayes: the true means of all complete trials are normal around their middle, a seed adds normal noise. The
trial's own value counts as one seed, because the others show from where it was chosen for being good; the means that
are shown are those of new seeds alone, which nobody has chosen. The noise is integrated over: few seeds hardly tell it.
Source: Efron, Large-Scale Inference (2010), chapter 1.
"""

# T complete trials, D draws

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.storage.trial_record import TrialRecord, study_trials
from trainables.base.objectives import Goal, Metrics

Array = NDArray[np.float64]

_SURE = 0.95  # that the best one is among the winner and those that are not separable from it
_AS_CHEAP = 1.1  # factor in training time that is none
_NOISES, _DRAWS = 50, 80  # values of sigma, and draws with each
_ODD = 3.0  # standard deviations between a trial's own value and its new ones
_NO_NOISE = 1e-9  # of a value: where seeds change nothing
_FRESH_DOF = 3  # degrees of freedom from which on new seeds alone measure the noise


@dataclass(frozen=True)
class Standing:
    """What is known of one complete trial after a race; numbers are of the first objective."""

    estimate: float  # shrunk
    chance: float  # of being the best of all complete trials
    seeds: int = 0  # new ones
    mean: float | None = None  # over them
    error: float | None = None  # standard error of that mean
    values: tuple[float, ...] = ()

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Standing:
        """Rebuild a standing from JSON."""
        return cls(**{**content, "values": tuple(content["values"])})


@dataclass(frozen=True)
class RaceSummary:
    """What came of a race."""

    winner: str
    inseparable: tuple[str, ...]  # others, likely ones first, until the best is among them with 95 %
    noise: float  # standard deviation of the first objective over seeds
    trainings: Mapping[str, str]  # outcome of each, by its label
    seconds: float  # of computing

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RaceSummary:
        """Rebuild a summary from JSON."""
        return cls(**{**content, "inseparable": tuple(content["inseparable"])})


@dataclass(frozen=True)
class RaceResult:
    """Standing of each complete trial by its number, best first, with what came of the race."""

    standings: Mapping[int, Standing]  # the winner first, then by their estimates
    estimates: Mapping[int, dict[str, float]]  # of objective and constrained metrics
    summary: RaceSummary


def judge_race(goal: Goal, records: Iterable[TrialRecord], min_effect: float = 0.0) -> RaceResult | None:
    """Judge the complete trials; None: no training of a race is complete, or there are several objectives.

    Parameters
    ----------
    records : iterable of TrialRecord
        Trials and trainings of the race.
    min_effect : float
        Difference of the first objective that is worth nothing: less is a tie.
    """
    records = list(records)
    trials = sorted((one for one in study_trials(records) if one.outcome == "complete"), key=_number)
    repeats = sorted((one for one in records if one.repeats is not None), key=_number)
    complete = [one for one in repeats if one.outcome == "complete"]
    fresh = [[one.metrics for one in complete if one.repeats == trial.number] for trial in trials]
    if not any(fresh) or goal.several:
        return None
    random = np.random.default_rng(0)
    drawn: dict[str, Array] = {}
    noise = 0.0
    for name in (goal.objective, *(one for one in goal.constrained if one != goal.objective)):
        measured = _Measured.of(trials, fresh, name, goal.sign(name))
        drawn[name] = measured.draw(random)
        noise = noise or measured.noise[0]
    chances = _chances(goal, drawn)
    middles = {name: np.median(values, axis=0) for name, values in drawn.items()}  # a mean has no end with two seeds
    estimates = [{name: float(values[place]) for name, values in middles.items()} for place in range(len(trials))]
    failed = {one.repeats for one in repeats if one.outcome in ("diverged", "failed")}
    raced = [place for place in range(len(trials)) if fresh[place]]
    sound = [place for place in raced if trials[place].number not in failed] or raced
    seconds = [_training_seconds(trial, complete) for trial in trials]
    winner = _winner(goal, sound, estimates, min_effect, [seconds, [bool(trial.preset) for trial in trials]])
    order = sorted(range(len(trials)), key=lambda place: (place != winner, *goal.order(estimates[place])))
    standings = {
        trials[place].number: _standing(goal.objective, estimates[place], chances[place], fresh[place], noise)
        for place in order
    }
    likely = sorted((place for place in range(len(trials)) if place != winner), key=lambda place: -chances[place])
    summary = RaceSummary(
        winner=trials[winner].label,
        inseparable=tuple(trials[place].label for place in _until_sure(likely, chances, chances[winner])),
        noise=noise,
        trainings={one.label: str(one.outcome) for one in repeats},
        seconds=sum(one.seconds for one in repeats),
    )
    return RaceResult(standings, {trials[place].number: estimates[place] for place in order}, summary)


def spread_of(values: Array) -> tuple[float, float]:
    """Return the median and the standard deviation on its lower side; a tail of bad values changes neither."""
    middle = float(np.median(values))
    below = values[values < middle]
    return middle, float(np.sqrt(np.mean((middle - below) ** 2))) if below.size else 0.0


@dataclass(frozen=True)
class _Measured:
    """One metric of all complete trials, times the sign with which less is better."""

    sign: int
    own_T: Array  # of the trials themselves
    fresh: Sequence[Array]  # of the new seeds of each trial

    @classmethod
    def of(cls, trials: Sequence[TrialRecord], fresh: Sequence[Sequence[Metrics]], name: str, sign: int) -> _Measured:
        own = np.array([sign * trial.metrics[name] for trial in trials])
        return cls(sign, own, [np.array([sign * metrics[name] for metrics in one]) for one in fresh])

    @property
    def noise(self) -> tuple[float, int]:
        """Standard deviation over seeds, pooled over trials, and its degrees of freedom.

        While new seeds are too few, the trials' own values count as one more of each, which overestimates it.
        """
        for groups in (self.fresh, [np.append(one, own) for one, own in zip(self.fresh, self.own_T, strict=True)]):
            several = [one for one in groups if one.size > 1]
            dof = sum(one.size - 1 for one in several)
            if dof >= _FRESH_DOF or (dof and groups is not self.fresh):
                break
        squares = sum(float(((one - one.mean()) ** 2).sum()) for one in several)
        return float(np.sqrt(squares / dof)), dof

    def draw(self, random: np.random.Generator) -> Array:
        """Draw the true means of all trials, (D, T), from what is known of them."""
        noise, dof = self.noise
        noise = max(noise, _NO_NOISE * (float(np.abs(self.own_T).max()) or 1.0))
        seeds_T = np.array([one.size for one in self.fresh])
        fresh_T = np.array([one.mean() if one.size else own for one, own in zip(self.fresh, self.own_T, strict=True)])
        # a value of another kind than the new ones tells nothing of them
        own_counts_T = np.abs(self.own_T - fresh_T) <= _ODD * noise * np.sqrt(1 + 1 / np.maximum(seeds_T, 1))
        count_T = seeds_T + own_counts_T
        sum_T = seeds_T * fresh_T + own_counts_T * self.own_T
        middle, spread = spread_of(self.own_T)
        draws = np.empty((_NOISES * _DRAWS, len(self.own_T)))
        for part in range(_NOISES):
            sigma2 = noise**2 * dof / random.chisquare(dof)
            tau2 = max(spread**2 - sigma2, 1e-3 * sigma2)
            variance_T = 1 / (1 / tau2 + count_T / sigma2)
            means_T = variance_T * (middle / tau2 + sum_T / sigma2)
            normal = random.normal(size=(_DRAWS, len(self.own_T)))
            draws[part * _DRAWS : (part + 1) * _DRAWS] = means_T + normal * np.sqrt(variance_T)
        return np.asarray(self.sign * draws)


def _chances(goal: Goal, drawn: Mapping[str, Array]) -> list[float]:
    """Return the chance of each trial to be the best one: the share of draws in which it is, by the goal's order."""
    values = goal.sign(goal.objective) * drawn[goal.objective]
    violations = np.zeros_like(values)
    for constraint in goal.constraints:
        metrics: Any = {constraint.metric: drawn[constraint.metric]}  # of all draws at once
        violations += np.maximum(constraint.excess(metrics), 0)
    least = violations.min(axis=1, keepdims=True)
    best = np.where(violations <= least, values, np.inf).argmin(axis=1)
    return list(np.bincount(best, minlength=values.shape[1]) / len(values))


def _until_sure(likely: Sequence[int], chances: Sequence[float], chance: float) -> list[int]:
    """Return the trials without which the best one would be missed too often: all that have more than 5 % among them.

    Of very many equally good ones none has 5 %.
    """
    found: list[int] = []
    for place in likely:
        if chance >= _SURE:
            break
        found.append(place)
        chance += chances[place]
    return found


def _winner(
    goal: Goal, places: Sequence[int], estimates: Sequence[Metrics], tie: float, merits: Sequence[Sequence[Any]]
) -> int:
    """Return the best one; of a tie the cheaper, of equally cheap ones the preset, else the better.

    Seed noise alone makes no tie: a preset that was taken for everything within a quarter of it was measured to be as
    much as twice as far from the best model.
    """
    seconds, presets = merits
    best = min(places, key=lambda place: goal.order(estimates[place]))
    violation, value = goal.order(estimates[best])
    orders = {place: goal.order(estimates[place]) for place in places}
    tied = [place for place, order in orders.items() if order[0] <= violation and order[1] - value <= tie]
    cheap = [place for place in tied if seconds[place] <= _AS_CHEAP * min(seconds[one] for one in tied)]
    return min(cheap, key=lambda place: (not presets[place], *orders[place]))


def _training_seconds(trial: TrialRecord, repeats: Iterable[TrialRecord]) -> float:
    """Return the computing time of one training of a trial's point: the middle of all of them."""
    return float(np.median([trial.seconds, *(one.seconds for one in repeats if one.repeats == trial.number)]))


def _standing(objective: str, estimate: Metrics, chance: float, fresh: Sequence[Metrics], noise: float) -> Standing:
    values = tuple(metrics[objective] for metrics in fresh)
    if not values:
        return Standing(estimate[objective], chance)
    mean, error = float(np.mean(values)), noise / len(values) ** 0.5
    return Standing(estimate[objective], chance, len(values), mean, error, values)


def _number(record: TrialRecord) -> int:
    return record.number
