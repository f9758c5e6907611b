"""The result of a promotion: finalists, champion, preset and naive predictors on the holdout, and the verdict."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from rich.table import Table

from search.promotion.gate import Verdict
from search.reporting.leaderboard import number
from trainables.evaluation.scores import Difference, Evaluation, difference

Kind = Literal["finalist", "champion", "preset", "naive"]


@dataclass(frozen=True)
class Line:
    """What one set of hyperparameters scores on the holdout, or a predictor that has none."""

    label: str
    kind: Kind
    seeds: int
    searched: float | None  # the objective that the search has of a finalist
    mean: dict[str, float]  # over the seeds, by metric
    spread: dict[str, float]  # standard deviation over the seeds; of one seed there is none
    difference: dict[str, Difference]  # of the mean to the reference; empty for the reference itself


@dataclass(frozen=True)
class Result:
    """Everything that a person wants to know before a model is used."""

    workload: str
    search: str
    promotion: str  # name of the search that the finalists are
    candidate: str  # training whose weights would be used
    confidence: float
    objective_version: str
    holdout: str  # fingerprint
    events: int  # of the holdout
    uses: int  # promotions of all workloads that have looked at it, this one included
    reference: str  # label that the differences are to
    metrics: tuple[str, ...]  # of the table: objectives, then what is watched
    lines: tuple[Line, ...]
    verdict: Verdict
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def about(self) -> list[str]:
        """Notes and verdict, for a terminal."""
        lines = [f"note     {note}" for note in self.notes]
        looked = f"{self.uses} promotions have looked at it, those of other workloads and this one included"
        lines.append(f"holdout  {self.holdout[:12]}: {looked}")
        lines.append(f"verdict  {'yes' if self.verdict.passed else 'no'}, {self.candidate}: {self.verdict.told}")
        return lines

    def as_table(self) -> Table:
        """For a terminal."""
        table = Table(title=f"{self.promotion} on the holdout, [{self.confidence:.0%} interval of the difference]")
        for place, name in enumerate(self.columns()):
            justify: Literal["left", "right"] = "right" if place else "left"  # folded, never cut
            table.add_column(name.replace(" less ", "\nless "), justify=justify, overflow="fold")
        for line in self.lines:
            table.add_row(*self.cells(line), style={"champion": "cyan", "naive": "dim"}.get(line.kind))
        return table

    def columns(self) -> list[str]:
        objective, *others = self.metrics
        return ["model", "seeds", "searched", objective, f"{objective} less {self.reference}", *others]

    def cells(self, line: Line) -> list[str]:
        """One line of the table, in words."""
        objective, *others = self.metrics
        found = line.difference.get(objective)
        told = (
            f"{found.value:+.1e} [{found.low:+.1e}, {found.high:+.1e}]"
            if found and line.label != self.reference
            else ""
        )
        seeds = str(line.seeds) if line.seeds > 1 else ""
        numbers = [self._number(line, name) for name in (objective, *others)]
        return [line.label, seeds, number(line.searched), numbers[0], told, *numbers[1:]]

    def _number(self, line: Line, name: str) -> str:
        spread = line.spread.get(name)
        return number(line.mean.get(name)) + (f" +- {spread:.1g}" if spread is not None else "")


def mean_of(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Mean of several models' scores, replica by replica."""
    first = evaluations[0]
    metrics = {name: np.mean([one.metrics[name] for one in evaluations], axis=0) for name in first.metrics}
    curve = replace(first.curve, value_RK=np.mean([one.curve.value_RK for one in evaluations], axis=0))
    return replace(first, metrics=metrics, curve=curve)


def make_line(
    label: str,
    kind: Kind,
    seeds: Sequence[Evaluation],
    reference: Evaluation | None,
    confidence: float,
    searched: float | None = None,
) -> Line:
    """The line of some models of the same hyperparameters."""
    mean = mean_of(seeds)
    spread = {name: statistics.stdev(seed.numbers()[name] for seed in seeds) for name in mean.metrics if len(seeds) > 1}
    differences = {name: difference(mean, reference, name, confidence) for name in mean.metrics} if reference else {}
    return Line(label, kind, len(seeds), searched, mean.numbers(), spread, differences)
