"""Figures of scores against pT and of losses along epochs, of one pT model or of several, one PNG each."""

# K pT bins, P points of a loss history

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainables.evaluation.holdout_plots import draw_evaluations
from trainables.evaluation.plot_style import (
    COLOURS,
    GREY,
    INK,
    MANY_BINS,
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
from trainables.pt.metrics import MOST_BIAS, ResponseCurve
from trainables.pt.naive import ANGLE_FORMULA, ENERGY_FORMULA, REPORT
from trainables.pt.tables import LOSS_TABLE, RESPONSE_TABLE, UNCORRECTED, Columns, columns_of, read_response_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRUE_PT = "true $p_T$ [GeV]"
TITLES = {
    "resolution": "resolution: half-width of central\n68 % of $r$, per response [%]",
    "core_sigma": "sigma of Gaussian core\nof $r$ [%]",
    "median": "bias: median of $r$ [%]",
    "peak": "bias: peak of Gaussian\ncore of $r$ [%]",
}
OTHER_STYLES: tuple[dict[str, Any], ...] = (
    *({"color": INK, "ls": dashes} for dashes in NAIVE_STYLES),  # formulas
    {"color": COLOURS[2], "ls": "-"},  # branches
    {"color": COLOURS[3], "ls": "-"},
)
LINES = ("-", "--", ":")  # where colours come again
SMALLEST_BIAS_RANGE = 0.06
OUTLYING = 3  # of several trials, those this many times worse than the best may leave the axis


def plot_widths(path: Path, curves: Mapping[str, ResponseCurve], others: Mapping[str, Columns]) -> None:
    """Draw resolution and core sigma against pT, of one or several models, beside other predictors."""
    _plot_pair(path, curves, others, ("resolution", "core_sigma"))


def plot_biases(path: Path, curves: Mapping[str, ResponseCurve], others: Mapping[str, Columns]) -> None:
    """Draw median and peak of r against pT, with the band that the constraint allows."""
    _plot_pair(path, curves, others, ("median", "peak"))


def plot_correction(path: Path, corrected: ResponseCurve, uncorrected: ResponseCurve) -> None:
    """Draw resolution and median with and without the post-correction."""
    curves = {"with post-correction": corrected, "without": uncorrected}
    _plot_pair(path, curves, {}, ("resolution", "median"))


def draw_holdout(evaluations: Mapping[str, Evaluation], file: Path, reference: str | None) -> None:
    """Draw the resolution of models and formulas on the holdout, and the differences of models to the reference."""
    draw_evaluations(evaluations, (ANGLE_FORMULA, ENERGY_FORMULA), file, reference)


def _plot_pair(
    path: Path, curves: Mapping[str, ResponseCurve], others: Mapping[str, Columns], quantities: tuple[str, str]
) -> None:
    with drawn(path, 7.6 + 0.15 * len(curves), 7.4) as figure:
        panels = figure.subplots(2, 1, sharex=True)
        for axes, quantity in zip(panels, quantities, strict=True):
            _against_pt(axes, curves, others, quantity)
        panels[-1].set_xlabel(TRUE_PT)
        legend_above(figure, panels)


def _against_pt(axes: Axes, curves: Mapping[str, ResponseCurve], others: Mapping[str, Columns], quantity: str) -> None:
    values = {label: columns_of(curve)[quantity] for label, curve in curves.items()}
    other_values = {name: other[quantity] for name, other in others.items() if quantity in other}
    if quantity in ("median", "peak"):
        limit = 100 * MOST_BIAS
        axes.axhspan(-limit, limit, color=GREY, alpha=0.25, linewidth=0, label=f"default limit: ±{limit:g} %")
        axes.axhline(0, color=GREY, linewidth=0.8)
        half = 100 * max(SMALLEST_BIAS_RANGE, 1.15 * _range_of(values.values(), ()))
        axes.set_ylim(-half, half)
    else:
        axes.set_ylim(0, 100 * 1.12 * (_range_of(values.values(), other_values.values()) or 1))
    _draw_others(axes, next(iter(curves.values())), other_values)
    for number, (label, curve) in enumerate(curves.items()):
        series = _percent(curve, values[label], columns_of(curve)[f"{quantity}_error"])
        _draw_curve(axes, series, number, len(curves), label)
    end = max(curve.high_edge_gev_K.max(initial=0) for curve in curves.values())
    axes.set(xlim=(0, end or 1), ylabel=TITLES[quantity])
    _name_unseen(axes, values)


def _draw_curve(axes: Axes, series: Series, number: int, of: int, label: str) -> None:
    """Draw the points of trial ``number`` of ``of``, beside those of the others; a thin line guides the eye."""
    place = (number + 1) / (of + 1)
    draw_series(axes, series, number, place, label)
    if of > 1 and len(series.value_K) <= MANY_BINS:
        at_K = series.low_K + place * (series.high_K - series.low_K)
        axes.plot(at_K, series.value_K, color=colour_of(number), linewidth=0.7, alpha=0.45)


def _name_unseen(axes: Axes, values: Mapping[str, NDArray[np.float64]]) -> None:
    """Say which trials lie wholly beyond the axis, or have no numbers."""
    bottom, top = axes.get_ylim()
    seen = {label for label, value_K in values.items() if ((100 * value_K >= bottom) & (100 * value_K <= top)).any()}
    if unseen := [label for label in values if label not in seen]:
        text = "not in sight: " + ", ".join(unseen)
        axes.text(0.98, 0.94, text, transform=axes.transAxes, ha="right", va="top", fontsize=9)


def _draw_others(axes: Axes, bins: ResponseCurve, others: Mapping[str, NDArray[np.float64]]) -> None:
    """Draw steps, dashed for formulas; grey squares for the report, which has other events."""
    predictors = [name for name in others if name != REPORT]
    for name, style in zip(predictors, OTHER_STYLES, strict=False):
        draw_steps(axes, _percent(bins, others[name]), linewidth=1.1, label=name, **style)
    if REPORT in others:
        centre_K = (bins.low_edge_gev_K + bins.high_edge_gev_K) / 2
        axes.plot(centre_K, 100 * others[REPORT], "s", color=GREY, markersize=6, markerfacecolor="none", label=REPORT)


def _percent(bins: ResponseCurve, value_K: NDArray[np.float64], error_K: NDArray[np.float64] | None = None) -> Series:
    error_K = np.zeros_like(value_K) if error_K is None else error_K
    return Series(bins.low_edge_gev_K, bins.high_edge_gev_K, 100 * value_K, 100 * error_K)


def _range_of(curves_K: Iterable[NDArray[np.float64]], others_K: Iterable[NDArray[np.float64]]) -> float:
    """Find the largest |value| to show: of all curves and others, unless far above the best curve's; 0: no values."""
    largest = [_largest(value_K) for value_K in curves_K]
    best = min((value for value in largest if value), default=0.0)
    worst = max((*largest, *(_largest(value_K) for value_K in others_K)), default=0.0)
    return min(worst, OUTLYING * best) if best else worst


def _largest(value_K: NDArray[np.float64]) -> float:
    return float(np.abs(value_K[np.isfinite(value_K)]).max(initial=0))


def plot_losses(path: Path, points: Mapping[str, list[float]]) -> None:
    """Draw losses and learning rates along epochs, a panel for each column that begins with ``loss`` or ``lr``."""
    losses = sorted(name for name in points if name.startswith("loss"))
    losses.sort(key=lambda name: name not in ("loss", "loss_main"))
    if points.get("loss") == points.get("loss_main") and "loss" in points:
        losses.remove("loss")  # nothing was added to the main loss
    names = [*losses, *(name for name in points if name.startswith("lr"))]
    with drawn(path, 7.2, 1.0 + 1.9 * len(names)) as figure:
        panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
        for axes, name in zip(panels, names, strict=True):
            _history(axes, np.array(points["epoch"]), np.array(points[name]), colour_of(0), "")
            axes.set_ylabel(_readable(name))
        panels[-1].set_xlabel("epoch")


def compare_trials(reports: Mapping[str, Path], folder: Path) -> None:
    """Overlay resolution, bias and losses of several trials."""
    tables = {label: read_response_table(report / RESPONSE_TABLE) for label, report in reports.items()}
    others = {name: other for name, other in next(iter(tables.values()))[1].items() if name != UNCORRECTED}
    curves = {label: curve for label, (curve, _) in tables.items()}
    plot_widths(folder / "resolution_vs_pt.png", curves, others)
    plot_biases(folder / "bias_vs_pt.png", curves, others)
    histories = {
        number: (label, read_columns(report / LOSS_TABLE))
        for number, (label, report) in enumerate(reports.items())
        if (report / LOSS_TABLE).exists()
    }
    if not histories:
        return
    with drawn(folder / "losses.png", 7.6, 5.2) as figure:
        axes = figure.add_subplot()
        for number, (label, column) in histories.items():
            name = "loss_main" if "loss_main" in column else "loss"
            _history(axes, column["epoch"], column[name], colour_of(number), label, LINES[number // len(COLOURS) % 3])
        axes.set(xlabel="epoch", ylabel="main loss on training events")
        legend_above(figure, [axes])


def compare_seeds(reports: Mapping[str, Sequence[Path]], folder: Path) -> None:
    """Draw resolution and bias of points that were trained with several seeds, means with the bands of their errors.

    Parameters
    ----------
    reports : mapping of str to paths
        Label of a point -> the reports of its trainings.
    """
    curves = {
        label: [read_response_table(report / RESPONSE_TABLE)[0] for report in one] for label, one in reports.items()
    }
    with drawn(folder / "resolution_and_bias_over_seeds.png", 7.6, 7.4) as figure:
        panels = figure.subplots(2, 1, sharex=True)
        limit = 100 * MOST_BIAS
        panels[1].axhspan(-limit, limit, color=GREY, alpha=0.25, linewidth=0, label=f"default limit: ±{limit:g} %")
        for axes, quantity in zip(panels, ("resolution", "median"), strict=True):
            axes.axhline(0, color=GREY, linewidth=0.8)
            bands = {
                name_with_seeds(label, len(one)): mean_over_seeds(
                    [_percent(curve, columns_of(curve)[quantity]) for curve in one]
                )
                for label, one in curves.items()
            }
            for number, (name, band) in enumerate(bands.items()):
                draw_band(axes, band, number, name)
            axes.set(ylabel=TITLES[quantity], ylim=range_of_bands(bands.values()))
        panels[0].set_ylim(bottom=0)
        panels[-1].set(xlabel=TRUE_PT, xlim=(0, None))
        legend_above(figure, panels)


def _history(
    axes: Axes, epoch_P: NDArray[np.float64], value_P: NDArray[np.float64], colour: str, label: str, line: str = "-"
) -> None:
    dot = "." if len(epoch_P) < 3 else ""
    axes.plot(epoch_P, value_P, color=colour, linewidth=1.3, label=label, linestyle=line, marker=dot)
    low, high = np.min(value_P), np.max(value_P)
    if low > 0 and high > 5 * low:
        axes.set_yscale("log")


def _readable(name: str) -> str:
    """Translate a column's name for people: ``loss_monotonic`` is the monotonic penalty."""
    known = {"loss": "total loss", "loss_main": "main loss", "lr": "learning rate"}
    return known.get(name) or (name.removeprefix("loss_").replace("_", " ") + " penalty" * name.startswith("loss_"))
