"""Laws of the tracking with a real database: opened by many at once, one batch an epoch, no secrets."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from search.errors import TrackingError
from search.records import TrialRecord
from search.tracking import SearchRun, TrialLogger, embedded_uri, open_experiment
from trainables.goal import Goal


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tracking")


@pytest.fixture
def parent(place: Path) -> Iterator[SearchRun]:
    with SearchRun(
        open_experiment(None, place, "tiny"), name="a-search", settings={"trials": 3, "time_limit": None},
        tags={"workload": "tiny"}, fingerprint="f" * 64, source="two lines\nof words",
    ) as run:  # fmt: skip
        yield run


def record(number: int = 0, **more: Any) -> TrialRecord:
    return TrialRecord(
        trial_id=f"id-{number}", number=number, preset=None, hyperparameters={"x": 0.5, "epochs": 4}, epochs=4,
        started=time.time(), **more,
    )  # fmt: skip


def logger_of(parent: SearchRun) -> TrialLogger:
    tags = {"search": "a-search", "objective": "loss", "objective_version": "tiny-1"}
    return TrialLogger(parent, Goal({"loss": "min"}), tags)


def children(parent: SearchRun) -> list[Any]:
    parent.writer.flush()
    assert parent.failures == []
    query = f"tags.`mlflow.parentRunId` = '{parent.run_id}'"
    return list(parent.client.search_runs([parent.experiment_id], query))


def test_an_experiment_is_made_once_and_found_again(place: Path) -> None:
    first = open_experiment(None, place, "tiny")
    client = first.client
    assert open_experiment(None, place, "tiny").id == first.id
    assert open_experiment(embedded_uri(place), place, "tiny").id == first.id
    other = open_experiment(None, place, "other").id
    assert other != first.id
    artifacts = client.get_experiment(other).artifact_location
    assert artifacts.startswith(place.as_uri())  # absolute: pitfall 17
    assert artifacts.endswith("/other")


def test_a_deleted_experiment_is_told_with_the_way_back(place: Path) -> None:
    experiment = open_experiment(None, place, "thrown-away")
    experiment.client.delete_experiment(experiment.id)
    with pytest.raises(TrackingError, match=f"restore --experiment-id {experiment.id}") as told:
        open_experiment(None, place, "thrown-away")
    assert "cannot be used" not in str(told.value)


@pytest.mark.slow
def test_processes_that_open_the_same_new_database_at_once_agree(tmp_path: Path) -> None:
    """Pitfall 12: first-time migrations race with each other."""
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom search.tracking import open_experiment\n"
        "storage = Path(sys.argv[1]); print('ready', flush=True); sys.stdin.readline()\n"
        "print(open_experiment(None, storage, 'tiny').id)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    assert len({out.split()[-1] for out, _ in said}) == 1


def test_the_parent_holds_settings_and_is_closed_at_the_end(place: Path) -> None:
    experiment = open_experiment(None, place, "tiny")
    client = experiment.client
    with SearchRun(
        experiment, name="n", settings={"trials": 3, "time_limit": None}, tags={}, fingerprint="f" * 64,
        source="",
    ) as run:  # fmt: skip
        assert client.get_run(run.run_id).info.status == "RUNNING"
        run.log_text("hello", "hello.txt")
    closed = client.get_run(run.run_id)
    assert closed.info.status == "FINISHED"
    assert closed.data.params == {"trials": "3"}  # what is not set is no parameter
    assert [file.path for file in client.list_artifacts(run.run_id)] == ["hello.txt"]
    assert closed.inputs.dataset_inputs[0].dataset.digest == "f" * 36


def test_a_search_that_broke_is_a_failed_run(place: Path) -> None:
    experiment = open_experiment(None, place, "tiny")
    client = experiment.client
    run = SearchRun(experiment, name="n", settings={}, tags={}, fingerprint="f", source="")
    with pytest.raises(RuntimeError), run:
        raise RuntimeError
    assert client.get_run(run.run_id).info.status == "FAILED"


def test_each_epoch_is_one_batch(parent: SearchRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pitfall 31; and the objective goes first, since the UI's plots begin with it."""
    batches: list[Any] = []
    log_batch = MlflowClient.log_batch

    def counting(self: MlflowClient, run_id: str, **batch: Any) -> Any:
        batches.append(batch)
        return log_batch(self, run_id, **batch)

    logger, trial = logger_of(parent), record()
    logger.trial_started(trial)
    logger.flush()
    monkeypatch.setattr(MlflowClient, "log_batch", counting)
    for trial.epoch in (1, 2, 3):
        trial.metrics = {"a": 1.0, "loss": 0.5, "z": 2.0}
        logger.epoch_ended(trial)
    logger.flush()
    assert [[metric.key for metric in batch["metrics"]] for batch in batches] == [["loss", "a", "z"]] * 3
    assert [{metric.step for metric in batch["metrics"]} for batch in batches] == [{1}, {2}, {3}]
    assert all(len({metric.timestamp for metric in batch["metrics"]}) == 1 for batch in batches)


def test_a_trial_is_told_as_it_was_when_it_was_told(parent: SearchRun) -> None:
    """The record lives on while the writer is behind."""
    logger, trial = logger_of(parent), record()
    parent.writer.put(lambda: time.sleep(0.3))
    logger.trial_started(trial)
    for trial.epoch, trial.metrics in ((1, {"loss": 0.9}), (2, {"loss": 0.4})):
        logger.epoch_ended(trial)
    trial.outcome, trial.reason, trial.ended = "stopped_early", "scheduler", time.time()
    logger.trial_ended(trial)
    trial.epoch, trial.metrics, trial.reason = 7, {"loss": 0.0}, "later"
    trial.hyperparameters = {"x": 9}
    (run,) = children(parent)
    history = parent.client.get_metric_history(run.info.run_id, "loss")
    assert sorted((row.step, row.value) for row in history) == [(1, 0.9), (2, 0.4)]
    assert run.data.params == {"x": "0.5", "epochs": "4"}
    assert run.data.tags["reason"] == "scheduler"
    assert run.data.tags["epoch"] == "2"
    assert run.info.status == "KILLED"


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("stopped_early", "KILLED"), ("interrupted", "KILLED"), ("diverged", "FAILED"), ("failed", "FAILED")],
)
def test_each_outcome_has_its_status(parent: SearchRun, outcome: Any, status: str) -> None:
    logger, trial = logger_of(parent), record()
    logger.trial_started(trial)
    trial.outcome, trial.reason = outcome, "why " + "x" * 9_000
    logger.trial_ended(trial)
    (run,) = children(parent)
    assert (run.info.status, run.data.tags["outcome"]) == (status, outcome)
    assert run.data.tags["reason"].startswith("why x")


def test_a_long_parameter_is_still_a_parameter(parent: SearchRun) -> None:
    logger, trial = logger_of(parent), record()
    trial.hyperparameters["layers"] = "x" * 5_000
    logger.trial_started(trial)
    (run,) = children(parent)
    assert run.data.params["layers"].startswith("xxx")


# ---------------------------------------------------------------- servers and secrets


def test_a_server_that_is_not_there_is_an_error_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(TrackingError) as told:
        open_experiment("http://someone:hush@127.0.0.1:9", tmp_path, "tiny")
    assert "127.0.0.1:9" in str(told.value)
    assert "hush" not in str(told.value)


def test_a_password_on_the_command_line_goes_nowhere(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "http://someone:hush@127.0.0.1:9"
    monkeypatch.setattr(sys, "argv", ["run.py", "tiny", "--tracking-uri", uri, f"--tracking-uri={uri}"])
    experiment = open_experiment(None, place, "tiny")
    client = experiment.client
    with SearchRun(experiment, name="n", settings={}, tags={}, fingerprint="f", source="") as run:
        pass
    stored = client.get_run(run.run_id).to_dictionary()
    assert "search.run tiny" in stored["data"]["tags"]["mlflow.source.name"]
    assert "hush" not in str(stored)


def test_mlflow_is_patient_again_after_the_first_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with pytest.raises(TrackingError):
        open_experiment("http://127.0.0.1:9", tmp_path, "tiny")
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
