"""Laws of searches with limits and with several objectives, on real searches: study, leaderboard, figure, MLflow."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from finished import Finished
from optuna.trial import TrialState

pytestmark = pytest.mark.slow

# loss falls and size grows from x = 0 to x = 0.3; at x = -0.5 both are bad, at x = 0.6 the size alone
POINTS: dict[str, dict[str, object]] = {
    "small": {"x": 0.02, "y": 0.0},
    "middle": {"x": 0.15, "y": 0.0},
    "sharp": {"x": 0.3, "y": 0.0},
    "bad": {"x": -0.5},
    "worse": {"x": 0.6, "y": 0.5},
}


@pytest.fixture(scope="module")
def two(run_tiny: Callable[..., Finished]) -> Finished:
    flags = (
        "--objective",
        "loss,size",
        "--scheduler",
        "asha",
        "--trials",
        "14",
        "--max-concurrent",
        "2",
        "--presets",
        "all",
    )
    return run_tiny("two-objectives", *flags, presets=POINTS)


def test_the_front_holds_complete_trials_only(two: Finished) -> None:
    """Pitfall 4: the values of trials that were stopped early must not stand in it."""
    assert two.code == 0
    stopped = [row for row in two.board["rows"] if row["outcome"] == "stopped_early"]
    assert stopped, "no trial was stopped early: the test shows nothing"
    front = [row for row in two.board["rows"] if row["front"]]
    assert {row["outcome"] for row in front} == {"complete"}
    labels = {row["label"] for row in front}
    assert {"small", "sharp"} & labels
    assert not {"bad", "worse"} & labels
    for row in front:
        for other in (one for one in two.board["rows"] if one["outcome"] == "complete"):
            better = [other["metrics"][name] <= row["metrics"][name] for name in ("loss", "size")]
            assert not all(better) or other["metrics"].items() >= {
                (name, row["metrics"][name]) for name in ("loss", "size")
            }


def test_the_study_has_both_values_of_the_complete_and_none_of_the_others(two: Finished) -> None:
    for label, trial in two.trials.items():
        row = two.rows[label]
        if row["outcome"] == "complete":
            assert trial.state == TrialState.COMPLETE
            assert trial.values == [row["metrics"]["loss"], row["metrics"]["size"]]
        else:
            assert trial.state == TrialState.PRUNED
            assert trial.values is None
    front = {trial.number for trial in two.study.best_trials}
    assert front == {row["number"] for row in two.board["rows"] if row["front"]}


def test_mlflow_marks_the_front_and_holds_its_figure(two: Finished) -> None:
    marked = {label for label, run in two.children.items() if run.data.tags.get("front") == "true"}
    assert marked == {row["label"] for row in two.board["rows"] if row["front"]}
    assert "comparison/pareto_front.png" in two.files(two.parent, "comparison")
    assert two.parent.data.tags["objective"] == "loss,size"
    assert {row["trial"] for row in two.table() if row["front"] == "True"} == marked


def test_the_screen_marks_the_front(two: Finished) -> None:
    assert "loss (minimised) and size (minimised)" in two.text
    assert "the Pareto front" in two.text


@pytest.fixture(scope="module")
def limited(run_tiny: Callable[..., Finished]) -> Finished:
    flags = ("--limit", "size=0.2", "--trials", "3", "--presets", "all", "--scheduler", "none")
    return run_tiny("limited", *flags, presets=POINTS)


def test_who_keeps_the_limit_ranks_before_who_does_not(limited: Finished) -> None:
    ranked = [row for row in limited.board["rows"] if row["rank"]]
    keeps = [row["metrics"]["size"] <= 0.2 for row in ranked]
    assert [row["keeps_limits"] for row in ranked] == keeps == sorted(keeps, reverse=True)
    assert ranked[0]["label"] != "sharp"
    best = [row["label"] for row in ranked]
    assert best.index("middle") < best.index("sharp")


def test_optuna_gets_the_limit_as_a_constraint(limited: Finished) -> None:
    """Not as a penalty: the value told is the loss alone."""
    for label, trial in limited.trials.items():
        row = limited.rows[label]
        assert trial.value == row["metrics"]["loss"]
        assert trial.constraints == {"size": pytest.approx(row["metrics"]["size"] / 0.2 - 1)}
    assert limited.study.best_trial.number == limited.board["rows"][0]["number"]


def test_the_records_say_who_keeps_the_limit(limited: Finished) -> None:
    for label, run in limited.children.items():
        assert run.data.tags["keeps_limits"] == str(limited.rows[label]["keeps_limits"]).lower()
    assert "size at most 0.2" in limited.text
    assert "complete trials keep it" in limited.text


def test_the_parent_run_carries_the_best_trial(limited: Finished) -> None:
    best = next(row for row in limited.board["rows"] if row["rank"] == 1)
    assert limited.parent.data.tags["best_trial"] == best["label"]
    assert limited.parent.data.tags["best_run"] == limited.children[best["label"]].info.run_id
    assert limited.parent.data.metrics["loss"] == best["value"]


def test_the_kept_epoch_is_the_best_one_within_the_limit(run_tiny: Callable[..., Finished]) -> None:
    """The loss falls with each epoch, the size grows beyond its limit in the third."""
    found = run_tiny(
        "grows", "--limit", "size=0.35", "--trials", "0", presets={"grows": {"x": 0.1, "y": 0.0, "growth": 0.1}}
    )
    assert found.rows["grows"]["best_epoch"] == 2
    assert found.rows["grows"]["epoch"] == 4
    assert not found.rows["grows"]["keeps_limits"]


def test_stopped_trials_beyond_a_limit_do_not_pass_for_good_ones(run_tiny: Callable[..., Finished]) -> None:
    """Optuna takes a trial without constraints for one that keeps them all."""
    flags = ("--limit", "size=0.01", "--trials", "10", "--max-concurrent", "2", "--presets", "none")
    found = run_tiny("all-beyond", *flags)
    stopped = [trial for trial in found.study.get_trials() if trial.state == TrialState.PRUNED]
    assert stopped, "no trial was stopped early: the test shows nothing"
    for trial in stopped:
        assert trial.constraints.keys() == {"size"}
        assert trial.constraints["size"] > 0
