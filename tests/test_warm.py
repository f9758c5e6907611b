"""Laws of a warm start: what is taken of earlier searches, why not the rest, and that it stays apart from our own."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from finished import Finished, call, registered
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError
from specs import spec_of
from tiny import TinyData, make_chain, make_tiny, make_top

import search.workloads
from search.config.settings import Budget, Method, Site
from search.engine.warm_start import warm_start
from search.errors import TrackingError, UsageError
from search.storage.location import Storage
from search.tracking.client import Experiment, open_experiment
from search.tuning.study import read_study
from search.workload import Workload
from trainables.base.training import TrainingConfig

pytestmark = pytest.mark.slow

POINTS: dict[str, dict[str, object]] = {
    "small": {"x": 0.02, "y": 0.0},
    "best": {"x": 0.3, "y": 0.0},
    "left": {"x": -0.5},
    "wrong": {"x": 0.9, "y": 0.9, "diverge_epoch": 2},
}
SOURCES = ("study", "MLflow")


@pytest.fixture(scope="module")
def past(run_tiny: Callable[..., Finished]) -> Finished:
    """Twelve random points and three presets that are complete, and one that diverged."""
    flags = ("--trials", "12", "--seed", "7", "--sampler", "random", "--scheduler", "none", "--presets", "all")
    found = run_tiny("past", *flags, presets=POINTS)
    assert found.board["outcomes"] == {"complete": 15, "diverged": 1}
    return found


def complete(found: Finished) -> dict[str, dict[str, Any]]:
    """Rows of complete trials by label."""
    return {label: row for label, row in found.rows.items() if row["outcome"] == "complete"}


def beside(found: Finished) -> list[FrozenTrial]:
    """What is kept beside the study of a search for its sampler."""
    journal = JournalStorage(JournalFileBackend(str(found.folder / "optuna.journal")))
    return optuna.load_study(study_name=f"{found.name}.warm", storage=journal).get_trials()


# ---------------------------------------------------------------- a warm search


@pytest.fixture(scope="module")
def warm(run_tiny: Callable[..., Finished], past: Finished) -> Finished:
    assert past.code == 0
    flags = ("--trials", "6", "--seed", "3", "--max-concurrent", "1", "--scheduler", "none")
    return run_tiny("warm", *flags, "--presets", "all", "--warm-from", "past", presets={"mine": {"x": 0.9, "y": 0.5}})


def test_it_says_how_many_it_took_and_why_it_left_the_others(warm: Finished, past: Finished) -> None:
    assert warm.code == 0, warm.text
    taken, ended = len(complete(past)), len(past.study.get_trials())
    said = f"warm start from past (study): {taken} of {ended} trials taken; left: {ended - taken} not complete"
    assert said in warm.text
    assert "other data" not in warm.text
    assert warm.parent.data.params["warm_from"] == "past"
    assert warm.study.user_attrs["warm_from"] == {"past": taken}


def test_what_is_kept_beside_its_study_are_the_complete_trials(warm: Finished, past: Finished) -> None:
    rows = complete(past)
    assert {trial.user_attrs["trial"] for trial in beside(warm)} == rows.keys()
    for trial in beside(warm):
        row = rows[trial.user_attrs["trial"]]
        assert trial.user_attrs["warm_from"] == "past"
        assert (trial.state, trial.value) == (TrialState.COMPLETE, row["value"])
        assert trial.params == {name: row["hyperparameters"][name] for name in trial.params}
        assert trial.params.keys() == ({"x", "y"} if trial.params["x"] > 0 else {"x"})


def test_its_study_its_leaderboard_and_mlflow_hold_its_own_trials_alone(warm: Finished) -> None:
    labels = ["mine", *(f"trial-{number:03d}" for number in range(1, 7))]
    assert list(warm.trials) == labels
    assert sorted(label for label, row in warm.rows.items() if row["number"] is not None) == sorted(labels)
    assert warm.board["outcomes"] == {"complete": 7}
    assert sorted(warm.children) == sorted(labels)
    assert warm.study.best_trial.number == warm.board["rows"][0]["number"]
    for label, trial in warm.trials.items():
        assert trial.number == warm.rows[label]["number"] == int(warm.children[label].data.tags["trial_number"])
        assert warm.rows[label]["hyperparameters"]["seed"] == 3 + trial.number
        assert trial.value == warm.rows[label]["value"]


@pytest.mark.usefixtures("warm")
def test_the_earlier_search_is_as_it_was(past: Finished) -> None:
    again = Finished(0, "", past.storage, past.name)
    assert {trial.number: trial.state for trial in again.study.get_trials()} == {
        trial.number: trial.state for trial in past.study.get_trials()
    }
    assert len(again.runs) == len(past.runs) == len(past.study.get_trials()) + 1


def test_the_sampler_begins_where_the_earlier_search_ended(run_tiny: Callable[..., Finished], warm: Finished) -> None:
    """A cold search of the same seed begins with ten random points."""
    flags = ("--trials", "6", "--seed", "3", "--max-concurrent", "1", "--scheduler", "none")
    cold = run_tiny("cold", *flags, "--presets", "all", presets={"mine": {"x": 0.9, "y": 0.5}})

    def losses(found: Finished) -> list[float]:
        return sorted(row["value"] for label, row in found.rows.items() if label.startswith("trial-"))

    assert sum(losses(warm)) < sum(losses(cold)) - 1
    assert losses(warm)[0] < losses(cold)[0]


@pytest.mark.parametrize("sampler", ["random", "qmc", "cmaes"])
def test_a_sampler_that_learns_nothing_of_others_is_refused(past: Finished, sampler: str) -> None:
    where = ("--storage", str(past.storage), "--name", "deaf")
    code, text = call(make_tiny(), "tiny", *where, "--sampler", sampler, "--warm-from", "past")
    assert code == 2
    assert "Choose tpe or gp" in text
    assert not (past.storage / "searches" / "deaf").exists()


def test_names_that_are_not_there_are_answered_with_those_that_are(past: Finished) -> None:
    for names in (("passt",), ("past,passt",), ("past", "passt")):
        code, text = call(make_tiny(), "tiny", "--storage", str(past.storage), "--name", "x", "--warm-from", *names)
        assert code == 2
        assert "'passt'. Did you mean past" in text
    assert not (past.storage / "searches" / "x").exists()


@pytest.mark.usefixtures("ray_here")
def test_each_search_of_a_chain_begins_with_its_own_of_the_earlier_chain(storage: Path) -> None:
    search.workloads.CHAINS["both"] = make_chain()
    flags = ("both", "--storage", str(storage), "--trials", "2", "--epochs", "1", "--scheduler", "none")
    try:
        with registered(make_top()):
            assert call(make_tiny(), *flags, "--name", "warm-a")[0] == 0
            code, text = call(make_tiny(), *flags, "--name", "warm-b", "--warm-from", "warm-a")
    finally:
        del search.workloads.CHAINS["both"]
    assert code == 0, text
    assert "warm start from warm-a.tiny (study): 2 of 2 trials taken" in text
    assert "warm start from warm-a.top (study): 2 of 2 trials taken" in text
    assert "warning  warm-a.top ran on other data" in text  # it stood on another model


# ---------------------------------------------------------------- what fits, from the folder and from MLflow alone


@dataclass
class Ask:
    """A search of today that begins with ``past``, from one of the two sources."""

    storage: Path
    experiment: Experiment

    def __call__(
        self, workload: Workload | None = None, *, names: Sequence[str] = ("past",), sampler: str = "tpe",
        epochs: int = 4, version: str = "tiny-1", **method: Any,
    ) -> tuple[tuple[FrozenTrial, ...], tuple[str, ...]]:  # fmt: skip
        plan = spec_of(
            workload or make_tiny(),
            budget=Budget(epochs=epochs),
            method=Method(warm_from=tuple(names), sampler=sampler, **method),
            site=Site(name="today"),
        )
        data = TinyData(objective_version=version)
        found = warm_start(plan, data, Storage(self.storage), self.experiment)
        assert found.warnings == ()
        return found.trials, found.lines


@pytest.fixture(params=SOURCES)
def ask(request: pytest.FixtureRequest, past: Finished, tmp_path: Path) -> Ask:
    experiment = open_experiment(None, past.storage, "tiny")
    return Ask(past.storage if request.param == "study" else tmp_path, experiment)


def labels_of(trials: Sequence[FrozenTrial]) -> set[str]:
    return {trial.user_attrs["trial"] for trial in trials}


def points(past: Finished) -> dict[str, dict[str, Any]]:
    return {label: row["hyperparameters"] for label, row in complete(past).items()}


def test_mlflow_alone_gives_the_same_trials(past: Finished, tmp_path: Path) -> None:
    experiment = open_experiment(None, past.storage, "tiny")
    facts = []
    for source, storage in zip(SOURCES, (past.storage, tmp_path), strict=True):
        trials, (line,) = Ask(storage, experiment)(constraint=("size=0.2",))
        assert f"({source})" in line
        facts.append({
            trial.user_attrs["trial"]: (trial.params, trial.distributions, trial.values, trial.constraints)
            for trial in trials
        })  # fmt: skip
    assert facts[0] == facts[1]
    assert facts[0].keys() == complete(past).keys()


def test_limits_of_today_are_told_as_constraints(ask: Ask, past: Finished) -> None:
    trials, _ = ask(constraint=("size=0.2",))
    for trial in trials:
        size = complete(past)[trial.user_attrs["trial"]]["metrics"]["size"]
        assert trial.constraints == {"size": pytest.approx(size / 0.2 - 1)}


@pytest.mark.parametrize(
    ("today", "reason"),
    [
        ({"objective": "size"}, "with other objectives (loss)"),
        ({"objective": "loss,size"}, "with other objectives (loss)"),
        ({"version": "tiny-2"}, "of another objective version (tiny-1)"),
        ({"epochs": 5}, "of another number of epochs (4)"),
        ({"set": ("optional=2",)}, "with other values of what is held (optional)"),
        ({"set": ("slope=0.5",)}, "with other values of what is held (slope)"),
    ],
)
def test_a_search_of_which_nothing_fits_is_refused_with_the_reason(
    ask: Ask, past: Finished, today: dict[str, Any], reason: str
) -> None:
    left = len(complete(past))
    with pytest.raises(UsageError, match="no trial fits this search") as told:
        ask(**today)
    assert f"{left} {reason}" in str(told.value)
    assert f"{len(past.study.get_trials()) - left} not complete" in str(told.value)


def test_what_was_held_and_is_searched_now_has_its_one_value(ask: Ask, past: Finished) -> None:
    trials, _ = ask(free=("optional",))
    assert labels_of(trials) == complete(past).keys()
    assert {trial.params["optional"] for trial in trials} == {1}


def test_what_was_searched_and_is_held_now_must_have_that_value(ask: Ask, past: Finished) -> None:
    trials, (line,) = ask(set=("x=0.02",))
    assert labels_of(trials) == {"small"}
    assert trials[0].params == {"y": 0.0}
    assert f"{len(complete(past)) - 1} with other values of what is held (x)" in line


def test_a_value_outside_of_the_range_of_today_leaves_the_trial(ask: Ask, past: Finished) -> None:
    def narrow(trial: optuna.Trial) -> dict[str, Any]:
        return {"x": trial.suggest_float("x", 0.0, 1.0), "y": trial.suggest_float("y", 0.0, 0.4)}

    trials, (line,) = ask(replace(make_tiny(), suggest=narrow))
    inside = {label for label, point in points(past).items() if point["x"] >= 0 and 0 <= point.get("y", 0) <= 0.4}
    assert labels_of(trials) == inside
    assert f"{len(complete(past)) - len(inside)} outside of the ranges of today (x, y)" in line


def test_a_value_that_is_no_choice_of_today_leaves_the_trial(ask: Ask) -> None:
    def choose(trial: optuna.Trial) -> dict[str, Any]:
        return {"x": trial.suggest_categorical("x", [0.02, 0.3]), "y": trial.suggest_float("y", 0.0, 1.0)}

    trials, (line,) = ask(replace(make_tiny(), suggest=choose))
    assert {trial.user_attrs["trial"]: trial.params["x"] for trial in trials} == {"small": 0.02, "best": 0.3}
    assert "outside of the ranges of today (x)" in line


class Narrower(TrainingConfig):
    """Of a workload that lost y and all that a trial could do wrong."""

    x: float = 0.0
    optional: int = 1


class Wider(Narrower):
    """And got something new."""

    width: int = 4


def one(trial: optuna.Trial) -> dict[str, Any]:
    return {"x": trial.suggest_float("x", -1.0, 1.0)}


def another(trial: optuna.Trial) -> dict[str, Any]:
    return {"width": trial.suggest_int("width", 1, 8)}


def test_a_parameter_that_is_no_more_is_dropped(ask: Ask, past: Finished) -> None:
    trials, (line,) = ask(replace(make_tiny(), config=Narrower, suggest=one, optional=()))
    assert labels_of(trials) == complete(past).keys()
    assert all(trial.params.keys() == {"x"} for trial in trials)
    assert line.endswith("; without what is no hyperparameter any more (y)")


def test_a_parameter_that_is_new_stays_absent(ask: Ask, past: Finished) -> None:
    workload = replace(make_tiny(), config=Wider, suggest=lambda trial: one(trial) | another(trial), optional=())
    trials, _ = ask(workload)
    assert labels_of(trials) == complete(past).keys()
    assert all(trial.params.keys() == {"x"} for trial in trials)
    with pytest.raises(UsageError, match=r"without a parameter that sampler gp needs of each \(width\)"):
        ask(workload, sampler="gp")


def test_a_trial_with_nothing_in_common_is_left(ask: Ask) -> None:
    class Other(TrainingConfig):
        width: int = 4

    with pytest.raises(UsageError, match="with no parameter that is searched today"):
        ask(replace(make_tiny(), config=Other, suggest=another, optional=(), mutable=()))


def test_a_metric_that_is_limited_today_must_be_there(ask: Ask, past: Finished) -> None:
    workload = replace(make_tiny(), objectives={"loss": "min", "weight": "min"})
    with pytest.raises(UsageError) as told:
        ask(workload, constraint=("weight=1",))
    assert f"{len(complete(past))} without a metric that is an objective or constrained (weight)" in str(told.value)


@pytest.mark.usefixtures("warm")
def test_several_searches_are_taken_together(ask: Ask, past: Finished) -> None:
    trials, lines = ask(names=("past", "warm"))
    assert Counter(trial.user_attrs["warm_from"] for trial in trials) == {"past": len(complete(past)), "warm": 7}
    assert [line.split(" (")[0] for line in lines] == ["warm start from past", "warm start from warm"]


def test_a_trial_that_was_stopped_early_is_left(run_tiny: Callable[..., Finished]) -> None:
    halved = run_tiny("halved", "--trials", "8", "--seed", "2", "--max-concurrent", "2")
    stopped = halved.board["outcomes"]["stopped_early"]
    experiment = open_experiment(None, halved.storage, "tiny")
    for storage in (halved.storage, halved.storage / "nowhere"):
        trials, (line,) = Ask(storage, experiment)(names=("halved",))
        assert labels_of(trials) == complete(halved).keys()
        assert f"{8 - stopped} of 8 trials taken; left: {stopped} not complete" in line


def test_a_population_is_left_where_it_was_changed_on_the_way(run_tiny: Callable[..., Finished]) -> None:
    """Its values belong to no one point; its MLflow parameters are those that it began with."""
    flags = ("--scheduler", "pbt", "--trials", "4", "--epochs", "8", "--seed", "1")
    bred = run_tiny("bred", *flags, presets={})
    records = {label: len({value for _, value in bred.curve(label, "hyperparameter_x")}) > 1 for label in bred.children}
    assert {True, False} == set(records.values()), "the test shows nothing"
    experiment = open_experiment(None, bred.storage, "tiny")
    found = [
        Ask(storage, experiment)(names=("bred",), epochs=8)[0] for storage in (bred.storage, bred.storage / "nowhere")
    ]
    for trials in found:
        assert labels_of(trials) == {label for label, perturbed in records.items() if not perturbed}


# ---------------------------------------------------------------- where a search is


@contextmanager
def without(file: Path) -> Iterator[None]:
    away = file.with_name(file.name + ".away")
    file.rename(away)
    try:
        yield
    finally:
        away.rename(file)


@pytest.mark.parametrize("file", ["search.json", "optuna.journal"])
def test_a_folder_that_does_not_say_enough_is_passed_over_for_mlflow(past: Finished, file: str) -> None:
    with without(past.folder / file):
        trials, (line,) = Ask(past.storage, open_experiment(None, past.storage, "tiny"))()
    assert "warm start from past (MLflow)" in line
    assert labels_of(trials) == complete(past).keys()
    assert (past.folder / file).exists()


def test_a_search_of_another_workload_is_refused(past: Finished) -> None:
    other = replace(make_tiny(), name="other")
    with pytest.raises(UsageError, match="that search is of tiny, not of other"):
        Ask(past.storage, open_experiment(None, past.storage, "other"))(other)


def test_a_tracking_that_fails_is_named(past: Finished, tmp_path: Path) -> None:
    experiment = open_experiment(None, past.storage, "tiny")
    with pytest.raises(TrackingError, match="--warm-from past: the MLflow tracking refused"):
        Ask(tmp_path, replace(experiment, id="no such experiment\0"))()


def test_a_deleted_search_starts_another_one(run_tiny: Callable[..., Finished]) -> None:
    """End to end from MLflow alone, with branches of the space that the first points did not meet."""
    first = run_tiny("deleted", "--trials", "12", "--scheduler", "none")
    shutil.rmtree(first.folder)
    second = run_tiny("reborn", "--trials", "3", "--warm-from", "deleted", "--sampler", "gp")
    assert second.code == 0, second.text
    assert "warm start from deleted (MLflow): 12 of 12 trials taken" in second.text
    assert list(second.trials) == ["trial-000", "trial-001", "trial-002"]
    assert len(beside(second)) == 12


def test_a_search_that_is_extended_has_its_earlier_trials_and_takes_none_again(
    run_tiny: Callable[..., Finished],
) -> None:
    first = run_tiny("before-it", "--trials", "12", "--scheduler", "none")
    flags = ("--scheduler", "none", "--warm-from", "before-it")
    assert run_tiny("extended", "--trials", "1", *flags).code == 0
    shutil.rmtree(first.folder)
    more = run_tiny("extended", "--trials", "+2", *flags)
    assert more.code == 0, more.text
    assert "warm start from" not in more.text
    assert list(more.trials) == sorted(more.children) == ["trial-000", "trial-001", "trial-002"]
    assert len(beside(more)) == 12
    assert more.study.user_attrs["warm_from"] == {"before-it": 12}


def test_names_stand_with_commas_or_spaces_each_once() -> None:
    assert Method(warm_from=("a,b", "c ,", "a")).warm_from == ("a", "b", "c")
    with pytest.raises(ValidationError, match="expected up to 100 letters"):
        Method(warm_from=("a,b'",))


def test_a_search_without_one_keeps_nothing_beside_its_study(past: Finished) -> None:
    assert read_study(past.folder, "past.warm") is None
    assert "warm_from" not in past.parent.data.params
    assert "warm_from" not in past.study.user_attrs
