"""Figures of single events and of the detector: distributions, maps, efficiencies, pT against the angle; a PNG each."""

# N events, K pT bins, B bins of the efficiency, P points of a curve

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainables.evaluation.plot_style import (
    COLOURS,
    GREY,
    INK,
    MARKERS,
    NAIVE_STYLES,
    Series,
    colour_map,
    draw_series,
    drawn,
    legend_above,
)
from trainables.pt.cutflow import Efficiency
from trainables.pt.detector import ClusterDphi, largest_sigma_mrad
from trainables.pt.distributions import BinCounts, core_sigma, shown_bins
from trainables.pt.event_map import EventMap
from trainables.pt.loss import BOUNDARY_INVERSE_DPHI, BOUNDARY_PT_GEV
from trainables.pt.metrics import ResponseCurve
from trainables.pt.shapes import CORE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRUE_PT = "true $p_T$ [GeV]"
NO_MINOR_TICKS = {"xtick.minor.visible": False, "ytick.minor.visible": False}


def plot_distributions(path: Path, curve: ResponseCurve, counts: Sequence[BinCounts]) -> None:
    """Draw r in each pT bin, or in some of many, with the Gaussian of its core."""
    shown_K = shown_bins(curve)
    columns = min(max(len(shown_K), 1), 5 if -len(shown_K) % 5 < -len(shown_K) % 4 else 4)
    rows = max(-(-len(shown_K) // columns), 1)
    with drawn(path, max(2.7 * columns, 5.8), 2.35 * rows + 1.2, NO_MINOR_TICKS) as figure:
        panels = figure.subplots(rows, columns, sharex=True, squeeze=False)
        for axes, k, counted in zip(panels.flat, shown_K, counts, strict=False):
            _distribution(axes, curve, k, counted)
        for axes in panels.flat[len(shown_K) :]:
            axes.set_axis_off()
        for axes in panels.flat[max(len(shown_K) - columns, 0) : len(shown_K)]:
            axes.tick_params(labelbottom=True)
        left_out = f", {len(shown_K)} of {len(curve.events_K)} bins" if len(shown_K) < len(curve.events_K) else ""
        figure.supxlabel(rf"$r = p_T^{{pred}} / p_T^{{true}} - 1${left_out}", fontsize=12)
        figure.supylabel("events", fontsize=12)
        if len(shown_K):
            legend_above(figure, panels[0, :1])


def _distribution(axes: Axes, curve: ResponseCurve, k: int, counted: BinCounts) -> None:
    low_gev, high_gev, events = curve.low_edge_gev_K[k], curve.high_edge_gev_K[k], curve.events_K[k]
    edges, count = counted.edges, counted.count
    axes.stairs(count, edges, color=COLOURS[0], fill=True, alpha=0.35, linewidth=0, label="validation events")
    peak, sigma = curve.peak_K[k], core_sigma(curve, k)
    if sigma > 0:
        height = counted.in_core / 0.9545 * (edges[1] - edges[0]) / (np.sqrt(2 * np.pi) * sigma)
        for width, style, label in ((CORE, "-", "Gaussian core"), (4.0, ":", "the same outside of its fit")):
            at = np.linspace(peak - width * sigma, peak + width * sigma, 201)
            gauss = height * np.exp(-0.5 * ((at - peak) / sigma) ** 2)
            axes.plot(at, gauss, style, color=COLOURS[1], linewidth=1.4, label=label)
        axes.set_ylim(0, 1.5 * max(height, count.max()))
    elsewhere = 1 - count.sum() / events
    text = f"{low_gev:g}–{high_gev:g} GeV\npeak {100 * peak:+.1f} %\nsigma {100 * curve.core_sigma_K[k]:.1f} %"
    axes.text(0.06, 0.95, text, transform=axes.transAxes, va="top", fontsize=8.5, linespacing=1.35)
    if elsewhere > 0:
        axes.text(
            0.96,
            0.95,
            f"{100 * elsewhere:.1f} %\noutside",
            transform=axes.transAxes,
            va="top",
            ha="right",
            fontsize=8.5,
        )
    axes.set(xlim=(edges[0], edges[-1]))


def plot_predictions(path: Path, events: EventMap) -> None:
    """Draw predicted against true pT, as numbers of events."""
    end = events.x_edges[-1]
    with drawn(path, 6.6, 5.8) as figure:
        axes = figure.add_subplot()
        colour_map(figure, axes, (events.x_edges, events.y_edges), events.count_XY)
        axes.plot((0, end), (0, end), color=COLOURS[1], linewidth=1.2, linestyle="--", label="predicted = true")
        axes.plot([], [], " ", label=_numbers(events))
        axes.set(xlabel=TRUE_PT, ylabel="predicted $p_T$ [GeV]")
        axes.legend(loc="upper left")


def _numbers(events: EventMap) -> str:
    return f"{events.events:,} events" + f", {events.outside:,} not shown" * (events.outside > 0)


def plot_efficiencies(path: Path, efficiencies: Mapping[str, Efficiency], used: str) -> None:
    """Draw accepted / generated against pT of each selection, with 1 sigma intervals."""
    with drawn(path, 7.2, 4.8) as figure:
        axes = figure.add_subplot()
        for number, (selection, efficiency) in enumerate(efficiencies.items()):
            generated, accepted = efficiency.generated_B.sum(), efficiency.accepted_B.sum()
            label = f"{selection}{' (used here)' * (selection == used)}: {accepted / max(generated, 1):.1%} overall"
            value_B = 100 * efficiency.efficiency_B
            error_2B = 100 * np.stack(
                (efficiency.efficiency_B - efficiency.lower_B, efficiency.upper_B - efficiency.efficiency_B)
            )
            low_B, high_B = efficiency.low_edge_gev_B, efficiency.high_edge_gev_B
            at_B = low_B + (number + 1) / (len(efficiencies) + 1) * (high_B - low_B)
            style: dict[str, Any] = {"color": COLOURS[number], "fmt": MARKERS[number], "elinewidth": 1}
            axes.errorbar(at_B, value_B, np.maximum(error_2B, 0), label=label, **style)
        axes.set(ylim=(0, 105), xlim=(0, high_B.max(initial=0) or 1))
        axes.set(xlabel=TRUE_PT, ylabel="efficiency: accepted / generated [%]")
        legend_above(figure, [axes])


def plot_angle_curve(
    path: Path,
    inverse_dphi_P: NDArray[np.float64],
    pt_gev_P: NDArray[np.float64],
    data_range: tuple[float, float],
    c: float,
) -> None:
    """Draw a model's pT(1/dphi) inside and outside of the data, with the boundary points.

    Parameters
    ----------
    inverse_dphi_P, pt_gev_P : arrays (P,)
        The model's curve, in 1/rad and GeV.
    data_range : two floats
        Smallest and largest 1/dphi of the training events.
    c : float
        Of pT = C / dphi in GeV rad, as fitted to the training events.
    """
    with drawn(path, 7.2, 7.0) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        order_P = np.argsort(inverse_dphi_P)
        inverse_P, pt_P = np.asarray(inverse_dphi_P)[order_P], np.asarray(pt_gev_P)[order_P]
        points = np.array(BOUNDARY_INVERSE_DPHI)
        for axes, scale_P, scale in ((top, 1.0, 1.0), (bottom, 1 / (c * inverse_P), 1 / (c * points))):
            axes.axvspan(*data_range, color=GREY, alpha=0.25, linewidth=0, label="range of the data")
            axes.plot(
                inverse_P,
                scale_P * c * inverse_P,
                color=INK,
                ls=NAIVE_STYLES[0],
                linewidth=1.1,
                label=f"C/dphi, C = {c:.4f} GeV rad",
            )
            axes.plot(inverse_P, scale_P * np.where(pt_P > 0, pt_P, np.nan), color=COLOURS[0], label="model")
            style = {
                "color": COLOURS[1],
                "marker": "o",
                "linestyle": "none",
                "markerfacecolor": "none",
                "markersize": 7,
            }
            axes.plot(points, scale * np.array(BOUNDARY_PT_GEV), label="boundary points", **style)
        top.set(xlim=(0.4, 250), xscale="log", yscale="log", ylabel="predicted $p_T$ [GeV]")
        bottom.set(xlabel=r"$1/\Delta\phi$ [1/rad]", ylabel="ratio to C/dphi", ylim=(0.5, 1.5))
        legend_above(figure, [top])


def plot_detector(path: Path, study: ClusterDphi) -> None:
    """Draw dphi(truth - cluster) of single events against pT, and sigma and peak of its core."""
    bins, end = (study.low_edge_gev_K, study.high_edge_gev_K), study.map.x_edges[-1]
    with drawn(path, 7.4, 9.4) as figure:
        map_axes, *panels = figure.subplots(3, 1, sharex=True, height_ratios=(2, 1, 1))
        colour_map(figure, map_axes, (study.map.x_edges, study.map.y_edges), study.map.count_XY)
        map_axes.set(ylabel="Δφ(truth − cluster) [mrad]")
        map_axes.set_title(_numbers(study.map), fontsize=10)
        sigma = Series(*bins, study.core_sigma_mrad_K, study.core_sigma_error_mrad_K)
        peak = Series(*bins, study.peak_mrad_K, study.peak_error_mrad_K)
        draw_series(panels[0], sigma, 0, 0.5, "")
        panels[0].set(
            ylabel="sigma of Gaussian\ncore [mrad]", ylim=(0, 1.2 * largest_sigma_mrad(study.core_sigma_mrad_K))
        )
        draw_series(panels[1], peak, 0, 0.5, "")
        panels[1].axhline(0, color=GREY, linewidth=0.8)
        panels[1].margins(y=0.15)
        panels[1].set(ylabel="peak of Gaussian\ncore [mrad]", xlabel=TRUE_PT, xlim=(0, end))
