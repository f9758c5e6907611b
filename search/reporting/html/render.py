"""Render the report of one search, or the overlay of several, as one HTML file that needs nothing else."""

# The browser gets plotly.js once, every figure as JSON, every picture as a data URI; a content security policy forbids
# it to load anything. Jinja escapes everything that comes from a search, in the text and in the JSON.

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from search.reporting.html.agreement_plots import agreement_graph
from search.reporting.html.optuna_plots import importance_graphs, parallel_graph, slice_graphs, slice_note
from search.reporting.html.outcome_plots import compute_by_outcome, compute_graph, group_by_reason, region_graphs
from search.reporting.html.overlay import (
    ComparableSearches,
    compare_best,
    group_comparable,
    hyperparameters_of_best,
    overlay_graphs,
)
from search.reporting.html.physics_images import draw_seeds, load_images
from search.reporting.html.plot_theme import (
    OUTCOME_COLOURS,
    format_duration,
    format_time,
    format_value,
    outcome_label,
    shorten,
)
from search.reporting.html.progress_plots import front_graphs, progress_graphs
from search.reporting.html.race_plots import race_graph
from search.reporting.leaderboard import number

if TYPE_CHECKING:
    from search.reporting.html.load import SearchSnapshot

REPORT = "report.html"  # in the search directory, and in MLflow


def render_page(search: SearchSnapshot) -> str:
    """Render the report of one search, finished or not."""
    board = search.leaderboard
    compute = compute_by_outcome(search)
    return _render(
        "page.html",
        title=search.name,
        search=search,
        board=board,
        columns=list(
            dict.fromkeys(column for row in board.rows for column in row.extra_metrics if not column.endswith("error"))
        ),
        verdicts=[_sentence(line) for line in board.verdicts()],
        began=min((record.started for record in search.records), default=None),
        ended=max((record.ended for record in search.records if record.ended), default=None),
        outcomes=[(use.outcome, use.trials) for use in compute],
        perturbed=sum(record.perturbed and record.outcome == "complete" for record in search.records),
        restarted=[record for record in search.records if record.attempts > 1],
        progress=progress_graphs(search),
        agreement=agreement_graph(search),
        fronts=front_graphs(search),
        race=(race := race_graph(search)),
        seeds=draw_seeds(search) if race else ([], []),
        importances=importance_graphs(search),
        parallel=parallel_graph(search),
        slices=slice_graphs(search),
        slice_note=slice_note(search),
        images=load_images(search),
        regions=region_graphs(search),
        reasons=group_by_reason(search),
        compute=compute,
        compute_graph=compute_graph({search.name: compute}),
    )


def render_overlay(searches: Sequence[SearchSnapshot]) -> str:
    """Render several searches; in the same figures only where their values may be compared."""
    compute = {search.name: compute_by_outcome(search) for search in searches}
    return _render(
        "overlay.html",
        title=" and ".join(search.name for search in searches),
        searches=searches,
        groups=[_group_content(group) for group in group_comparable(searches)],
        compute=compute,
        compute_graph=compute_graph(compute),
    )


def _group_content(group: ComparableSearches) -> dict[str, Any]:
    images, missing = compare_best(group)
    return {
        "group": group,
        "graphs": overlay_graphs(group),
        "images": images,
        "missing": missing,
        "points": hyperparameters_of_best(group),
    }


def _render(template: str, **content: Any) -> str:
    plotly_js, made = Markup(get_plotlyjs()), format_time(time.time())
    return _environment().get_template(template).render(plotly_js=plotly_js, made=made, **content)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("search.reporting.html", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (number, format_value, format_duration, format_time, outcome_label, shorten)
    environment.filters |= {function.__name__: function for function in filters}
    environment.globals["outcome_colours"] = OUTCOME_COLOURS
    return environment


def _sentence(line: str) -> str:
    """Remove the heading that a line has on the console."""
    for heading in ("limit ", "spread ", "race ", "outlook "):
        line = line.removeprefix(heading)
    return line.strip()
