"""The leaderboard of a search: complete trials, presets and naive predictors, ranked; as a table, CSV and JSON."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from rich.table import Table

from search.reporting.precision import about_trials
from search.reporting.verdicts import about_constraints, against_naive
from trainables.base.objectives import Constraint, Goal, Mode, read_constraints, stored_constraints

if TYPE_CHECKING:
    from search.storage.trial_record import TrialRecord

_COMPANIONS = ("floor", "excess", "excess_error", "error")  # of an objective, where the workload reports them
_STORED_NAMES = {"extra_metrics": "beside", "constraints": "limits"}  # fields with another name in leaderboard.json


@dataclass(frozen=True)
class LeaderboardSpec:
    """What a leaderboard needs of the specification of its search."""

    search: str
    workload: str
    goal: Goal
    columns: tuple[str, ...]  # metrics shown beside the objectives
    objective_version: str


@dataclass(frozen=True)
class Row:
    """One line of the leaderboard. Only complete trials have a rank, and only they can be in the front."""

    rank: int | None
    number: int | None  # of the trial
    label: str
    kind: str  # trial, preset, naive, or reference: a published result, of another sample
    outcome: str
    reason: str
    value: float | None  # of the first objective
    extra_metrics: dict[str, float]  # floor, excess, error, other objectives, and the workload's columns
    keeps_limits: bool
    front: bool  # no other complete trial is as good in all objectives and better in one
    epoch: int
    best_epoch: int | None
    seconds: float
    hyperparameters: dict[str, Any]
    metrics: dict[str, float]  # of a complete trial's last epoch; of a naive predictor

    def as_dict(self) -> dict[str, Any]:
        """Return the row under the names of leaderboard.json."""
        return {_STORED_NAMES.get(name, name): value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Row:
        """Rebuild a row from the output of ``as_dict``."""
        names = {stored: name for name, stored in _STORED_NAMES.items()}
        return cls(**{names.get(name, name): value for name, value in content.items()})


@dataclass(frozen=True)
class Leaderboard:
    """The ranked rows of a search, with its outcomes and its computing time."""

    search: str
    workload: str
    objective: str  # the first one
    mode: Mode
    objectives: dict[str, Mode]
    constraints: tuple[Constraint, ...]  # "limits" in leaderboard.json
    objective_version: str
    rows: tuple[Row, ...]  # complete trials and naive predictors, best first, then the others by number
    outcomes: dict[str, int]
    compute_hours: float
    saved_hours: float  # by stopping trials early
    share: dict[str, float] = field(default_factory=dict)  # of one trial, and how many ran at the same time
    directions: dict[str, Mode] = field(default_factory=dict)  # of metrics beside the objectives, where more is better

    @property
    def best(self) -> Row | None:
        return next((row for row in self.rows if row.rank == 1), None)

    @property
    def goal(self) -> Goal:
        return Goal(self.objectives, self.constraints, self.directions)

    @property
    def front(self) -> list[Row]:
        """Return the Pareto front, ordered by the first objective; of one objective, the best trial."""
        return [row for row in self.rows if row.front]

    def as_dict(self) -> dict[str, Any]:
        """Return the content of leaderboard.json."""
        content = {**asdict(self), "rows": [row.as_dict() for row in self.rows]}
        content["constraints"] = stored_constraints(self.constraints)
        if not self.directions:
            del content["directions"]
        return {_STORED_NAMES.get(name, name): value for name, value in content.items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Leaderboard:
        """Rebuild a leaderboard from the output of ``as_dict``."""
        fields = {name: value for name, value in content.items() if name != "limits"}
        fields["constraints"] = read_constraints(content["limits"])
        return cls(**{**fields, "rows": tuple(Row.from_dict(row) for row in content["rows"])})

    def as_csv(self) -> str:
        """Format one line a row, with the columns in the order that suits MLflow's artifact viewer."""
        columns = _columns(self.rows)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        marks = (["keeps limits"] if self.constraints else []) + (["front"] if self.goal.several else [])
        about = ["epoch", "seconds", "kind", "outcome", "reason"]  # last: viewers show the first few columns
        writer.writerow(["rank", "trial", self.objective, *columns, *marks, *about])
        for row in self.rows:
            extra = [row.extra_metrics.get(column) for column in columns]
            ended = [row.epoch, f"{row.seconds:.1f}", row.kind, row.outcome, row.reason]
            flags = {"keeps limits": row.keeps_limits, "front": row.front} if row.value is not None else {}
            marked = [flags.get(mark, "") for mark in marks]
            writer.writerow([row.rank, row.label, row.value, *extra, *marked, *ended])  # None: an empty cell
        return text.getvalue()

    def as_table(self, most: int = 20) -> Table:
        """Format the first rows, all presets and naive predictors for a terminal."""
        ended = [row for row in self.rows if row.value is not None or row.kind == "preset"]
        shown = [row for place, row in enumerate(ended) if place < most or row.kind != "trial" or row.front]
        columns = [column for column in _columns(shown) if not column.endswith("error")]
        table = Table(title=f"{self.search}: {self.goal}")
        for name in ("front" if self.goal.several else "", "trial", self.objective, *columns, "best epoch", "min"):
            heading = name.replace("_", "\n") if len(name) > 10 else name
            table.add_column(heading, justify="left" if name == "trial" else "right", no_wrap=True)
        for row in shown:
            table.add_row(
                ("*" if row.front else "") if self.goal.several else str(row.rank or ""), row.label, _value(row),
                *(self._cell(row, column) for column in columns),
                f"{row.best_epoch} of {row.epoch}" if row.best_epoch else "",
                f"{row.seconds / 60:.1f}" if row.seconds else "",
                style="dim" if row.number is None else "cyan" if row.kind == "preset" else None,
            )  # fmt: skip
        return table

    def _cell(self, row: Row, column: str) -> str:
        text, error = number(row.extra_metrics.get(column)), row.extra_metrics.get(f"{column}_error")
        return text + (f" +- {error:.1g}" if error is not None else "") + " !" * self.breaks_constraint(row, column)

    def breaks_constraint(self, row: Row, column: str) -> bool:
        """Return whether a row's extra metric breaks its constraint; a published result of another sample has none."""
        if row.kind == "reference" or column not in row.extra_metrics:
            return False
        return any(not one.is_kept(row.extra_metrics) for one in self.constraints if one.metric == column)

    def verdicts(self) -> list[str]:
        """Return what the table is worth, one sentence a line: constraints, statistical errors, naive predictors."""
        metrics = [row.metrics for row in self.rows if row.rank]
        return [*about_constraints(self), *about_trials(self.goal, metrics), *against_naive(self)]


def make_leaderboard(
    spec: LeaderboardSpec,
    records: Iterable[TrialRecord],
    baselines: Mapping[str, Mapping[str, float]],
    references: Mapping[str, Mapping[str, float]] | None = None,
) -> Leaderboard:
    """Rank complete trials at their last epoch: those that keep the constraints first, then by the objectives.

    The best epoch does not count, because the least of many noisy epochs rewards luck, and more so the more epochs a
    trial has. Of several objectives the Pareto front comes first.

    Parameters
    ----------
    records : iterable of TrialRecord
        All trials of the search, in any order.
    baselines, references : mapping of str to (mapping of str to float)
        Metrics by label: of naive predictors on the validation events, and of published results of another sample.
    """
    goal = spec.goal
    records = sorted(records, key=lambda record: record.number)
    complete = [record for record in records if record.outcome == "complete"]
    placed = goal.ranked([record.metrics for record in complete])
    ranked = [_trial_row(spec, complete[place], rank, front) for rank, (place, front) in enumerate(placed, start=1)]
    ranked += [_score_row(spec, name, "naive", scores) for name, scores in baselines.items()]
    ranked += [_score_row(spec, name, "reference", scores) for name, scores in (references or {}).items()]
    ranked.sort(
        key=lambda row: (
            not _is_finite(row, goal),
            not row.front if goal.several else False,
            *(goal.order(row.metrics) if _is_finite(row, goal) else ()),
        )
    )
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
        compute_hours=sum(record.seconds for record in records) / 3600,
        saved_hours=sum(record.saved_seconds for record in stopped) / 3600,
        directions={
            name: mode for name, mode in goal.directions.items() if mode == "max" and name not in goal.objectives
        },
    )


def number(value: float | None) -> str:
    """Format three figures for a table; None gives an empty cell."""
    return "" if value is None else f"{value:.3g}"


def _value(row: Row) -> str:
    """Format value and error of a complete trial; for a preset that is not complete, name its outcome."""
    error = row.extra_metrics.get("error")
    return number(row.value) + (f" +- {error:.1g}" if error is not None else "") or row.outcome.replace("_", " ")


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


def _columns(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row.extra_metrics))


def _is_finite(row: Row, goal: Goal) -> bool:
    """Return whether a row can be compared; a formula may give no number outside its range of validity."""
    return all(math.isfinite(row.metrics.get(name, math.nan)) for name in (*goal.objectives, *goal.constrained))


def _keeps_constraints(scores: Mapping[str, float], goal: Goal) -> bool:
    """Return whether scores are known to keep all constraints; naive predictors may lack a metric of models."""
    return all(name in scores for name in goal.constrained) and goal.violation(scores) == 0
