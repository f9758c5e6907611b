"""Draws the Pareto front of a search with several objectives among all its complete trials."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from search.reporting.leaderboard import Leaderboard, Row
from trainables.evaluation.plot_style import COLOURS, GREY, INK, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_front(path: Path, leaderboard: Leaderboard) -> None:
    """One panel for each further objective, against the first; the front is joined, presets have names."""
    first, *others = leaderboard.objectives
    with drawn(path, 6.4 * len(others), 4.8) as figure:
        for axes, other in zip(figure.subplots(1, len(others), squeeze=False)[0], others, strict=True):
            _draw(axes, leaderboard, first, other)
        figure.axes[0].legend()


def _draw(axes: Axes, leaderboard: Leaderboard, x: str, y: str) -> None:
    complete = [row for row in leaderboard.rows if row.rank]
    kinds = {
        "trials": [row for row in complete if not row.front],
        "presets": [row for row in complete if row.kind == "preset"],
        "naive predictors": [row for row in leaderboard.rows if row.kind == "naive"],
    }
    for (label, rows), colour, marker in zip(kinds.items(), (GREY, COLOURS[1], INK), "osx", strict=True):
        axes.plot(*_values(rows, x, y), linestyle="", marker=marker, color=colour, label=label if rows else None)
    front = sorted(leaderboard.front, key=lambda row: row.metrics[x])
    axes.plot(*_values(front, x, y), marker="o", color=COLOURS[0], linewidth=1.2, label="Pareto front", zorder=1)
    for row in {row.label: row for row in (*front, *kinds["presets"], *kinds["naive predictors"])}.values():
        place = row.metrics[x], row.metrics[y]
        axes.annotate(row.label, place, xytext=(5, 4), textcoords="offset points", fontsize=8)
    axes.margins(x=0.16, y=0.1)
    axes.set(xlabel=f"{x} ({leaderboard.objectives[x]}imised)", ylabel=f"{y} ({leaderboard.objectives[y]}imised)")


def _values(rows: list[Row], x: str, y: str) -> tuple[list[float], list[float]]:
    return [row.metrics[x] for row in rows], [row.metrics[y] for row in rows]
