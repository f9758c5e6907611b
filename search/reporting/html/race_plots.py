"""The figure of a race: new seeds as points, their mean with its interval, and the chance of being best."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from search.reporting.html.plot_theme import Graph
from trainables.evaluation.plot_style import COLOURS, GREY, INK

if TYPE_CHECKING:
    from search.reporting.html.load import SearchSnapshot
    from search.reporting.standings import Standing

_TWO_SIDED = 1.96  # standard errors of a 95 % interval


def race_graph(search: SearchSnapshot) -> Graph | None:
    """Draw the trials that were raced, the winner first; None where there was no race."""
    board = search.leaderboard
    raced = [(row.label, row.value, row.race) for row in board.rows if row.race and row.race.seeds]
    if board.race is None or not raced:
        return None
    figure = go.Figure()
    values = [(label, value) for label, _, standing in raced for value in standing.values]
    figure.add_trace(_points("a new seed", values, {"color": COLOURS[0], "size": 7, "opacity": 0.55}))
    own = [(label, value) for label, value, _ in raced if value is not None]
    figure.add_trace(_points("the trial itself", own, {"color": GREY, "size": 9, "symbol": "x-thin-open"}))
    means = _points("mean of new seeds, 95 %", [(label, one.mean or 0.0) for label, _, one in raced], {"color": INK})
    means.update(error_x={"array": [_TWO_SIDED * (one.error or 0.0) for _, _, one in raced], "color": INK})
    means.update(marker={"symbol": "diamond", "size": 9})
    figure.add_trace(means)
    names = [f"{escape(label)} ({_chance(standing)})" for label, _, standing in raced]
    figure.update_yaxes(
        tickvals=[label for label, _, _ in raced], ticktext=names, autorange="reversed", type="category", showgrid=False
    )
    figure.update_xaxes(title_text=f"{board.objective} ({board.mode}imised)")
    note = (
        "In brackets the chance of being the best of all complete trials, by new seeds and the trial's own. Intervals "
        f"have the noise of all seeds together, {board.race.noise:.2g} of one."
    )
    return Graph("New seeds of the best trials", figure, note, height=170 + 34 * len(raced))


def _points(name: str, values: list[tuple[str, float]], marker: dict[str, object]) -> go.Scatter:
    return go.Scatter(
        x=[value for _, value in values],
        y=[label for label, _ in values],
        mode="markers",
        name=name,
        marker={"line": {"width": 1.6}} | marker,
        hovertemplate="%{x:.4g}<extra>%{y}</extra>",
    )


def _chance(standing: Standing) -> str:
    return f"{100 * standing.chance:.0f} %"
