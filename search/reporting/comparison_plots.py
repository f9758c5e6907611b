"""Comparison figures at the end of a search: each of the best trials beside the presets, and the Pareto front."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from search.reporting.leaderboard import Leaderboard, Row
from trainables.base.checkpoint import REPORT_ERROR, REPORT_FOLDER
from trainables.evaluation.plot_style import COLOURS, GREY, INK, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from search.storage.trial_record import TrialRecord

_BEST_TOGETHER = 5  # best trials in the comparison of the whole search, beside all presets
_BEST_ALONE = 25  # best trials that get a comparison of their own; drawing one takes about a second


@dataclass(frozen=True)
class Comparison:
    """Figures that compare one trial with others or, without a trial, belong to the whole search."""

    trial: TrialRecord | None
    folder: Path
    drawing: Future[None]  # done when the figures are in the folder


def begin_comparisons(
    compare: Callable[[Mapping[str, Path], Path], Future[None]],
    leaderboard: Leaderboard,
    records: Iterable[TrialRecord],
    folder: Path,
    opened: ExitStack,
) -> Iterator[Comparison]:
    """Begin the comparison of each of the best trials, that of the search, and the Pareto front.

    Parameters
    ----------
    compare : callable
        Begins to draw: report folders by label, and the folder in which to write figures.
    folder : Path
        Gets one folder for each comparison.
    opened : ExitStack
        Holds the reports until it is closed.
    """
    complete = {record.label: record for record in records if record.outcome == "complete"}
    ranked = [row.label for row in leaderboard.rows if row.rank]
    presets = [label for label in ranked if complete[label].preset]
    chosen = dict.fromkeys([*ranked[:_BEST_ALONE], *presets])
    reports = {label: report for label in chosen if (report := _open_report(complete[label], opened))}

    def begin(name: str, trial: TrialRecord | None, labels: list[str]) -> Comparison:
        shown = {label: reports[label] for label in dict.fromkeys(labels) if label in reports}
        return Comparison(trial, target := _make_folder(folder / name), compare(shown, target))

    for label in reports:
        yield begin(label, complete[label], [label, *presets])
    if reports:
        yield begin("search", None, [*ranked[:_BEST_TOGETHER], *presets])
    if leaderboard.goal.several and ranked:
        target = _make_folder(folder / "front")
        draw_front(target / "pareto_front.png", leaderboard)
        done: Future[None] = Future()
        done.set_result(None)
        yield Comparison(None, target, done)


def _make_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _open_report(record: TrialRecord, opened: ExitStack) -> Path | None:
    """Return the folder of a trial's report; None where it could not be drawn, or the search ended before it was."""
    if record.checkpoint is None:
        return None
    folder = opened.enter_context(record.checkpoint.as_folder()) / REPORT_FOLDER
    return folder if folder.exists() and not (folder / REPORT_ERROR).exists() else None


def draw_front(path: Path, leaderboard: Leaderboard) -> None:
    """Draw each further objective against the first, one panel each; the front is a line, presets have names."""
    first, *others = leaderboard.objectives
    with drawn(path, 6.4 * len(others), 4.8) as figure:
        for axes, other in zip(figure.subplots(1, len(others), squeeze=False)[0], others, strict=True):
            _draw_panel(axes, leaderboard, first, other)
        figure.axes[0].legend()


def _draw_panel(axes: Axes, leaderboard: Leaderboard, x: str, y: str) -> None:
    complete = [row for row in leaderboard.rows if row.rank]
    kinds = {
        "trials": [row for row in complete if not row.front],
        "presets": [row for row in complete if row.kind == "preset"],
        "naive predictors": [row for row in leaderboard.rows if row.kind == "naive"],
    }
    for (label, rows), colour, marker in zip(kinds.items(), (GREY, COLOURS[1], INK), "osx", strict=True):
        axes.plot(*_points(rows, x, y), linestyle="", marker=marker, color=colour, label=label if rows else None)
    front = sorted(leaderboard.front, key=lambda row: row.metrics[x])
    axes.plot(*_points(front, x, y), marker="o", color=COLOURS[0], linewidth=1.2, label="Pareto front", zorder=1)
    for row in {row.label: row for row in (*front, *kinds["presets"], *kinds["naive predictors"])}.values():
        point = row.metrics[x], row.metrics[y]
        axes.annotate(row.label, point, xytext=(5, 4), textcoords="offset points", fontsize=8)
    axes.margins(x=0.16, y=0.1)
    axes.set(xlabel=f"{x} ({leaderboard.objectives[x]}imised)", ylabel=f"{y} ({leaderboard.objectives[y]}imised)")


def _points(rows: list[Row], x: str, y: str) -> tuple[list[float], list[float]]:
    return [row.metrics[x] for row in rows], [row.metrics[y] for row in rows]
