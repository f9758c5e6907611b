"""Progress figures: objectives against trials and against computing time, and the Pareto front."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from itertools import accumulate
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from search.reporting.html.plot_theme import (
    NAIVE_DASHES,
    OUTCOME_COLOURS,
    OUTCOME_SYMBOLS,
    OUTCOMES,
    PAPER,
    Graph,
    axis_type,
    empty_graph,
    hover_text,
    outcome_label,
    time_unit,
)
from trainables.base.objectives import Goal
from trainables.evaluation.plot_style import COLOURS, GREY, INK

if TYPE_CHECKING:
    from search.reporting.html.load import SearchSnapshot
    from search.reporting.leaderboard import Row
    from search.storage.trial_record import TrialRecord

_WITH_VALUE = ("complete", "stopped_early")  # outcomes; a number of any other trial means nothing

_SYMBOLS = {"preset": "diamond", "naive": "x-thin-open"}  # of the kinds of rows; trials are circles


@dataclass(frozen=True)
class BestSoFar:
    """A step curve: the objective of the best trial so far, along an axis."""

    x: list[float]
    y: list[float]
    labels: list[str]


def progress_graphs(search: SearchSnapshot) -> list[Graph]:
    """Draw each objective twice: against the number of the trial, and against the computing time spent so far."""
    graphs = []
    numbers = {record.number: float(record.number) for record in search.records}
    spent_s, total_s = cumulative_seconds(search.records)
    unit_s, unit = time_unit(total_s)
    spent = {number: seconds / unit_s for number, seconds in spent_s.items()}
    for objective in search.goal.objectives:
        graphs.append(_progress(search, objective, numbers, "trial"))
        graphs.append(_progress(search, objective, spent, f"{unit} spent when the trial ended"))
    return graphs


def cumulative_seconds(records: Iterable[TrialRecord]) -> tuple[dict[int, float], float]:
    """Sum the computing time of all trials up to the end of each, by its number; and in all."""
    spent, total = {}, 0.0
    for record in sorted(records, key=lambda record: record.ended or float("inf")):
        total += record.seconds
        spent[record.number] = total
    return spent, total


def best_so_far(search: SearchSnapshot, objective: str, positions: dict[int, float]) -> BestSoFar:
    """Follow the best complete trial along an axis with these positions of trials, by number; limits come first."""
    goal = Goal({objective: search.goal.objectives[objective]}, search.goal.constraints)
    complete = sorted(search.complete, key=lambda record: positions[record.number])
    best = list(accumulate(complete, lambda *two: min(two, key=lambda record: goal.order(record.metrics))))
    x = [positions[record.number] for record in complete]
    if complete:  # to the end of the search, whether its last trial was better or not
        x, best = [*x, max(positions.values())], [*best, best[-1]]
    return BestSoFar(x, [record.metrics[objective] for record in best], [record.label for record in best])


def _progress(search: SearchSnapshot, objective: str, positions: dict[int, float], axis: str) -> Graph:
    title = f"{objective} against {'trials' if axis == 'trial' else 'compute'}"
    valued = [record for record in search.records if _has_value(search, record, objective)]
    if not valued:
        return empty_graph(title, f"No trial has a value of {objective} yet.")
    others = [record for record in search.records if not _has_value(search, record, objective)]
    rows = {"rows": 2, "row_heights": [0.9, 0.1], "vertical_spacing": 0.03} if others else {"rows": 1}
    figure = make_subplots(cols=1, shared_xaxes=True, **rows)
    for trace in _traces(search, valued, positions, objective):
        figure.add_trace(trace, row=1, col=1)
    figure.add_trace(_best_line(best_so_far(search, objective, positions)), row=1, col=1)
    for trace in _naive_lines(search, objective, [positions[record.number] for record in search.records]):
        figure.add_trace(trace, row=1, col=1)
    shown = [value for trace in figure.data for value in trace.y]
    figure.update_yaxes(title_text=objective, type=axis_type(shown), row=1, col=1)
    for trace in _traces(search, others, positions):
        figure.add_trace(trace, row=2, col=1)
    if others:
        strip = {"tickvals": [], "range": [-1, 1], "showgrid": False, "fixedrange": True}
        figure.update_yaxes(title_text="no value", row=2, col=1, **strip)
    figure.update_xaxes(title_text=axis, row=rows["rows"], col=1)
    return Graph(title, figure, height=430)


def _has_value(search: SearchSnapshot, record: TrialRecord, objective: str) -> bool:
    return search.outcome_of(record) in _WITH_VALUE and objective in record.metrics


def _traces(
    search: SearchSnapshot, records: list[TrialRecord], positions: dict[int, float], objective: str | None = None
) -> Iterator[go.Scatter]:
    """Make one trace for each outcome; presets are diamonds. Trials without an objective stand on one line."""
    for outcome in OUTCOMES:
        group = [record for record in records if search.outcome_of(record) == outcome]
        group.sort(key=lambda record: record.preset is not None)  # the first one is in the legend
        if group:
            yield go.Scatter(
                x=[positions[record.number] for record in group],
                y=[record.metrics[objective] if objective else 0 for record in group],
                mode="markers",
                name=outcome_label(outcome),
                marker=_marker(outcome, group),
                hovertext=[
                    hover_text(record, search.goal.objectives if objective else (), outcome) for record in group
                ],
                hoverinfo="text",
            )


def _marker(outcome: str, records: list[TrialRecord]) -> dict[str, object]:
    usual = OUTCOME_SYMBOLS[outcome]
    preset = "diamond" if outcome == "complete" else "diamond-open" if outcome == "stopped_early" else usual
    symbols = [preset if record.preset else usual for record in records]
    line = {"width": 0.6, "color": PAPER} if outcome == "complete" else {"width": 1.4}
    return {"color": OUTCOME_COLOURS[outcome], "size": 8, "symbol": symbols, "line": line}


def _best_line(curve: BestSoFar) -> go.Scatter:
    return go.Scatter(
        x=curve.x,
        y=curve.y,
        mode="lines",
        name="best so far",
        line={"color": INK, "width": 1.6, "shape": "hv"},
        hovertext=[f"best so far: {escape(label)}, {y:.4g}" for label, y in zip(curve.labels, curve.y, strict=True)],
        hoverinfo="text",
    )


def _naive_lines(search: SearchSnapshot, objective: str, positions: list[float]) -> Iterator[go.Scatter]:
    naive = [row for row in search.leaderboard.rows if row.kind == "naive"]
    for index, row in enumerate(naive):
        yield go.Scatter(
            x=[min(positions), max(positions)],
            y=[row.metrics[objective]] * 2,
            mode="lines",
            name=escape(row.label),
            line={"color": GREY, "width": 1.2, "dash": NAIVE_DASHES[index % len(NAIVE_DASHES)]},
            hoverinfo="name",
        )


def front_graphs(search: SearchSnapshot) -> list[Graph]:
    """Draw each further objective against the first; nothing where there is only one."""
    first, *others = search.goal.objectives
    return [_front(search, first, other) for other in others]


def _front(search: SearchSnapshot, x: str, y: str) -> Graph:
    title = f"{y} against {x}"
    if not search.complete:
        return empty_graph(title, "No trial is complete yet: there is no front.")
    board, figure = search.leaderboard, go.Figure()
    ranked = [row for row in board.rows if row.rank]
    figure.add_trace(_rows(search, [row for row in ranked if not row.front], (x, y), "not in the front", GREY))
    figure.add_trace(_rows(search, board.front, (x, y), "Pareto front", COLOURS[0], lines=True))
    naive = [row for row in board.rows if row.kind == "naive"]
    figure.add_trace(_rows(search, naive, (x, y), "naive predictors", INK))
    for axis, name in ((figure.update_xaxes, x), (figure.update_yaxes, y)):
        values = [row.metrics[name] for row in (*ranked, *naive)]
        axis(title_text=f"{name} ({search.goal.objectives[name]}imised)", type=axis_type(values))
    return Graph(title, figure, height=460)


def _rows(
    search: SearchSnapshot, rows: list[Row], axes: tuple[str, str], name: str, colour: str, *, lines: bool = False
) -> go.Scatter:
    x, y = axes
    rows = sorted(rows, key=lambda row: row.metrics[x])
    texts = [_hover_row(search, row) for row in rows]
    return go.Scatter(
        x=[row.metrics[x] for row in rows],
        y=[row.metrics[y] for row in rows],
        mode="lines+markers" if lines else "markers",
        name=name,
        line={"color": colour, "width": 1.4},
        marker={
            "color": colour,
            "size": 9 if lines else 8,
            "symbol": [_SYMBOLS.get(row.kind, "circle") for row in rows],
            "line": {"width": 1.4},
        },
        hovertext=texts,
        hoverinfo="text",
    )


def _hover_row(search: SearchSnapshot, row: Row) -> str:
    if row.number is None:
        return f"<b>{escape(row.label)}</b> (naive)"
    return hover_text(search.by_number[row.number], search.goal.objectives, row.outcome)
