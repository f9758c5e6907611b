"""Outcome figures: shares of outcomes by region of the space, reasons of ends, computing time by outcome."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from search.reporting.html.plot_theme import (
    OUTCOME_COLOURS,
    OUTCOMES,
    Graph,
    empty_graph,
    format_value,
    outcome_label,
    time_unit,
)

if TYPE_CHECKING:
    from search.reporting.html.load import SearchSnapshot
    from search.storage.trial_record import TrialRecord

_REGIONS = 4  # of a parameter with many values: quarters of the trials
_NOT_SET = "not set"
_NAMES = {  # of bars, from top to bottom
    "type": "category", "autorange": "reversed", "showgrid": False, "ticklen": 6, "tickcolor": "rgba(0,0,0,0)",
}  # fmt: skip


@dataclass(frozen=True)
class Region:
    """One quarter of the trials, or one choice, of a parameter."""

    label: str
    records: list[TrialRecord]


@dataclass(frozen=True)
class EndReason:
    """Trials that ended for the same reason, with typical values of their hyperparameters."""

    outcome: str
    reason: str  # without numbers that differ
    example: str
    labels: list[str]
    typical: dict[str, str]  # by parameter: the median, or the most frequent choice


@dataclass(frozen=True)
class ComputeUse:
    """Computing time of all trials of one outcome."""

    outcome: str
    trials: int
    seconds: float
    saved_seconds: float  # by ending before the last epoch; of those that a scheduler stopped


def region_graphs(search: SearchSnapshot) -> list[Graph]:
    """Draw the shares of outcomes in each region of each searched hyperparameter."""
    if not search.records:
        return [empty_graph("Outcomes by region", "No trial has started yet.")]
    return [_shares(search, name) for name in search.searched_names]


def _shares(search: SearchSnapshot, name: str) -> Graph:
    regions = split_regions(search, name)
    counts = [Counter(search.outcome_of(record) for record in region.records) for region in regions]
    figure = go.Figure()
    for outcome in OUTCOMES:
        found = [count[outcome] for count in counts]
        if not any(found):
            continue
        figure.add_trace(
            go.Bar(
                y=[escape(region.label) for region in regions],
                x=[number / count.total() for number, count in zip(found, counts, strict=True)],
                text=[str(number) if number else "" for number in found],
                textposition="inside",
                insidetextanchor="middle",
                textangle=0,
                orientation="h",
                name=outcome_label(outcome),
                marker={"color": OUTCOME_COLOURS[outcome]},
                hovertemplate=f"%{{text}} {outcome_label(outcome)}<extra></extra>",
            )
        )
    figure.update_layout(barmode="stack", bargap=0.25, showlegend=False, margin={"l": 20, "r": 26, "t": 6, "b": 34})
    figure.update_xaxes(tickformat=".0%", range=[0, 1], tickvals=[0, 0.5, 1])
    figure.update_yaxes(**_NAMES)
    return Graph(name, figure, height=84 + 30 * len(regions), tools=False)


def split_regions(search: SearchSnapshot, name: str) -> list[Region]:
    """Split the trials by a hyperparameter, from low to high; trials with the same value are in the same region."""
    numeric = "choices" not in search.description["searched"][name]
    with_it = [record for record in search.records if record.hyperparameters.get(name) is not None]
    without = [record for record in search.records if record.hyperparameters.get(name) is None]
    values = sorted({record.hyperparameters[name] for record in with_it}, key=None if numeric else str)
    if numeric and len(values) > _REGIONS:
        found = _quarters(with_it, name)
    else:
        found = [
            Region(label, [record for record in with_it if record.hyperparameters[name] == value])
            for label, value in zip(_labels([(value,) for value in values]), values, strict=True)
        ]
    return found + ([Region(_NOT_SET, without)] if without else [])


def _quarters(records: list[TrialRecord], name: str) -> list[Region]:
    values = [record.hyperparameters[name] for record in records]
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _REGIONS + 1)))
    region_of = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    labels = _labels([(float(low), float(high)) for low, high in pairwise(edges)])
    inside = [
        [record for record, region in zip(records, region_of, strict=True) if region == n] for n in range(len(labels))
    ]
    return [Region(label, group) for label, group in zip(labels, inside, strict=True) if group]


def _labels(regions: list[tuple[Any, ...]]) -> list[str]:
    """Format a label for each region, with as few significant figures as keep the labels distinct."""
    for figures in (2, 3, 5, 17):
        labels = [" – ".join(format_value(value, figures) for value in region) for region in regions]
        if len(set(labels)) == len(labels):
            break
    return labels


def group_by_reason(search: SearchSnapshot) -> list[EndReason]:
    """Group trials by outcome and reason: the complete ones first, for comparison, then the largest groups."""
    groups: dict[tuple[str, str], list[TrialRecord]] = {}
    for record in search.records:
        groups.setdefault((search.outcome_of(record), generalise(record.reason)), []).append(record)
    order = sorted(groups, key=lambda key: (key[0] != "complete", -len(groups[key])))
    return [
        EndReason(
            outcome=outcome,
            reason=reason,
            example=groups[outcome, reason][0].reason,
            labels=[record.label for record in groups[outcome, reason]],
            typical={name: _typical_value(groups[outcome, reason], name) for name in search.searched_names},
        )
        for outcome, reason in order
    ]


def generalise(reason: str) -> str:
    """Remove from a reason what differs from trial to trial: numbers, and the epoch of a divergence."""
    return re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "…", reason.partition(" in epoch ")[0])


def _typical_value(records: Iterable[TrialRecord], name: str) -> str:
    """Return the median of numbers, else the most frequent choice with its share."""
    values = [value for record in records if (value := record.hyperparameters.get(name)) is not None]
    if not values:
        return ""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return f"{median(values):.3g}"
    choice, count = Counter(map(str, values)).most_common(1)[0]
    return choice if count == len(values) else f"{choice} ({count / len(values):.0%})"


def compute_by_outcome(search: SearchSnapshot) -> list[ComputeUse]:
    """Sum the computing time of each outcome that occurs."""
    found = []
    for outcome in OUTCOMES:
        group = [record for record in search.records if search.outcome_of(record) == outcome]
        stopped = [record for record in group if record.reason == "scheduler"]
        saved = sum(record.saved_seconds for record in stopped)
        if group:
            found.append(ComputeUse(outcome, len(group), sum(record.seconds for record in group), saved))
    return found


def compute_graph(groups: Mapping[str, list[ComputeUse]]) -> Graph:
    """Draw a bar for each search: the computing time of each outcome, and the time that early stopping has saved."""
    title = "Compute spent and saved"
    total = max((sum(use.seconds for use in group) for group in groups.values()), default=0.0)
    if not total:
        return empty_graph(title, "No trial has finished an epoch yet.")
    unit_s, unit = time_unit(total)
    figure = go.Figure()
    for outcome in OUTCOMES:
        found = {
            name: sum(use.seconds for use in group if use.outcome == outcome) / unit_s for name, group in groups.items()
        }
        if any(found.values()):
            figure.add_trace(_bar(found, outcome_label(outcome), {"color": OUTCOME_COLOURS[outcome]}, unit))
    saved = {name: sum(use.saved_seconds for use in group) / unit_s for name, group in groups.items()}
    if any(saved.values()):
        pattern = {"color": "#ffffff", "line": {"color": OUTCOME_COLOURS["stopped_early"], "width": 1.4}}
        figure.add_trace(_bar(saved, "saved by stopping early", pattern, unit))
    figure.update_layout(barmode="stack", bargap=0.35)
    figure.update_xaxes(title_text=unit)
    figure.update_yaxes(**_NAMES)
    if len(groups) == 1:
        figure.update_yaxes(showticklabels=False)
    return Graph(title, figure, height=150 + 42 * len(groups))


def _bar(values: dict[str, float], name: str, marker: dict[str, Any], unit: str) -> go.Bar:
    return go.Bar(
        y=[escape(search) for search in values],
        x=list(values.values()),
        orientation="h",
        name=name,
        marker=marker,
        hovertemplate=f"%{{x:.3g}} {unit} {name}<extra></extra>",
    )
