"""Draw how well the epochs before the last already order the trials, beside where the scheduler stopped trials."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from scipy.stats import spearmanr

from search.config.choice import CUTS
from search.reporting.html.plot_theme import OUTCOME_COLOURS, Graph, empty_graph
from trainables.evaluation.plot_style import COLOURS, GREY

if TYPE_CHECKING:
    from search.reporting.html.load import SearchSnapshot

FEWEST = 8  # complete trials; with fewer, a rank correlation is mostly chance
_TWO_SIDED = 1.96  # standard errors of a 95 % interval
_SPEARMAN_VARIANCE = 1.06  # of the transformed correlation, times n - 3 (Fieller et al., Biometrika 44 (1957) 470)
_EVERY_TICK = 15  # epochs that an axis can name one by one
_MOST_CERTAIN = 1 - 1e-9  # the transformed correlation of 1 is infinite


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlation of the values after one epoch with the last ones, and its 95 % interval."""

    epoch: int
    rho: float
    low: float
    high: float
    trials: int


def rank_agreement(search: SearchSnapshot) -> list[Agreement]:
    """Compare each epoch before the last with the last, over the complete trials that have a value at both.

    A trial whose hyperparameters changed on the way is left out, and so is an epoch at which all values are the same.
    """
    objective = search.goal.objective
    curves = {trial.number: trial.intermediate_values for trial in search.trials}
    whole = [record for record in search.complete if not record.perturbed]
    found = []
    for epoch in range(1, max((record.epoch for record in whole), default=0)):
        pairs = [
            (curves[record.number][epoch], record.metrics[objective])
            for record in whole
            if epoch < record.epoch and epoch in curves.get(record.number, {})
        ]
        if len(pairs) >= FEWEST and all(len(set(values)) > 1 for values in zip(*pairs, strict=True)):
            found.append(_agreement(epoch, pairs))
    return found


def _agreement(epoch: int, pairs: list[tuple[float, float]]) -> Agreement:
    rho = float(spearmanr(*zip(*pairs, strict=True)).statistic)
    middle = np.arctanh(np.clip(rho, -_MOST_CERTAIN, _MOST_CERTAIN))
    half = _TWO_SIDED * (_SPEARMAN_VARIANCE / (len(pairs) - 3)) ** 0.5
    return Agreement(epoch, rho, float(np.tanh(middle - half)), float(np.tanh(middle + half)), len(pairs))


def agreement_graph(search: SearchSnapshot) -> Graph | None:
    """Draw the rank agreement of each epoch above the number of trials stopped there; None where nothing can be asked.

    That is so with several objectives, by which no trial is stopped early, and with trials of one epoch.
    """
    if search.goal.several or search.description["epochs"] < 2:
        return None
    title, curve = f"Order by {search.goal.objective} after each epoch, against the last", rank_agreement(search)
    if not curve:
        complete = sum(not record.perturbed for record in search.complete)
        few = f"Needs {FEWEST} complete trials with their points unchanged; there are {complete}."
        return empty_graph(title, few if complete < FEWEST else "All complete trials have the same values.")
    stops = Counter(
        record.epoch
        for record in search.records
        if (record.outcome, record.reason) == ("stopped_early", "scheduler") and record.epoch
    )
    rows = {"rows": 2, "row_heights": [0.75, 0.25], "vertical_spacing": 0.06} if stops else {"rows": 1}
    figure = make_subplots(cols=1, shared_xaxes=True, **rows)
    for trace in _curve(curve):
        figure.add_trace(trace, row=1, col=1)
    figure.update_yaxes(title_text="rank correlation", range=[min(-0.05, *(one.low for one in curve)), 1.03], row=1)
    if stops:
        bars = go.Bar(
            x=sorted(stops),
            y=[stops[epoch] for epoch in sorted(stops)],
            width=0.5,
            name="trials that the scheduler stopped",
            marker={"color": OUTCOME_COLOURS["stopped_early"]},
            hovertemplate="epoch %{x}: %{y} stopped<extra></extra>",
        )
        figure.add_trace(bars, row=2, col=1)
        figure.update_yaxes(title_text="stopped", rangemode="tozero", row=2, col=1)
    figure.update_xaxes(title_text="epoch", row=rows["rows"], col=1)
    last = max(record.epoch for record in search.complete)
    figure.update_xaxes(range=[0.5, last + 0.5], tickformat="d", dtick=1 if last <= _EVERY_TICK else None)
    return Graph(title, figure, _note(search, curve), height=430 if stops else 340)


def _curve(curve: list[Agreement]) -> list[go.Scatter]:
    epochs = [one.epoch for one in curve]
    band = go.Scatter(
        x=[*epochs, *reversed(epochs)],
        y=[*(one.high for one in curve), *(one.low for one in reversed(curve))],
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor="rgba(128, 128, 128, 0.18)",
        name="95 %",
        hoverinfo="skip",
    )
    line = go.Scatter(
        x=epochs,
        y=[one.rho for one in curve],
        mode="lines+markers",
        name="with the last epoch",
        line={"color": COLOURS[0], "width": 1.8},
        marker={"size": 7, "line": {"width": 1, "color": GREY}},
        hovertext=[f"epoch {one.epoch}: {one.rho:.2f} ({one.trials} trials)" for one in curve],
        hoverinfo="text",
    )
    return [band, line]


def _note(search: SearchSnapshot, curve: list[Agreement]) -> str:
    trials = {one.trials for one in curve}
    number = f"{min(trials)} to {max(trials)}" if len(trials) > 1 else f"{max(trials)}"
    cuts = CUTS.get(search.description.get("method", {}).get("scheduler", ""), "")
    alone = " Constraints, which come first where trials are cut, are not in it." if search.goal.constraints else ""
    rungs = f" Here {cuts}." if cuts else ""
    return (
        f"How {search.goal.objective} after an epoch orders {number} complete trials, against its last value: 1 the "
        f"same order, 0 chance. A trial stopped where this is low may have been a good one.{rungs}{alone} Trials that "
        "were stopped have no last value, so the curve is of those that went on. All values of a trial are of one "
        "seed: the order with other seeds usually agrees less."
    )
