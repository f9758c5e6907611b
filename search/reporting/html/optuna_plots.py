"""Optuna's own figures of a search: parameter importances, parallel coordinates, slices."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import optuna
import plotly.graph_objects as go
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from optuna.visualization import plot_parallel_coordinate, plot_param_importances, plot_slice

from search.reporting.html.plot_theme import Graph, axis_type, empty_graph
from trainables.evaluation.plot_style import COLOURS

if TYPE_CHECKING:
    from search.reporting.html.load import SearchSnapshot

_DIRECTIONS = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}
_LEAST = 5  # complete trials, below which importances say nothing at all
_RELIABLE = 50  # complete trials, below which importances are a hint
_SHOWN = 300  # best complete trials in parallel coordinates and slices: more lines than that are a grey wall
_TOP, _TOP_TRIALS = 0.1, 5  # Optuna compares the best tenth with all; of few trials, at least so many


def importance_graphs(search: SearchSnapshot) -> list[Graph]:
    """Draw for each objective how much its best trials differ from all trials, by hyperparameter."""
    return [_importance(search, objective) for objective in search.goal.objectives]


def _importance(search: SearchSnapshot, objective: str) -> Graph:
    title = f"Importance for {objective}"
    trials = _complete(search)
    if reason := _why_no_importance(search, trials, objective):
        return empty_graph(title, reason)
    study = _study(search, trials, [objective])
    evaluator = PedAnovaImportanceEvaluator(target_quantile=min(0.5, max(_TOP, _TOP_TRIALS / len(trials))))
    with _caught_warnings() as caught:
        figure = plot_param_importances(study, evaluator, _varying(search, trials))
    figure.update_layout(title=None, xaxis_title="share of importance", yaxis_title=None)
    figure.update_traces(marker_color=COLOURS[0])
    rows = len(figure.data[0].y)
    note = _importance_note(len(trials), [str(warning.message) for warning in caught])
    return Graph(title, figure, note, height=110 + 26 * rows)


def _why_no_importance(search: SearchSnapshot, trials: list[FrozenTrial], objective: str) -> str:
    index = list(search.goal.objectives).index(objective)
    sampled = [trial for trial in trials if "preset" not in trial.user_attrs]
    if len(trials) < _LEAST:
        return f"Importances need at least {_LEAST} complete trials; there {_are(len(trials))}."
    if len({trial.values[index] for trial in trials}) == 1:
        return "All complete trials have the same value: no parameter matters."
    if not sampled:
        return "Only presets are complete: they were chosen, not sampled, and say nothing of importances."
    if not _varying(search, trials):
        return "All complete trials have the same parameters."
    return ""


def _importance_note(trials: int, warned: list[str]) -> str:
    caution = f"From {trials} complete trials only: a hint, no more. " if trials < _RELIABLE else ""
    thin = "Some parameters are set in too few trials. " if any("regimes" in text for text in warned) else ""
    return caution + thin + "PED-ANOVA: how much the best trials differ from all in this parameter."


def parallel_graph(search: SearchSnapshot) -> Graph:
    """Draw every complete trial as a line through its hyperparameters."""
    trials = _complete(search)
    best = _best(search, trials)
    varying = _varying(search, best)
    if len(trials) < 2:
        return empty_graph("", f"Parallel coordinates need two complete trials; there {_are(len(trials))}.")
    if not varying:
        return empty_graph("", "All complete trials have the same parameters.")
    several = search.goal.several
    study = _study(search, best, list(search.goal.objectives))
    with _caught_warnings():
        if several:
            study.set_metric_names(list(search.goal.objectives))
        figure = plot_parallel_coordinate(study, varying, target_name=search.goal.objective)
    figure.update_layout(title=None, margin={"l": 30, "r": 30, "t": 40, "b": 40})
    figure.update_xaxes(linecolor="rgba(0,0,0,0)", ticks="", tickfont_size=12)
    colour = "Pareto rank, 0 is the front (limits not considered)" if several else search.goal.objective
    note = f"Colour: {colour}; the darker, the better. {_constant_note(search, varying)}{_excerpt_note(best, trials)}"
    _darken(figure)
    return Graph(
        "",
        figure,
        note.strip(),
        height=460,
        min_width=104 * (len(varying) + len(search.goal.objectives)),
        tools=False,
    )


def _darken(figure: go.Figure) -> None:
    """Darken Optuna's colours, because its palest lines cannot be seen on white."""
    *lines, bar = figure.data
    for line in lines:
        line.update(opacity=0.75, line_color=_darker(line.line.color))
    bar.marker.colorscale = [(level, _darker(colour)) for level, colour in bar.marker.colorscale]


def _darker(colour: str) -> str:
    """Darken ``rgb(r, g, b)``; return any other colour as it is."""
    match = re.fullmatch(r"rgb\((.+), *(.+), *(.+)\)", colour)
    return f"rgb({', '.join(f'{float(part) * 0.85:.0f}' for part in match.groups())})" if match else colour


def slice_graphs(search: SearchSnapshot) -> list[Graph]:
    """Draw each objective against each hyperparameter that varies."""
    trials = _complete(search)
    best = _best(search, trials)
    names = [name for name in _varying(search, best) if len(_values(best, name)) > 1]
    if len(trials) < 2:
        return [empty_graph("", f"Slices need two complete trials; there {_are(len(trials))}.")]
    if not names:
        return [empty_graph("", "All complete trials have the same parameters.")]
    graphs = []
    for objective in search.goal.objectives:
        study = _study(search, best, [objective], limits=False)  # Optuna 5.0 loses trials beyond them from choices
        graphs += [_slice(search, study, name, objective) for name in names]
    return graphs


def slice_note(search: SearchSnapshot) -> str:
    """Explain the colours and symbols of the slices."""
    trials = _complete(search)
    limits = " Open circles are beyond a limit." if search.goal.constraints else ""
    return f"The darker, the later the trial.{limits} {_excerpt_note(_best(search, trials), trials)}".strip()


def _slice(search: SearchSnapshot, study: optuna.Study, name: str, objective: str) -> Graph:
    with _caught_warnings():
        figure: go.Figure = plot_slice(study, [name], target_name=objective)
    (points,) = figure.data
    beyond = {row.number for row in search.leaderboard.rows if not row.keeps_limits}
    symbols = ["circle-open" if number in beyond else "circle" for number in points.marker.color]
    last = max(points.marker.color)
    points.marker.update(showscale=False, size=8, symbol=symbols, cmin=-0.4 * last - 1, cmax=last)  # none is white
    figure.update_layout(title=None, margin={"l": 50, "r": 12, "t": 10, "b": 46})
    figure.update_yaxes(type=axis_type(points.y))
    return Graph(f"{objective} against {name}", figure, height=270, tools=False)


# --- the study


def _complete(search: SearchSnapshot) -> list[FrozenTrial]:
    """Return the complete trials of the study, without those whose hyperparameters changed on the way."""
    return [trial for trial in search.trials if trial.state == TrialState.COMPLETE]


def _best(search: SearchSnapshot, trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return the best trials, as many as are shown, in the order of their numbers."""
    kept = {record.number for record in search.complete[:_SHOWN]}
    return [trial for trial in trials if trial.number in kept]


def _varying(search: SearchSnapshot, trials: list[FrozenTrial]) -> list[str]:
    """Return the searched hyperparameters that differ between these trials, or that only some of them have."""
    return [name for name in search.searched_names if len({trial.params.get(name) for trial in trials}) > 1]


def _values(trials: list[FrozenTrial], name: str) -> set[object]:
    return {trial.params[name] for trial in trials if name in trial.params}


def _study(
    search: SearchSnapshot, trials: list[FrozenTrial], objectives: list[str], *, limits: bool = True
) -> optuna.Study:
    """Copy these trials and objectives into a study in memory; that of the search is never written to."""
    modes, indices = search.goal.objectives, [list(search.goal.objectives).index(name) for name in objectives]
    study = optuna.create_study(directions=[_DIRECTIONS[modes[name]] for name in objectives])
    known = {trial.number: trial for trial in trials}
    for number in range(max(known) + 1):
        if number not in known:  # a gap would change the numbers of all that come after it
            study.add_trial(create_trial(state=TrialState.FAIL))
            continue
        trial = known[number]
        study.add_trial(
            create_trial(
                params=trial.params,
                distributions=trial.distributions,
                values=[trial.values[index] for index in indices],
                constraints=trial.constraints if limits else None,
            )
        )
    return study


@contextmanager
def _caught_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Catch Optuna's warnings; the report gives them in its own words."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def _are(count: int) -> str:
    return "is none" if count == 0 else f"is {count}" if count == 1 else f"are {count}"


def _constant_note(search: SearchSnapshot, varying: list[str]) -> str:
    constant = [name for name in search.searched_names if name not in varying]
    return f"The same in all complete trials: {', '.join(constant)}. " if constant else ""


def _excerpt_note(shown: list[FrozenTrial], trials: list[FrozenTrial]) -> str:
    return f"Shown are the best {len(shown)} of {len(trials)} complete trials." if len(shown) < len(trials) else ""
