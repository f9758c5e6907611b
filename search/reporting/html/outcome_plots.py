"""What became of trials where in the space: outcomes by region, reasons with the parameters that they came with."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import plotly.graph_objects as go

from search.reporting.html.load import SearchSnapshot
from search.reporting.html.plot_theme import (
    OUTCOME_COLOURS,
    OUTCOMES,
    Graph,
    duration,
    in_words,
    instead,
    short,
    trial_time,
)
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
class Reason:
    """Trials that ended alike, and what is typical of their parameters."""

    outcome: str
    reason: str  # without numbers that differ
    example: str
    labels: list[str]
    typical: dict[str, str]  # by parameter: the median, or the most frequent choice


@dataclass(frozen=True)
class Spent:
    """Computing of all trials of one outcome."""

    outcome: str
    trials: int
    seconds: float
    saved_seconds: float  # by ending before the last epoch; of those that a scheduler stopped

    @property
    def words(self) -> tuple[str, str]:
        return duration(self.seconds), duration(self.saved_seconds) if self.saved_seconds else ""


def region_graphs(searched: SearchSnapshot) -> list[Graph]:
    """Of each searched parameter: shares of outcomes in each region."""
    if not searched.records:
        return [instead("Outcomes by region", "No trial has started yet.")]
    return [_shares(searched, name) for name in searched.searched]


def _shares(searched: SearchSnapshot, name: str) -> Graph:
    regions = regions_of(searched, name)
    counts = [Counter(searched.outcome_of(record) for record in region.records) for region in regions]
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
                name=in_words(outcome),
                marker={"color": OUTCOME_COLOURS[outcome]},
                hovertemplate=f"%{{text}} {in_words(outcome)}<extra></extra>",
            )
        )
    figure.update_layout(barmode="stack", bargap=0.25, showlegend=False, margin={"l": 20, "r": 26, "t": 6, "b": 34})
    figure.update_xaxes(tickformat=".0%", range=[0, 1], tickvals=[0, 0.5, 1])
    figure.update_yaxes(**_NAMES)
    return Graph(name, figure, height=84 + 30 * len(regions), tools=False)


def regions_of(searched: SearchSnapshot, name: str) -> list[Region]:
    """Regions of a parameter from low to high, that no two trials with the same value are in two of."""
    numeric = "choices" not in searched.about["searched"][name]
    with_it = [record for record in searched.records if record.hyperparameters.get(name) is not None]
    without = [record for record in searched.records if record.hyperparameters.get(name) is None]
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
    place_of = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    labels = _labels([(float(low), float(high)) for low, high in pairwise(edges)])
    inside = [
        [record for record, where in zip(records, place_of, strict=True) if where == n] for n in range(len(labels))
    ]
    return [Region(label, group) for label, group in zip(labels, inside, strict=True) if group]


def _labels(regions: list[tuple[Any, ...]]) -> list[str]:
    """A label for each, with as many figures as tell them apart."""
    for figures in (2, 3, 5, 17):
        labels = [" – ".join(short(value, figures) for value in region) for region in regions]
        if len(set(labels)) == len(labels):
            break
    return labels


def reasons(searched: SearchSnapshot) -> list[Reason]:
    """Groups of trials that ended alike: complete ones first, for comparison, then the others by their number."""
    groups: dict[tuple[str, str], list[TrialRecord]] = {}
    for record in searched.records:
        groups.setdefault((searched.outcome_of(record), kind_of(record.reason)), []).append(record)
    order = sorted(groups, key=lambda key: (key[0] != "complete", -len(groups[key])))
    return [
        Reason(
            outcome=outcome,
            reason=reason,
            example=groups[outcome, reason][0].reason,
            labels=[record.label for record in groups[outcome, reason]],
            typical={name: typical(groups[outcome, reason], name) for name in searched.searched},
        )
        for outcome, reason in order
    ]


def kind_of(reason: str) -> str:
    """A reason without what differs from trial to trial: its numbers, and of a divergence the epoch."""
    return re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "…", reason.partition(" in epoch ")[0])


def typical(records: Iterable[TrialRecord], name: str) -> str:
    """The median of numbers, else the most frequent choice with its share."""
    values = [value for record in records if (value := record.hyperparameters.get(name)) is not None]
    if not values:
        return ""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return f"{median(values):.3g}"
    choice, count = Counter(map(str, values)).most_common(1)[0]
    return choice if count == len(values) else f"{choice} ({count / len(values):.0%})"


def spent(searched: SearchSnapshot) -> list[Spent]:
    """Computing by outcome, in the usual order."""
    found = []
    for outcome in OUTCOMES:
        group = [record for record in searched.records if searched.outcome_of(record) == outcome]
        stopped = [record for record in group if record.reason == "scheduler"]
        saved = sum(record.saved_seconds for record in stopped)
        if group:
            found.append(Spent(outcome, len(group), sum(record.seconds for record in group), saved))
    return found


def spent_graph(groups: Mapping[str, list[Spent]]) -> Graph:
    """A bar for each search: hours of each outcome, and what stopping early has saved."""
    title = "Compute spent and saved"
    total = max((sum(one.seconds for one in group) for group in groups.values()), default=0.0)
    if not total:
        return instead(title, "No trial has finished an epoch yet.")
    divisor, unit = trial_time(total)
    figure = go.Figure()
    for outcome in OUTCOMES:
        found = {
            name: sum(one.seconds for one in group if one.outcome == outcome) / divisor
            for name, group in groups.items()
        }
        if any(found.values()):
            figure.add_trace(_bar(found, in_words(outcome), {"color": OUTCOME_COLOURS[outcome]}, unit))
    saved = {name: sum(one.saved_seconds for one in group) / divisor for name, group in groups.items()}
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
