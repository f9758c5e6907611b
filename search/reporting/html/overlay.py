"""Several searches in the same figures, as far as their values may be compared at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go

from search.reporting.html.load import SearchSnapshot
from search.reporting.html.physics_images import Image, drawn_together, reports_of
from search.reporting.html.plot_theme import DASHES, Graph, axis_type, hover, instead, short, trial_time
from search.reporting.html.progress_plots import Steps, best_so_far, spent_seconds
from trainables.base.objectives import Goal
from trainables.evaluation.plot_style import COLOURS


@dataclass(frozen=True)
class Group:
    """Searches whose values mean the same: one workload, the same objectives of the same version."""

    searches: list[SearchSnapshot]

    @property
    def goal(self) -> Goal:
        """The objectives of all; limits only where all have the same, for else nobody is best of all."""
        first, *others = (searched.goal for searched in self.searches)
        same = all(dict(other.limits) == dict(first.limits) for other in others)
        return first if same else Goal(first.objectives)

    @property
    def title(self) -> str:
        first = self.searches[0]
        return f"{first.about['workload']}: {', '.join(first.goal.objectives)}"

    @property
    def version(self) -> str:
        return self.searches[0].version

    def cautions(self) -> list[str]:
        """What else differs, and what that means for a comparison."""
        said = []
        if self._differ(lambda searched: searched.about["data"]):
            said.append("They are of different data: small differences of values may be those of the samples.")
        if self._differ(lambda searched: searched.about["epochs"]):
            epochs = ", ".join(f"{searched.name} {searched.about['epochs']}" for searched in self.searches)
            said.append(f"Their trials have different numbers of epochs: {epochs}.")
        if self._differ(lambda searched: dict(searched.goal.limits)):
            said.append("They have different limits. In each of them the best heeds its own; in a front, none.")
        return said

    def _differ(self, what: Callable[[SearchSnapshot], object]) -> bool:
        first, *others = map(what, self.searches)
        return any(other != first for other in others)


def groups_of(searches: Iterable[SearchSnapshot]) -> list[Group]:
    """Searches that may share an axis, in the order in which they were named."""
    groups: dict[tuple[object, ...], list[SearchSnapshot]] = {}
    for searched in searches:
        key = (searched.about["workload"], tuple(searched.goal.objectives.items()), searched.version)
        groups.setdefault(key, []).append(searched)
    return [Group(group) for group in groups.values()]


def overlay_graphs(group: Group) -> list[Graph]:
    """Of each objective: the best so far against trials and compute, and all values; then the fronts."""
    graphs = []
    totals = [spent_seconds(searched.records)[1] for searched in group.searches]
    divisor, unit = trial_time(max(totals))
    for objective in group.goal.objectives:
        graphs.append(_best(group, objective, _numbers, "trial", f"{objective} against trials"))
        in_time = _spent_in(divisor)
        graphs.append(_best(group, objective, in_time, f"{unit} spent", f"{objective} against compute"))
    graphs += [_values(group, objective) for objective in group.goal.objectives]
    first, *others = group.goal.objectives
    return graphs + [_fronts(group, first, other) for other in others]


def _numbers(searched: SearchSnapshot) -> dict[int, float]:
    return {record.number: float(record.number) for record in searched.records}


def _spent_in(divisor: float) -> Callable[[SearchSnapshot], dict[int, float]]:
    def places(searched: SearchSnapshot) -> dict[int, float]:
        spent, _ = spent_seconds(searched.records)
        return {number: seconds / divisor for number, seconds in spent.items()}

    return places


def _best(
    group: Group, objective: str, places_of: Callable[[SearchSnapshot], dict[int, float]], axis: str, title: str
) -> Graph:
    figure = go.Figure()
    for number, searched in enumerate(group.searches):
        if not searched.complete:
            continue
        places = places_of(searched)
        figure.add_trace(_points(searched, objective, places, number))
        figure.add_trace(_line(searched, best_so_far(searched, objective, places), number))
    if not figure.data:
        return instead(title, "No trial is complete yet.")
    figure.update_xaxes(title_text=axis)
    figure.update_yaxes(title_text=objective, type=axis_type(y for trace in figure.data for y in trace.y))
    return Graph(title, figure, "Lines: the best so far. Points: complete trials.", height=430)


def _points(searched: SearchSnapshot, objective: str, places: dict[int, float], number: int) -> go.Scatter:
    return go.Scatter(
        x=[places[record.number] for record in searched.complete],
        y=[record.metrics[objective] for record in searched.complete],
        mode="markers",
        marker={"color": COLOURS[number % len(COLOURS)], "size": 6, "opacity": 0.45},
        showlegend=False,
        legendgroup=searched.name,
        hovertext=[_hover(searched, place) for place in range(len(searched.complete))],
        hoverinfo="text",
    )


def _line(searched: SearchSnapshot, steps: Steps, number: int) -> go.Scatter:
    return go.Scatter(
        x=steps.x,
        y=steps.y,
        mode="lines",
        name=escape(searched.name),
        legendgroup=searched.name,
        line={"shape": "hv", "width": 2, **_stroke(number)},
        hovertext=[escape(f"{searched.name}: {label}") for label in steps.labels],
        hoverinfo="text+y",
    )


def _stroke(number: int) -> dict[str, str]:
    return {"color": COLOURS[number % len(COLOURS)], "dash": DASHES[number // len(COLOURS) % len(DASHES)]}


def _hover(searched: SearchSnapshot, place: int) -> str:
    record = searched.complete[place]
    return f"{escape(searched.name)}<br>{hover(record, searched.goal.objectives, str(record.outcome))}"


def _values(group: Group, objective: str) -> Graph:
    title = f"{objective} of all complete trials"
    figure = go.Figure()
    for number, searched in enumerate(group.searches):
        if searched.complete:
            figure.add_trace(
                go.Box(
                    x=[record.metrics[objective] for record in searched.complete],
                    name=escape(searched.name),
                    boxpoints="all",
                    jitter=0.4,
                    pointpos=0,
                    fillcolor="rgba(0,0,0,0)",
                    line={"width": 1},
                    marker={"color": COLOURS[number % len(COLOURS)], "size": 5, "opacity": 0.7},
                    hovertext=[_hover(searched, place) for place in range(len(searched.complete))],
                    hoverinfo="text",
                    hoveron="points",
                )
            )
    if not figure.data:
        return instead(title, "No trial is complete yet.")
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title_text=objective, type=axis_type(x for trace in figure.data for x in trace.x))
    figure.update_yaxes(autorange="reversed", ticks="", showgrid=False)
    return Graph(title, figure, height=110 + 56 * len(group.searches))


def _fronts(group: Group, x: str, y: str) -> Graph:
    """The front of each search; of searches with different limits, as if there were none."""
    title, figure = f"Pareto fronts: {y} against {x}", go.Figure()
    if not any(searched.complete for searched in group.searches):
        return instead(title, "No trial is complete yet.")
    for number, searched in enumerate(group.searches):
        goal = Goal(searched.goal.objectives, group.goal.limits)
        places = [place for place, front in enumerate(goal.front([r.metrics for r in searched.complete])) if front]
        places.sort(key=lambda place: searched.complete[place].metrics[x])
        figure.add_trace(
            go.Scatter(
                x=[searched.complete[place].metrics[x] for place in places],
                y=[searched.complete[place].metrics[y] for place in places],
                mode="lines+markers",
                name=escape(searched.name),
                line={"width": 1.6, **_stroke(number)},
                marker={"size": 8},
                hovertext=[_hover(searched, place) for place in places],
                hoverinfo="text",
            )
        )
    for update, name in ((figure.update_xaxes, x), (figure.update_yaxes, y)):
        values = [record.metrics[name] for searched in group.searches for record in searched.complete]
        update(title_text=f"{name} ({group.goal.objectives[name]}imised)", type=axis_type(values))
    return Graph(title, figure, height=460)


def best_together(group: Group) -> tuple[list[Image], list[str]]:
    """The workload's own comparison of the best trial of each search."""
    with ExitStack() as held:
        reports = {}
        for searched in group.searches:
            for label, report in held.enter_context(reports_of(searched, searched.complete[:1])).items():
                reports[f"{searched.name}: {label}"] = report
        return drawn_together(group.searches[0].workload, reports)


def hyperparameters_of_best(group: Group) -> list[tuple[str, list[str], bool]]:
    """Name, value in each search's best trial, and whether they differ."""
    best = [searched.complete[0].hyperparameters if searched.complete else {} for searched in group.searches]
    names = dict.fromkeys(name for point in best for name in point if name != "seed")
    rows = [(name, [short(point[name]) if name in point else "" for point in best]) for name in names]
    return [(name, values, len(set(values)) > 1) for name, values in rows]
