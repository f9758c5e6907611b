"""Laws of the tracking with a real database: opened by many at once, one run for a trial's whole life, no secrets."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from recorded import RecordedSearch, facts_of, record

from search.config.settings import TrackingFlags
from search.errors import TrackingError
from search.tracking.artifact_location import artifact_folder
from search.tracking.client import Experiment, embedded_uri, open_experiment


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tracking")


@pytest.fixture(scope="module")
def experiment(place: Path) -> Experiment:
    return open_experiment(None, place, "tiny")


@pytest.fixture
def recorded(experiment: Experiment, tmp_path: Path) -> RecordedSearch:
    """A search whose own run is created, and that has exported nothing yet."""
    return RecordedSearch(experiment, facts_of(experiment, token=tmp_path.name), tmp_path)


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


@pytest.mark.parametrize("uri", ["sqlite:///own.db", "sqlite:///{place}/own.db"])
def test_an_own_database_has_its_artifacts_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    """Not in the folder in which the command was typed, nor in the storage."""
    beside, elsewhere, storage = (tmp_path / name for name in ("beside", "elsewhere", "storage"))
    for folder in (beside, elsewhere, storage):
        folder.mkdir()
    monkeypatch.chdir(beside if uri == "sqlite:///own.db" else elsewhere)
    opened = open_experiment(uri.format(place=beside), storage, "tiny")
    monkeypatch.chdir(elsewhere)
    recorded = RecordedSearch(opened, facts_of(opened), storage)
    recorded.event_recorder.log_text("hello", "hello.txt")
    recorded.export()
    (file,) = tmp_path.rglob("hello.txt")
    assert file.is_relative_to(beside / "artifacts" / "tiny")


@pytest.mark.parametrize("folder", ["plain", "we?ird %25"])
def test_a_database_without_a_whole_path_is_one_wherever_processes_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    by_flag = TrackingFlags(tracking_uri="sqlite:///own.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///own.db")
    of_environment = TrackingFlags().server
    monkeypatch.chdir(tmp_path)
    assert by_flag.server == of_environment
    opened = open_experiment(by_flag.server, tmp_path, "tiny")
    assert (tmp_path / folder / "own.db").exists()
    assert open_experiment(of_environment, tmp_path, "tiny").id == opened.id
    for whole in ("sqlite:////own.db", "sqlite://", "sqlite:///:memory:", "http://h:5000/a", "journal"):
        assert TrackingFlags(tracking_uri=whole).server == whole


@pytest.mark.timeout(60)  # MLflow itself tries for two minutes
@pytest.mark.parametrize("uri", ["sqlite:///{place}", "sqlite:///{place}/file/m.db", "postgresql://u@127.0.0.1:1/db"])
def test_a_database_that_does_not_open_is_not_waited_for(tmp_path: Path, uri: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrackingError, match=r"cannot be used: .+\n"):
        open_experiment(uri.format(place=tmp_path), tmp_path, "tiny")


@pytest.mark.parametrize("uri", ["postgresql://h/db", "mysql+pymysql://u@h:3306/db", "sqlite://", "sqlite:///:memory:"])
def test_a_database_without_a_folder_of_its_own_has_its_artifacts_in_the_storage(tmp_path: Path, uri: str) -> None:
    assert artifact_folder(uri, tmp_path, "tiny") == (tmp_path / "mlflow" / "artifacts" / "tiny").as_uri()
    assert artifact_folder("https://h/mlflow", tmp_path, "tiny") is None


def test_a_deleted_experiment_is_reported_with_the_way_back(place: Path) -> None:
    experiment = open_experiment(None, place, "thrown-away")
    experiment.client.delete_experiment(experiment.id)
    with pytest.raises(TrackingError, match=f"restore --experiment-id {experiment.id}") as raised:
        open_experiment(None, place, "thrown-away")
    assert "cannot be used" not in str(raised.value)


@pytest.mark.slow
def test_processes_that_open_the_same_new_database_at_once_agree(tmp_path: Path) -> None:
    """Pitfall 12: first-time migrations race with each other."""
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom search.tracking.client import open_experiment\n"
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


# ---------------------------------------------------------------- the search's own run


def test_the_parent_holds_settings_and_is_closed_at_the_end(recorded: RecordedSearch) -> None:
    client, run_id = recorded.experiment.client, recorded.facts.run_id
    assert client.get_run(run_id).info.status == "RUNNING"
    recorded.event_recorder.log_text("hello", "hello.txt")
    recorded.event_recorder.search_ended("FINISHED")
    recorded.export()
    closed = client.get_run(run_id)
    assert closed.info.status == "FINISHED"
    assert closed.data.params == {"trials": "3"}  # what is not set is no parameter
    assert closed.data.tags["kind"] == "search"
    assert [file.path for file in client.list_artifacts(run_id)] == ["hello.txt"]
    assert closed.inputs.dataset_inputs[0].dataset.digest == "f" * 36


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_a_search_that_broke_says_so_until_it_goes_on(recorded: RecordedSearch, status: str) -> None:
    client, run_id = recorded.experiment.client, recorded.facts.run_id
    recorded.event_recorder.search_ended(status)
    recorded.export()
    assert client.get_run(run_id).info.status == status
    recorded.event_recorder.search_resumed()
    recorded.export()
    assert client.get_run(run_id).info.status == "RUNNING"


def test_a_search_has_one_run_however_often_it_is_begun(experiment: Experiment) -> None:
    """A process may be killed after it has made the run and before it has written that down."""
    first = facts_of(experiment, token="one-word")
    assert facts_of(experiment, token="one-word") == first
    assert facts_of(experiment, token="another").run_id != first.run_id


# ---------------------------------------------------------------- runs of trials


def test_each_epoch_is_one_batch(recorded: RecordedSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pitfall 31; and the objective goes first, since the UI's plots begin with it."""
    batches: list[Any] = []
    log_batch = MlflowClient.log_batch

    def counting(self: MlflowClient, run_id: str, **batch: Any) -> Any:
        batches.append(batch["metrics"])
        return log_batch(self, run_id, **batch)

    trial, writer = record(), recorded.writer()
    recorded.event_recorder.trial_started(trial)
    writer.write(recorded.events())
    monkeypatch.setattr(MlflowClient, "log_batch", counting)
    for _ in range(3):
        recorded.epoch(trial, 0.5, a=1.0, z=2.0)
        writer.write(recorded.events()[-1:])
    assert [[metric.key for metric in batch] for batch in batches] == [["loss", "a", "z"]] * 3
    assert [{metric.step for metric in batch} for batch in batches] == [{1}, {2}, {3}]
    assert all(len({metric.timestamp for metric in batch}) == 1 for batch in batches)


def test_epochs_that_waited_are_one_batch_with_the_times_they_had(
    recorded: RecordedSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = record()
    recorded.event_recorder.trial_started(trial)
    for loss in (0.9, 0.5, 0.4):
        recorded.epoch(trial, loss)
        time.sleep(0.002)
    batches: list[Any] = []
    log_batch = MlflowClient.log_batch

    def counting(self: MlflowClient, run_id: str, **batch: Any) -> Any:
        batches.append(batch.get("metrics"))
        return log_batch(self, run_id, **batch)

    monkeypatch.setattr(MlflowClient, "log_batch", counting)
    recorded.export()
    (rows,) = filter(None, batches)
    assert [(row.step, row.value) for row in rows] == [(1, 0.9), (2, 0.5), (3, 0.4)]
    assert [row.timestamp for row in rows] == [event.entry.at_ms for event in recorded.events()[1:]]


def test_a_trial_is_exported_as_it_was_when_it_was_recorded(recorded: RecordedSearch) -> None:
    """The record lives on while the export is behind."""
    trial = recorded.live(record(), 0.9, 0.4, outcome="stopped_early", reason="scheduler")
    trial.epoch, trial.metrics, trial.reason = 7, {"loss": 0.0}, "later"
    trial.hyperparameters = {"x": 9}
    recorded.export()
    (run,) = recorded.runs()
    assert recorded.rows(run) == [(1, 0.9), (2, 0.4)]
    assert run.data.params == {"x": "0.5", "epochs": "4"}
    assert run.data.tags["reason"] == "scheduler"
    assert run.data.tags["epoch"] == "2"
    assert (run.info.status, run.info.start_time) == ("KILLED", 1_000_000)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("stopped_early", "KILLED"), ("interrupted", "KILLED"), ("diverged", "FAILED"), ("failed", "FAILED")],
)
def test_each_outcome_has_its_status(recorded: RecordedSearch, outcome: Any, status: str) -> None:
    recorded.live(record(), outcome=outcome, reason="why " + "x" * 9_000)
    assert recorded.export().refused == []
    (run,) = recorded.runs()
    assert (run.info.status, run.data.tags["outcome"]) == (status, outcome)
    assert run.data.tags["reason"].startswith("why x")


def test_a_resumed_trial_is_the_same_run_and_its_old_end_is_forgotten(recorded: RecordedSearch) -> None:
    trial = recorded.live(record(), 0.9, outcome="interrupted", reason="Ctrl-C")
    recorded.export()
    trial.outcome, trial.reason = None, ""
    recorded.event_recorder.trial_resumed(trial)
    recorded.epoch(trial, 0.5)
    recorded.export()
    (run,) = recorded.runs()
    assert run.info.status == "RUNNING"
    assert not {"outcome", "reason"} & run.data.tags.keys()
    assert recorded.rows(run) == [(1, 0.9), (2, 0.5)]


def test_a_long_parameter_is_still_a_parameter(recorded: RecordedSearch) -> None:
    trial = record()
    trial.hyperparameters["layers"] = "x" * 5_000
    recorded.event_recorder.trial_started(trial)
    assert recorded.export().refused == []
    (run,) = recorded.runs()
    assert run.data.params["layers"].startswith("xxx")


# ---------------------------------------------------------------- servers and secrets


@pytest.mark.slow
def test_a_server_that_is_not_there_is_an_error_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(TrackingError) as raised:
        open_experiment("http://someone:hush@127.0.0.1:9", tmp_path, "tiny")
    assert "127.0.0.1:9" in str(raised.value)
    assert "hush" not in str(raised.value)


def test_a_password_on_the_command_line_goes_nowhere(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "http://someone:hush@127.0.0.1:9"
    monkeypatch.setattr(sys, "argv", ["run.py", "tiny", "--tracking-uri", uri, f"--tracking-uri={uri}"])
    stored = experiment.client.get_run(facts_of(experiment, token="secret").run_id).to_dictionary()
    assert "search.run tiny" in stored["data"]["tags"]["mlflow.source.name"]
    assert "hush" not in str(stored)
