"""The report of a finished trial: first its tables, then its figures from them alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.base.checkpoint import FIGURE_DATA
from trainables.evaluation.tables import read_arrays, read_columns, write_arrays, write_columns
from trainables.zdc import plots
from trainables.zdc.figure_data import PARTS, REGIONS, inputs_of, map_of, maps_of
from trainables.zdc.metrics import Scores
from trainables.zdc.tables import (
    EPOCH_TABLE,
    LOSS_TABLE,
    MSE_TABLE,
    read_epoch_table,
    read_mse_table,
    write_epoch_table,
    write_mse_table,
)

if TYPE_CHECKING:
    from trainables.zdc.data import ZDCData


def write_tables(
    folder: Path,
    data: ZDCData,
    scores: Scores,
    points: Mapping[str, list[float]],
    excess_by_epoch: Mapping[int, Sequence[float]],
) -> None:
    """Write the tables of a report into an existing folder, and what ``draw_report`` needs beyond them.

    Parameters
    ----------
    scores : Scores
        Of the model on the validation events.
    points : mapping of str to list of float
        Losses and rates along the steps, ``LossHistory.points``; empty before the first epoch.
    excess_by_epoch : mapping of int to list of float
        Of each energy bin with enough events, after each validated epoch.
    """
    write_mse_table(folder / MSE_TABLE, scores.curve, {name: other.curve for name, other in data.naive.items()})
    if points:
        write_columns(folder / LOSS_TABLE, points)
    if excess_by_epoch:
        write_epoch_table(folder / EPOCH_TABLE, scores.curve, excess_by_epoch)
    arrays = maps_of(scores)
    for name, counted in data.inputs.items():
        arrays |= counted.arrays(name)
    write_arrays(folder / FIGURE_DATA, arrays)


def draw_report(folder: Path) -> None:
    """Draw the figures of a physicist's first look from what ``write_tables`` wrote, into the same folder."""
    arrays = read_arrays(folder / FIGURE_DATA)
    plots.plot_mse(folder / "mse_vs_energy.png", *read_mse_table(folder / MSE_TABLE))
    plots.plot_masks(folder / "masks.png", [map_of(arrays, region) for region in REGIONS])
    plots.plot_inputs(folder / "input_distributions.png", {name: inputs_of(arrays, name) for name in PARTS})
    if (table := folder / EPOCH_TABLE).exists():
        in_region = {map_of(arrays, region).energies: arrays[f"bins_{region}"] for region in REGIONS}
        plots.plot_excess_by_epoch(folder / "excess_by_epoch.png", read_epoch_table(table), in_region)
    if (table := folder / LOSS_TABLE).exists():
        points = {name: value_P.tolist() for name, value_P in read_columns(table).items()}
        plots.plot_losses(folder / "losses.png", points)
