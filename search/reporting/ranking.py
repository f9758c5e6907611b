"""Make the leaderboard of a search from its records: rank complete trials, by a race where there was one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from search.reporting.leaderboard import Leaderboard, LeaderboardSpec, Row
from search.reporting.outlook import look_ahead
from search.reporting.standings import RaceResult, judge_race
from search.storage.trial_record import study_trials
from trainables.base.objectives import Goal

if TYPE_CHECKING:
    from search.storage.trial_record import TrialRecord

_COMPANIONS = ("floor", "excess", "excess_error", "error")  # of an objective, where the workload reports them


def make_leaderboard(
    spec: LeaderboardSpec,
    records: Iterable[TrialRecord],
    baselines: Mapping[str, Mapping[str, float]],
    references: Mapping[str, Mapping[str, float]] | None = None,
) -> Leaderboard:
    """Rank complete trials at their last epoch: those that keep the constraints first, then by the objectives.

    The best epoch does not count, because the least of many noisy epochs rewards luck, and more so the more epochs a
    trial has. After a race its winner comes first, then trials by what is known of them. Of several objectives the
    Pareto front comes first.

    Parameters
    ----------
    records : iterable of TrialRecord
        All trials of the search and trainings of its race, in any order.
    baselines, references : mapping of str to (mapping of str to float)
        Metrics by label: of naive predictors on the validation events, and of published results of another sample.
    """
    goal, every = spec.goal, sorted(records, key=lambda record: record.number)
    records = study_trials(every)
    complete = {record.number: record for record in records if record.outcome == "complete"}
    race = judge_race(goal, every, spec.min_effect)
    ranked = [
        replace(_trial_row(spec, complete[number], rank, front), race=race.standings[number] if race else None)
        for rank, (number, front) in enumerate(_placed(goal, complete, race), start=1)
    ]
    known = race.estimates if race else {}
    estimates = {complete[number].label: metrics for number, metrics in known.items()}
    ranked += [_score_row(spec, name, "naive", scores) for name, scores in baselines.items()]
    ranked += [_score_row(spec, name, "reference", scores) for name, scores in (references or {}).items()]
    ranked.sort(
        key=lambda row: (
            not _is_finite(row, goal),
            not row.front if goal.several else False,
            *(goal.order(estimates.get(row.label, row.metrics)) if _is_finite(row, goal) else ()),
        )
    )
    if race:  # the winner may be within the least effect of another one
        first = next(place for place, row in enumerate(ranked) if row.rank)
        ranked.insert(first, ranked.pop(next(place for place, row in enumerate(ranked) if row.rank == 1)))
    others = [_trial_row(spec, record, None, False) for record in records if record.outcome != "complete"]
    stopped = [record for record in records if record.outcome == "stopped_early" and record.reason == "scheduler"]
    return Leaderboard(
        search=spec.search,
        workload=spec.workload,
        objective=goal.objective,
        mode=goal.mode,
        objectives=dict(goal.objectives),
        constraints=tuple(goal.constraints),
        objective_version=spec.objective_version,
        rows=(*ranked, *others),
        outcomes=dict(Counter(str(record.outcome) for record in records)),
        compute_hours=sum(record.seconds for record in every) / 3600,
        saved_hours=sum(record.saved_seconds for record in stopped) / 3600,
        directions={
            name: mode for name, mode in goal.directions.items() if mode == "max" and name not in goal.objectives
        },
        race=race.summary if race else None,
        outlook=look_ahead(goal, records, race.summary.noise if race else None, spec.min_effect),
    )


def _placed(goal: Goal, complete: Mapping[int, TrialRecord], race: RaceResult | None) -> list[tuple[int, bool]]:
    """Return the number of each complete trial, best first, and whether it is the best or in the front."""
    if race:
        return [(number, rank == 0) for rank, number in enumerate(race.standings)]
    numbers = list(complete)
    return [(numbers[place], front) for place, front in goal.ranked([one.metrics for one in complete.values()])]


def _trial_row(spec: LeaderboardSpec, record: TrialRecord, rank: int | None, front: bool) -> Row:
    return Row(
        rank=rank,
        number=record.number,
        label=record.label,
        kind="preset" if record.preset else "trial",
        outcome=str(record.outcome),
        reason=record.reason,
        value=record.metrics[spec.goal.objective] if rank else None,
        extra_metrics=_extra_metrics(spec, record.metrics) if rank else {},
        keeps_limits=rank is not None and spec.goal.violation(record.metrics) == 0,
        front=front,
        epoch=record.epoch,
        best_epoch=int(record.best["epoch"]) if record.best else None,
        seconds=record.seconds,
        hyperparameters=record.hyperparameters,
        metrics=dict(record.metrics) if rank else {},
    )


def _score_row(spec: LeaderboardSpec, name: str, kind: str, scores: Mapping[str, float]) -> Row:
    """Make the row of a naive predictor or a published result, which has scores and no trial."""
    return Row(
        rank=None, number=None, label=name, kind=kind, outcome="", reason="", value=scores[spec.goal.objective],
        extra_metrics=_extra_metrics(spec, scores), keeps_limits=_keeps_constraints(scores, spec.goal), front=False,
        epoch=0, best_epoch=None, seconds=0.0, hyperparameters={}, metrics=dict(scores),
    )  # fmt: skip


def _extra_metrics(spec: LeaderboardSpec, metrics: Mapping[str, float]) -> dict[str, float]:
    first, *others = spec.goal.objectives
    if (score := first.removesuffix("_excess")) != first:  # over its floor
        others = [score, f"{score}_floor", *others]
    names = {name: f"{first}_{name}" for name in _COMPANIONS}
    columns = (*others, *spec.goal.constrained, *spec.columns)
    names |= {name: name for name in columns if name not in (first, *names.values())}
    return {name: metrics[metric] for name, metric in names.items() if metric in metrics}


def _is_finite(row: Row, goal: Goal) -> bool:
    """Return whether a row can be compared; a formula may give no number outside its range of validity."""
    return all(math.isfinite(row.metrics.get(name, math.nan)) for name in (*goal.objectives, *goal.constrained))


def _keeps_constraints(scores: Mapping[str, float], goal: Goal) -> bool:
    """Return whether scores are known to keep all constraints; naive predictors may lack a metric of models."""
    return all(name in scores for name in goal.constrained) and goal.violation(scores) == 0
