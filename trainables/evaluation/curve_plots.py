"""Figure and table of what a run recorded in each epoch: losses, scores and learning rates."""

# C columns, E epochs

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from trainables.base.checkpoint import FIGURE_DATA
from trainables.evaluation.plot_style import colour_of, drawn
from trainables.evaluation.tables import read_arrays, write_arrays, write_columns

FIGURE, TABLE = "curves.png", "curves.csv"
LOSS, RATE = "loss", "learning rate"  # panels
PANELS_PER_ROW = 3
WIDE = 10  # largest to smallest value, from which an axis is logarithmic
MANY_EPOCHS = 30  # as many are drawn without markers


def write_curves(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write what each epoch recorded as ``curves.csv``, and its columns for ``draw_curves``."""
    names = list(dict.fromkeys(name for epoch in history for name in epoch))
    columns = {name: np.array([epoch.get(name, math.nan) for epoch in history]) for name in names}
    if columns:
        write_columns(folder / TABLE, {name: column.tolist() for name, column in columns.items()})
        values_CE = np.stack(list(columns.values()))
        write_arrays(folder / FIGURE_DATA, {"names": np.array(names), "values": values_CE})


def draw_curves(folder: Path) -> None:
    """Draw what ``write_curves`` wrote against the epoch, in ``curves.png``.

    Training losses share a panel, and so do learning rates; each score has its own.
    """
    arrays = read_arrays(folder / FIGURE_DATA)
    columns: dict[str, list[float]] = dict(zip(arrays["names"].tolist(), arrays["values"].tolist(), strict=True))
    panels: dict[str, list[str]] = {}
    for name in columns:
        if name != "epoch":
            panels.setdefault(_panel_of(name), []).append(name)
    columns_of_figure = min(len(panels), PANELS_PER_ROW)
    rows = -(-len(panels) // PANELS_PER_ROW)
    with drawn(folder / FIGURE, 4.2 * columns_of_figure, 3.2 * rows) as figure:
        for place, (panel, drawn_names) in enumerate(panels.items(), start=1):
            axes = figure.add_subplot(rows, columns_of_figure, place)
            for number, name in enumerate(drawn_names):
                marker = "o" if len(columns["epoch"]) < MANY_EPOCHS else ""
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
