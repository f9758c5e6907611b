"""Figures of ZDC models, for the screen and for print: one function each, arrays in, a PNG out."""

# K energy bins, H row (ix), W column (iy)
# Object-oriented figures only, without pyplot's global state, so that threads may draw at the same time.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.style
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from trainables.zdc.metrics import Binning, MseCurve, Scores
from trainables.zdc.tables import LOSS_TABLE, MSE_TABLE, read_columns, read_mse_table

if TYPE_CHECKING:
    from trainables.zdc.data import Events

INK, GREY = "#222222", "#8c8c8c"
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#000000",
)  # Okabe-Ito: colour-blind safe
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
NAIVE_STYLES = ((0, (5, 2)), (0, (1, 1.5)))
MANY_BINS = 40  # more are drawn as lines
SHOWN_EVENTS = 200_000  # of a large sample are enough for a histogram
STYLE: tuple[dict[str, Any], ...] = (
    mplhep.style.ATLAS,
    {
        "font.size": 11,
        "axes.labelsize": 12,
        "axes.titlesize": 12,
        "axes.autolimit_mode": "data",
        "axes.formatter.limits": (-3, 4),
        "xtick.labelsize": 10,
        "ytick.labelsize": 10,
        "ytick.major.size": 6,
        "ytick.minor.size": 3,
        "legend.fontsize": 9.5,
        "legend.borderpad": 0.4,
        "lines.linewidth": 1.6,
        "lines.markersize": 4.5,
        "figure.constrained_layout.use": True,
    },
)


def plot_mse(path: Path, curve: MseCurve, naive_mse: Mapping[str, NDArray[np.float64]], label: str = "MASK") -> None:
    """The report's central figure: mse(E) of one model, its floor and the naive predictors."""
    _plot_curves(path, {label: curve}, naive_mse)


def compare_trials(reports: Mapping[str, Path], folder: Path) -> None:
    """Overlay mse(E) and the regression losses of several trials, given as label -> folder of its report."""
    tables = {label: read_mse_table(report / MSE_TABLE) for label, report in reports.items()}
    naive_mse = next(iter(tables.values()))[1]
    _plot_curves(folder / "mse_vs_energy.png", {label: curve for label, (curve, _) in tables.items()}, naive_mse)
    with _figure(folder / "losses.png", 7.0, 4.6) as figure:
        axes = figure.add_subplot()
        for number, (label, report) in enumerate(reports.items()):
            column = read_columns(report / LOSS_TABLE)
            axes.plot(
                column["epoch"],
                column["loss_regression"],
                linewidth=1.2,
                color=COLOURS[number % len(COLOURS)],
                label=label,
            )
        axes.set(xlabel="epoch", ylabel="regression loss [nats per crystal]")
        axes.legend()


def plot_masks(path: Path, scores: Scores) -> None:
    """Mean hit maps of Geant4 and of the model, and their difference, at low, middle and high energy."""
    with _figure(path, 9.4, 8.4, {"xtick.minor.visible": False, "ytick.minor.visible": False}) as figure:
        panels_33 = figure.subplots(3, 3, sharex=True, sharey=True)
        for panel_3, region in zip(panels_33, ("low", "mid", "high"), strict=True):
            mc_HW, mask_HW = scores.maps(region)
            shades = {"cmap": "viridis", "vmin": 0.0, "vmax": max(mc_HW.max(), mask_HW.max())}
            largest = np.abs(mask_HW - mc_HW).max() or 1.0
            signed = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}
            _map(panel_3[0], mc_HW, shades)
            figure.colorbar(_map(panel_3[1], mask_HW, shades), ax=panel_3[1], shrink=0.95)
            figure.colorbar(_map(panel_3[2], mask_HW - mc_HW, signed), ax=panel_3[2], shrink=0.95)
            panel_3[0].text(0.5, 18, _energies(scores.binning, region), color="white", va="center")
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
    """Losses of both networks and their learning rates against the generator's steps."""
    gan = "loss_dis" in points
    step, epochs = np.array(points["step"]), points["epoch"][-1]
    with _figure(path, 7.2, 7.6 if gan else 5.4) as figure:
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
            panels[1].axhline(log(2), color=GREY, linestyle=":", label="log 2: discriminator cannot tell")
            panels[1].set(ylabel="adversarial loss\n[nats per event]")
            panels[1].legend()
            panels[-1].plot(step, points["lr_dis"], color=COLOURS[1], label="discriminator")
        panels[-1].plot(step, points["lr_gen"], color=COLOURS[0], label="generator")
        panels[-1].set(xlabel="step (updates of the generator)", ylabel="learning rate")
        panels[-1].legend()


def plot_inputs(path: Path, train: Events, validation: Events) -> None:
    """Distributions of the six conditions and of the number of hit crystals, in both parts of the sample."""
    labels = ("energy [GeV]", "$p_x$ [GeV]", "$p_y$ [GeV]", "$p_z$ [GeV]", r"$\theta$ [rad]", r"$\phi$ [rad]")
    with _figure(path, 11.0, 5.6, {"xtick.minor.visible": False, "ytick.minor.visible": False}) as figure:
        panels = figure.subplots(2, 4)
        for events, name, colour in ((train, "training", COLOURS[0]), (validation, "validation", COLOURS[1])):
            condition_N6 = events.condition_N6[:SHOWN_EVENTS]
            hits_N = np.bitwise_count(events.mask_packed_N50[:SHOWN_EVENTS]).sum(axis=1)
            for axes, label, value_N in zip(panels.flat, labels, condition_N6.T, strict=False):
                edges = np.linspace(value_N.min(), value_N.max(), 31)
                _density(axes, value_N, edges, label, colour, f"{name} ({len(events):,})")
            _density(panels.flat[6], hits_N, np.arange(-0.5, hits_N.max() + 1.5), "hit crystals", colour)
            energy_N, edges = condition_N6[:, 0], np.linspace(0, condition_N6[:, 0].max(), 21)
            count_K, sum_K = (np.histogram(energy_N, edges, weights=weight)[0] for weight in (None, hits_N))
            panels.flat[7].stairs(sum_K / np.maximum(count_K, 1), edges, color=colour)
        panels.flat[7].set(xlabel=labels[0], ylabel="mean number of hit crystals")
        for axes in panels[:, 0]:
            axes.set_ylabel("density of events")
        panels[0, 0].legend(loc="lower left")


def _density(
    axes: Axes, value_N: NDArray[Any], edges: NDArray[np.float64], xlabel: str, colour: str, label: str = ""
) -> None:
    density_K, _ = np.histogram(value_N, edges, density=True)
    axes.stairs(density_K, edges, color=colour, linewidth=1.2, label=label)
    axes.set(xlabel=xlabel)


def _plot_curves(path: Path, curves: Mapping[str, MseCurve], naive_mse: Mapping[str, NDArray[np.float64]]) -> None:
    with _figure(path, 7.6, 5.0) as figure:
        axes = figure.add_subplot()
        first = next(iter(curves.values()))
        floor_K, edges_gev = _with_gaps(first, first.floor_K)
        axes.stairs(floor_K, edges_gev, fill=True, color=GREY, alpha=0.35, linewidth=0, label="floor of MC")
        for (name, mse_K), dashes in zip(naive_mse.items(), NAIVE_STYLES, strict=False):
            value_K = _with_gaps(first, mse_K)[0]
            axes.stairs(value_K, edges_gev, baseline=None, color=INK, ls=dashes, linewidth=1.1, label=name)
        for number, (label, curve) in enumerate(curves.items()):
            _curve(axes, curve, (number + 1) / (len(curves) + 1), number, label)
        axes.set(yscale="log", xlim=(0, first.high_edge_mev_K[-1] / 1000))
        axes.set(xlabel="energy of the primary [GeV]", ylabel="mse(E) of MASK against MC")
        axes.legend(ncols=2)


def _curve(axes: Axes, curve: MseCurve, place: float, number: int, label: str) -> None:
    """Points with errors, at this place (0 to 1) inside their bins; of many bins, steps with a band."""
    colour = COLOURS[number % len(COLOURS)]
    if len(curve.mse_K) > MANY_BINS:
        mse_K, edges_gev = _with_gaps(curve, curve.mse_K)
        error_K, _ = _with_gaps(curve, curve.error_K)
        axes.stairs(mse_K, edges_gev, baseline=None, color=colour, linewidth=1.2, label=label)
        upper_K, lower_K = mse_K + error_K, mse_K - error_K
        axes.stairs(upper_K, edges_gev, baseline=lower_K, fill=True, color=colour, alpha=0.2, linewidth=0)
        return
    low_K, high_K = curve.low_edge_mev_K / 1000, curve.high_edge_mev_K / 1000
    at_K, marker = low_K + place * (high_K - low_K), MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
    axes.errorbar(at_K, curve.mse_K, curve.error_K, color=colour, fmt=marker, elinewidth=1, label=label)


def _with_gaps(curve: MseCurve, value_K: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values and edges in GeV for steps; where bins were left out in between, the value is NaN."""
    edges_mev = np.unique(np.append(curve.low_edge_mev_K, curve.high_edge_mev_K))
    gapped = np.full(len(edges_mev) - 1, np.nan)
    gapped[np.searchsorted(edges_mev, curve.low_edge_mev_K)] = value_K
    return gapped, edges_mev / 1000


def _energies(binning: Binning, region: str) -> str:
    inside = (
        binning.edges_mev[:-1][binning.in_region[region]],
        binning.edges_mev[1:][binning.in_region[region]],
    )
    return f"{inside[0][0] / 1000:g} to {inside[1][-1] / 1000:g} GeV"


@contextmanager
def _figure(
    path: Path, width_inch: float, height_inch: float, style: Mapping[str, Any] | None = None
) -> Iterator[Figure]:
    with matplotlib.style.context([*STYLE, dict(style or {})]):
        figure = Figure(figsize=(width_inch, height_inch))
        yield figure
        figure.savefig(path, dpi=150)
