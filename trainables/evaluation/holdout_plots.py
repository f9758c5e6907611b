"""The figure of a promotion: one score of several models on the holdout, bin by bin, and their differences."""

# R rows: the sample itself, then one bootstrap replica each; K bins

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainables.evaluation.plot_style import (
    GREY,
    INK,
    NAIVE_STYLES,
    Series,
    colour_of,
    draw_series,
    draw_steps,
    drawn,
    legend_above,
    marker_of,
)
from trainables.evaluation.scores import Curve, CurveDifference, Evaluation, check_paired, curve_difference

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BINS = 20  # more are drawn as means of neighbours, because points of several models would overlap
CONFIDENCE = 0.95
TIP_UP, TIP_DOWN = 6, 7  # matplotlib's markers whose tip is at the point
OUTLYING = 3  # models whose differences are this many times those of the nearest one may leave the axis


def draw_evaluations(
    evaluations: Mapping[str, Evaluation], naive: Collection[str], file: Path, reference: str | None
) -> None:
    """Draw the curves of all, with 1 sigma of their replicas, and the differences of models to the reference.

    Parameters
    ----------
    evaluations : mapping of label to Evaluation
        All of the same replicas of the same events.
    naive : collection of labels
        Naive predictors, which are no models: dashed, without differences.
    file : Path
        The PNG.
    reference : label of a model, or None
        A line with a band in the upper panel, zero in the lower one. None: no lower panel.

    Raises
    ------
    ValueError
        The evaluations are not of the same replicas of the same events.
    """
    first, *others = evaluations.values()
    for other in others:
        check_paired(first, other)
    shown = {label: replace(one, curve=coarser(one.curve, MOST_BINS)) for label, one in evaluations.items()}
    to = None if reference is None else shown[reference]
    models = {label: one for label, one in shown.items() if label not in naive and label != reference}
    with drawn(file, 7.6 + 0.2 * len(models), 4.8 if to is None else 7.4) as figure:
        heights = (3, 2)[: 1 if to is None else 2]
        panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        _draw_naive(panels[0], {label: one.curve for label, one in shown.items() if label in naive})
        if reference is not None and to is not None:
            _draw_reference(panels[0], to.curve, reference)
            _draw_differences(panels[1], models, to, reference)
        for number, (label, one) in enumerate(models.items()):
            draw_series(panels[0], _with_error(one.curve), number, _place(number, models), label)
        _name_axes(panels[0], panels[-1], next(iter(shown.values())).curve)
        legend_above(figure, panels)


def coarser(curve: Curve, most_bins: int) -> Curve:
    """Reduce the curve to at most so many bins by means over neighbours, as even in number as possible."""
    if len(curve.events_K) <= most_bins:
        return curve
    first_K = np.linspace(0, len(curve.events_K), most_bins + 1).astype(np.int64)[:-1]
    size_K = np.diff(np.append(first_K, len(curve.events_K)))
    sizes = " or ".join(f"{size}" for size in np.unique(size_K))
    return replace(
        curve,
        y=f"{curve.y}\n(means of {sizes} bins)",
        low_edge_K=curve.low_edge_K[first_K],
        high_edge_K=curve.high_edge_K[first_K + size_K - 1],
        events_K=np.add.reduceat(curve.events_K, first_K),
        value_RK=np.add.reduceat(curve.value_RK, first_K, axis=1) / size_K,
    )


def _draw_naive(axes: Axes, curves: Mapping[str, Curve]) -> None:
    for (label, curve), dashes in zip(curves.items(), NAIVE_STYLES, strict=False):
        draw_steps(axes, _series(curve, curve.value_RK[0]), color=GREY, ls=dashes, linewidth=1.3, label=label)


def _draw_reference(axes: Axes, curve: Curve, label: str) -> None:
    series = _with_error(curve)
    draw_steps(axes, series, color=INK, linewidth=1.6, label=label)
    upper_K, edges = series.with_gaps(series.value_K + series.error_K)
    lower_K, _ = series.with_gaps(series.value_K - series.error_K)
    axes.stairs(upper_K, edges, baseline=lower_K, fill=True, color=INK, alpha=0.15, linewidth=0)


def _draw_differences(axes: Axes, models: Mapping[str, Evaluation], to: Evaluation, reference: str) -> None:
    """Draw points with their intervals; where one lies beyond the axis, an arrow head at its edge."""
    apart = [curve_difference(one, to, CONFIDENCE) for one in models.values()]
    factor = _factor(to.curve)
    bottom, top = (factor * end for end in _range_of(apart))
    axes.axhline(0, color=INK, linewidth=1.6)
    for number, one in enumerate(apart):
        series = _series(to.curve, one.value_K)
        at_K = series.low_K + _place(number, models) * (series.high_K - series.low_K)
        ends_2K = factor * np.stack((one.value_K - one.low_K, one.high_K - one.value_K))
        style: dict[str, Any] = {"color": colour_of(number), "fmt": marker_of(number), "elinewidth": 1}
        axes.errorbar(at_K, series.value_K, np.maximum(ends_2K, 0), **style)
        for beyond_K, edge, marker in (
            (series.value_K > top, top, TIP_UP),
            (series.value_K < bottom, bottom, TIP_DOWN),
        ):
            axes.plot(at_K[beyond_K], np.full(beyond_K.sum(), edge), color=colour_of(number), marker=marker, ls="")
    better = "> 0: better" if to.curve.mode == "max" else "< 0: better"
    axes.set(
        ylim=(bottom, top),
        ylabel=f"difference to {reference}{_unit(to.curve)}\n{100 * CONFIDENCE:g} % interval; {better}",
    )


def _range_of(apart: Sequence[CurveDifference]) -> tuple[float, float]:
    """Find the ends of the axis: all intervals, except those that reach much farther than the nearest model's."""
    below = [max(0.0, -float(np.min(one.low_K[np.isfinite(one.low_K)], initial=0))) for one in apart]
    above = [max(0.0, float(np.max(one.high_K[np.isfinite(one.high_K)], initial=0))) for one in apart]
    reach = [max(pair) for pair in zip(below, above, strict=True)]
    limit = OUTLYING * min((value for value in reach if value), default=1.0)
    bottom, top = min(limit, max(below, default=0.0)), min(limit, max(above, default=0.0))
    room = 0.1 * (bottom + top) or limit
    return -bottom - room, top + room


def _name_axes(upper: Axes, lowest: Axes, curve: Curve) -> None:
    upper.set_ylabel(curve.y + _unit(curve))
    if curve.scale == "log":
        upper.set_yscale("log")
    elif curve.scale == "percent":
        upper.set_ylim(bottom=0)
    if len(curve.events_K) == 1:
        lowest.set_xticks([])  # one bin of everything
    lowest.set(xlabel=curve.x, xlim=(curve.low_edge_K[0], curve.high_edge_K[-1]))


def _with_error(curve: Curve) -> Series:
    """Return the curve with 1 sigma of its replicas."""
    return _series(curve, curve.value_RK[0], curve.value_RK[1:].std(axis=0))


def _series(curve: Curve, value_K: NDArray[np.float64], error_K: NDArray[np.float64] | None = None) -> Series:
    error_K = np.zeros_like(value_K) if error_K is None else error_K
    return Series(curve.low_edge_K, curve.high_edge_K, _factor(curve) * value_K, _factor(curve) * error_K)


def _place(number: int, models: Mapping[str, Evaluation]) -> float:
    """Return where this model's points stand inside their bins, 0 to 1."""
    return (number + 1) / (len(models) + 1)


def _factor(curve: Curve) -> float:
    return 100.0 if curve.scale == "percent" else 1.0


def _unit(curve: Curve) -> str:
    return " [%]" if curve.scale == "percent" else ""
