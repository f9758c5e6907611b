"""Laws of files on their way to MLflow: each by itself, none ever lost, and metrics never wait for one."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from bucket import USER, Bucket
from finished import call
from mlflow.entities import Run
from proxy import FaultyProxy
from pyarrow.fs import LocalFileSystem
from recorded import RecordedSearch, facts_of, record
from server import MlflowServer
from tiny import make_tiny

import search.tracking.artifacts
from search.diagnostics.context import DiagnosticContext
from search.diagnostics.runner import findings_of
from search.engine.upstream_in_directories import find_undelivered
from search.errors import TrackingError
from search.promotion.registry import Registry
from search.storage.location import Storage, StoragePath
from search.storage.trial_record import TrialRecord
from search.tracking.client import Experiment, open_experiment
from search.tracking.exporter import MlflowExporter

pytestmark = pytest.mark.slow  # all of them need a server, which takes ten seconds to start

FILES = {f"checkpoint/{name}" for name in ("best.pt", "hyperparameters.json", "last.pt")}
FILES |= {"report/curve.png", "report/x.csv"}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds, and no second attempts of MLflow's client."""
    for name in ("FIRST_PAUSE_S", "LONGEST_PAUSE_S"):
        monkeypatch.setattr(search.tracking.artifacts, name, 0.01)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def front(server: MlflowServer) -> Iterator[FaultyProxy]:
    with FaultyProxy(server.uri) as between:
        yield between


@pytest.fixture
def recorded(front: FaultyProxy, tmp_path: Path) -> RecordedSearch:
    """A search in a storage whose every request goes through the front server."""
    return in_storage(open_experiment(front.uri, tmp_path, "tiny"), tmp_path)


def in_storage(experiment: Experiment, storage: Path, name: str = "night") -> RecordedSearch:
    folder = storage / "searches" / name
    folder.mkdir(parents=True)
    facts = facts_of(experiment, token=str(storage), name=name)
    about = {"facts": asdict(facts), "objectives": {"loss": "min"}, "limits": {}, "workload": "tiny"}
    (folder / "search.json").write_text(json.dumps(about))
    return RecordedSearch(experiment, facts, folder)


def trained(recorded: RecordedSearch, number: int = 0) -> TrialRecord:
    """A complete trial of two epochs with weights, a figure and a table."""
    trial = record(number)
    checkpoint = recorded.folder / f"checkpoint-{number}"
    (checkpoint / "report").mkdir(parents=True)
    for name in ("best.pt", "last.pt", "report/curve.png", "report/x.csv"):
        (checkpoint / name).write_text(f"{name} {number}")
    trial.checkpoint = StoragePath(LocalFileSystem(), str(checkpoint))
    return recorded.live(trial, 0.9, 0.5)


def exported(recorded: RecordedSearch, patience_s: float = 5) -> MlflowExporter:
    """Everything that arrives, as another process would export it."""
    exporter = MlflowExporter(recorded.log.path, recorded.writer(), recorded.lines.append)
    exporter.start()
    assert exporter.close(patience_s), recorded.lines
    return exporter


def there(recorded: RecordedSearch, run: Run) -> set[str]:
    client = recorded.experiment.client
    folders = [file.path for file in client.list_artifacts(run.info.run_id)]
    return {file.path for folder in folders for file in client.list_artifacts(run.info.run_id, folder)}


def staged(recorded: RecordedSearch) -> set[str]:
    """The names of all files that wait."""
    return {path.name for path in recorded.staged.path.rglob("*") if path.is_file()}


# ---------------------------------------------------------------- refused is not delivered


@pytest.mark.parametrize("status", [403, 413, 507])
def test_a_refused_file_costs_only_itself_and_arrives_later(
    recorded: RecordedSearch, front: FaultyProxy, status: int
) -> None:
    front.answer_error(status, path="curve.png")
    exporter = MlflowExporter(recorded.log.path, recorded.writer(), recorded.lines.append)
    exporter.start()
    trained(recorded)
    _wait_until(lambda: any("curve.png of trial-000" in line for line in recorded.lines))  # while the search runs
    assert exporter.close()
    (line,) = exporter.missing
    assert line.startswith(f"report/curve.png of trial-000: {status} ")
    assert "http://" not in line
    (run,) = recorded.runs()
    assert there(recorded, run) == FILES - {"report/curve.png"}
    assert (recorded.rows(run), run.info.status) == ([(1, 0.9), (2, 0.5)], "FINISHED")
    assert staged(recorded) == {"curve.png"}
    front.pass_through()
    assert exported(recorded).missing == []
    assert there(recorded, run) == FILES
    assert not recorded.staged.path.exists()


def test_sync_says_what_is_missing_until_nothing_is(recorded: RecordedSearch, front: FaultyProxy) -> None:
    trained(recorded)
    flags = ("--sync", "night", "--storage", str(recorded.folder.parents[1]), "--tracking-uri", front.uri)
    front.answer_error(413, path="best.pt")
    for entries in (5, 0):
        code, text = call(make_tiny(), *flags)
        assert code == 1
        assert f"{entries} entries delivered; MLflow lacks a part of search night" in text
        assert "not in MLflow: checkpoint/best.pt of trial-000: 413" in text
        assert "has all" not in text
    front.pass_through()
    code, text = call(make_tiny(), *flags)
    assert (code, "MLflow has all of search night" in text) == (0, True), text
    (run,) = recorded.runs()
    assert there(recorded, run) == FILES


def test_metrics_do_not_wait_for_a_file_that_hangs_nor_other_files(
    recorded: RecordedSearch, front: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    front.hang(60, path="best.pt")
    exporter = MlflowExporter(recorded.log.path, recorded.writer(), recorded.lines.append)
    exporter.start()
    trained(recorded)
    _wait_until(lambda: front.faults)
    second = record(1)
    recorded.event_recorder.trial_started(second)
    recorded.epoch(second, 0.7)
    asked = time.monotonic()
    _wait_until(lambda: len(recorded.runs()) == 2 and recorded.rows(recorded.runs()[1]))
    assert time.monotonic() - asked < 3, "the metrics waited for the file"
    _wait_until(lambda: staged(recorded) == {"best.pt"})
    front.pass_through()
    assert exporter.close(60)
    assert exporter.missing == []
    assert there(recorded, recorded.runs()[0]) == FILES


def test_a_store_that_is_away_keeps_no_metric_from_arriving(recorded: RecordedSearch, front: FaultyProxy) -> None:
    front.answer_error(500, path="mlflow-artifacts")
    trained(recorded)
    exporter = exported(recorded, patience_s=0.1)
    assert "does not answer" not in " ".join(recorded.lines)
    assert exporter.complete
    assert all("500" in line or line.endswith("not tried yet") for line in exporter.missing), exporter.missing
    front.pass_through()
    (run,) = recorded.runs()
    assert recorded.rows(run) == [(1, 0.9), (2, 0.5)]
    assert exported(recorded).missing == []
    assert there(recorded, run) == FILES


def test_a_run_that_was_deleted_is_completed_after_it_was_restored(recorded: RecordedSearch) -> None:
    """A trial's run and the search's own, deleted in the UI while the search runs."""
    client, trial = recorded.experiment.client, record(0)
    recorded.event_recorder.trial_started(trial)
    recorded.epoch(trial, 0.9)
    exported(recorded)
    (run,) = recorded.runs()
    deleted = [run.info.run_id, recorded.facts.run_id]
    for run_id in deleted:
        client.delete_run(run_id)
    for loss in (0.8, 0.7, 0.6):
        recorded.epoch(trial, loss)
    trial.outcome, trial.ended = "complete", time.time()
    recorded.event_recorder.trial_ended(trial)
    recorded.event_recorder.search_result("trial-000", 0, {"loss": 0.6}, {0: True})
    recorded.event_recorder.search_ended("FINISHED")
    for _ in range(2):  # whichever process tries
        lines = exported(recorded).missing
        assert {line.split(":")[0] for line in lines} == {"trial-000", "the search"}
        assert all(f"mlflow runs restore --run-id {run_id}" in " ".join(lines) for run_id in deleted)
        assert not recorded.runs(), "it was replaced"
    for run_id in deleted:
        client.restore_run(run_id)
    assert exported(recorded).missing == []
    (run,) = recorded.runs()
    own = client.get_run(recorded.facts.run_id)
    assert recorded.rows(run) == [(1, 0.9), (2, 0.8), (3, 0.7), (4, 0.6)]
    assert (run.info.status, run.data.tags["outcome"], run.data.tags["front"]) == ("FINISHED", "complete", "true")
    assert (own.info.status, own.data.tags["best_run"]) == ("FINISHED", run.info.run_id)


def test_a_run_that_was_refused_leaves_its_files_staged(recorded: RecordedSearch, front: FaultyProxy) -> None:
    front.answer_error(422, path="runs/create")
    trained(recorded)
    lines = exported(recorded).missing
    assert any("best.pt" in line and line.endswith("its run is not in MLflow") for line in lines), lines
    assert "best.pt" in staged(recorded)
    front.pass_through()
    assert exported(recorded).missing == []
    (run,) = recorded.runs()
    assert (there(recorded, run), run.data.params["x"]) == (FILES, "0.5")


# ---------------------------------------------------------------- a store that is elsewhere


@pytest.fixture
def elsewhere(server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], RecordedSearch]:
    """``elsewhere(location)``: a search in a new experiment whose artifacts are in that folder of the server."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def make(location: str) -> RecordedSearch:
        client = server.client()
        if (old := client.get_experiment_by_name("zdc")) is not None:
            client.rename_experiment(old.experiment_id, f"zdc-{old.experiment_id}")
        made = client.create_experiment("zdc", artifact_location=location)
        return in_storage(Experiment(client, made), tmp_path)

    return make


def tracking_findings(server: MlflowServer, storage: Path) -> str:
    context = DiagnosticContext(None, server.uri, str(storage), (), None, 1, None, 60.0)
    return "\n".join(finding.line for finding in findings_of("tracking", context))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self is another folder for each process")
@pytest.mark.parametrize("location", ["/proc/self/cwd/files", "file:///proc/self/cwd/files", "/proc/none/files"])
def test_files_are_not_written_to_a_folder_of_this_machine_that_is_not_the_servers(
    elsewhere: Callable[[str], RecordedSearch], server: MlflowServer, location: str
) -> None:
    """The same path means another folder to the server than to its client."""
    recorded = elsewhere(location)
    assert "without --no-serve-artifacts" in recorded.writer().location_problem()
    trained(recorded)
    lines = exported(recorded).missing
    assert len(lines) == 1
    assert "checkpoint/best.pt of trial-000" in lines[0]
    assert "files of its own machine" in lines[0]
    assert not list(Path.cwd().iterdir())
    assert {Path(name).name for name in FILES} <= staged(recorded)
    (run,) = recorded.runs()
    assert (recorded.rows(run), run.info.status) == ([(1, 0.9), (2, 0.5)], "FINISHED")
    told = tracking_findings(server, recorded.folder)
    assert "warning  artifacts of experiment zdc" in told
    assert "--artifacts-destination" in told
    with pytest.raises(TrackingError, match="cannot be registered from here"):
        Registry(recorded.experiment.client, "zdc").log_files(run.info.run_id, recorded.folder, "x")


def test_a_folder_that_both_machines_share_is_written_to(
    elsewhere: Callable[[str], RecordedSearch], server: MlflowServer, tmp_path: Path
) -> None:
    recorded = elsewhere(str(tmp_path / "shared"))
    assert recorded.writer().location_problem() == ""
    assert not (tmp_path / "shared").exists(), "the test of the folder left something behind"
    trained(recorded)
    assert exported(recorded).missing == []
    (run,) = recorded.runs()
    assert there(recorded, run) == FILES
    assert len(list((tmp_path / "shared").rglob("*.pt"))) == 2
    assert "fine     artifacts of experiment zdc" in tracking_findings(server, tmp_path)


@pytest.mark.parametrize("lack", ["login", "library", "bucket"])
def test_a_store_to_which_this_machine_writes_by_itself_is_tried_before_the_first_trial(
    elsewhere: Callable[[str], RecordedSearch],
    server: MlflowServer,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    lack: str,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "MLFLOW_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/none")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/none")
    if lack == "bucket":
        bucket = request.getfixturevalue("bucket")
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", bucket.uri)
        for name, value in USER.items():
            monkeypatch.setenv(name, value)
    recorded = elsewhere("gs://bucket/files" if lack == "library" else "s3://no-such-bucket/files")
    problem = recorded.writer().location_problem()
    assert "to which this machine writes by itself and cannot: " in problem
    assert "no-such-bucket/files" in problem or lack == "library"
    trained(recorded)
    (line,) = exported(recorded, patience_s=60).missing
    assert problem in line, "each file is refused at once, and for this reason"
    assert {Path(name).name for name in FILES} <= staged(recorded)
    (run,) = recorded.runs()
    assert (recorded.rows(run), run.info.status) == ([(1, 0.9), (2, 0.5)], "FINISHED")
    assert "warning  artifacts of experiment zdc" in tracking_findings(server, recorded.folder)


def test_a_store_that_refuses_a_file_is_not_waited_for(
    elsewhere: Callable[[str], RecordedSearch],
    server: MlflowServer,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A login that may read and not write."""
    with FaultyProxy(bucket.uri) as between:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", between.uri)
        for name, value in USER.items():
            monkeypatch.setenv(name, value)
        recorded = elsewhere(f"s3://{bucket.NAME}/refused")
        assert recorded.writer().location_problem() == ""
        between.answer_error(403, path="best.pt")
        trained(recorded)
        (line,) = exported(recorded, patience_s=60).missing
        assert line.startswith("checkpoint/best.pt of trial-000: An error occurred (")
        between.pass_through()
        assert exported(recorded).missing == []
        assert "fine     artifacts of experiment zdc" in tracking_findings(server, recorded.folder)


def test_a_database_that_was_moved_writes_nothing_to_its_former_place(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    opened = open_experiment(f"sqlite:///{before}/m.db", _made(before), "zdc")
    opened.client.create_run(opened.id)
    before.rename(after)
    uri = f"sqlite:///{after}/m.db"
    recorded = in_storage(open_experiment(uri, tmp_path, "zdc"), tmp_path)
    problem = recorded.writer().location_problem()
    assert f"no folder {before}/artifacts/zdc" in problem
    trained(recorded)
    (line,) = exported(recorded).missing
    assert problem in line
    assert not before.exists()
    context = DiagnosticContext(None, uri, str(tmp_path), (), None, 1, None, 60.0)
    told = [finding for finding in findings_of("tracking", context) if finding.level == "warning"]
    assert [finding.what for finding in told] == ["artifacts of experiment zdc"]
    command = problem.partition("a link: ")[2]
    (after / "artifacts").mkdir(exist_ok=True)
    before.mkdir()
    subprocess.run(shlex.split(command), check=True)
    (after / "artifacts" / "zdc").mkdir()
    assert exported(recorded).missing == []
    assert len(list(after.rglob("best.pt"))) == 1


def test_a_model_that_mlflow_did_not_take_is_found_in_the_directory_of_its_search(
    elsewhere: Callable[[str], RecordedSearch], tmp_path: Path
) -> None:
    import torch

    recorded = elsewhere("/proc/none/files")
    trial = trained(recorded)
    assert trial.checkpoint is not None
    torch.save({"weights": {"w": torch.ones(2)}}, Path(trial.checkpoint.path) / "best.pt")
    found = find_undelivered(Storage(tmp_path), "night", recorded.facts.run_id, "trial-000")
    assert found is not None
    assert found.hyperparameters == trial.hyperparameters
    assert find_undelivered(Storage(tmp_path), "night", "of another search", "trial-000") is None
    assert find_undelivered(Storage(tmp_path), "other", recorded.facts.run_id, "trial-000") is None


def test_an_error_of_the_local_file_system_is_no_silence_of_the_server(tmp_path: Path) -> None:
    """An own database whose artifacts cannot be written: a file is where their folder should be."""
    recorded = in_storage(open_experiment(f"sqlite:///{tmp_path}/own/m.db", _made(tmp_path / "own"), "tiny"), tmp_path)
    (tmp_path / "own" / "artifacts").write_text("no folder")
    trained(recorded)
    exporter = exported(recorded)
    assert "does not answer" not in " ".join(recorded.lines)
    assert exporter.missing
    assert all("[Errno" in line and str(tmp_path) in line for line in exporter.missing), exporter.missing
    assert {Path(name).name for name in FILES} <= staged(recorded)
    (tmp_path / "own" / "artifacts").unlink()
    assert exported(recorded).missing == []


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
