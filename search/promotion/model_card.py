"""Write the model card in Markdown: what a model is, how it was chosen, its scores, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.promotion.gate import format_difference
from search.promotion.result import PromotionResult
from search.tracking.mlflow_ui import LONGEST

FIGURE = "holdout.png"


@dataclass(frozen=True)
class CardFacts:
    """What a model card says beside the result of the promotion."""

    title: str
    origin: Mapping[str, str]  # search, trial, seed, commit ...
    hyperparameters: Mapping[str, Any]
    data: Sequence[str]  # lines about the data that it was trained on
    inputs: Sequence[str]
    rules: Sequence[str]
    load: str  # Python code that loads the model


def model_card(result: PromotionResult, facts: CardFacts) -> str:
    """Write the whole card; it links to the file ``FIGURE`` in its own folder."""
    parts = [
        f"# {result.workload}: {facts.title}",
        _verdict(result),
        _table(result),
        f"Differences are those of the mean over seeds to {result.reference}, with their {result.confidence:.0%} "
        "interval: a bootstrap over the events of the holdout, in each bin, paired between the models."
        + (f" More is better of {', '.join(result.more_is_better)}." if result.more_is_better else ""),
        f"![scores on the holdout]({FIGURE})",
        _section("Input", facts.inputs),
        _section("Good to know", facts.rules),
        f"## Use\n\n```python\n{facts.load}\n```",
        _section("Where it comes from", [f"{name}: {value}" for name, value in facts.origin.items()]),
        _section("Hyperparameters", [f"{name}: {value}" for name, value in sorted(facts.hyperparameters.items())]),
        _section("Data", facts.data),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def registry_description(card: str) -> str:
    """Shorten a card to what MLflow stores as a description, without the figure."""
    text = "\n\n".join(part for part in card.split("\n\n") if not part.startswith("!["))
    return text if len(text) <= LONGEST else text[: LONGEST - 60] + "\n\n(the whole card: artifact promotion/card.md)\n"


def _verdict(result: PromotionResult) -> str:
    verdict = result.verdict
    lines = [f"Candidate {result.candidate} of search {result.search}."]
    lines += [
        f"- {name} less the champion's: {format_difference(found)}" for name, found in verdict.differences.items()
    ]
    lines += [f"- {reason}" for reason in verdict.reasons]
    lines += [f"- {note}" for note in result.notes]
    lines.append(
        f"- holdout {result.holdout[:12]} of {result.events} events, promotions of all workloads that looked at it: "
        f"{result.uses}"
    )
    return "\n".join([lines[0], "", *lines[1:]])


def _table(result: PromotionResult) -> str:
    rows = [result.columns(), ["---"] * len(result.columns()), *(result.cells(line) for line in result.lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *(f"- {line}" for line in lines)]) if lines else ""
