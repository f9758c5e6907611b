"""The model card: what a promoted model is, how it was chosen, what it scores, how it is loaded. Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.promotion.gate import told
from search.promotion.result import Result

FIGURE = "holdout.png"
LONGEST = 5_000  # of a description in every database of MLflow


@dataclass(frozen=True)
class Facts:
    """What a card says beside the result."""

    title: str
    about: Mapping[str, str]  # search, trial, seed, commit ...
    hyperparameters: Mapping[str, Any]
    data: Sequence[str]  # lines about the data that it was trained on
    inputs: Sequence[str]
    rules: Sequence[str]
    load: str  # Python that loads it


def model_card(result: Result, facts: Facts) -> str:
    """The whole card; beside it lies the figure."""
    parts = [
        f"# {result.workload}: {facts.title}",
        _verdict(result),
        _table(result),
        f"Differences are those of the mean over seeds to {result.reference}, with their {result.confidence:.0%} "
        "interval: a bootstrap over the events of the holdout, in each bin, paired between the models.",
        f"![scores on the holdout]({FIGURE})",
        _section("Input", facts.inputs),
        _section("Good to know", facts.rules),
        f"## Use\n\n```python\n{facts.load}\n```",
        _section("Where it comes from", [f"{name}: {value}" for name, value in facts.about.items()]),
        _section("Hyperparameters", [f"{name}: {value}" for name, value in sorted(facts.hyperparameters.items())]),
        _section("Data", facts.data),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def description(card: str) -> str:
    """The card as far as a registry takes it, without its figure."""
    text = "\n\n".join(part for part in card.split("\n\n") if not part.startswith("!["))
    return text if len(text) <= LONGEST else text[: LONGEST - 60] + "\n\n(the whole card: artifact promotion/card.md)\n"


def _verdict(result: Result) -> str:
    verdict = result.verdict
    lines = [f"Candidate {result.candidate} of search {result.search}."]
    lines += [f"- {name} less the champion's: {told(found)}" for name, found in verdict.differences.items()]
    lines += [f"- {reason}" for reason in verdict.reasons]
    lines += [f"- {note}" for note in result.notes]
    lines.append(
        f"- holdout {result.holdout[:12]} of {result.events} events, promotions of all workloads that looked at it: "
        f"{result.uses}"
    )
    return "\n".join([lines[0], "", *lines[1:]])


def _table(result: Result) -> str:
    rows = [result.columns(), ["---"] * len(result.columns()), *(result.cells(line) for line in result.lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *(f"- {line}" for line in lines)]) if lines else ""
