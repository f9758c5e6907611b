"""Laws of a whole search, on one with a complete, a stopped, a diverged, a failed and some retried trials."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from finished import TRIAL_FACTS, Finished
from optuna.trial import TrialState
from tiny import TinyConfig, expected_loss

pytestmark = pytest.mark.slow

EPOCHS, SEED, SAMPLED = 4, 7, 4
OUTCOMES = {
    "good": "complete",
    "diverges": "diverged",
    "not-a-number": "diverged",
    "fails": "failed",
    "recovers": "complete",
    "killed": "complete",
    "killed-at-once": "failed",
}
STATUS = {"complete": "FINISHED", "stopped_early": "KILLED", "diverged": "FAILED", "failed": "FAILED"}
FINISHED_EPOCHS = {
    "good": 4,
    "diverges": 2,
    "not-a-number": 3,
    "fails": 1,
    "recovers": 4,
    "killed": 4,
    "killed-at-once": 0,
}


@pytest.fixture(scope="module")
def done(run_tiny: Callable[..., Finished], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    marks = tmp_path_factory.mktemp("marks")
    once = {"crashes": 1, "crash_epoch": 3}
    presets = {
        "good": {"x": 0.3, "y": 0.0},
        "diverges": {"x": 0.25, "y": 0.0, "diverge_epoch": 3},
        "not-a-number": {"x": 0.26, "y": 0.0, "nan_epoch": 4},
        "fails": {"x": 0.27, "y": 0.0, "crash_epoch": 2},
        "recovers": {"x": 0.28, "y": 0.0, **once, "crash_marker": str(marks / "recovers")},
        "killed": {"x": 0.29, "y": 0.0, **once, "kill": True, "crash_marker": str(marks / "killed")},
        "killed-at-once": {"x": 0.31, "y": 0.0, "kill": True, "crash_epoch": 1},
    }
    return run_tiny(
        "many-fates", "--trials", str(SAMPLED), "--epochs", str(EPOCHS), "--seed", str(SEED),
        "--scheduler", "asha", "--max-concurrent", "2", presets=presets,
    )  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(done: Finished) -> dict[str, str]:
    """What became of each trial; the schedule decides it for sampled ones, but every one was stopped or complete."""
    sampled = {label: row["outcome"] for label, row in done.rows.items() if row["kind"] == "trial"}
    assert len(sampled) == SAMPLED
    assert "stopped_early" in sampled.values()
    return OUTCOMES | sampled


def config_of(done: Finished, label: str) -> TinyConfig:
    return TinyConfig(**done.rows[label]["hyperparameters"])


# ---------------------------------------------------------------- what MLflow holds


def test_there_is_one_parent_and_one_child_for_each_trial(done: Finished, outcomes: dict[str, str]) -> None:
    assert len(done.runs) == 1 + len(outcomes)
    assert set(done.children) == set(outcomes)
    for run in done.children.values():
        assert run.data.tags["mlflow.parentRunId"] == done.parent.info.run_id


def test_every_run_is_closed_with_its_outcome_and_reason(done: Finished, outcomes: dict[str, str]) -> None:
    assert done.parent.info.status == "FINISHED"
    reasons = {
        "diverges": "not_finite in epoch 3: loss = inf",
        "not-a-number": "not_finite in epoch 4: loss = nan",
        "fails": "RuntimeError: the disk of this node is on fire",
    }
    for label, run in done.children.items():
        tags = run.data.tags
        assert tags["outcome"] == outcomes[label], label
        assert run.info.status == STATUS[outcomes[label]], label
        assert run.info.end_time >= run.info.start_time
        assert tags.get("reason", "") == done.rows[label]["reason"]
        if outcomes[label] == "stopped_early":
            assert tags["reason"] == "scheduler"
        if outcomes[label] == "complete":
            assert "reason" not in tags
        if label in reasons:
            assert tags["reason"] == reasons[label]


def test_a_worker_that_died_at_once_has_a_reason_that_tells_of_it(done: Finished) -> None:
    reason = done.children["killed-at-once"].data.tags["reason"]
    assert "died" in reason
    assert "\n" not in reason


def test_every_metric_of_every_epoch_is_there_once_with_its_value(done: Finished) -> None:
    for label, run in done.children.items():
        config, epochs = config_of(done, label), done.rows[label]["epoch"]
        assert epochs == FINISHED_EPOCHS.get(label, epochs)
        steps = list(range(1, epochs + 1))
        assert done.curve(label, "loss") == [(step, pytest.approx(expected_loss(config, step))) for step in steps], (
            label
        )
        assert done.curve(label, "lr") == [(step, 0.1) for step in steps]
        for metric in run.data.metrics:
            assert [step for step, _ in done.curve(label, metric)] == steps, (label, metric)
        if epochs:
            assert run.data.metrics.keys() >= TRIAL_FACTS


def test_no_metric_is_a_pid_of_ray_or_a_timestamp(done: Finished) -> None:
    expected = {"loss", "size", "lr", "pid", "threads", "resumed_at", "epochs_here"} | TRIAL_FACTS
    for run in done.children.values():
        assert run.data.metrics.keys() - {"adversarial"} in (set(), expected)


def test_a_trial_that_diverged_leaves_no_number_of_that_epoch(done: Finished) -> None:
    for label in ("diverges", "not-a-number"):
        values = [value for _, value in done.curve(label, "loss")]
        assert len(values) == FINISHED_EPOCHS[label]
        assert all(math.isfinite(value) for value in values)


def test_parameters_are_the_configuration_that_was_trained(done: Finished) -> None:
    for label, run in done.children.items():
        hyperparameters = done.rows[label]["hyperparameters"]
        assert run.data.params == {name: str(value) for name, value in hyperparameters.items()}
        assert hyperparameters["epochs"] == EPOCHS
        assert hyperparameters["optional"] == 1


def test_parent_and_children_know_data_objective_and_code(done: Finished) -> None:
    for run in done.runs:
        (dataset,) = run.inputs.dataset_inputs
        assert dataset.dataset.digest == "tiny-data"
        assert run.data.tags["objective"] == "loss"
        assert run.data.tags["objective_version"] == "tiny-1"
        assert run.data.tags["search"] == done.name
        commit = run.data.tags["mlflow.source.git.commit"]
        assert commit == "unknown" or len(commit.removesuffix("-dirty")) == 40
    tags = done.parent.data.tags
    for package in ("ray", "optuna", "mlflow", "torch", "numpy", "python", "hep-search"):
        assert tags[f"version.{package}"], package
    assert tags["host"]
    assert tags["kind"] == "search"


def test_children_know_where_they_ran(done: Finished) -> None:
    for label, run in done.children.items():
        assert run.data.tags["trial_number"] == str(done.trials[label].number)
        if done.rows[label]["epoch"]:
            assert run.data.tags["host"]
            assert run.data.tags["device"]


def test_the_parent_holds_budget_and_method(done: Finished) -> None:
    params = done.parent.data.params
    assert params["trials"] == str(SAMPLED)
    assert params["epochs"] == str(EPOCHS)
    assert params["seed"] == str(SEED)
    assert params["sampler"] == "tpe"
    assert params["scheduler"] == "asha"
    assert params["searched"] == "x, y"
    assert params["held"] == "optional=1"
    assert params["presets"] == ", ".join(OUTCOMES)
    assert not {"tracking_uri", "address", "storage"} & params.keys()


def test_complete_trials_have_their_files_and_the_others_none(done: Finished, outcomes: dict[str, str]) -> None:
    for label, run in done.children.items():
        files = done.files(run)
        if outcomes[label] != "complete":
            assert files == []
            continue
        weights = {f"checkpoint/{name}" for name in ("best.pt", "last.pt", "hyperparameters.json")}
        assert {"report/value.csv", *weights} <= set(files)
        assert "comparison/labels.txt" in files
        shown = done.artifact(run, "comparison/labels.txt").split()
        assert shown[0] == label
        assert set(shown) <= {name for name, outcome in outcomes.items() if outcome == "complete"}
        best = torch.load(done.client.download_artifacts(run.info.run_id, "checkpoint/best.pt"), weights_only=True)
        assert best["x"].item() == pytest.approx(config_of(done, label).x)
        assert json.loads(done.artifact(run, "checkpoint/hyperparameters.json")) == done.rows[label]["hyperparameters"]


def test_the_leaderboard_is_in_mlflow_in_the_folder_and_at_json(done: Finished) -> None:
    assert json.loads(done.artifact(done.parent, "leaderboard.json")) == done.board
    assert json.loads((done.storage / f"{done.name}.json").read_text()) == done.board
    assert [row["trial"] for row in done.table()] == [row["label"] for row in done.board["rows"]]
    assert "comparison/labels.txt" in done.files(done.parent)


# ---------------------------------------------------------------- what the study holds


def test_the_study_tells_the_truth_of_every_trial(done: Finished, outcomes: dict[str, str]) -> None:
    """Pitfalls 2, 3, 5: no RUNNING for ever, no early loss as a value, no FAIL of what was retried and finished."""
    states = {
        "complete": TrialState.COMPLETE,
        "stopped_early": TrialState.PRUNED,
        "diverged": TrialState.FAIL,
        "failed": TrialState.FAIL,
    }
    assert set(done.trials) == set(outcomes)
    for label, trial in done.trials.items():
        config, epochs = config_of(done, label), done.rows[label]["epoch"]
        assert trial.state == states[outcomes[label]], label
        assert trial.intermediate_values == {
            step: pytest.approx(expected_loss(config, step)) for step in range(1, epochs + 1)
        }
        assert trial.user_attrs["outcome"] == outcomes[label]
        assert trial.user_attrs["reason"] == done.rows[label]["reason"]
        if outcomes[label] == "complete":
            assert trial.value == pytest.approx(expected_loss(config, EPOCHS))
        elif outcomes[label] == "stopped_early":
            assert trial.value == pytest.approx(expected_loss(config, epochs))  # Optuna's reading of PRUNED
        else:
            assert trial.value is None
            assert trial.user_attrs["reason"]


def test_presets_come_first_in_order_with_their_own_parameters(done: Finished) -> None:
    first = done.study.get_trials()[: len(OUTCOMES)]
    assert [trial.user_attrs.get("preset") for trial in first] == list(OUTCOMES)
    for trial in first:
        hyperparameters = done.rows[trial.user_attrs["preset"]]["hyperparameters"]
        assert trial.params == {name: hyperparameters[name] for name in ("x", "y")}
    assert done.rows["good"]["hyperparameters"]["x"] == 0.3
    assert done.rows["fails"]["hyperparameters"]["crash_epoch"] == 2


def test_trial_n_trains_with_seed_plus_n(done: Finished) -> None:
    for label, trial in done.trials.items():
        assert done.rows[label]["hyperparameters"]["seed"] == SEED + trial.number


# ---------------------------------------------------------------- retried trials


def test_a_retried_trial_is_one_run_and_one_trial_and_goes_on_from_its_checkpoint(done: Finished) -> None:
    """Pitfalls 5 and 10; nor are epochs double that were repeated after a restart."""
    for label in ("recovers", "killed"):
        tags = done.children[label].data.tags
        assert tags["attempts"] == "2"
        assert done.trials[label].state == TrialState.COMPLETE
        resumed = [int(value) for _, value in done.curve(label, "resumed_at")]
        assert resumed[:2] == [0, 0]
        assert resumed[-1] in (1, 2)  # the checkpoint of epoch 2, or of 1 where the worker died while writing
        here = [int(value) for _, value in done.curve(label, "epochs_here")]
        assert here[-1] == EPOCHS - resumed[-1]


def test_a_trial_is_retried_as_often_as_asked_and_no_more(done: Finished) -> None:
    assert done.children["fails"].data.tags["attempts"] == "2"
    assert done.children["killed-at-once"].data.tags["attempts"] == "2"
    assert done.children["good"].data.tags["attempts"] == "1"
    assert done.children["diverges"].data.tags["attempts"] == "1"


# ---------------------------------------------------------------- the leaderboard and the screen


def test_only_complete_trials_are_ranked_and_by_the_last_epoch(done: Finished, outcomes: dict[str, str]) -> None:
    ranked = [row for row in done.board["rows"] if row["rank"]]
    assert {row["label"] for row in ranked} == {name for name, outcome in outcomes.items() if outcome == "complete"}
    assert [row["rank"] for row in ranked] == list(range(1, len(ranked) + 1))
    assert ranked[0]["label"] == "good"
    values = [row["value"] for row in ranked]
    assert values == sorted(values)
    for row in ranked:
        assert row["value"] == pytest.approx(expected_loss(TinyConfig(**row["hyperparameters"]), EPOCHS))
    assert all(row["value"] is None for row in done.board["rows"] if row["outcome"] not in ("complete", ""))


def test_the_naive_predictor_stands_beside_the_trials(done: Finished) -> None:
    row = done.rows["guess"]
    assert (row["kind"], row["rank"], row["value"]) == ("naive", None, 1.0)
    assert "guess: the best trial beats it on loss" in done.text


def test_outcomes_are_counted_and_saved_hours_are_of_stopped_trials(done: Finished, outcomes: dict[str, str]) -> None:
    counted = {name: list(outcomes.values()).count(name) for name in set(outcomes.values())}
    assert done.board["outcomes"] == counted
    assert done.board["compute_hours"] > 0
    stopped = [row for row in done.board["rows"] if row["outcome"] == "stopped_early"]
    saved = sum(row["seconds"] / row["epoch"] * (EPOCHS - row["epoch"]) for row in stopped)
    assert done.board["saved_hours"] == pytest.approx(saved / 3600)


def test_a_search_with_complete_trials_exits_with_0(done: Finished) -> None:
    assert done.code == 0


def test_what_is_not_a_terminal_gets_plain_lines(done: Finished) -> None:
    ours = [line for line in done.text.splitlines() if "(raylet)" not in line]  # Ray has its say of dead workers
    assert not any("\x1b" in line for line in ours)
    assert "good: epoch 1 of 4, loss 1" in done.text
    assert "diverges: diverged (not_finite in epoch 3: loss = inf) after epoch 2" in done.text
    assert "recovers: failed, starts again from its checkpoint (attempt 2)" in done.text
    assert "budget   7 presets + 4 sampled trials, 4 epochs each" in done.text
    assert "data     nothing at all" in done.text
    assert "make ui" in done.text
    assert str(done.folder) in done.text


def test_a_failed_trial_is_told_in_a_sentence(done: Finished) -> None:
    assert "fails: failed (RuntimeError: the disk of this node is on fire) after epoch 1, loss" in done.text


def test_paths_of_states_are_inside_the_folder_of_the_search(done: Finished) -> None:
    assert done.folder == Path(done.folder).resolve()
    assert {path.name for path in done.storage.iterdir()} >= {"searches", "mlflow"}
    states = list(done.folder.glob("*/checkpoint_*/state.pt"))
    assert len({state.parents[1] for state in states}) == len(states)  # the last one of each trial only
    kept = {state.parents[1].name.split("_")[0] for state in states}
    complete = [row for row in done.board["rows"] if row["rank"]]
    assert kept == {f"{row['number']:05d}" for row in complete[:5]}  # those of the best trials
