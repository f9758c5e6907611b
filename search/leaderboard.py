"""The result of a search as a table: complete trials, presets and naive predictors, by value."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from search.plan import Plan
from search.records import TrialRecord

_COMPANIONS = ("floor", "excess", "error")  # of an objective, where the workload reports them


@dataclass(frozen=True)
class Row:
    """One line of the leaderboard. Only complete trials have a rank."""

    rank: int | None
    label: str
    kind: str  # trial, preset or naive
    outcome: str
    reason: str
    value: float | None
    beside: dict[str, float]  # floor, excess, error, and the workload's columns
    epoch: int
    best_epoch: int | None
    seconds: float
    hyperparameters: dict[str, Any]


@dataclass(frozen=True)
class Leaderboard:
    """Everything that a person or a program wants to know at the end of a search."""

    search: str
    workload: str
    objective: str
    mode: str
    objective_version: str
    rows: tuple[Row, ...]  # complete trials and naive predictors by value, then the others by number
    outcomes: dict[str, int]
    compute_hours: float
    saved_hours: float  # by stopping trials early

    @property
    def best(self) -> Row | None:
        return next((row for row in self.rows if row.rank == 1), None)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def as_csv(self) -> str:
        """One line a row, as MLflow's artifact viewer shows it best."""
        columns = _columns(self.rows)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["rank", "trial", "kind", "outcome", "reason", self.objective, *columns, "epoch", "seconds"])
        for row in self.rows:
            beside = [row.beside.get(column, "") for column in columns]
            about = [row.rank or "", row.label, row.kind, row.outcome, row.reason]
            value = "" if row.value is None else row.value
            writer.writerow([*about, value, *beside, row.epoch, f"{row.seconds:.1f}"])
        return text.getvalue()

    def as_table(self, most: int = 20) -> Table:
        """The first rows, all presets and naive predictors, for a terminal."""
        ended = [row for row in self.rows if row.value is not None or row.kind == "preset"]
        shown = [row for place, row in enumerate(ended) if place < most or row.kind != "trial"]
        columns = [column for column in _columns(shown) if column not in ("error", "excess")]
        table = Table(title=f"{self.search}: {self.objective}, {self.mode}imised")
        for name in ("", "trial", self.objective, *columns, "best epoch", "min"):
            table.add_column(name, justify="left" if name == "trial" else "right", no_wrap=True)
        for row in shown:
            table.add_row(
                str(row.rank or ""), row.label, _value(row),
                *(number(row.beside.get(column)) for column in columns),
                f"{row.best_epoch} of {row.epoch}" if row.best_epoch else "",
                f"{row.seconds / 60:.1f}" if row.seconds else "",
                style="dim" if row.kind == "naive" else "cyan" if row.kind == "preset" else None,
            )  # fmt: skip
        return table

    def against_naive(self) -> list[str]:
        """One sentence per naive predictor: does the best trial beat it, and on what?"""
        best = self.best
        if best is None:
            return []
        return [_verdict(best, row, self.objective, self.mode) for row in self.rows if row.kind == "naive"]


def make_leaderboard(
    plan: Plan,
    records: Iterable[TrialRecord],
    baselines: Mapping[str, Mapping[str, float]],
    objective_version: str,
) -> Leaderboard:
    """Rank complete trials by the objective at their last epoch.

    Not at their best one: the least of many noisy epochs rewards luck, and more so the more epochs a trial has.
    """
    records = sorted(records, key=lambda record: record.number)
    sign = 1.0 if plan.mode == "min" else -1.0
    complete = [record for record in records if record.outcome == "complete"]
    complete.sort(key=lambda record: sign * record.metrics[plan.objective])
    ranked = [_trial_row(plan, record, rank) for rank, record in enumerate(complete, start=1)]
    ranked += [_naive_row(plan, name, scores) for name, scores in baselines.items()]
    ranked.sort(key=lambda row: sign * (row.value if row.value is not None else 0.0))
    others = [_trial_row(plan, record, None) for record in records if record.outcome != "complete"]
    stopped = [record for record in records if record.outcome == "stopped_early" and record.reason == "scheduler"]
    return Leaderboard(
        search=plan.name,
        workload=plan.workload.name,
        objective=plan.objective,
        mode=plan.mode,
        objective_version=objective_version,
        rows=(*ranked, *others),
        outcomes=dict(Counter(str(record.outcome) for record in records)),
        compute_hours=sum(record.seconds for record in records) / 3600,
        saved_hours=sum(record.saved_seconds for record in stopped) / 3600,
    )


def number(value: float | None) -> str:
    """Three figures, as a person reads them in a table."""
    return "" if value is None else f"{value:.3g}"


def _value(row: Row) -> str:
    """Value and error of a complete trial; of a preset that is not, what became of it."""
    error = row.beside.get("error")
    return number(row.value) + (f" +- {error:.1g}" if error is not None else "") or row.outcome.replace("_", " ")


def _trial_row(plan: Plan, record: TrialRecord, rank: int | None) -> Row:
    return Row(
        rank=rank,
        label=record.label,
        kind="preset" if record.preset else "trial",
        outcome=str(record.outcome),
        reason=record.reason,
        value=record.metrics[plan.objective] if rank else None,
        beside=_beside(plan, record.metrics) if rank else {},
        epoch=record.epoch,
        best_epoch=int(record.best["epoch"]) if record.best else None,
        seconds=record.seconds,
        hyperparameters=record.hyperparameters,
    )


def _naive_row(plan: Plan, name: str, scores: Mapping[str, float]) -> Row:
    return Row(
        rank=None, label=name, kind="naive", outcome="", reason="", value=scores[plan.objective],
        beside=_beside(plan, scores), epoch=0, best_epoch=None, seconds=0.0, hyperparameters={},
    )  # fmt: skip


def _beside(plan: Plan, metrics: Mapping[str, float]) -> dict[str, float]:
    companions = {name: f"{plan.objective}_{name}" for name in _COMPANIONS}
    columns = {name: name for name in plan.workload.columns if name != plan.objective}
    return {name: metrics[metric] for name, metric in (companions | columns).items() if metric in metrics}


def _columns(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row.beside))


def _verdict(best: Row, naive: Row, objective: str, mode: str) -> str:
    assert best.value is not None
    assert naive.value is not None
    sign = 1.0 if mode == "min" else -1.0
    scores = {objective: (sign * best.value, sign * naive.value)}
    scores |= {
        column: (best.beside[column], naive.beside[column])
        for column in best.beside.keys() & naive.beside.keys() - set(_COMPANIONS)
    }
    parts = []
    for name, (ours, theirs) in scores.items():
        verb = "beats" if ours < theirs else "DOES NOT BEAT"
        parts.append(f"{verb} it on {name} ({number(abs(ours))} against {number(abs(theirs))})")
    return f"{naive.label}: the best trial {', and '.join(parts)}"
