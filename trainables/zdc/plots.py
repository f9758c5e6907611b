"""Figures of ZDC models: one function each, arrays in, a PNG out."""

# K energy bins, H row (ix), W column (iy)

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainables.evaluation.holdout_plots import draw_evaluations
from trainables.evaluation.plot_style import (
    COLOURS,
    GREY,
    INK,
    NAIVE_STYLES,
    Series,
    colour_of,
    draw_band,
    draw_series,
    draw_steps,
    drawn,
    legend_above,
    range_of_bands,
)
from trainables.evaluation.scores import Evaluation
from trainables.evaluation.seeds import mean_over_seeds, name_with_seeds
from trainables.evaluation.tables import read_columns
from trainables.zdc.figure_data import InputCounts, MeanMaps
from trainables.zdc.metrics import MseCurve
from trainables.zdc.naive import CONSTANT_MASK, MEAN_MASK_PER_BIN
from trainables.zdc.tables import EPOCH_TABLE, LOSS_TABLE, MSE_TABLE, ExcessMap, read_epoch_table, read_mse_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage


def plot_mse(path: Path, curve: MseCurve, naive: Mapping[str, MseCurve], label: str = "MASK") -> None:
    """Draw the report's central figure: mse(E) of one model with its floor, its excess, and the naive predictors."""
    _plot_curves(path, {label: curve}, naive)


def compare_trials(reports: Mapping[str, Path], folder: Path) -> None:
    """Overlay mse(E) and the regression losses of several trials, given as label -> folder of its report."""
    tables = {label: read_mse_table(report / MSE_TABLE) for label, report in reports.items()}
    naive = next(iter(tables.values()))[1]
    _plot_curves(folder / "mse_vs_energy.png", {label: curve for label, (curve, _) in tables.items()}, naive)
    with drawn(folder / "losses.png", 7.0, 4.6) as figure:
        axes = figure.add_subplot()
        for number, (label, report) in enumerate(reports.items()):
            column = read_columns(report / LOSS_TABLE)
            axes.plot(
                column["epoch"],
                column["loss_regression"],
                linewidth=1.2,
                color=colour_of(number),
                label=label,
            )
        axes.set(xlabel="epoch", ylabel="regression loss [nats per crystal]")
        axes.legend()


def compare_seeds(reports: Mapping[str, Sequence[Path]], folder: Path) -> None:
    """Draw the excess of points that were trained with several seeds: against energy, and against the epoch.

    Parameters
    ----------
    reports : mapping of str to paths
        Label of a point -> the reports of its trainings.
    """
    curves = {label: [read_mse_table(report / MSE_TABLE)[0] for report in one] for label, one in reports.items()}
    with drawn(folder / "excess_vs_energy_over_seeds.png", 7.6, 5.2) as figure:
        axes = figure.add_subplot()
        axes.axhline(0, color=INK, linewidth=1.1)
        bands = {
            name_with_seeds(label, len(one)): mean_over_seeds([_in_gev(curve, curve.excess) for curve in one])
            for label, one in curves.items()
        }
        for number, (name, band) in enumerate(bands.items()):
            draw_band(axes, band, number, name)
        axes.set(
            ylim=range_of_bands(bands.values()),
            xlim=(0, None),
            xlabel="energy of the primary [GeV]",
            ylabel="excess: mse(E) - floor, mean over seeds",
        )
        legend_above(figure, [axes])
    tables = {
        label: [read_epoch_table(report / EPOCH_TABLE) for report in one]
        for label, one in reports.items()
        if all((report / EPOCH_TABLE).exists() for report in one)
    }
    if tables:
        _plot_epochs_over_seeds(folder / "excess_by_epoch_over_seeds.png", tables)


def _plot_epochs_over_seeds(path: Path, tables: Mapping[str, Sequence[ExcessMap]]) -> None:
    """Draw the mean excess of the lower and of the highest quarter of the energies after each epoch."""
    from matplotlib.ticker import MaxNLocator

    end_mev = max(found.high_edge_mev_K.max() for one in tables.values() for found in one)
    quarter_mev = 0.75 * float(end_mev)
    with drawn(path, 7.6, 7.0, {"xtick.minor.visible": False}) as figure:
        panels = figure.subplots(2, 1, sharex=True)
        titles = (f"excess from {quarter_mev / 1000:g} GeV on", f"excess below {quarter_mev / 1000:g} GeV")
        for axes, title, above in zip(panels, titles, (True, False), strict=True):
            axes.axhline(0, color=INK, linewidth=1.1)
            for number, (label, one) in enumerate(tables.items()):
                mean = mean_over_seeds([_by_epoch(found, quarter_mev, above) for found in one])
                epoch_E, colour = (mean.low_K + mean.high_K) / 2, colour_of(number)
                axes.plot(epoch_E, mean.value_K, color=colour, label=name_with_seeds(label, len(one)))
                band = mean.value_K - mean.error_K, mean.value_K + mean.error_K
                axes.fill_between(epoch_E, *band, color=colour, alpha=0.2, linewidth=0)
            axes.set(ylabel=f"{title},\nmean over seeds")
            axes.set_yscale("symlog", linthresh=_noise([found for one in tables.values() for found in one]))
        panels[-1].set_xlabel("epoch")
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        legend_above(figure, [panels[0]])


def _noise(tables: Sequence[ExcessMap]) -> float:
    """Return the median error of the mean of a quarter of the bins: below that an axis is linear."""
    errors = [np.median(found.error_K) / np.sqrt(max(len(found.error_K) / 4, 1)) for found in tables]
    return float(np.median(errors)) or 1e-12


def _by_epoch(found: ExcessMap, from_mev: float, above: bool) -> Series:
    in_part_K = (found.low_edge_mev_K >= from_mev - 1e-6) == above
    epoch_E = np.array(found.epochs, np.float64)
    return Series(epoch_E - 0.5, epoch_E + 0.5, found.excess_EK[:, in_part_K].mean(axis=1), np.zeros_like(epoch_E))


def draw_holdout(evaluations: Mapping[str, Evaluation], file: Path, reference: str | None) -> None:
    """Draw mse(E) of models and naive predictors on the holdout, and the models' differences to the reference."""
    draw_evaluations(evaluations, (CONSTANT_MASK, MEAN_MASK_PER_BIN), file, reference)


def plot_masks(path: Path, maps: Sequence[MeanMaps]) -> None:
    """Draw mean hit maps of Geant4 and of the model, and their difference, at low, middle and high energy."""
    with drawn(path, 9.4, 8.4, {"xtick.minor.visible": False, "ytick.minor.visible": False}) as figure:
        panels_33 = figure.subplots(3, 3, sharex=True, sharey=True)
        for panel_3, region in zip(panels_33, maps, strict=True):
            mc_HW, mask_HW = region.mc_HW, region.mask_HW
            shades = {"cmap": "viridis", "vmin": 0.0, "vmax": max(mc_HW.max(), mask_HW.max())}
            largest = np.abs(mask_HW - mc_HW).max() or 1.0
            signed = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}
            _map(panel_3[0], mc_HW, shades)
            figure.colorbar(_map(panel_3[1], mask_HW, shades), ax=panel_3[1], shrink=0.95)
            figure.colorbar(_map(panel_3[2], mask_HW - mc_HW, signed), ax=panel_3[2], shrink=0.95)
            panel_3[0].text(0.5, 18, region.energies, color="white", va="center")
            panel_3[0].set_ylabel("crystal $i_y$")
        for axes, title in zip(panels_33[0], ("MC: mean hit", "MASK: mean probability", "MASK − MC"), strict=True):
            axes.set_title(title)
        for axes in panels_33[2]:
            axes.set_xlabel("crystal $i_x$")


def _map(axes: Axes, map_HW: NDArray[np.float64], colours: dict[str, Any]) -> AxesImage:
    axes.set(xticks=(0, 5, 10, 15, 19), yticks=(0, 5, 10, 15, 19))
    axes.tick_params(color="white" if colours["vmin"] == 0 else INK)
    return axes.imshow(map_HW.T, origin="lower", extent=(-0.5, 19.5, -0.5, 19.5), **colours)


def plot_losses(path: Path, points: Mapping[str, list[float]]) -> None:
    """Draw the losses of both networks and their learning rates against the generator's steps."""
    gan = "loss_dis" in points
    step, epochs = np.array(points["step"]), points["epoch"][-1]
    with drawn(path, 7.2, 7.6 if gan else 5.4) as figure:
        panels = figure.subplots(3 if gan else 2, 1, sharex=True)
        panels[0].plot(step, points["loss_regression"], color=COLOURS[0])
        panels[0].set(ylabel="regression loss\n[nats per crystal]")
        epoch_axis = panels[0].secondary_xaxis(
            "top", functions=(lambda x: x * epochs / step[-1], lambda e: e * step[-1] / epochs)
        )
        epoch_axis.set_xlabel("epoch")
        panels[0].tick_params(which="both", top=False)
        if gan:
            panels[1].plot(step, points["loss_adversarial"], color=COLOURS[0], label="generator")
            panels[1].plot(step, points["loss_dis"], color=COLOURS[1], label="discriminator")
            panels[1].axhline(log(2), color=GREY, linestyle=":", label="log 2: discriminator cannot decide")
            panels[1].set(ylabel="adversarial loss\n[nats per event]")
            panels[1].legend()
            panels[-1].plot(step, points["lr_dis"], color=COLOURS[1], label="discriminator")
        panels[-1].plot(step, points["lr_gen"], color=COLOURS[0], label="generator")
        panels[-1].set(xlabel="step (updates of the generator)", ylabel="learning rate")
        panels[-1].legend()


def plot_excess_by_epoch(path: Path, found: ExcessMap, in_region: Mapping[str, NDArray[np.bool_]]) -> None:
    """Draw how the excess over the floor changes from epoch to epoch: of each energy bin, and mean of each region.

    Colours are linear up to the median error of a bin, and logarithmic beyond it: a bin as pale as that agrees with
    Geant4. Lines have a band of 1 sigma, that of the last epoch.
    """
    from matplotlib.colors import SymLogNorm
    from matplotlib.ticker import MaxNLocator

    noise = float(np.median(found.error_K)) or 1e-12
    largest = max(float(np.abs(found.excess_EK).max()), 2 * noise)
    edges_gev = np.unique(np.append(found.low_edge_mev_K, found.high_edge_mev_K)) / 1000
    shown_EK = np.full((len(found.epochs), len(edges_gev) - 1), np.nan)  # bins may be missing in between
    shown_EK[:, np.searchsorted(edges_gev, found.low_edge_mev_K / 1000)] = found.excess_EK
    epoch_edges = np.append(np.array(found.epochs) - 0.5, found.epochs[-1] + 0.5)
    with drawn(path, 10.4, 4.4, {"xtick.minor.visible": False}) as figure:
        bins, regions = figure.subplots(1, 2, sharex=True)
        colours = SymLogNorm(linthresh=noise, vmin=-largest, vmax=largest)
        mesh = bins.pcolormesh(epoch_edges, edges_gev, shown_EK.T, cmap="RdBu_r", norm=colours, rasterized=True)
        figure.colorbar(mesh, ax=bins, label="excess of mse over its floor")
        bins.set(xlabel="epoch", ylabel="energy of the primary [GeV]")
        bins.xaxis.set_major_locator(MaxNLocator(integer=True))
        for number, (label, in_region_K) in enumerate(in_region.items()):
            mean_E = found.excess_EK[:, in_region_K].mean(axis=1)
            error = float(np.sqrt(np.square(found.error_K[in_region_K]).sum()) / in_region_K.sum())
            regions.plot(found.epochs, mean_E, color=colour_of(number), label=label)
            regions.fill_between(found.epochs, mean_E - error, mean_E + error, color=colour_of(number), alpha=0.2)
        regions.axhline(0, color=GREY, linestyle=":")
        regions.set_yscale("symlog", linthresh=noise)
        regions.set_ylim(bottom=min(-noise, 1.5 * regions.dataLim.y0))
        regions.set(xlabel="epoch", ylabel="mean excess of a region")
        regions.legend()


def plot_inputs(path: Path, parts: Mapping[str, InputCounts]) -> None:
    """Draw the distributions of the six conditions and of the number of hit crystals, in each part of the sample."""
    labels = ("energy [GeV]", "$p_x$ [GeV]", "$p_y$ [GeV]", "$p_z$ [GeV]", r"$\theta$ [rad]", r"$\phi$ [rad]")
    with drawn(path, 11.0, 5.6, {"xtick.minor.visible": False, "ytick.minor.visible": False}) as figure:
        panels = figure.subplots(2, 4)
        for (name, part), colour in zip(parts.items(), COLOURS, strict=False):
            densities = zip(part.condition_density_6B, part.condition_edges_6B, strict=True)
            for axes, label, (density_B, edges) in zip(panels.flat, labels, densities, strict=False):
                _density(axes, density_B, edges, label, colour, f"{name} ({part.events:,})")
            _density(panels.flat[6], part.hits_density_B, part.hits_edges_B, "hit crystals", colour)
            panels.flat[7].stairs(part.mean_hits_B, part.energy_edges_B, color=colour)
        panels.flat[7].set(xlabel=labels[0], ylabel="mean number of hit crystals")
        for axes in panels[:, 0]:
            axes.set_ylabel("density of events")
        panels[0, 0].legend(loc="lower left")


def _density(
    axes: Axes, density_B: NDArray[Any], edges: NDArray[np.float64], xlabel: str, colour: str, label: str = ""
) -> None:
    axes.stairs(density_B, edges, color=colour, linewidth=1.2, label=label)
    axes.set(xlabel=xlabel)


def _plot_curves(path: Path, curves: Mapping[str, MseCurve], naive: Mapping[str, MseCurve]) -> None:
    """Draw mse(E) with the floors above, the excess with its error below."""
    (best, first), *_ = curves.items()
    with drawn(path, 7.6, 7.4) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        energy_only = {"color": GREY, "alpha": 0.35, "linewidth": 0, "label": "p(1−p)/n: what energy alone could reach"}
        draw_steps(upper, _in_gev(first, first.energy_only_K), baseline=0, fill=True, **energy_only)
        draw_steps(upper, _in_gev(first, first.floor_K), color=INK, linewidth=1.1, label=f"floor of {best}")
        lower.axhline(0, color=INK, linewidth=1.1)
        for (name, curve), dashes in zip(naive.items(), NAIVE_STYLES, strict=False):
            draw_steps(upper, _in_gev(curve, curve.mse_K), color=INK, ls=dashes, linewidth=1.1, label=name)
        for number, (label, curve) in enumerate(curves.items()):
            place = (number + 1) / (len(curves) + 1)
            draw_series(upper, _in_gev(curve, curve.mse_K), number, place, label)
            draw_series(lower, _in_gev(curve, curve.excess), number, place, label)
        upper.set(yscale="log", ylabel="mse(E) of MASK against MC", xlim=(0, first.high_edge_mev_K[-1] / 1000))
        lower.set(ylim=_excess_range(curves.values()), ylabel="excess: mse(E) - floor")
        lower.set(xlabel="energy of the primary [GeV]")
        legend_above(figure, [upper])


def _excess_range(curves: Collection[MseCurve]) -> tuple[float, float]:
    """Return the ends of an axis that holds the models' excess with its errors, and 0."""
    low = [float(np.nanmin(curve.excess - curve.error_K, initial=0)) for curve in curves]
    high = [float(np.nanmax(curve.excess + curve.error_K, initial=0)) for curve in curves]
    room = 0.1 * (max(high) - min(low)) or 1.0
    return min(low) - room, max(high) + room


def _in_gev(curve: MseCurve, value_K: NDArray[np.float64]) -> Series:
    return Series(curve.low_edge_mev_K / 1000, curve.high_edge_mev_K / 1000, value_K, curve.error_K)
