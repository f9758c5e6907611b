"""Say in sentences what a leaderboard is worth: who keeps the constraints, and who beats the naive predictors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainables.base.objectives import Goal

if TYPE_CHECKING:
    from search.reporting.leaderboard import Leaderboard, Row
    from search.reporting.standings import Standing

_NAMED = 5  # trials that are not separable
_UNCOMPARED = ("_floor", "_error")  # ends of names that say how precise a value is, not how good


def about_constraints(board: Leaderboard) -> list[str]:
    """Return one sentence for each constraint: how many complete trials keep it."""
    complete, lines = [row for row in board.rows if row.rank], list[str]()
    for constraint in board.constraints if complete else ():
        keep = sum(constraint.is_kept(row.metrics) for row in complete)
        lines.append(f"limit    {constraint}: {keep} of {len(complete)} complete trials keep it")
    if lines and not any(row.keeps_limits for row in complete):
        lines.append("limit    none keeps all: they are ranked by how far they are from it")
    return lines


def about_race(board: Leaderboard) -> list[str]:
    """Return what a race found: the winner, its mean over new seeds, and what is not separable from it."""
    standings = {row.label: (row.race, row.value) for row in board.rows if row.race}
    if board.race is None or board.race.winner not in standings:
        return []
    won, value = standings[board.race.winner]
    others = [f"{label} ({_percent(standings[label][0])})" for label in board.race.inseparable]
    more = [f"and {len(others) - _NAMED} more"] * (len(others) > _NAMED)
    beside = f"not separable from: {', '.join([*others[:_NAMED], *more])}" if others else "separable from all others"
    return [
        f"race     {board.race.winner}: {board.objective} {won.mean:.3g} +- {won.error:.1g} over {won.seeds} new seeds "
        f"(its own run: {value:.3g}), the best with a chance of {_percent(won)}; {beside}"
    ]


def _percent(standing: Standing) -> str:
    return f"{100 * standing.chance:.0f} %"


def against_naive(board: Leaderboard) -> list[str]:
    """Return one sentence for each naive predictor: whether the best trial, or the front, beats it, and on what."""
    if (best := board.best) is None:
        return []
    goal = board.goal
    naive = [row for row in board.rows if row.kind == "naive" and _is_comparable(row, goal)]
    if goal.several:
        return [_front_verdict(board.front, row, goal) for row in naive]
    return [_verdict(best, row, goal) for row in naive]


def _is_comparable(row: Row, goal: Goal) -> bool:
    """Return whether a predictor has finite numbers; one on which only models have a constraint it need not have."""
    names = (*goal.objectives, *(name for name in goal.constrained if name in row.metrics))
    return all(math.isfinite(row.metrics[name]) for name in names)


def _front_verdict(front: Sequence[Row], naive: Row, goal: Goal) -> str:
    goal = goal.measured_by(naive.metrics)
    better = [row.label for row in front if goal.front([row.metrics, naive.metrics]) == [True, False]]
    names = ", ".join(better[:3]) + ", ..." * (len(better) > 3) or "none"
    return f"{naive.label}: {len(better)} of {len(front)} trials of the front beat it on all objectives: {names}"


def _verdict(best: Row, naive: Row, goal: Goal) -> str:
    """Compare the best trial with a naive predictor on each objective and column."""
    shared = [name for name in best.extra_metrics if name in best.metrics.keys() & naive.metrics.keys()]
    parts = []
    for name in dict.fromkeys([*goal.objectives, *(name for name in shared if not name.endswith(_UNCOMPARED))]):
        ours, theirs = best.metrics[name], naive.metrics[name]
        verb = "beats" if goal.is_better(name, ours, theirs) else "DOES NOT BEAT"
        parts.append(f"{verb} it on {name} ({ours:.3g} against {theirs:.3g})")
    return f"{naive.label}: the best trial {', and '.join(parts)}"
