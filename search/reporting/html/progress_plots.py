"""Figures of how a search went: its objectives against trials and against compute, and the Pareto front."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from search.reporting.html.load import SearchSnapshot
from search.reporting.html.plot_theme import (
    NAIVE_DASHES,
    OUTCOME_COLOURS,
    OUTCOME_SYMBOLS,
    OUTCOMES,
    PAPER,
    Graph,
    axis_type,
    hover,
    in_words,
    instead,
    trial_time,
)
from search.reporting.leaderboard import Row
from search.storage.trial_record import TrialRecord
from trainables.base.objectives import Goal
from trainables.evaluation.plot_style import COLOURS, GREY, INK

WITH_VALUE = ("complete", "stopped_early")  # outcomes; a number of any other trial means nothing


@dataclass(frozen=True)
class Steps:
    """The best trial so far, along an axis."""

    x: list[float]
    y: list[float]
    labels: list[str]


def progress_graphs(searched: SearchSnapshot) -> list[Graph]:
    """Of each objective two: against the number of the trial, and against the computing time spent so far."""
    graphs = []
    numbers = {record.number: float(record.number) for record in searched.records}
    spent_s, total_s = spent_seconds(searched.records)
    divisor, unit = trial_time(total_s)
    spent = {number: seconds / divisor for number, seconds in spent_s.items()}
    for objective in searched.goal.objectives:
        graphs.append(_progress(searched, objective, numbers, "trial"))
        graphs.append(_progress(searched, objective, spent, f"{unit} spent when the trial ended"))
    return graphs


def spent_seconds(records: Iterable[TrialRecord]) -> tuple[dict[int, float], float]:
    """Computing time that all trials had taken when each of them ended, by its number; and in all."""
    spent, total = {}, 0.0
    for record in sorted(records, key=lambda record: record.ended or float("inf")):
        total += record.seconds
        spent[record.number] = total
    return spent, total


def best_so_far(searched: SearchSnapshot, objective: str, places: dict[int, float], goal: Goal | None = None) -> Steps:
    """Value of the best complete trial up to each place; who is best heeds the limits."""
    goal = goal or Goal({objective: searched.goal.objectives[objective]}, searched.goal.limits)
    steps, best = Steps([], [], []), None
    for record in sorted(searched.complete, key=lambda record: places[record.number]):
        if best is None or goal.order(record.metrics) < goal.order(best.metrics):
            best = record
        steps.x.append(places[record.number])
        steps.y.append(best.metrics[objective])
        steps.labels.append(best.label)
    if best is not None:  # to the end of the search, whether its last trial was better or not
        steps.x.append(max(places.values()))
        steps.y.append(best.metrics[objective])
        steps.labels.append(best.label)
    return steps


def _progress(searched: SearchSnapshot, objective: str, places: dict[int, float], axis: str) -> Graph:
    title = f"{objective} against {'trials' if axis == 'trial' else 'compute'}"
    valued = [record for record in searched.records if _has_value(searched, record, objective)]
    if not valued:
        return instead(title, f"No trial has a value of {objective} yet.")
    others = [record for record in searched.records if not _has_value(searched, record, objective)]
    rows = {"rows": 2, "row_heights": [0.9, 0.1], "vertical_spacing": 0.03} if others else {"rows": 1}
    figure = make_subplots(cols=1, shared_xaxes=True, **rows)
    for trace in _points(searched, valued, objective, places):
        figure.add_trace(trace, row=1, col=1)
    figure.add_trace(_best_line(best_so_far(searched, objective, places)), row=1, col=1)
    for trace in _naive_lines(searched, objective, [places[record.number] for record in searched.records]):
        figure.add_trace(trace, row=1, col=1)
    shown = [value for trace in figure.data for value in trace.y]
    figure.update_yaxes(title_text=objective, type=axis_type(shown), row=1, col=1)
    for trace in _strip(searched, others, places):
        figure.add_trace(trace, row=2, col=1)
    if others:
        strip = {"tickvals": [], "range": [-1, 1], "showgrid": False, "fixedrange": True}
        figure.update_yaxes(title_text="no value", row=2, col=1, **strip)
    figure.update_xaxes(title_text=axis, row=rows["rows"], col=1)
    return Graph(title, figure, height=430)


def _has_value(searched: SearchSnapshot, record: TrialRecord, objective: str) -> bool:
    return searched.outcome_of(record) in WITH_VALUE and objective in record.metrics


def _points(
    searched: SearchSnapshot, records: list[TrialRecord], objective: str, places: dict[int, float]
) -> Iterator[go.Scatter]:
    """One trace for each outcome; presets are diamonds."""
    for outcome, group in _by_outcome(searched, records):
        yield go.Scatter(
            x=[places[record.number] for record in group],
            y=[record.metrics[objective] for record in group],
            mode="markers",
            name=in_words(outcome),
            marker=_marker(outcome, group),
            hovertext=[hover(record, searched.goal.objectives, outcome) for record in group],
            hoverinfo="text",
        )


def _strip(searched: SearchSnapshot, records: list[TrialRecord], places: dict[int, float]) -> Iterator[go.Scatter]:
    """Trials without a value, on a line of their own."""
    for outcome, group in _by_outcome(searched, records):
        yield go.Scatter(
            x=[places[record.number] for record in group],
            y=[0] * len(group),
            mode="markers",
            name=in_words(outcome),
            marker=_marker(outcome, group),
            hovertext=[hover(record, (), outcome) for record in group],
            hoverinfo="text",
        )


def _by_outcome(searched: SearchSnapshot, records: list[TrialRecord]) -> Iterator[tuple[str, list[TrialRecord]]]:
    for outcome in OUTCOMES:
        group = [record for record in records if searched.outcome_of(record) == outcome]
        if group:
            yield outcome, sorted(group, key=lambda record: record.preset is not None)  # the first is in the legend


def _marker(outcome: str, records: list[TrialRecord]) -> dict[str, object]:
    usual = OUTCOME_SYMBOLS[outcome]
    preset = "diamond" if outcome == "complete" else "diamond-open" if outcome == "stopped_early" else usual
    symbols = [preset if record.preset else usual for record in records]
    line = {"width": 0.6, "color": PAPER} if outcome == "complete" else {"width": 1.4}
    return {"color": OUTCOME_COLOURS[outcome], "size": 8, "symbol": symbols, "line": line}


def _best_line(steps: Steps) -> go.Scatter:
    return go.Scatter(
        x=steps.x,
        y=steps.y,
        mode="lines",
        name="best so far",
        line={"color": INK, "width": 1.6, "shape": "hv"},
        hovertext=[f"best so far: {escape(label)}, {y:.4g}" for label, y in zip(steps.labels, steps.y, strict=True)],
        hoverinfo="text",
    )


def _naive_lines(searched: SearchSnapshot, objective: str, places: list[float]) -> Iterator[go.Scatter]:
    naive = [row for row in searched.leaderboard.rows if row.kind == "naive"]
    for place, row in enumerate(naive):
        yield go.Scatter(
            x=[min(places), max(places)],
            y=[row.metrics[objective]] * 2,
            mode="lines",
            name=escape(row.label),
            line={"color": GREY, "width": 1.2, "dash": NAIVE_DASHES[place % len(NAIVE_DASHES)]},
            hoverinfo="name",
        )


def front_graphs(searched: SearchSnapshot) -> list[Graph]:
    """Of several objectives, each of the others against the first; nothing for one objective."""
    first, *others = searched.goal.objectives
    return [_front(searched, first, other) for other in others]


def _front(searched: SearchSnapshot, x: str, y: str) -> Graph:
    title = f"{y} against {x}"
    if not searched.complete:
        return instead(title, "No trial is complete yet: there is no front.")
    board, figure = searched.leaderboard, go.Figure()
    ranked = [row for row in board.rows if row.rank]
    figure.add_trace(_rows(searched, [row for row in ranked if not row.front], (x, y), "not in the front", GREY))
    figure.add_trace(_rows(searched, board.front, (x, y), "Pareto front", COLOURS[0], lines=True))
    naive = [row for row in board.rows if row.kind == "naive"]
    figure.add_trace(_rows(searched, naive, (x, y), "naive predictors", INK, symbol="x-thin-open"))
    for axis, name in ((figure.update_xaxes, x), (figure.update_yaxes, y)):
        values = [row.metrics[name] for row in (*ranked, *naive)]
        axis(title_text=f"{name} ({searched.goal.objectives[name]}imised)", type=axis_type(values))
    return Graph(title, figure, height=460)


def _rows(
    searched: SearchSnapshot, rows: list[Row], axes: tuple[str, str], name: str, colour: str,
    *, symbol: str = "circle", lines: bool = False,
) -> go.Scatter:  # fmt: skip
    x, y = axes
    rows = sorted(rows, key=lambda row: row.metrics[x])
    texts = [_hover_row(searched, row) for row in rows]
    return go.Scatter(
        x=[row.metrics[x] for row in rows],
        y=[row.metrics[y] for row in rows],
        mode="lines+markers" if lines else "markers",
        name=name,
        line={"color": colour, "width": 1.4},
        marker={
            "color": colour,
            "size": 9 if lines else 8,
            "symbol": ["diamond" if row.kind == "preset" else symbol for row in rows],
            "line": {"width": 1.4},
        },
        hovertext=texts,
        hoverinfo="text",
    )


def _hover_row(searched: SearchSnapshot, row: Row) -> str:
    if row.number is None:
        return f"<b>{escape(row.label)}</b> (naive)"
    return hover(searched.by_number[row.number], searched.goal.objectives, row.outcome)
