"""Hold the result of a promotion: a line of holdout scores for each model, and the verdict."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
from rich.table import Table

from search.promotion.gate import Verdict
from search.reporting.leaderboard import number
from trainables.evaluation.scores import Difference, Evaluation, difference

RESULT = "promotion.json"  # file of a result
Kind = Literal["finalist", "champion", "preset", "naive"]


@dataclass(frozen=True)
class Line:
    """Holdout scores of one set of hyperparameters, or of a naive predictor."""

    label: str
    kind: Kind
    seeds: int
    searched: float | None  # objective of a finalist in the source search
    mean: dict[str, float]  # over the seeds, by metric
    spread: dict[str, float]  # standard deviation over the seeds; empty for one seed
    difference: dict[str, Difference]  # mean less the reference, by metric


@dataclass(frozen=True)
class PromotionResult:
    """What is known about the candidate and the models that it was compared with."""

    workload: str
    search: str
    promotion: str  # name of the search that trained the finalists
    candidate: str  # training whose weights are promoted
    confidence: float
    objective_version: str
    holdout: str  # fingerprint
    events: int  # of the holdout
    uses: int  # promotions of all workloads that used this holdout, this one included
    reference: str  # label of the line that the differences are to
    metrics: tuple[str, ...]  # of the table: objectives, constrained and watched metrics
    lines: tuple[Line, ...]
    verdict: Verdict
    notes: tuple[str, ...]
    more_is_better: tuple[str, ...] = ()  # metrics of the table; of all others less is

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    def summary(self) -> list[str]:
        """List notes, uses of the holdout and the verdict for a terminal."""
        lines = [f"note     {note}" for note in self.notes]
        uses = f"{self.uses} promotions have looked at it, those of other workloads and this one included"
        lines.append(f"holdout  {self.holdout[:12]}: {uses}")
        lines.append(f"verdict  {'yes' if self.verdict.passed else 'no'}, {self.candidate}: {self.verdict.explanation}")
        return lines

    def as_table(self) -> Table:
        """Make the table of all lines for a terminal."""
        table = Table(title=f"{self.promotion} on the holdout, [{self.confidence:.0%} interval of the difference]")
        for column, name in enumerate(self.columns()):
            justify: Literal["left", "right"] = "right" if column else "left"
            table.add_column(name.replace(" less ", "\nless "), justify=justify, overflow="fold")  # never cut
        for line in self.lines:
            table.add_row(*self.cells(line), style={"champion": "cyan", "naive": "dim"}.get(line.kind))
        return table

    def columns(self) -> list[str]:
        objective, *others = self.metrics
        return ["model", "seeds", "searched", objective, f"{objective} less {self.reference}", *others]

    def cells(self, line: Line) -> list[str]:
        """Format one line of the table."""
        objective, *others = self.metrics
        found = line.difference[objective]
        difference = f"{found.value:+.1e} [{found.low:+.1e}, {found.high:+.1e}]" if line.label != self.reference else ""
        seeds = str(line.seeds) if line.seeds > 1 else ""
        numbers = [self._number(line, name) for name in (objective, *others)]
        return [line.label, seeds, number(line.searched), numbers[0], difference, *numbers[1:]]

    def _number(self, line: Line, name: str) -> str:
        spread = line.spread.get(name)
        return number(line.mean.get(name)) + (f" +- {spread:.1g}" if spread is not None else "")


def mean_of(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Average the scores of several models, replica by replica."""
    first = evaluations[0]
    metrics = {name: np.mean([one.metrics[name] for one in evaluations], axis=0) for name in first.metrics}
    curve = replace(first.curve, value_RK=np.mean([one.curve.value_RK for one in evaluations], axis=0))
    return replace(first, metrics=metrics, curve=curve)


def make_line(
    label: str,
    kind: Kind,
    seeds: Sequence[Evaluation],
    reference: Evaluation,
    confidence: float,
    searched: float | None = None,
) -> Line:
    """Make the line of the models that share their hyperparameters and differ in their seeds."""
    mean = mean_of(seeds)
    spread = {name: statistics.stdev(seed.numbers()[name] for seed in seeds) for name in mean.metrics if len(seeds) > 1}
    differences = {name: difference(mean, reference, name, confidence) for name in mean.metrics}
    return Line(label, kind, len(seeds), searched, mean.numbers(), spread, differences)
