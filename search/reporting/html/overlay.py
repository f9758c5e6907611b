"""Overlay figures: several searches in the same axes, where their values may be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from search.reporting.html.physics_images import Image, draw_comparison, open_reports
from search.reporting.html.plot_theme import DASHES, Graph, axis_type, empty_graph, format_value, hover_text, time_unit
from search.reporting.html.progress_plots import BestSoFar, best_so_far, cumulative_seconds
from trainables.base.objectives import Goal
from trainables.evaluation.plot_style import COLOURS

if TYPE_CHECKING:
    from search.reporting.html.load import SearchSnapshot
    from search.storage.trial_record import TrialRecord


@dataclass(frozen=True)
class ComparableSearches:
    """Searches of one workload with the same objectives in the same version, whose values may be compared."""

    searches: list[SearchSnapshot]

    @property
    def goal(self) -> Goal:
        """Return the common objectives, with limits only where all searches have the same."""
        first, *others = (search.goal for search in self.searches)
        same = all(set(other.constraints) == set(first.constraints) for other in others)
        return first if same else Goal(first.objectives)

    @property
    def title(self) -> str:
        first = self.searches[0]
        return f"{first.description['workload']}: {', '.join(first.goal.objectives)}"

    @property
    def objective_version(self) -> str:
        return self.searches[0].objective_version

    def caveats(self) -> list[str]:
        """Name what else differs between the searches, and what that means for a comparison."""
        lines = []
        if self._differ(lambda search: search.description["data"]):
            lines.append("They are of different data: small differences of values may be those of the samples.")
        if self._differ(lambda search: search.description["epochs"]):
            epochs = ", ".join(f"{search.name} {search.description['epochs']}" for search in self.searches)
            lines.append(f"Their trials have different numbers of epochs: {epochs}.")
        if self._differ(lambda search: set(search.goal.constraints)):
            lines.append("They have different limits. The best trial of each keeps its own; fronts ignore all limits.")
        return lines

    def _differ(self, value: Callable[[SearchSnapshot], object]) -> bool:
        first, *others = map(value, self.searches)
        return any(other != first for other in others)


def group_comparable(searches: Iterable[SearchSnapshot]) -> list[ComparableSearches]:
    """Group the searches that may share an axis, in the order in which they were named."""
    groups: dict[tuple[object, ...], list[SearchSnapshot]] = {}
    for search in searches:
        key = (search.description["workload"], tuple(search.goal.objectives.items()), search.objective_version)
        groups.setdefault(key, []).append(search)
    return [ComparableSearches(group) for group in groups.values()]


def overlay_graphs(group: ComparableSearches) -> list[Graph]:
    """Draw each objective against trials and against computing time, then all its values; then the Pareto fronts."""
    graphs = []
    unit_s, unit = time_unit(max(cumulative_seconds(search.records)[1] for search in group.searches))
    numbers = [{record.number: float(record.number) for record in search.records} for search in group.searches]
    spent = [_spent(search, unit_s) for search in group.searches]
    for objective in group.goal.objectives:
        graphs.append(_best(group, objective, numbers, "trial", f"{objective} against trials"))
        graphs.append(_best(group, objective, spent, f"{unit} spent", f"{objective} against compute"))
    graphs += [_values(group, objective) for objective in group.goal.objectives]
    first, *others = group.goal.objectives
    return graphs + [_fronts(group, first, other) for other in others]


def _spent(search: SearchSnapshot, unit_s: float) -> dict[int, float]:
    return {number: seconds / unit_s for number, seconds in cumulative_seconds(search.records)[0].items()}


def _best(
    group: ComparableSearches, objective: str, positions_of: list[dict[int, float]], axis: str, title: str
) -> Graph:
    """Draw the best so far of each search; ``positions_of`` has each trial's position on the axis, by search."""
    figure = go.Figure()
    for number, (search, positions) in enumerate(zip(group.searches, positions_of, strict=True)):
        if not search.complete:
            continue
        figure.add_trace(_points(search, objective, positions, number))
        figure.add_trace(_line(search, best_so_far(search, objective, positions), number))
    if not figure.data:
        return empty_graph(title, "No trial is complete yet.")
    figure.update_xaxes(title_text=axis)
    figure.update_yaxes(title_text=objective, type=axis_type(y for trace in figure.data for y in trace.y))
    return Graph(title, figure, "Lines: the best so far. Points: complete trials.", height=430)


def _points(search: SearchSnapshot, objective: str, positions: dict[int, float], number: int) -> go.Scatter:
    return go.Scatter(
        x=[positions[record.number] for record in search.complete],
        y=[record.metrics[objective] for record in search.complete],
        mode="markers",
        marker={"color": COLOURS[number % len(COLOURS)], "size": 6, "opacity": 0.45},
        showlegend=False,
        legendgroup=search.name,
        hovertext=[_hover(search, record) for record in search.complete],
        hoverinfo="text",
    )


def _line(search: SearchSnapshot, curve: BestSoFar, number: int) -> go.Scatter:
    return go.Scatter(
        x=curve.x,
        y=curve.y,
        mode="lines",
        name=escape(search.name),
        legendgroup=search.name,
        line={"shape": "hv", "width": 2, **_stroke(number)},
        hovertext=[escape(f"{search.name}: {label}") for label in curve.labels],
        hoverinfo="text+y",
    )


def _stroke(number: int) -> dict[str, str]:
    return {"color": COLOURS[number % len(COLOURS)], "dash": DASHES[number // len(COLOURS) % len(DASHES)]}


def _hover(search: SearchSnapshot, record: TrialRecord) -> str:
    return f"{escape(search.name)}<br>{hover_text(record, search.goal.objectives, str(record.outcome))}"


def _values(group: ComparableSearches, objective: str) -> Graph:
    title = f"{objective} of all complete trials"
    figure = go.Figure()
    for number, search in enumerate(group.searches):
        if search.complete:
            figure.add_trace(
                go.Box(
                    x=[record.metrics[objective] for record in search.complete],
                    name=escape(search.name),
                    boxpoints="all",
                    jitter=0.4,
                    pointpos=0,
                    fillcolor="rgba(0,0,0,0)",
                    line={"width": 1},
                    marker={"color": COLOURS[number % len(COLOURS)], "size": 5, "opacity": 0.7},
                    hovertext=[_hover(search, record) for record in search.complete],
                    hoverinfo="text",
                    hoveron="points",
                )
            )
    if not figure.data:
        return empty_graph(title, "No trial is complete yet.")
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title_text=objective, type=axis_type(x for trace in figure.data for x in trace.x))
    figure.update_yaxes(autorange="reversed", ticks="", showgrid=False)
    return Graph(title, figure, height=110 + 56 * len(group.searches))


def _fronts(group: ComparableSearches, x: str, y: str) -> Graph:
    """Draw the Pareto front of each search; limits count only where all searches have the same."""
    title, figure = f"Pareto fronts: {y} against {x}", go.Figure()
    if not any(search.complete for search in group.searches):
        return empty_graph(title, "No trial is complete yet.")
    for number, search in enumerate(group.searches):
        goal = Goal(search.goal.objectives, group.goal.constraints)
        in_front = goal.front([record.metrics for record in search.complete])
        front = [record for record, inside in zip(search.complete, in_front, strict=True) if inside]
        front.sort(key=lambda record: record.metrics[x])
        figure.add_trace(
            go.Scatter(
                x=[record.metrics[x] for record in front],
                y=[record.metrics[y] for record in front],
                mode="lines+markers",
                name=escape(search.name),
                line={"width": 1.6, **_stroke(number)},
                marker={"size": 8},
                hovertext=[_hover(search, record) for record in front],
                hoverinfo="text",
            )
        )
    for update, name in ((figure.update_xaxes, x), (figure.update_yaxes, y)):
        values = [record.metrics[name] for search in group.searches for record in search.complete]
        update(title_text=f"{name} ({group.goal.objectives[name]}imised)", type=axis_type(values))
    return Graph(title, figure, height=460)


def compare_best(group: ComparableSearches) -> tuple[list[Image], list[str]]:
    """Draw the workload's own comparison of the best trial of each search; with what failed, in words."""
    with ExitStack() as opened:
        reports = {}
        for search in group.searches:
            for label, report in opened.enter_context(open_reports(search, search.complete[:1])).items():
                reports[f"{search.name}: {label}"] = report
        return draw_comparison(group.searches[0].workload, reports)


def hyperparameters_of_best(group: ComparableSearches) -> list[tuple[str, list[str], bool]]:
    """Return each hyperparameter's name, its value in the best trial of each search, and whether these differ."""
    best = [search.complete[0].hyperparameters if search.complete else {} for search in group.searches]
    names = dict.fromkeys(name for point in best for name in point if name != "seed")
    rows = [(name, [format_value(point[name]) if name in point else "" for point in best]) for name in names]
    return [(name, values, len(set(values)) > 1) for name, values in rows]
