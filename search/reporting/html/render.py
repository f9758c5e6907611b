"""Puts the report of one search, or the overlay of several, together as one HTML file that needs nothing else."""

# The browser gets plotly.js once, every figure as JSON, every picture as a data URI; a content security policy forbids
# it to load anything. Jinja escapes whatever comes from a search, in the text and in the JSON.

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from search.reporting.html.load import SearchSnapshot
from search.reporting.html.optuna_plots import importance_graphs, parallel_graph, slice_graphs, slice_note
from search.reporting.html.outcome_plots import reasons, region_graphs, spent, spent_graph
from search.reporting.html.overlay import Group, best_together, groups_of, hyperparameters_of_best, overlay_graphs
from search.reporting.html.physics_images import images_of
from search.reporting.html.plot_theme import OUTCOME_COLOURS, cut, duration, in_words, short
from search.reporting.html.progress_plots import front_graphs, progress_graphs
from search.reporting.leaderboard import number
from search.storage.disk import write_atomically

REPORT = "report.html"  # in the search's folder, and in MLflow


def write_page(html: str, file: Path) -> None:
    """Replace the file as a whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, html)


def make_page(searched: SearchSnapshot) -> str:
    """The report of one search, finished or not."""
    board = searched.leaderboard
    computing = spent(searched)
    return _render(
        "page.html",
        title=searched.name,
        searched=searched,
        board=board,
        columns=list(dict.fromkeys(column for row in board.rows for column in row.beside if column != "error")),
        verdicts=[_sentence(line) for line in (*board.about_limits(), *board.against_naive())],
        began=min((record.started for record in searched.records), default=None),
        ended=max((record.ended for record in searched.records if record.ended), default=None),
        outcomes=[(one.outcome, one.trials) for one in computing],
        perturbed=sum(record.perturbed and record.outcome == "complete" for record in searched.records),
        restarted=[record for record in searched.records if record.attempts > 1],
        progress=progress_graphs(searched),
        fronts=front_graphs(searched),
        importances=importance_graphs(searched),
        parallel=parallel_graph(searched),
        slices=slice_graphs(searched),
        slice_note=slice_note(searched),
        images=images_of(searched),
        regions=region_graphs(searched),
        reasons=reasons(searched),
        computing=computing,
        spent=spent_graph({searched.name: computing}),
    )


def make_overlay(searches: Sequence[SearchSnapshot]) -> str:
    """Several searches beside each other; in the same figures only where their values may be compared."""
    computing = {searched.name: spent(searched) for searched in searches}
    return _render(
        "overlay.html",
        title=" and ".join(searched.name for searched in searches),
        searches=searches,
        groups=[_group(group) for group in groups_of(searches)],
        computing=computing,
        spent=spent_graph(computing),
    )


def _group(group: Group) -> dict[str, Any]:
    images, missing = best_together(group)
    return {
        "group": group,
        "graphs": overlay_graphs(group),
        "images": images,
        "missing": missing,
        "points": hyperparameters_of_best(group),
    }


def _render(template: str, **content: Any) -> str:
    made = time.strftime("%Y-%m-%d %H:%M")
    return _environment().get_template(template).render(plotly_js=Markup(get_plotlyjs()), made=made, **content)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("search.reporting.html", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "short": short,
        "cut": cut,
        "words": in_words,
        "duration": duration,
        "moment": lambda seconds: time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)),
    }
    environment.globals["outcome_colours"] = OUTCOME_COLOURS
    return environment


def _sentence(line: str) -> str:
    """A line of the terminal without its heading."""
    return line.removeprefix("limit").strip()
