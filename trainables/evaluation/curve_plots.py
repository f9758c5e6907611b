"""Figure and table of what a run recorded in each epoch: losses, scores and learning rates."""

# E epochs

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainables.evaluation.plot_style import colour_of, drawn
from trainables.evaluation.tables import write_columns

FIGURE, TABLE = "curves.png", "curves.csv"
LOSS, RATE = "loss", "learning rate"  # panels
PANELS_PER_ROW = 3
WIDE = 10  # largest to smallest value, from which an axis is logarithmic
MANY_EPOCHS = 30  # as many are drawn without markers


def write_curves(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write what each epoch recorded as ``curves.csv``, and draw it against the epoch in ``curves.png``.

    Training losses share a panel, and so do learning rates; each score has its own.
    """
    names = list(dict.fromkeys(name for epoch in history for name in epoch))
    columns = {name: [epoch.get(name, math.nan) for epoch in history] for name in names}
    if not columns:
        return
    write_columns(folder / TABLE, columns)
    panels: dict[str, list[str]] = {}
    for name in names:
        if name != "epoch":
            panels.setdefault(_panel_of(name), []).append(name)
    columns_of_figure = min(len(panels), PANELS_PER_ROW)
    rows = -(-len(panels) // PANELS_PER_ROW)
    with drawn(folder / FIGURE, 4.2 * columns_of_figure, 3.2 * rows) as figure:
        for place, (panel, drawn_names) in enumerate(panels.items(), start=1):
            axes = figure.add_subplot(rows, columns_of_figure, place)
            for number, name in enumerate(drawn_names):
                marker = "o" if len(history) < MANY_EPOCHS else ""
                axes.plot(columns["epoch"], columns[name], color=colour_of(number), label=name, marker=marker)
            values = [value for name in drawn_names for value in columns[name]]
            if panel in (LOSS, RATE) and 0 < WIDE * min(values) < max(values):
                axes.set_yscale("log")
            axes.locator_params(axis="x", integer=True)
            axes.set_xlabel("epoch")
            axes.set_ylabel(panel)
            if len(drawn_names) > 1:
                axes.legend()


def _panel_of(name: str) -> str:
    if name.startswith("train_"):
        return LOSS
    return RATE if name == "lr" or name.startswith("lr_") else name
