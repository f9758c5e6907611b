"""The leaderboard of a search: complete trials, presets and naive predictors, ranked; as a table, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

from search.reporting.outlook import Outlook
from search.reporting.precision import about_trials
from search.reporting.standings import RaceSummary, Standing
from search.reporting.verdicts import about_constraints, about_race, against_naive
from trainables.base.objectives import Constraint, Goal, Mode, read_constraints, stored_constraints

_STORED_NAMES = {"extra_metrics": "beside", "constraints": "limits"}  # fields with another name in leaderboard.json
_RACE_COLUMNS = ("race_mean", "race_error", "race_seeds", "race_estimate", "race_chance")


@dataclass(frozen=True)
class LeaderboardSpec:
    """What a leaderboard needs of the specification of its search."""

    search: str
    workload: str
    goal: Goal
    columns: tuple[str, ...]  # metrics shown beside the objectives
    objective_version: str
    min_effect: float = 0.0  # difference of the first objective that is worth nothing


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
    race: Standing | None = None  # of a complete trial, where there was a race

    def as_dict(self) -> dict[str, Any]:
        """Return the row under the names of leaderboard.json."""
        return _without_none({_STORED_NAMES.get(name, name): value for name, value in asdict(self).items()}, "race")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Row:
        """Rebuild a row from the output of ``as_dict``."""
        names = {stored: name for name, stored in _STORED_NAMES.items()}
        fields = {names.get(name, name): value for name, value in content.items()}
        return cls(**fields | _rebuilt(content, race=Standing))


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
    race: RaceSummary | None = None
    outlook: Outlook | None = None  # what more trials are expected to gain

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
        content = _without_none(content, "race", "outlook")
        return {_STORED_NAMES.get(name, name): value for name, value in content.items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Leaderboard:
        """Rebuild a leaderboard from the output of ``as_dict``."""
        fields = {name: value for name, value in content.items() if name != "limits"}
        fields["constraints"] = read_constraints(content["limits"])
        fields |= _rebuilt(content, race=RaceSummary, outlook=Outlook)
        return cls(**{**fields, "rows": tuple(Row.from_dict(row) for row in content["rows"])})

    def as_csv(self) -> str:
        """Format one line a row, with the columns in the order that suits MLflow's artifact viewer."""
        columns = _columns(self.rows)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        race = list(_RACE_COLUMNS) if self.race else []
        marks = (["keeps limits"] if self.constraints else []) + (["front"] if self.goal.several else [])
        about = ["epoch", "seconds", "kind", "outcome", "reason"]  # last: viewers show the first few columns
        writer.writerow(["rank", "trial", self.objective, *race, *columns, *marks, *about])
        for row in self.rows:
            extra = [row.extra_metrics.get(column) for column in columns]
            ended = [row.epoch, f"{row.seconds:.1f}", row.kind, row.outcome, row.reason]
            flags = {"keeps limits": row.keeps_limits, "front": row.front} if row.value is not None else {}
            marked = [flags.get(mark, "") for mark in marks]
            raced = [getattr(row.race, name.removeprefix("race_"), None) for name in race]
            writer.writerow([row.rank, row.label, row.value, *raced, *extra, *marked, *ended])  # None: an empty cell
        return text.getvalue()

    def as_table(self, most: int = 20) -> Table:
        """Format the first rows, all presets and naive predictors for a terminal."""
        ended = [row for row in self.rows if row.value is not None or row.kind == "preset"]
        shown = [row for place, row in enumerate(ended) if place < most or row.kind != "trial" or row.front]
        columns = [column for column in _columns(shown) if not column.endswith("error")]
        table = Table(title=f"{self.search}: {self.goal}")
        race = ["new seeds", "best %"] if self.race else []
        for name in (
            "front" if self.goal.several else "",
            "trial",
            self.objective,
            *race,
            *columns,
            "best epoch",
            "min",
        ):
            heading = name.replace("_", "\n") if len(name) > 10 else name
            table.add_column(heading, justify="left" if name == "trial" else "right", no_wrap=True)
        for row in shown:
            table.add_row(
                ("*" if row.front else "") if self.goal.several else str(row.rank or ""), row.label, _value(row),
                *(_race_cells(row.race) if race else ()), *(self._cell(row, column) for column in columns),
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
        """Return what the table is worth, one sentence a line: constraints, race, statistical errors, what more trials
        would gain, naive predictors."""
        metrics = [row.metrics for row in self.rows if row.rank]
        spread = about_trials(self.goal, metrics) if self.race is None else []  # a race has measured it
        outlook = [f"outlook  {self.outlook}"] if self.outlook else []
        return [*about_constraints(self), *about_race(self), *spread, *outlook, *against_naive(self)]


def number(value: float | None) -> str:
    """Format three figures for a table; None gives an empty cell."""
    return "" if value is None else f"{value:.3g}"


def _value(row: Row) -> str:
    """Format value and error of a complete trial; for a preset that is not complete, name its outcome."""
    error = row.extra_metrics.get("error")
    return number(row.value) + (f" +- {error:.1g}" if error is not None else "") or row.outcome.replace("_", " ")


def _race_cells(race: Standing | None) -> tuple[str, str]:
    """Format the mean over new seeds, its standard error and their number; and the chance of being best in per cent."""
    if race is None:
        return "", ""
    seeds = f"{number(race.mean)} +- {race.error:.1g} ({race.seeds})" if race.error is not None else ""
    return seeds, f"{100 * race.chance:.0f}"


def _without_none(content: dict[str, Any], *names: str) -> dict[str, Any]:
    """Leave out fields that have no value, as earlier versions of leaderboard.json."""
    return {name: value for name, value in content.items() if name not in names or value is not None}


def _rebuilt(content: Mapping[str, Any], **kinds: Any) -> dict[str, Any]:
    """Rebuild the objects among the fields of leaderboard.json."""
    return {name: kind.from_dict(content[name]) for name, kind in kinds.items() if content.get(name) is not None}


def _columns(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row.extra_metrics))
