"""The mirror law: a workload that maximises -x ranks, decides and draws exactly as one that minimises x."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluations import evaluated
from finished import Finished, registered, run_search
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from tiny import TinyConfig, TinyData, TinyTraining, make_mirrored, make_tagger, make_tiny
from written import Fate, WrittenSearch, write_search

from search.promotion.gate import Gate
from search.reporting.html.load import SearchSnapshot, read_search
from search.reporting.html.optuna_plots import importance_graphs, parallel_graph
from search.reporting.html.progress_plots import best_so_far, front_graphs
from search.reporting.html.render import render_page
from search.reporting.leaderboard import Leaderboard, LeaderboardSpec
from search.reporting.precision import about_baselines, about_trials
from search.reporting.ranking import make_leaderboard
from search.storage.location import Storage
from search.storage.trial_record import TrialRecord
from search.tracking.mlflow_ui import trial_views
from search.workload import Tolerance, not_given
from trainables.base.objectives import Constraint, Goal, Metrics
from trainables.base.training import TrainedModel
from trainables.evaluation.holdout_plots import _draw_differences
from trainables.evaluation.scores import Evaluation

NAMES = ("loss", "score", "bias")
numbers = st.integers(-4, 4).map(lambda value: value / 2)
modes = st.sampled_from(["min", "max"])
scores = st.fixed_dictionaries(dict.fromkeys(NAMES, numbers))
constraints = st.builds(Constraint, st.sampled_from(NAMES), numbers, st.sampled_from(["<=", ">="]))
goals = st.builds(
    Goal,
    st.one_of(st.fixed_dictionaries({"loss": modes}), st.fixed_dictionaries({"loss": modes, "score": modes})),
    st.lists(constraints, max_size=3, unique_by=lambda one: one.key).map(tuple),
    st.fixed_dictionaries({"bias": modes}),
)


def mirrored(goal: Goal) -> Goal:
    def flip(directions: Mapping[str, str]) -> dict[str, Any]:
        return {name: "max" if mode == "min" else "min" for name, mode in directions.items()}

    bounds = [Constraint(one.metric, -one.bound, ">=" if one.kind == "<=" else "<=") for one in goal.constraints]
    every = flip({name: "max" if goal.sign(name) < 0 else "min" for name in NAMES})
    return Goal(flip(goal.objectives), tuple(bounds), every)


def negative(metrics: Metrics) -> dict[str, float]:
    return {name: value if name.endswith("_error") else -value for name, value in metrics.items()}


def bare(lines: Sequence[str]) -> list[str]:
    """Sentences without numbers and the signs of bounds."""
    return [re.sub(r"[<>]=|[-+]?\d[\d.e+-]*", "#", line) for line in lines]


# ---------------------------------------------------------------- goal


@given(goals, st.lists(scores, min_size=1, max_size=6))
def test_a_goal_ranks_in_a_mirror_as_before_it(goal: Goal, seen: list[dict[str, float]]) -> None:
    other, flipped = mirrored(goal), [negative(one) for one in seen]
    assert other.ranked(flipped) == goal.ranked(seen)
    assert other.front(flipped) == goal.front(seen)
    for one, two in zip(seen, flipped, strict=True):
        assert other.order(two) == goal.order(one)
        assert list(other.excesses(two).values()) == list(goal.excesses(one).values())
        assert other.scalar_score(two) == goal.scalar_score(one)
        assert [rule.is_kept(two) for rule in other.constraints] == [rule.is_kept(one) for rule in goal.constraints]


@given(goals, st.sampled_from(NAMES), numbers, numbers)
def test_the_better_value_is_the_better_one_in_a_mirror(goal: Goal, name: str, one: float, two: float) -> None:
    assert mirrored(goal).is_better(name, -one, -two) == goal.is_better(name, one, two)
    assert goal.is_better(name, one, two) + goal.is_better(name, two, one) == (one != two)


# ---------------------------------------------------------------- leaderboard


def board_of(goal: Goal, seen: Sequence[Metrics], naive: Metrics) -> Leaderboard:
    records = []
    for number, metrics in enumerate(seen):
        record = TrialRecord(f"id{number}", number, None, {"x": number}, 1, 0.0, outcome="complete", epoch=1)
        record.metrics = {**metrics, "loss_error": 0.5}
        records.append(record)
    spec = LeaderboardSpec("s", "w", goal, ("bias",), "v")
    return make_leaderboard(spec, records, {"guess": naive})


@given(goals, st.lists(scores, min_size=1, max_size=5), scores)
def test_a_leaderboard_says_in_a_mirror_what_it_says_before_it(
    goal: Goal, seen: list[dict[str, float]], naive: dict[str, float]
) -> None:
    board = board_of(goal, seen, naive)
    other = board_of(mirrored(goal), [negative(one) for one in seen], negative(naive))
    for name in ("rank", "label", "keeps_limits", "front"):
        assert [getattr(row, name) for row in other.rows] == [getattr(row, name) for row in board.rows]
    assert bare(other.verdicts()) == bare(board.verdicts())
    columns = {column for row in board.rows for column in row.extra_metrics}
    for column in columns:
        marks = [board.breaks_constraint(row, column) for row in board.rows]
        assert [other.breaks_constraint(row, column) for row in other.rows] == marks
    assert Leaderboard.from_dict(other.as_dict()) == other


@given(goals, st.lists(scores, min_size=4, max_size=8))
def test_precision_is_told_in_a_mirror_in_the_same_words(goal: Goal, seen: list[dict[str, float]]) -> None:
    seen = [{**one, "loss_error": 3.0} for one in seen]
    ranked = [seen[place] for place, _ in goal.ranked(seen)]
    other, flipped = mirrored(goal), [negative(one) for one in ranked]
    assert about_trials(other, flipped) == about_trials(goal, ranked)
    naive = {"guess": seen[0]}
    assert about_baselines(other, {"guess": negative(seen[0])}) == about_baselines(goal, naive)


def test_mlflow_shows_the_best_first_in_both() -> None:
    for mode, ascending in (("min", "true"), ("max", "false")):
        best = next(iter(trial_views(Goal({"loss": mode}), [], 0).values()))  # type: ignore[dict-item]
        assert f'\\"orderByAsc\\": {ascending}' in best


# ---------------------------------------------------------------- promotion

EVENTS = 60
WATCHED = {"score": Tolerance(relative=0.05), "bias": Tolerance(absolute=0.1, relative=0.1, to="loss")}


def model(shift: Mapping[str, float], seed: int, sign: int = 1) -> Evaluation:
    random = np.random.default_rng(seed)
    hard_N = np.random.default_rng(99).exponential(1.0, EVENTS)
    return evaluated({name: sign * (hard_N + shift.get(name, 0.0) + random.normal(0, 0.1, EVENTS)) for name in NAMES})


shifts = st.fixed_dictionaries({name: st.sampled_from([-0.4, -0.1, 0.0, 0.1, 0.4]) for name in NAMES})


@given(goals.map(lambda goal: replace(goal, constraints=())), shifts, st.integers(1, 3))
def test_the_gate_decides_in_a_mirror_as_before_it(goal: Goal, shift: dict[str, float], seed: int) -> None:
    verdicts = []
    for one, sign in ((goal, 1), (mirrored(goal), -1)):
        candidate, champion = model(shift, seed, sign), model({}, 5, sign)
        seeds = [candidate, model(shift, seed + 10, sign)]
        verdicts.append(Gate(one, WATCHED, 0.95).decide(candidate, seeds, champion))
    ours, mirror = verdicts
    assert mirror.passed == ours.passed
    assert bare(mirror.reasons) == bare(ours.reasons)
    for name, found in ours.differences.items():
        assert mirror.differences[name].value == pytest.approx(-found.value)
        assert (mirror.differences[name].low, mirror.differences[name].high) == pytest.approx((-found.high, -found.low))


def test_both_verdicts_of_the_gate_occur_above() -> None:
    """Else the law would say nothing."""
    for shift, passes in ((-0.4, True), (0.4, False)):
        for goal, sign in (
            (Goal({"loss": "min"}), 1),
            (Goal({"loss": "max"}, (), {"bias": "max", "score": "max"}), -1),
        ):
            candidate = model(dict.fromkeys(NAMES, shift), 1, sign)
            assert Gate(goal, WATCHED, 0.95).decide(candidate, [candidate], model({}, 5, sign)).passed == passes


def test_a_watched_metric_of_which_more_is_better_may_rise_and_must_not_fall() -> None:
    gate = Gate(Goal({"loss": "min"}, (), {"purity": "max"}), {"purity": Tolerance(absolute=0.01)}, 0.95)

    def with_purity(loss: float, purity: float, seed: int) -> Evaluation:
        noise_N = np.random.default_rng(seed).normal(0, 0.01, EVENTS)
        return evaluated({"loss": loss + noise_N, "purity": np.full(EVENTS, purity)})

    champion = with_purity(1.0, 0.9, 1)
    for purity, passes in ((0.99, True), (0.895, True), (0.88, False)):
        candidate = with_purity(0.5, purity, 2)
        verdict = gate.decide(candidate, [candidate], champion)
        assert verdict.passed == passes
        assert ("purity got worse by more than 0.01" in verdict.explanation) != passes


@pytest.mark.parametrize(("mode", "words"), [("min", "< 0: better"), ("max", "> 0: better")])
def test_a_figure_of_the_holdout_says_which_side_is_better(mode: Any, words: str) -> None:
    one = evaluated({"loss": np.ones(EVENTS)})
    one = replace(one, curve=replace(one.curve, mode=mode))
    axes = Figure().subplots()
    _draw_differences(axes, {"candidate": one}, one, "champion")
    assert axes.get_ylabel().endswith(words)


class ScoredTraining(TinyTraining):
    """What a default promotion asks of a training."""

    @classmethod
    def from_weights(cls, config: TinyConfig, _weights: Any, device: torch.device) -> ScoredTraining:
        return cls(config, TinyData(), device)

    def score(self, x: np.ndarray[Any, Any]) -> dict[str, float]:
        return {"auc": float(self.predict(x).mean())}

    def predict(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return x


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_default_promotion_draws_the_side_of_its_objective(mode: Any) -> None:
    arrays = {"x": np.arange(20.0)}
    workload = replace(
        make_tagger(),
        training=ScoredTraining,
        objectives={"auc": mode},
        load=lambda files: arrays,
        load_data=not_given,
    )
    promotion = workload.promoted_by
    assert promotion is not None
    trained = TrainedModel("tagger", "run", {"x": 0.3}, {})
    found = promotion.evaluate(trained, {}, arrays, TinyData(), 5, torch.device("cpu"))
    assert found.curve.mode == mode


# ---------------------------------------------------------------- report page

FATES = [Fate(), Fate("stopped_early", "scheduler", epochs=2), *[Fate()] * 8]
PRESETS: dict[str, dict[str, Any]] = {"small": {"x": 0.02, "y": 0.0}, "sharp": {"x": 0.3, "y": 0.0}}


def page_of(storage: Path, name: str, bound: str, **told: Any) -> SearchSnapshot:
    workload = make_mirrored(**PRESETS) if told.get("mirrored") else make_tiny(**PRESETS)
    with registered(workload):
        write_search(storage, name, FATES, WrittenSearch(limit=(bound,), presets=PRESETS, **told))
        return read_search(Storage(storage), name)


@pytest.mark.parametrize("objective", ["loss", "loss,size"])
def test_a_report_draws_in_a_mirror_what_it_draws_before_it(tmp_path: Path, objective: str) -> None:
    ours = page_of(tmp_path, "ours", "size<=0.5", objective=objective)
    mirror = page_of(tmp_path, "mirror", "size>=-0.5", objective=objective, mirrored=True)
    assert [row.label for row in mirror.leaderboard.rows] == [row.label for row in ours.leaderboard.rows]
    positions = {record.number: float(record.number) for record in ours.records}
    for name in objective.split(","):
        steps, other = best_so_far(ours, name, positions), best_so_far(mirror, name, positions)
        assert (other.labels, other.y) == (steps.labels, [-value for value in steps.y])
    for graph, other_graph in zip(importance_graphs(ours), importance_graphs(mirror), strict=True):
        bars, other_bars = graph.content["data"][0], other_graph.content["data"][0]
        assert list(other_bars["y"]) == list(bars["y"])
        assert list(other_bars["x"]) == pytest.approx(list(bars["x"]))
    for graph, other_graph in zip(front_graphs(ours), front_graphs(mirror), strict=True):
        shown = [{trace["name"]: set(trace["x"]) for trace in one.content["data"]} for one in (graph, other_graph)]
        assert {name: {-x for x in values} for name, values in shown[1].items()} == shown[0]
    lines, other_lines = (parallel_graph(one).content["data"] for one in (ours, mirror))
    assert [line.get("line", {}).get("color") for line in other_lines] == [
        line.get("line", {}).get("color") for line in lines
    ]


def test_a_page_says_the_smallest_value_in_words(tmp_path: Path) -> None:
    page = render_page(page_of(tmp_path, "mirror", "size>=-0.5", mirrored=True))
    assert "size at least -0.5" in page
    assert "loss (maximised)" in page
    assert "size &gt;= -0.5: " in page


# ---------------------------------------------------------------- whole searches

BOTH = ("--trials", "14", "--presets", "all", "--scheduler", "asha", "--max-concurrent", "1")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_search_proposes_stops_and_ranks_in_a_mirror_as_before_it(storage: Path) -> None:
    ours = run_search(make_tiny(**PRESETS), storage, "ours", *BOTH, "--constraint", "size=0.2")
    mirror = run_search(make_mirrored(**PRESETS), storage, "mirror", *BOTH, "--constraint", "size>=-0.2")
    assert ours.code == mirror.code == 0, ours.text + mirror.text
    told = ("label", "outcome", "rank", "keeps_limits", "epoch", "best_epoch", "hyperparameters")
    assert [[row[name] for name in told] for row in mirror.board["rows"]] == [
        [row[name] for name in told] for row in ours.board["rows"]
    ]
    outcomes = {row["outcome"] for row in ours.board["rows"] if row["number"] is not None}
    assert outcomes == {"complete", "stopped_early"}, "no trial was stopped early: the test shows nothing"
    assert {row["keeps_limits"] for row in ours.board["rows"] if row["rank"]} == {True, False}


@pytest.fixture(scope="module")
def tagger(ray_here: None, storage: Path) -> Finished:  # noqa: ARG001 - it runs
    flags = ("--constraint", "purity>=0.88", "--trials", "12", "--presets", "all", "--max-concurrent", "2")
    return run_search(make_tagger(**PRESETS, bad={"x": -0.9}), storage, "tagger", *flags)


@pytest.mark.slow
def test_a_search_with_a_maximised_objective_and_a_smallest_value_runs(tagger: Finished) -> None:
    assert tagger.code == 0, tagger.text
    ranked = [row for row in tagger.board["rows"] if row["rank"]]
    keeps = [row["metrics"]["purity"] >= 0.88 for row in ranked]
    assert [row["keeps_limits"] for row in ranked] == keeps == sorted(keeps, reverse=True)
    assert {True, False} == set(keeps)
    kept = [row["value"] for row in ranked if row["keeps_limits"]]
    assert kept == sorted(kept, reverse=True)
    stopped = [row for row in tagger.board["rows"] if row["outcome"] == "stopped_early"]
    assert stopped, "no trial was stopped early: the test shows nothing"
    assert tagger.board["limits"] == {"purity>=": 0.88}
    assert tagger.board["directions"] == {"purity": "max"}


@pytest.mark.slow
def test_the_words_about_it_have_the_right_side(tagger: Finished) -> None:
    best = next(row for row in tagger.board["rows"] if row["rank"] == 1)
    assert "auc (maximised), purity at least 0.88" in tagger.text
    assert "limit    purity >= 0.88: " in tagger.text
    (verdict,) = (line for line in tagger.text.splitlines() if line.startswith("guess:"))
    for name, theirs in (("auc", 0.5), ("purity", 0.9)):
        verb = "beats" if best["metrics"][name] > theirs else "DOES NOT BEAT"
        assert f"{verb} it on {name} (" in verdict
    assert tagger.parent.data.tags["best_trial"] == best["label"]
    assert tagger.parent.data.params["limits"] == "purity>=0.88"
    page = (tagger.folder / "report.html").read_text()
    assert "purity at least 0.88" in page
    assert "Importance for auc" in page


@pytest.mark.slow
def test_optuna_gets_the_smallest_value_as_a_constraint(tagger: Finished) -> None:
    for label, trial in tagger.trials.items():
        row = tagger.rows[label]
        if row["outcome"] == "complete":
            assert trial.value == row["metrics"]["auc"]
            assert trial.constraints == {"purity>=": pytest.approx(1 - row["metrics"]["purity"] / 0.88)}
    assert tagger.study.best_trial.number == next(row for row in tagger.board["rows"] if row["rank"] == 1)["number"]


@pytest.mark.slow
def test_its_resume_with_the_same_bound_has_nothing_to_do_and_with_another_one_is_refused(
    tagger: Finished, storage: Path
) -> None:
    presets = {**PRESETS, "bad": {"x": -0.9}}
    common = ("--trials", "12", "--presets", "all", "--max-concurrent", "2", "--resume")

    def resume(*flags: str) -> Finished:
        return run_search(make_tagger(**presets), storage, tagger.name, *common, *flags)

    assert "all its trials have ended" in resume("--constraint", "purity>=0.88").text
    for flags in (("--constraint", "purity>=0.9"), ("--constraint", "purity<=0.88"), ()):
        again = resume(*flags)
        assert again.code == 2
        assert "limits of search 'tagger'" in again.text
