"""The folder of figures and tables of a finished trial."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.evaluation.tables import write_columns
from trainables.zdc import plots
from trainables.zdc.metrics import Scores
from trainables.zdc.tables import LOSS_TABLE, MSE_TABLE, write_mse_table

if TYPE_CHECKING:
    from trainables.zdc.data import ZDCData


def write_report(folder: Path, data: ZDCData, scores: Scores, points: Mapping[str, list[float]]) -> None:
    """Write the figures of a physicist's first look, and their tables, into an existing folder.

    Parameters
    ----------
    scores : Scores
        Of the model on the validation events.
    points : mapping of str to list of float
        Losses and rates along the steps, ``LossHistory.points``; empty before the first epoch.
    """
    curve = scores.curve
    naive = {name: other.curve for name, other in data.naive.items()}
    write_mse_table(folder / MSE_TABLE, curve, naive)
    plots.plot_mse(folder / "mse_vs_energy.png", curve, naive)
    plots.plot_masks(folder / "masks.png", scores)
    plots.plot_inputs(folder / "input_distributions.png", data.train, data.validation)
    if points:
        write_columns(folder / LOSS_TABLE, points)
        plots.plot_losses(folder / "losses.png", points)
