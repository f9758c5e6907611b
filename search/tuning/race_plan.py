"""Plan the race at the end of a search: which trials are trained again, with which seeds, in which rounds.

The best few complete trials and the reference preset train again with new seeds. After each round the better ones go
on; the reference goes on in any case, because what a search is worth is the difference to it. Every step follows from
the records alone, so that a race that was interrupted goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from search.storage.trial_record import TrialRecord, study_trials
from trainables.base.objectives import Goal, Metrics

SHARE = 0.1  # of a search's compute
MANY_TRIALS = 50  # sampled; with fewer, repeats of many trials cost more than they find
FEW_TRIALS = 15  # with fewer, two trainings are more than about a tenth of the compute, unless times mislead
FEWEST = 2  # trainings: one of the winner, one of the reference
FIRST_NUMBER, _MOST_SEEDS = 2_000_000, 1_000  # above the numbers of trials, and the seeds of promotions


@dataclass(frozen=True)
class Repeat:
    """One training of a race: the point of a trial, with a new seed."""

    trial: TrialRecord
    seed: int  # the how many-eth new one, from 1

    @property
    def number(self) -> int:
        """Number of its record, which no trial has; as any number it settles the seed of the training."""
        return FIRST_NUMBER + _MOST_SEEDS * self.trial.number + self.seed

    @property
    def label(self) -> str:
        """Name as a promotion gives to its trainings."""
        return f"{self.trial.label}.seed{self.seed}"

    def config(self, first_seed: int) -> dict[str, Any]:
        """Return what Tune and the recorder are given, as ``OptunaSearcher`` does for a trial."""
        return {
            "hyperparameters": self.trial.hyperparameters | {"seed": first_seed + self.number},
            "number": self.number,
            "preset": None,
            "repeats": self.trial.number,
            "name": self.label,
        }


@dataclass(frozen=True)
class Round:
    """So many contenders train with so many new seeds each."""

    contenders: int
    seeds: int


def rounds_of(trainings: int) -> tuple[Round, ...]:
    """Share trainings out: 5, 3 and 2 contenders, or 3 and 2, or 2; the last round takes what is left over."""
    for sizes in ((5, 3, 2), (3, 2), (2,)):
        if trainings >= sum(sizes):
            seeds = trainings // sum(sizes)
            extra = (trainings - seeds * sum(sizes)) // sizes[-1]
            return tuple(Round(size, seeds + extra * (size == sizes[-1])) for size in sizes)
    return ()


def affordable(trials: Iterable[TrialRecord], goal: Goal, sampled: int) -> int:
    """Return how many trainings are about a tenth of the search's compute, at the pace of its best trials.

    Parameters
    ----------
    trials : iterable of TrialRecord
        All of the study, however they ended.
    sampled : int
        Number of sampled trials that were asked for.
    """
    trials = list(trials)
    if len(trials) < FEW_TRIALS:  # the first trials of a machine are slow: their seconds are no measure yet
        return 0
    best = _ranked(trials, goal)[:5]
    price = fmean(trial.seconds for trial in best) if best else 0.0
    trainings = round(SHARE * sum(trial.seconds for trial in trials) / price) if price else 0
    return trainings if sampled >= MANY_TRIALS else min(trainings, FEWEST)


@dataclass(frozen=True)
class Race:
    """One race.

    Parameters
    ----------
    reference : str
        Label of the preset that models are compared with; empty: there is none.
    """

    goal: Goal
    trainings: int
    reference: str = ""

    @property
    def rounds(self) -> tuple[Round, ...]:
        return rounds_of(self.trainings)

    def contenders(self, trials: Iterable[TrialRecord]) -> list[TrialRecord]:
        """Return the trials that begin: the best complete ones by their own values, and the reference as the last."""
        ranked = _ranked(study_trials(trials), self.goal)
        reference = [trial for trial in ranked if trial.label == self.reference]
        others = [trial for trial in ranked if trial.label != self.reference]
        size = self.rounds[0].contenders if self.rounds else 0
        chosen = others[: size - len(reference)] + reference
        return chosen if len(chosen) > 1 else []

    def next_repeats(self, records: Mapping[int, TrialRecord]) -> list[Repeat]:
        """Return what is to be trained now; nothing while a round is running, and when the race is over.

        Parameters
        ----------
        records : mapping of int to TrialRecord
            All of the search by number: trials, and trainings of the race so far.
        """
        standing = self.contenders(records.values())
        trained = 0
        for one in self.rounds:
            standing = self._best(standing, records, one.contenders, trained)
            trained += one.seeds
            repeats = [Repeat(trial, seed) for trial in standing for seed in range(1, trained + 1)]
            found = [records.get(repeat.number) for repeat in repeats]
            left = [
                repeat
                for repeat, record in zip(repeats, found, strict=True)
                if record is None or record.outcome == "interrupted"
            ]
            if left or any(record is not None and record.outcome is None for record in found):
                return left
        return []

    def _best(
        self, standing: Sequence[TrialRecord], records: Mapping[int, TrialRecord], size: int, seeds: int
    ) -> list[TrialRecord]:
        """Return those that go on after a round in which each had this number of seeds."""
        if len(standing) <= size:
            return list(standing)
        order = {trial.number: self._order(trial, records, seeds) for trial in standing}
        ranked = sorted(standing, key=lambda trial: (trial.label != self.reference, order[trial.number]))
        return ranked[:size]

    def _order(self, trial: TrialRecord, records: Mapping[int, TrialRecord], seeds: int) -> tuple[float, ...]:
        """Return the sort key of a contender: trainings that failed, then the goal's own order of the mean metrics.

        The trial's own value does not count: it was chosen for being good.
        """
        found = [records.get(Repeat(trial, seed).number) for seed in range(1, seeds + 1)]
        complete = [record.metrics for record in found if record is not None and record.outcome == "complete"]
        if not complete:
            return (float(seeds),)
        return seeds - len(complete), *self.goal.order(_mean_metrics(complete))


def _mean_metrics(metrics: Sequence[Metrics]) -> dict[str, float]:
    """Average the metrics that all trainings have."""
    shared = set.intersection(*(set(one) for one in metrics))
    return {name: fmean(one[name] for one in metrics) for name in metrics[0] if name in shared}


def _ranked(trials: Iterable[TrialRecord], goal: Goal) -> list[TrialRecord]:
    """Return the complete trials of one point, best first."""
    complete = [trial for trial in trials if trial.outcome == "complete" and not trial.perturbed]
    return [complete[place] for place, _ in goal.ranked([trial.metrics for trial in complete])]
