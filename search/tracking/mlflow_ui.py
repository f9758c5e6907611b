"""Build what MLflow's own pages need: views of the trials, colours of curves, links, and tags."""

# Descriptions link to trial:NUMBER, view:NAME and searches; ``with_links`` replaces these by MLflow's own addresses
# when the ids of the runs are known.

from __future__ import annotations

import colorsys
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from trainables.base.objectives import Goal

NOTE = "mlflow.note.content"  # tag of a run, and of an experiment
LONGEST = 5_000  # characters of a tag in every database of MLflow
ALL_TRIALS = "-all"  # end of the name of the view that includes running and stopped trials
_RULE = "\n\n* * *\n\n"  # separates the result from the text below it, which is never changed
_AXES = 8  # of parallel coordinates


def colour(trial: int) -> str:
    """Return the colour of a trial's curves; steps of the golden angle keep it far from those of the trials before."""
    rgb = colorsys.hls_to_rgb(trial * 0.381966 % 1, (0.40, 0.55, 0.30)[trial % 3], 0.75)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


# ---------------------------------------------------------------- descriptions


def with_result(result: str, present: str) -> str:
    """Put the result above a run's description: above how the search began, and above what users have added."""
    rest = present.partition(_RULE)[2] if _RULE in present else present
    return result[: max(LONGEST - len(_RULE + rest), 0)] + _RULE + rest


def with_links(text: str, experiment_id: str, runs: Mapping[int, str]) -> str:
    """Replace our links by addresses of MLflow's pages; a trial without a run keeps only its name."""

    def run_link(found: re.Match[str]) -> str:
        run_id = runs.get(int(found[2]))
        return f"[{found[1]}]({_page(experiment_id, f'/{run_id}')})" if run_id else found[1]

    text = re.sub(r"\[([^\]]*)\]\(trial:(\d+)\)", run_link, text)
    text = re.sub(r"\]\(view:([^)]*)\)", lambda found: f"]({view_page(experiment_id, found[1])})", text)
    return text.replace("](searches)", f"]({_page(experiment_id)})")


def view_page(experiment_id: str, name: str) -> str:
    """Return the page of a view, as the part of its address after that of the server."""
    return f"{_page(experiment_id)}&viewStateShareKey={name}"


def _page(experiment_id: str, run: str = "") -> str:
    """Return the page of an experiment's runs; without its type MLflow 3.17 may open it with chat traces."""
    return f"#/experiments/{experiment_id}/runs{run}?workflowType=machine_learning"


# ---------------------------------------------------------------- views


def view_tag(name: str) -> str:
    """Return the tag of an experiment in which MLflow keeps a view of its runs."""
    return f"mlflow.sharedViewState.{name}"


def trial_views(
    goal: Goal,
    metrics: Sequence[str],
    at_ms: int,
    *,
    hyperparameters: Sequence[str] = (),
    logarithmic: Sequence[str] = (),
) -> dict[str, str]:
    """Build an experiment's tags with two views: the complete trials, best first, and all trials.

    The view of all trials compares only their curves, because the last value of a stopped trial is not that of a whole
    one.

    Parameters
    ----------
    metrics : sequence of str
        Columns beside the objectives.
    at_ms : int
        Time of the views, since 1970.
    hyperparameters : sequence of str
        Further columns, and axes of the parallel coordinates.
    logarithmic : sequence of str
        Metrics whose axis is logarithmic.
    """
    first, curves = goal.objective, _curves(goal, logarithmic)
    marks = [*(["keeps_limits"] if goal.constraints else []), *(["front"] if goal.several else []), "search"]
    scores = [f"metrics.`{name}`" for name in dict.fromkeys([*goal.objectives, *metrics])]
    others = [f"params.`{name}`" for name in hyperparameters] + [f"tags.`{name}`" for name in marks]
    complete = "tags.kind = 'trial' and tags.outcome = 'complete'"
    best = _state([*scores, *others], complete, scores[0], goal.mode == "min")
    best["compareRunCharts"] = _placed([*curves, *_planes(goal, hyperparameters)])
    every = _state([*scores, "tags.`outcome`", *others], "tags.kind = 'trial'", "attributes.start_time", False)
    every["compareRunCharts"] = _placed(curves)
    return {
        view_tag(first): _view(f"best by {first}", best, at_ms),
        view_tag(first + ALL_TRIALS): _view(f"all trials, {first}", every, at_ms),
    }


def _view(name: str, state: Mapping[str, Any], at_ms: int) -> str:
    return json.dumps({"name": name, "createdAt": at_ms, "updatedAt": at_ms, "state": json.dumps(state)})


def _state(columns: Sequence[str], query: str, order: str, ascending: bool) -> dict[str, Any]:
    """Build the state of a view with the keys of MLflow 3.17; a release with other keys does not show the view."""
    return {
        "searchFilter": query,
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
    """Build the plane of the first two objectives, and parallel coordinates."""
    charts: list[dict[str, Any]] = []
    if goal.several:
        x, y, *_ = ({"key": name, "type": "METRIC"} for name in goal.objectives)
        charts.append({"type": "SCATTER", "xaxis": x, "yaxis": y})
    if hyperparameters:
        axes = {"selectedParams": list(hyperparameters[:_AXES]), "selectedMetrics": [goal.objective]}
        charts.append({"type": "PARALLEL", "showAllRuns": True, **axes})
    return charts


def _curves(goal: Goal, logarithmic: Sequence[str]) -> list[dict[str, Any]]:
    """Build the curves of the objectives and of the constrained metrics."""
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
        for name in dict.fromkeys([*goal.objectives, *goal.constrained])
    ]
