"""What people read of a search in MLflow's own pages: descriptions of run and experiment, and views of the trials."""

# Links are written as trial:NUMBER, view:NAME and searches, until it is known under which ids MLflow has them.

from __future__ import annotations

import colorsys
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from search.reporting.leaderboard import Leaderboard, Row, number
from trainables.base.objectives import Goal

NOTE = "mlflow.note.content"  # tag of a run, and of an experiment
LONGEST = 5_000  # of a tag in every database of MLflow
_RULE = "\n\n* * *\n\n"  # what stands below it is never touched again
_ROWS = 12  # of the table in a description
_AXES = 8  # of parallel coordinates
_ALL = "-all"  # the view that has running and stopped trials, too


def colour(trial: int) -> str:
    """Of a trial's curves: far from those of the trials before it, as steps of the golden angle are."""
    rgb = colorsys.hls_to_rgb(trial * 0.381966 % 1, (0.40, 0.55, 0.30)[trial % 3], 0.75)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


# ---------------------------------------------------------------- descriptions, in Markdown


def experiment_note(title: str, objective: str) -> str:
    """Of a workload's experiment; the first line is all that is seen before somebody unfolds it."""
    return (
        f"**{title}**: each run is a search, its child runs are its trials: [best by {objective}](view:{objective}) · "
        f"[all trials](view:{objective}{_ALL}) · [searches](searches)\n\n"
        "- A trial's value is that of its last epoch, and only complete trials are ranked: see the column `outcome`.\n"
        "- Values of different `objective_version` (a tag) are different objectives.\n"
        "- *Views* (top right) holds the trials by each objective that was searched for."
    )


def opening_note(command: str, source: str) -> str:
    """Of a search's run when it begins."""
    data = "".join(f"- {line}\n" for line in source.splitlines() if not line.startswith("cache "))  # of one machine
    lines = command[:2_000].replace(" --", " \\\n  --")  # a long line would push half of the page out of the window
    return f"{data}\n```\n{lines}\n```"


def result_note(board: Leaderboard) -> str:
    """What came of a search: counts, table, naive predictors, where to look."""
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(board.outcomes.items()))
    head = f"**{counts or 'no trial ran'}** · {board.goal}"
    if board.best is None:
        reasons = Counter(row.reason for row in board.rows if row.reason).most_common(3)
        return "\n".join([f"{head} · nothing to rank\n", *(f"- {count} times: {reason}" for reason, count in reasons)])
    told = [line.strip() for line in (*board.about_limits(), *board.against_naive())]
    return "\n\n".join(
        [
            f"{head} · best: {_link(board.best)} with {number(board.best.value)} · "
            f"[complete trials as a table, curves and parallel coordinates](view:{board.objective})",
            _table(board),
            "\n".join(f"- {' '.join(line.split())}" for line in told),
            "Under *Artifacts*: `leaderboard.csv`, and in `comparison` the best trials' figures beside the presets'.",
        ]
    )


def _table(board: Leaderboard) -> str:
    """The terminal's, as Markdown."""
    table, rows = board.as_table(most=_ROWS), {row.label: row for row in board.rows}
    headings = [str(column.header).replace("\n", " ") for column in table.columns]
    lines = [headings, [":--" if heading == "trial" else "--:" for heading in headings]]
    for cells in list(zip(*(column.cells for column in table.columns), strict=True))[:_ROWS]:
        lines.append([_link(rows[cell]) if cell in rows else str(cell) for cell in cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _link(row: Row) -> str:
    return row.label if row.number is None else f"[{row.label}](trial:{row.number})"


def above(result: str, present: str) -> str:
    """The result, and below it what stands there: at first how the search began, later what people have added."""
    rest = present.partition(_RULE)[2] if _RULE in present else present
    return result[: max(LONGEST - len(_RULE + rest), 0)] + _RULE + rest


def with_links(text: str, experiment_id: str, runs: Mapping[int, str]) -> str:
    """Our links as those of MLflow's pages; a trial without a run is named only."""

    def run_link(found: re.Match[str]) -> str:
        run_id = runs.get(int(found[2]))
        return f"[{found[1]}]({_page(experiment_id, f'/{run_id}')})" if run_id else found[1]

    text = re.sub(r"\[([^\]]*)\]\(trial:(\d+)\)", run_link, text)
    text = re.sub(r"\]\(view:([^)]*)\)", lambda found: f"]({view_page(experiment_id, found[1])})", text)
    return text.replace("](searches)", f"]({_page(experiment_id)})")


def view_page(experiment_id: str, name: str) -> str:
    """Where MLflow shows a view: what follows the address of the server."""
    return f"{_page(experiment_id)}&viewStateShareKey={name}"


def _page(experiment_id: str, run: str = "") -> str:
    """Of the runs of an experiment; MLflow 3.17 opens others than those of model training with chat traces."""
    return f"#/experiments/{experiment_id}/runs{run}?workflowType=machine_learning"


# ---------------------------------------------------------------- views


def view_tag(name: str) -> str:
    """Tag of an experiment in which MLflow keeps a view of its runs."""
    return f"mlflow.sharedViewState.{name}"


def first_views(goal: Goal, columns: Sequence[str], at_ms: int) -> dict[str, str]:
    """Tags of an experiment: its trials, before anything is known of them."""
    return _views(goal, [*goal.limits, *columns], [], [], at_ms)


def result_views(board: Leaderboard, at_ms: int) -> dict[str, str]:
    """Tags of an experiment: its trials, with the leaderboard's columns and the hyperparameters that differ."""
    best = board.best
    beside = [_metric(name, board, best) for name in (best.extra_metrics if best else ()) if name != "excess"]
    return _views(board.goal, beside, _differing(board), _positive(board), at_ms)


def _metric(name: str, board: Leaderboard, best: Row | None) -> str:
    """A column of the leaderboard as MLflow knows it: its ``error`` is that of the objective."""
    full = f"{board.objective}_{name}"
    return full if best and full in best.metrics else name


def _differing(board: Leaderboard) -> list[str]:
    """Hyperparameters that all complete trials have, with more than one value; not those of a GAN alone."""
    points = [row.hyperparameters for row in board.rows if row.rank]
    shared = [name for name in (points[0] if points else ()) if all(name in point for point in points)]
    return [name for name in shared if name != "seed" and len({str(point[name]) for point in points}) > 1]


def _positive(board: Leaderboard) -> list[str]:
    """Metrics for a logarithmic axis, on which good trials can be told apart from very good ones."""
    scores = [row.metrics for row in board.rows if row.rank]
    shared = [name for name in (scores[0] if scores else ()) if all(name in score for score in scores)]
    return [name for name in shared if all(score[name] > 0 for score in scores)]


def _views(
    goal: Goal, beside: Sequence[str], hyperparameters: Sequence[str], logarithmic: Sequence[str], at_ms: int
) -> dict[str, str]:
    """The complete trials, best first; and all of them, of which only the curves can be compared."""
    first, curves = goal.objective, _curves(goal, logarithmic)
    marks = [*(["keeps_limits"] if goal.limits else []), *(["front"] if goal.several else []), "search"]
    metrics = [f"metrics.`{name}`" for name in dict.fromkeys([*goal.objectives, *beside])]
    others = [f"params.`{name}`" for name in hyperparameters] + [f"tags.`{name}`" for name in marks]
    complete = "tags.kind = 'trial' and tags.outcome = 'complete'"
    best = _state([*metrics, *others], complete, metrics[0], goal.mode == "min")
    best["compareRunCharts"] = _placed([*curves, *_planes(goal, hyperparameters)])
    every = _state([*metrics, "tags.`outcome`", *others], "tags.kind = 'trial'", "attributes.start_time", False)
    every["compareRunCharts"] = _placed(curves)
    return {
        view_tag(first): _view(f"best by {first}", best, at_ms),
        view_tag(first + _ALL): _view(f"all trials, {first}", every, at_ms),
    }


def _view(name: str, state: Mapping[str, Any], at_ms: int) -> str:
    return json.dumps({"name": name, "createdAt": at_ms, "updatedAt": at_ms, "state": json.dumps(state)})


def _state(columns: Sequence[str], which: str, order: str, ascending: bool) -> dict[str, Any]:
    """In the words of the menu *Views* of MLflow 3.17; a release that has others does not show it."""
    return {
        "searchFilter": which,
        "orderByKey": order,
        "orderByAsc": ascending,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {column: max(90, 8 * len(column.split("`")[1]) + 28) for column in columns},
        "runsHiddenMode": "FIRST_20_RUNS",
        "isAccordionReordered": True,
        "compareRunSections": [
            _section("Objective", columns=2),
            _section("Model metrics", isGenerated=True),
            _section("System metrics", isGenerated=True),
        ],
    }


def _section(name: str, **more: Any) -> dict[str, Any]:
    return {"uuid": name, "name": name, "display": True, "isReordered": False, "deleted": False} | more


def _placed(charts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    common = {"metricSectionId": "Objective", "isGenerated": False, "deleted": False, "runsCountToCompare": 100}
    return [{"uuid": f"{chart['type']}-{place}", **common, **chart} for place, chart in enumerate(charts)]


def _planes(goal: Goal, hyperparameters: Sequence[str]) -> list[dict[str, Any]]:
    """The plane of two objectives, and parallel coordinates."""
    charts: list[dict[str, Any]] = []
    if goal.several:
        x, y, *_ = ({"key": name, "type": "METRIC"} for name in goal.objectives)
        charts.append({"type": "SCATTER", "xaxis": x, "yaxis": y})
    if hyperparameters:
        axes = {"selectedParams": list(hyperparameters[:_AXES]), "selectedMetrics": [goal.objective]}
        charts.append({"type": "PARALLEL", "showAllRuns": True, **axes})
    return charts


def _curves(goal: Goal, logarithmic: Sequence[str]) -> list[dict[str, Any]]:
    """Of objectives and of limited metrics."""
    return [
        {
            "type": "LINE",
            "metricKey": name,
            "selectedMetricKeys": [name],
            "scaleType": "log" if name in logarithmic else "linear",
            "range": {},
            "xAxisKey": "step",
            "xAxisScaleType": "linear",
            "selectedXAxisMetricKey": "",
            "yAxisKey": "metric",
            "yAxisExpressions": [],
            "lineSmoothness": 0,
            "ignoreOutliers": False,
            "useGlobalXaxisKey": True,
            "useGlobalLineSmoothing": True,
        }
        for name in dict.fromkeys([*goal.objectives, *goal.limits])
    ]
