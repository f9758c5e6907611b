"""Optuna's own figures of a search: what its parameters matter, parallel coordinates, slices."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
import plotly.graph_objects as go
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from optuna.visualization import plot_parallel_coordinate, plot_param_importances, plot_slice

from search.reporting.html.load import SearchSnapshot
from search.reporting.html.plot_theme import Graph, axis_type, instead
from trainables.evaluation.plot_style import COLOURS

LEAST = 5  # complete trials, below which importances say nothing at all
RELIABLE = 50  # below which they are a hint
_DIRECTIONS = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}
SHOWN = 300  # best complete trials in parallel coordinates and slices: more lines than that are a grey wall
_TOP, _TOP_TRIALS = 0.1, 5  # Optuna compares the best tenth with all; of few trials, so many at least


def importance_graphs(searched: SearchSnapshot) -> list[Graph]:
    """Of each objective: which parameters its best trials have in common."""
    return [_importance(searched, objective) for objective in searched.goal.objectives]


def _importance(searched: SearchSnapshot, objective: str) -> Graph:
    title = f"Importance for {objective}"
    trials = _complete(searched)
    if reason := _why_no_importance(searched, trials, objective):
        return instead(title, reason)
    study = _study(searched, trials, [objective])
    evaluator = PedAnovaImportanceEvaluator(target_quantile=min(0.5, max(_TOP, _TOP_TRIALS / len(trials))))
    with _warned() as said:
        figure = plot_param_importances(study, evaluator, _varying(searched, trials))
    figure.update_layout(title=None, xaxis_title="share of importance", yaxis_title=None)
    figure.update_traces(marker_color=COLOURS[0])
    rows = len(figure.data[0].y)
    return Graph(title, figure, _importance_note(len(trials), said), height=110 + 26 * rows)


def _why_no_importance(searched: SearchSnapshot, trials: list[FrozenTrial], objective: str) -> str:
    place = list(searched.goal.objectives).index(objective)
    sampled = [trial for trial in trials if "preset" not in trial.user_attrs]
    if len(trials) < LEAST:
        return f"Importances need at least {LEAST} complete trials; there {_are(len(trials))}."
    if len({trial.values[place] for trial in trials}) == 1:
        return "All complete trials have the same value: no parameter matters."
    if not sampled:
        return "Only presets are complete: they were chosen, not sampled, and say nothing of importances."
    if not _varying(searched, trials):
        return "All complete trials have the same parameters."
    return ""


def _importance_note(trials: int, said: list[str]) -> str:
    caution = f"From {trials} complete trials only: a hint, no more. " if trials < RELIABLE else ""
    thin = "Some parameters are set in too few trials. " if any("regimes" in text for text in said) else ""
    return caution + thin + "PED-ANOVA: how much the best trials differ from all in this parameter."


def parallel_graph(searched: SearchSnapshot) -> Graph:
    """Every complete trial as a line through its parameters."""
    trials = _complete(searched)
    best = _best(searched, trials)
    varying = _varying(searched, best)
    if len(trials) < 2:
        return instead("", f"Parallel coordinates need two complete trials; there {_are(len(trials))}.")
    if not varying:
        return instead("", "All complete trials have the same parameters.")
    several = searched.goal.several
    study = _study(searched, best, list(searched.goal.objectives))
    with _warned():
        if several:
            study.set_metric_names(list(searched.goal.objectives))
        figure = plot_parallel_coordinate(study, varying, target_name=searched.goal.objective)
    figure.update_layout(title=None, margin={"l": 30, "r": 30, "t": 40, "b": 40})
    figure.update_xaxes(linecolor="rgba(0,0,0,0)", ticks="", tickfont_size=12)
    colour = "Pareto rank, 0 is the front (limits not considered)" if several else searched.goal.objective
    note = f"Colour: {colour}; the darker, the better. {_held_note(searched, varying)}{_excerpt_note(best, trials)}"
    _darken(figure)
    return Graph(
        "",
        figure,
        note.strip(),
        height=460,
        min_width=104 * (len(varying) + len(searched.goal.objectives)),
        tools=False,
    )


def _darken(figure: go.Figure) -> None:
    """Optuna's palest lines cannot be seen on white."""
    *lines, bar = figure.data
    for line in lines:
        line.update(opacity=0.75, line_color=_darker(line.line.color))
    bar.marker.colorscale = [(place, _darker(colour)) for place, colour in bar.marker.colorscale]


def _darker(colour: str) -> str:
    """``rgb(r, g, b)`` with less light; any other colour as it is."""
    match = re.fullmatch(r"rgb\((.+), *(.+), *(.+)\)", colour)
    return f"rgb({', '.join(f'{float(part) * 0.85:.0f}' for part in match.groups())})" if match else colour


def slice_graphs(searched: SearchSnapshot) -> list[Graph]:
    """Each objective against each parameter that varies."""
    trials = _complete(searched)
    best = _best(searched, trials)
    names = [name for name in _varying(searched, best) if len(_values(best, name)) > 1]
    if len(trials) < 2:
        return [instead("", f"Slices need two complete trials; there {_are(len(trials))}.")]
    if not names:
        return [instead("", "All complete trials have the same parameters.")]
    graphs = []
    for objective in searched.goal.objectives:
        study = _study(searched, best, [objective], limits=False)  # Optuna 5.0 loses trials beyond them from choices
        graphs += [_slice(searched, study, name, objective) for name in names]
    return graphs


def slice_note(searched: SearchSnapshot) -> str:
    """What colours and symbols of the slices mean."""
    trials = _complete(searched)
    limits = " Open circles are beyond a limit." if searched.goal.limits else ""
    return f"The darker, the later the trial.{limits} {_excerpt_note(_best(searched, trials), trials)}".strip()


def _slice(searched: SearchSnapshot, study: optuna.Study, name: str, objective: str) -> Graph:
    with _warned():
        figure: go.Figure = plot_slice(study, [name], target_name=objective)
    (points,) = figure.data
    beyond = {row.number for row in searched.leaderboard.rows if not row.keeps_limits}
    symbols = ["circle-open" if number in beyond else "circle" for number in points.marker.color]
    last = max(points.marker.color)
    points.marker.update(showscale=False, size=8, symbol=symbols, cmin=-0.4 * last - 1, cmax=last)  # none is white
    figure.update_layout(title=None, margin={"l": 50, "r": 12, "t": 10, "b": 46})
    figure.update_yaxes(type=axis_type(points.y))
    return Graph(f"{objective} against {name}", figure, height=270, tools=False)


# --- the study


def _complete(searched: SearchSnapshot) -> list[FrozenTrial]:
    """Complete trials with the values of their own points: none whose parameters changed on the way."""
    return [trial for trial in searched.trials if trial.state == TrialState.COMPLETE]


def _best(searched: SearchSnapshot, trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Those that are shown where there are too many, in order of their numbers."""
    kept = {record.number for record in searched.complete[:SHOWN]}
    return [trial for trial in trials if trial.number in kept]


def _varying(searched: SearchSnapshot, trials: list[FrozenTrial]) -> list[str]:
    """SearchSnapshot parameters of which these trials have more than one value, or that only some of them have."""
    return [name for name in searched.searched if len({trial.params.get(name) for trial in trials}) > 1]


def _values(trials: list[FrozenTrial], name: str) -> set[object]:
    return {trial.params[name] for trial in trials if name in trial.params}


def _study(
    searched: SearchSnapshot, trials: list[FrozenTrial], objectives: list[str], *, limits: bool = True
) -> optuna.Study:
    """A study of these trials and objectives in memory, so that nothing is ever written to that of the search."""
    modes, places = searched.goal.objectives, [list(searched.goal.objectives).index(name) for name in objectives]
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
                values=[trial.values[place] for place in places],
                constraints=trial.constraints if limits else None,
            )
        )
    return study


@contextmanager
def _warned() -> Iterator[list[str]]:
    """What Optuna warns of inside: the page says it in its own words."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
        said += [str(warning.message) for warning in caught]


def _are(count: int) -> str:
    return "is none" if count == 0 else f"is {count}" if count == 1 else f"are {count}"


def _held_note(searched: SearchSnapshot, varying: list[str]) -> str:
    still = [name for name in searched.searched if name not in varying]
    return f"The same in all complete trials: {', '.join(still)}. " if still else ""


def _excerpt_note(shown: list[FrozenTrial], trials: list[FrozenTrial]) -> str:
    return f"Shown are the best {len(shown)} of {len(trials)} complete trials." if len(shown) < len(trials) else ""
