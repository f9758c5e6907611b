"""The common style of all workloads' figures, and helpers to draw them and write them as PNG."""

# K bins
# Object-oriented figures only, without pyplot's global state, so that threads may draw at the same time.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
DPI = 150
MANY_BINS = 40  # more are drawn as lines
OUR_STYLE = {  # on top of that of ATLAS
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
}


@contextmanager
def drawn(
    path: Path, width_inch: float, height_inch: float, style: Mapping[str, Any] | None = None
) -> Iterator[Figure]:
    """Give an empty figure to draw on, and write it to ``path`` at the end; the user's own style stays as it was."""
    # a second of CPU in each process: only where something is drawn
    import matplotlib.style
    import mplhep
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context([mplhep.style.ATLAS, OUR_STYLE, dict(style or {})]):
        figure = Figure(figsize=(width_inch, height_inch), dpi=DPI)
        yield figure
        # savefig would lay everything out and draw it once more before
        FigureCanvasAgg(figure).print_png(path)  # type: ignore[no-untyped-call]


def colour_of(number: int) -> str:
    """Return the colour of trial 0, 1, ... in a figure."""
    return COLOURS[number % len(COLOURS)]


def marker_of(number: int) -> str:
    """Return the marker of trial 0, 1, ...: where a colour repeats, it has another marker."""
    return MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]


@dataclass(frozen=True)
class Series:
    """Values in bins, with errors; bins may be missing in between."""

    low_K: NDArray[np.float64]  # edges, in the unit of the axis
    high_K: NDArray[np.float64]
    value_K: NDArray[np.float64]
    error_K: NDArray[np.float64]

    def with_gaps(self, value_K: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return values and edges for steps; where bins are missing in between, the value is NaN."""
        edges = np.unique(np.append(self.low_K, self.high_K))
        gapped = np.full(len(edges) - 1, np.nan)
        gapped[np.searchsorted(edges, self.low_K)] = value_K
        return gapped, edges


def draw_steps(axes: Axes, series: Series, **style: Any) -> None:
    """Draw a horizontal line in each bin, without errors."""
    if len(series.value_K):
        axes.stairs(*series.with_gaps(series.value_K), **({"baseline": None} | style))


def draw_series(axes: Axes, series: Series, number: int, place: float, label: str) -> None:
    """Draw points with errors, at this place (0 to 1) inside their bins; of many bins, steps with a band.

    Colour and marker are those of the trial of this number: 0, 1, ...
    """
    colour = colour_of(number)
    if len(series.value_K) > MANY_BINS:
        draw_band(axes, series, number, label)
        return
    at_K = series.low_K + place * (series.high_K - series.low_K)
    axes.errorbar(at_K, series.value_K, series.error_K, color=colour, fmt=marker_of(number), elinewidth=1, label=label)


def draw_band(axes: Axes, series: Series, number: int, label: str) -> None:
    """Draw steps with a band of their errors, in the colour of the trial of this number: 0, 1, ..."""
    colour = colour_of(number)
    draw_steps(axes, series, color=colour, linewidth=1.2, label=label)
    upper_K, edges = series.with_gaps(series.value_K + series.error_K)
    lower_K, _ = series.with_gaps(series.value_K - series.error_K)
    axes.stairs(upper_K, edges, baseline=lower_K, fill=True, color=colour, alpha=0.2, linewidth=0)


def range_of_bands(bands: Iterable[Series]) -> tuple[float, float]:
    """Return the ends of an axis that holds several bands and 0, with some room: matplotlib does not see lower ends."""
    ends = [
        value_K + sign * band.error_K for band in bands for sign, value_K in ((-1, band.value_K), (1, band.value_K))
    ]
    low, high = (float(end([0.0, *(end(one) for one in ends if one.size)])) for end in (np.nanmin, np.nanmax))
    room = 0.06 * (high - low) or 1.0
    return low - room, high + room


def legend_above(figure: Figure, panels: Iterable[Axes]) -> None:
    """Draw one legend for all panels, outside of them so that it covers no data; each label once, points first."""
    from matplotlib.container import ErrorbarContainer

    entries = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    entries = dict(sorted(entries.items(), key=lambda entry: not isinstance(entry[1], ErrorbarContainer)))
    columns = max(1, int(figure.get_figwidth() * 14 / (6 + max(map(len, entries), default=1))))
    figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=min(columns, 4))


def colour_map(
    figure: Figure, axes: Axes, edges: tuple[NDArray[np.float64], NDArray[np.float64]], counts: NDArray[np.float64]
) -> None:
    """Draw numbers of events in two dimensions, logarithmic; empty cells stay white."""
    largest = max(counts.max(initial=0), 2)
    shown = np.ma.masked_equal(counts.T, 0)
    mesh = axes.pcolormesh(*edges, shown, cmap="viridis", norm="log", rasterized=True)
    mesh.set_clim(0.8, largest)
    figure.colorbar(mesh, ax=axes, label="events")
