"""Describe searches on MLflow's pages in Markdown, and choose the columns and axes of its views from a leaderboard."""

# Links are written as trial:NUMBER, view:NAME and searches: see ``search.tracking.mlflow_ui``.

from __future__ import annotations

from collections import Counter

from search.reporting.leaderboard import Leaderboard, Row, number
from search.storage.event_log import now_ms
from search.tracking.events import EventRecorder
from search.tracking.mlflow_ui import ALL_TRIALS, trial_views
from search.workload import Workload
from trainables.base.objectives import Goal

_ROWS = 12  # of the table in a description


def record_opening(recorder: EventRecorder, workload: Workload, goal: Goal) -> None:
    """Record what the search is about, for readers of MLflow's pages while it runs."""
    views = trial_views(goal, [*goal.constrained, *workload.columns], now_ms())
    recorder.search_opened(experiment_note(workload.title, goal.objective), views)


def record_result(recorder: EventRecorder, board: Leaderboard) -> None:
    """Record the description of the result, and name and scores of the best trial."""
    best = board.best
    recorder.search_described(result_note(board), result_views(board, now_ms()))
    if best is None:
        return
    names = [*board.objectives, *(name for name in best.extra_metrics if name in best.metrics)]
    won = {f"race_{name}": getattr(best.race, name) for name in ("mean", "error", "seeds", "chance") if best.race}
    complete = [row for row in board.rows if row.rank] if board.goal.several else []
    front = {row.number: row.front for row in complete if row.number is not None}
    recorder.search_result(best.label, best.number, {name: best.metrics[name] for name in names} | won, front)


def experiment_note(title: str, objective: str) -> str:
    """Describe the experiment of a workload; only the first line is visible until a reader unfolds it."""
    return (
        f"**{title}**: each run is a search, its child runs are its trials: [best by {objective}](view:{objective}) · "
        f"[all trials](view:{objective}{ALL_TRIALS}) · [searches](searches)\n\n"
        "- A trial's value is that of its last epoch, and only complete trials are ranked: see the column `outcome`.\n"
        "- Values of different `objective_version` (a tag) are different objectives.\n"
        "- *Views* (top right) holds the trials by each objective that was searched for."
    )


def opening_note(command: str, source: str) -> str:
    """Describe the run of a search that begins."""
    data = "".join(f"- {line}\n" for line in source.splitlines() if not line.startswith("cache "))  # of one machine
    lines = command[:2_000].replace(" --", " \\\n  --")  # a long line would push half of the page out of the window
    return f"{data}\n```\n{lines}\n```"


def result_note(board: Leaderboard) -> str:
    """Describe the result of a search: counts, best trial, table, limits, naive predictors, where to look."""
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(board.outcomes.items()))
    head = f"**{counts or 'no trial ran'}** · {board.goal}"
    if board.best is None:
        reasons = Counter(row.reason for row in board.rows if row.reason).most_common(3)
        return "\n".join([f"{head} · nothing to rank\n", *(f"- {count} times: {reason}" for reason, count in reasons)])
    sentences = [line.strip() for line in board.verdicts()]
    return "\n\n".join(
        [
            f"{head} · best: {_link(board.best)} with {number(board.best.value)} · "
            f"[complete trials as a table, curves and parallel coordinates](view:{board.objective})",
            _table(board),
            "\n".join(f"- {' '.join(line.split())}" for line in sentences),
            "Under *Artifacts*: `leaderboard.csv`, and in `comparison` the best trials' figures beside the presets'.",
        ]
    )


def _table(board: Leaderboard) -> str:
    """Write the terminal's table as Markdown."""
    table, rows = board.as_table(most=_ROWS), {row.label: row for row in board.rows}
    headings = [str(column.header).replace("\n", " ") for column in table.columns]
    lines = [headings, [":--" if heading == "trial" else "--:" for heading in headings]]
    for cells in list(zip(*(column.cells for column in table.columns), strict=True))[:_ROWS]:
        lines.append([_link(rows[cell]) if cell in rows else str(cell) for cell in cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _link(row: Row) -> str:
    return row.label if row.number is None else f"[{row.label}](trial:{row.number})"


def result_views(board: Leaderboard, at_ms: int) -> dict[str, str]:
    """Build an experiment's views with the leaderboard's columns and the hyperparameters that differ."""
    best = board.best
    columns = [_metric(name, board, best) for name in (best.extra_metrics if best else ())]
    return trial_views(
        board.goal, columns, at_ms, hyperparameters=_differing(board), logarithmic=_positive_metrics(board)
    )


def _metric(column: str, board: Leaderboard, best: Row | None) -> str:
    """Return MLflow's name for a column of the leaderboard: ``error`` stands for that of the objective."""
    full = f"{board.objective}_{column}"
    return full if best and full in best.metrics else column


def _differing(board: Leaderboard) -> list[str]:
    """Return the hyperparameters that all complete trials have, with more than one value."""
    points = [row.hyperparameters for row in board.rows if row.rank]
    shared = [name for name in (points[0] if points else ()) if all(name in point for point in points)]
    return [name for name in shared if name != "seed" and len({str(point[name]) for point in points}) > 1]


def _positive_metrics(board: Leaderboard) -> list[str]:
    """Return the metrics for a logarithmic axis, which separates good trials from very good ones."""
    scores = [row.metrics for row in board.rows if row.rank]
    shared = [name for name in (scores[0] if scores else ()) if all(name in score for score in scores)]
    return [name for name in shared if all(score[name] > 0 for score in scores)]
