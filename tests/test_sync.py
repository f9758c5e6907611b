"""A search that exports nothing to MLflow while it runs leaves there, after --sync, what any other leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from broken import Alone, kill, require_nothing_lost, wait_until
from finished import TRIAL_FACTS, Finished, call, run_search
from mlflow import MlflowClient
from server import FaultyProxy, MlflowServer
from tiny import make_chain, make_tiny, make_top
from written import Fate, write_search

import search.promote
import search.workloads
from search.cluster.job_spec import make_job_spec
from search.cluster.site_config import SlurmSite
from search.cluster.slurm import batch_script
from search.config.settings import Site
from search.errors import UsageError
from search.promotion.run import _require_exported
from search.storage.event_log import read_entries
from search.storage.location import Storage
from search.storage.search_dir import SearchDir
from search.tracking.client import open_experiment

pytestmark = pytest.mark.slow

TINY = make_tiny(good={"x": 0.3, "y": 0.0})
FLAGS = ("--trials", "2", "--epochs", "3", "--sampler", "random", "--scheduler", "none", "--presets", "good")
JOURNAL = ("--tracking-uri", "journal")
OF_THE_SEARCH = {"search", "token", "command", "best_run", "mlflow.note.content", "mlflow.runName"}  # of its name, too


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def silently(storage: Path, name: str, *flags: str) -> Finished:
    """A search in a process that may not even create a client of MLflow."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("MLflow was asked")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MlflowClient, "__init__", refuse)
        return run_search(TINY, storage, name, *FLAGS, *JOURNAL, *flags)


def sync(storage: Path, name: str, uri: str) -> tuple[int, str]:
    return call(TINY, "--sync", name, "--storage", str(storage), "--tracking-uri", uri)


@pytest.fixture(scope="module")
def quiet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A search that no server has."""
    request.getfixturevalue("ray_here")
    return silently(tmp_path_factory.mktemp("quiet"), "quiet")


@pytest.fixture
def synced(quiet: Finished, server: MlflowServer) -> Finished:
    """Delivered, by a process of somebody else."""
    words = ("--sync", "quiet", "--storage", str(quiet.storage), "--tracking-uri", server.uri)
    subprocess.run(
        [sys.executable, "-m", "search.run", *words],
        check=True, capture_output=True, timeout=300, env=os.environ | {"LOGNAME": "somebody-else"},
    )  # fmt: skip
    return Finished(quiet.code, quiet.text, quiet.storage, "quiet", uri=server.uri)


# ---------------------------------------------------------------- while it runs


def test_without_a_server_the_folder_is_whole_and_no_database_is_made(quiet: Finished) -> None:
    assert quiet.code == 0, quiet.text
    assert not (quiet.storage / "mlflow").exists()
    assert quiet.board["outcomes"] == {"complete": 3}
    names = {path.name for path in quiet.folder.iterdir()}
    assert {"search.json", "search.journal", "optuna.journal", "leaderboard.json", "report.html", "outbox"} <= names
    assert SearchDir(quiet.storage, "quiet").description()["facts"]["run_id"] == ""


def test_it_says_at_once_and_at_the_end_how_it_is_exported(quiet: Finished) -> None:
    assert "mlflow   no server is asked: what happens waits" in quiet.text
    command = f"python -m search.run --sync quiet --storage {quiet.storage} --tracking-uri URI"
    assert command in quiet.text
    assert "warning" not in quiet.text


def test_what_needs_a_server_says_so(quiet: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = sync(quiet.storage, "quiet", "journal")
    assert (code, "names no server" in text) == (2, True), text
    with pytest.raises(UsageError, match="names no server"):
        open_experiment("journal", quiet.storage, "tiny")
    assert search.promote.main(["zdc", "--list", "--storage", str(quiet.storage), *JOURNAL]) == 2
    assert "names no server" in capsys.readouterr().out.replace("\n", " ")


def test_a_promotion_needs_its_export_first(tmp_path: Path) -> None:
    told, untold = (write_search(tmp_path, name, [Fate()]) for name in ("told", "untold"))
    about = json.loads((untold / "search.json").read_text())
    about["facts"]["run_id"] = ""
    (untold / "search.json").write_text(json.dumps(about))
    _require_exported(SearchDir(tmp_path, told.name))
    with pytest.raises(UsageError, match=r"Search 'untold' is not in MLflow.*--sync untold"):
        _require_exported(SearchDir(tmp_path, "untold"))


def test_a_warm_start_is_read_from_folders_alone(quiet: Finished) -> None:
    where = ("--storage", str(quiet.storage), *FLAGS, *JOURNAL)
    code, text = call(TINY, "tiny", *where, "--sampler", "tpe", "--name", "warm", "--warm-from", "nobody")
    assert (code, "no study of that search" in text) == (2, True), text
    done = silently(quiet.storage, "warm", "--sampler", "tpe", "--warm-from", "quiet")
    assert (done.code, "warm start from quiet (study)" in done.text) == (0, True), done.text


def test_an_object_store_needs_no_server_then(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="Or journal"):
        Storage.of(Site(storage="s3://bucket/results"))
    assert Storage.of(Site(storage="s3://bucket/results", tracking_uri="journal")).url
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "journal")
    assert Site(storage="s3://bucket/results").offline


def test_a_batch_script_says_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "journal")
    for words in ((), JOURNAL):
        job = make_job_spec("zdc", ["--name", "a-search", *words], may_restart=True, remote=False)
        script = batch_script(job, SlurmSite(), classic=False, array=None, folder=Path("/work"))
        assert " ".join(script.split()).count("--tracking-uri journal") == 1


# ---------------------------------------------------------------- what arrives


@pytest.fixture(scope="module")
def loud(request: pytest.FixtureRequest, server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The same search, exported while it ran."""
    request.getfixturevalue("ray_here")
    storage = tmp_path_factory.mktemp("loud")
    done = run_search(TINY, storage, "loud", *FLAGS, "--tracking-uri", server.uri)
    return Finished(done.code, done.text, storage, "loud", uri=server.uri)


def left(done: Finished) -> dict[str, Any]:
    """Everything that MLflow holds of a search, but times and what follows from its name."""
    about = {}
    for run in done.runs:
        label = run.info.run_name.replace(done.name, "NAME")
        tags = {key: value for key, value in run.data.tags.items() if key not in OF_THE_SEARCH | {"mlflow.parentRunId"}}
        rows = {
            name: [(row.step, row.value) for row in done.client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
            if not name.startswith("system/")
        }
        values = {name: rows.pop(name) for name in ("pid", "threads", *TRIAL_FACTS) if name in rows}
        about[label] = {
            "status": run.info.status,
            "user": run.info.user_id,
            "tags": tags,
            "tag names": sorted(run.data.tags),
            "params": run.data.params,
            "rows": rows,
            "steps": {name: [step for step, _ in found] for name, found in values.items()},
            "files": done.files(run),
            "data": [entry.dataset.digest for entry in run.inputs.dataset_inputs],
        }
    return about


def test_a_synced_search_is_there_like_one_that_was_exported_while_it_ran(synced: Finished, loud: Finished) -> None:
    assert left(synced) == left(loud)
    require_children(synced)
    assert not (synced.folder / "outbox").exists()
    note = synced.parent.data.tags["mlflow.note.content"]
    assert "python -m" in note
    assert "3 complete" in note


def test_no_line_is_a_librarys(loud: Finished) -> None:
    """MLflow's client prints where to look at each run that has ended on a server."""
    assert "View " not in loud.text
    assert loud.uri not in loud.text


def require_children(done: Finished) -> None:
    assert {run.data.tags["mlflow.parentRunId"] for run in done.children.values()} == {done.parent.info.run_id}
    assert done.parent.data.tags["best_run"] in {run.info.run_id for run in done.children.values()}


def test_times_and_people_are_those_of_the_search(synced: Finished) -> None:
    """Not those of the command that exports it."""
    parent, entries = synced.parent, list(read_entries(synced.folder / "search.journal"))
    about = json.loads((synced.folder / "search.json").read_text())
    assert parent.info.start_time == about["own_run"]["started_ms"] < entries[0].at_ms
    assert parent.info.end_time == entries[-1].at_ms
    assert "--sync" not in parent.data.tags["command"]
    assert "somebody-else" not in {run.data.tags["mlflow.user"] for run in synced.runs}
    numbers = {run.data.tags["trial_number"]: run for run in synced.children.values()}
    ends = [entry for entry in entries if entry.event == "epoch_ended"]
    for entry in ends:
        rows = synced.client.get_metric_history(numbers[str(entry.content["number"])].info.run_id, "loss")
        assert (entry.content["epoch"], entry.at_ms) in {(row.step, row.timestamp) for row in rows}
    assert len(ends) == 9
    for record in SearchDir(synced.storage, "quiet").history.records():
        info = numbers[str(record.number)].info
        assert (info.start_time, info.end_time) == (int(record.started * 1000), int((record.ended or 0) * 1000))


def test_a_second_sync_makes_nothing_twice(synced: Finished, server: MlflowServer) -> None:
    before = left(synced)
    code, text = sync(synced.storage, "quiet", server.uri)
    assert (code, " 0 entries delivered" in text) == (0, True), text
    again = Finished(0, "", synced.storage, "quiet", uri=server.uri)
    assert left(again) == before
    assert len(again.runs) == 4


def test_a_search_stays_with_the_server_that_has_it(synced: Finished, tmp_path: Path) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    open_experiment(other, tmp_path, "tiny")
    code, text = sync(synced.storage, "quiet", other)
    assert (code, "was exported to another server first" in text) == (2, True), text


# ---------------------------------------------------------------- deaths


@pytest.mark.usefixtures("ray_here")
def test_a_death_between_the_run_and_the_folder_makes_no_second_run(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silently(tmp_path, "dies")
    with monkeypatch.context() as patch:
        patch.setattr(SearchDir, "set", _die)
        with pytest.raises(SystemError):
            sync(tmp_path, "dies", server.uri)
    done = Finished(0, "", tmp_path, "dies", uri=server.uri)
    assert len(done.runs) == 1
    code, text = sync(tmp_path, "dies", server.uri)
    assert code == 0, text
    done = Finished(0, "", tmp_path, "dies", uri=server.uri)
    assert len(done.runs) == 4
    require_children(done)


def _die(*_: Any, **__: Any) -> None:
    raise SystemError("no disk")


@pytest.mark.usefixtures("ray_here")
def test_a_sync_that_is_killed_in_the_middle_is_repeated_well(server: MlflowServer, tmp_path: Path) -> None:
    silently(tmp_path, "cut", "--presets", "none", "--trials", "3", "--epochs", "4")
    with FaultyProxy(server.uri) as proxy:
        words = ("--sync", "cut", "--storage", str(tmp_path), "--tracking-uri", proxy.uri)
        life = subprocess.Popen([sys.executable, "-m", "search.run", *words])
        watching = threading.Thread(target=lambda: life.wait(300))
        watching.start()
        cut = Finished(0, "", tmp_path, "cut", uri=server.uri)
        wait_until(lambda: len(_runs(cut)) > 1, "a trial's run")
        proxy.refuse()
        life.send_signal(signal.SIGKILL)
        watching.join()
    assert life.returncode == -signal.SIGKILL
    code, text = sync(tmp_path, "cut", server.uri)
    assert (code, " 0 entries" in text) == (0, False), text
    done = Finished(0, text, tmp_path, "cut", uri=server.uri)
    require_nothing_lost(done, trials=3, epochs=4)


def _runs(done: Finished) -> list[Any]:
    experiment = done.client.get_experiment_by_name("tiny")
    if experiment is None:
        return []
    return list(done.client.search_runs([experiment.experiment_id], f"tags.search = '{done.name}'"))


@pytest.mark.parametrize("named", [False, True])
def test_an_interrupted_one_goes_on_silently_or_with_a_server(
    server: MlflowServer, tmp_path: Path, named: bool
) -> None:
    """The word may stand in the environment of a job, too."""
    one = Alone(tmp_path, f"night-{named}", 2, 5, environment={"MLFLOW_TRACKING_URI": "journal"})
    life = one.start(epoch_s=0.3)
    one.lines(life, 7)
    kill(life)
    assert not (tmp_path / "mlflow").exists()
    flags = ("--tracking-uri", server.uri) if named else ()
    done = one.end(one.start("--resume", *flags))
    assert done.code == 0, done.text
    if not named:
        assert f"--sync {one.name}" in done.text
        code, text = sync(tmp_path, one.name, server.uri)
        assert code == 0, text
    assert not (tmp_path / "mlflow").exists()
    require_nothing_lost(Finished(0, done.text, tmp_path, one.name, uri=server.uri), trials=2, epochs=5)


# ---------------------------------------------------------------- chains


@pytest.fixture
def chained(request: pytest.FixtureRequest) -> Iterator[Callable[..., tuple[int, str]]]:
    request.getfixturevalue("ray_here")
    search.workloads.CHAINS["both"] = make_chain()

    def run(place: Path, *flags: str) -> tuple[int, str]:
        trials = ("--trials", "2", "--epochs", "2", "--scheduler", "none")
        return call(make_tiny(), "both", "--storage", str(place), *trials, *JOURNAL, *flags, others=(make_top(),))

    yield run
    del search.workloads.CHAINS["both"]


def test_a_chain_builds_on_winners_from_their_folders(
    chained: Callable[..., tuple[int, str]], server: MlflowServer, tmp_path: Path
) -> None:
    code, text = chained(tmp_path, "--name", "c", "--keep", "0")
    assert code == 0, text
    assert not (tmp_path / "mlflow").exists()
    below = Finished(0, "", tmp_path, "c.tiny", uri=server.uri)
    top = Finished(0, "", tmp_path, "c.top", "top", uri=server.uri)
    winner = below.board["rows"][0]
    assert top.rows["below"]["metrics"]["size"] == pytest.approx(abs(winner["hyperparameters"]["x"]))
    for name in ("c.tiny", "c.top"):
        code, text = sync(tmp_path, name, server.uri)
        assert code == 0, text
    chain = json.loads(top.artifact(top.parent, "chain.json"))
    assert set(chain["rows"]) == {"below", "best tiny", "best top"}
    assert top.parent.data.tags["builds_on.tiny"] == f"c.tiny/{winner['label']}"
    assert {run.info.status for run in top.runs} == {"FINISHED"}
    code, text = chained(tmp_path, "--name", "c", "--resume")
    assert (code, "all its trials have ended" in text) == (0, True), text


@pytest.mark.usefixtures("ray_here")
def test_models_that_only_mlflow_could_find_are_refused(tmp_path: Path) -> None:
    where = ("top", "--storage", str(tmp_path), *JOURNAL)
    for flags, said in (
        ((), "no server is asked. Name one"),
        (("--branches", "0" * 32), "no search of that name"),
        (("--branches", "../x"), "expected the name of one, not a path"),
    ):
        code, text = call(make_tiny(), *where, *flags, others=(make_top(),))
        assert (code, said in text) == (2, True), text
        assert "Traceback" not in text
