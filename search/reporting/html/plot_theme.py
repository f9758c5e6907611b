"""Colours, axes, labels and number formats that all interactive figures of a report share."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from trainables.evaluation.plot_style import COLOURS, GREY, INK

if TYPE_CHECKING:
    from search.storage.trial_record import TrialRecord

LINE, PAPER = "#e3e1da", "#ffffff"
RUNNING = "running"
OUTCOMES = ("complete", "stopped_early", "diverged", "failed", "interrupted", RUNNING)  # in this order everywhere
OUTCOME_COLOURS = dict(zip(OUTCOMES, (COLOURS[0], COLOURS[4], COLOURS[1], INK, COLOURS[5], COLOURS[2]), strict=True))
OUTCOME_SYMBOLS = dict(
    zip(OUTCOMES, ("circle", "circle-open", "x-thin-open", "cross-thin-open", "diamond-open", "star-open"), strict=True)
)
NAIVE_DASHES = ("dash", "dot", "dashdot")
DASHES = ("solid", "dash", "dot", "dashdot")  # of searches, where a colour comes again
_AXIS = {
    "gridcolor": LINE, "linecolor": GREY, "zeroline": False, "ticks": "outside", "automargin": True,
    "title": {"font": {"size": 13}, "standoff": 8}, "exponentformat": "e",
}  # fmt: skip
TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 13, "color": INK},
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "colorway": list(COLOURS),
        "margin": {"l": 64, "r": 36, "t": 18, "b": 54},
        "hoverlabel": {"align": "left", "bgcolor": PAPER, "bordercolor": GREY, "font": {"size": 12, "color": INK}},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "modebar": {"orientation": "v", "bgcolor": "rgba(0,0,0,0)", "color": LINE, "activecolor": GREY},
    }
)
_LOG_FROM = 20.0  # values that span this factor are drawn on a logarithmic axis


@dataclass(frozen=True)
class Graph:
    """An interactive figure, or the sentence that stands in its place."""

    title: str
    figure: go.Figure | None
    note: str = ""  # below the figure, or instead of it
    height: int = 380  # pixels
    min_width: int = 0  # pixels; narrower screens scroll
    tools: bool = True  # buttons to zoom and to save it as a picture

    @property
    def content(self) -> dict[str, Any]:
        """Return data and layout as JSON values for the browser; a number that is not finite is null."""
        assert self.figure is not None
        figure = go.Figure(self.figure)
        figure.update_layout(template=TEMPLATE, height=self.height)
        content: dict[str, Any] = json.loads(figure.to_json())
        return content


def empty_graph(title: str, reason: str) -> Graph:
    """Return a graph without a figure, which shows the reason instead."""
    return Graph(title, None, reason)


def outcome_label(outcome: str) -> str:
    return outcome.replace("_", " ")


def format_value(value: object, figures: int = 3) -> str:
    """Format a hyperparameter or a metric with that many significant figures."""
    return f"{value:.{figures}g}" if isinstance(value, float) else str(value)


def format_duration(seconds: float) -> str:
    """Format computing time in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def format_time(seconds: float) -> str:
    """Format seconds since 1970 as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def time_unit(seconds: float) -> tuple[float, str]:
    """Return the unit for an axis of computing time that ends there: its length in seconds, and its name."""
    if seconds < 180:
        return 1.0, "trial-seconds"
    return (3600.0, "trial-hours") if seconds >= 5400 else (60.0, "trial-minutes")


def hover_text(record: TrialRecord, objectives: Iterable[str], outcome: str) -> str:
    """Describe a trial for the point that shows it. Names and reasons are escaped because plotly reads HTML tags."""
    metrics = {name: record.metrics[name] for name in objectives if name in record.metrics}
    kind = " (preset)" if record.preset else ""
    lines = [
        f"<b>{escape(record.label)}</b>{kind}",
        escape(outcome_label(outcome) + (f": {shorten(record.reason)}" if record.reason else "")),
        f"epoch {record.epoch} of {record.epochs}, {format_duration(record.seconds)}",
        *(f"{escape(name)} = {value:.4g}" for name, value in metrics.items()),
        "",
        *_pairs(record.hyperparameters),
    ]
    return "<br>".join(lines)


def _pairs(hyperparameters: Mapping[str, object]) -> list[str]:
    return [f"{escape(name)} = {escape(shorten(format_value(value)))}" for name, value in hyperparameters.items()]


def shorten(text: str, longest: int = 70) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."


def axis_type(values: Iterable[float]) -> str:
    """Choose a logarithmic axis for values that span orders of magnitude."""
    values = list(values)
    return "log" if values and min(values) > 0 and max(values) / min(values) > _LOG_FROM else "linear"
