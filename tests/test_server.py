"""The real server of the tests: it keeps what it is told, and each fault of the proxy reaches the client."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from proxy import FaultyProxy, listening
from server import MlflowServer, Postgres, free_port, running_server

pytestmark = pytest.mark.slow  # a real server takes seconds to start


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """One try: what the proxy does to a request is what the client sees."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")


@pytest.fixture
def run_id(mlflow_server: MlflowServer, request: pytest.FixtureRequest) -> str:
    """A new run, made without the proxy."""
    client = mlflow_server.client()
    experiment = client.get_experiment_by_name("server")
    experiment_id = experiment.experiment_id if experiment else client.create_experiment("server")
    return str(client.create_run(experiment_id, run_name=request.node.name).info.run_id)


def history(client: MlflowClient, run_id: str) -> list[tuple[int, float]]:
    return [(row.step, row.value) for row in client.get_metric_history(run_id, "loss")]


def test_postgres_takes_the_password_and_no_other(postgres: Postgres) -> None:
    import psycopg

    assert postgres.execute("select current_user") == [("mlflow",)]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.uri().replace(postgres.password, "guessed"))


def test_postgres_keeps_what_was_committed_when_it_is_killed() -> None:
    postgres = Postgres()
    try:
        postgres.start()
        database = postgres.create_database("kept").rsplit("/", 1)[1]
        postgres.execute("create table note (text text)", database)
        for end in (postgres.kill, postgres.stop):
            postgres.execute("insert into note values ('here')", database)
            end()
            with pytest.raises(Exception, match="Connection refused"):
                postgres.execute("select 1")
            postgres.start()
        assert postgres.execute("select text from note", database) == [("here",)] * 2
    finally:
        postgres.remove()
    assert not postgres.folder.exists()


def test_a_run_written_through_the_proxy_arrives(
    proxy: FaultyProxy, mlflow_server: MlflowServer, postgres: Postgres, run_id: str, tmp_path: Path
) -> None:
    client = proxy.client()
    client.log_metric(run_id, "loss", 0.5, step=3)
    client.log_text(run_id, "a figure", "figures/note.txt")
    (tmp_path / "empty.bin").touch()
    (tmp_path / "large.bin").write_bytes(os.urandom(3_000_000))
    for name in ("empty.bin", "large.bin"):
        client.log_artifact(run_id, str(tmp_path / name))

    assert history(mlflow_server.client(), run_id) == [(3, 0.5)]
    rows = postgres.execute(f"select step, value from metrics where run_uuid = '{run_id}'", "shared")
    assert rows == [(3, 0.5)]
    kept = {file.name: file.read_bytes() for file in mlflow_server.artifacts.rglob("*") if file.is_file()}
    assert kept["note.txt"] == b"a figure"
    assert kept["empty.bin"] == b""
    assert kept["large.bin"] == (tmp_path / "large.bin").read_bytes()
    (tmp_path / "back").mkdir()
    back = client.download_artifacts(run_id, "large.bin", str(tmp_path / "back"))
    assert Path(back).read_bytes() == kept["large.bin"]
    assert proxy.counts["/api/2.0/mlflow/runs/log-metric"] == 1
    assert proxy.counts == proxy.answered
    assert not proxy.faults


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_after_a_restart_data_and_address_are_the_same(
    proxy: FaultyProxy, mlflow_server: MlflowServer, run_id: str, end: str
) -> None:
    client = proxy.client()
    client.log_metric(run_id, "loss", 0.5, step=1)
    client.log_text(run_id, "kept", "note.txt")
    getattr(mlflow_server, end)()
    assert not mlflow_server.running
    assert not listening(mlflow_server.port)
    with pytest.raises(MlflowException, match="502"):
        client.log_metric(run_id, "loss", 0.4, step=2)
    mlflow_server.start()
    client.log_metric(run_id, "loss", 0.3, step=3)
    assert history(client, run_id) == [(1, 0.5), (3, 0.3)]
    assert client.list_artifacts(run_id)[0].path == "note.txt"


def test_the_server_survives_a_restart_of_its_database(tmp_path: Path) -> None:
    postgres = Postgres()
    try:
        postgres.start()
        with running_server(tmp_path, postgres.create_database("mlflow"), workers=2) as server:
            client = server.client()
            run_id = client.create_run("0").info.run_id
            client.log_metric(run_id, "loss", 0.5, step=1)
            postgres.kill()
            with pytest.raises(MlflowException):
                client.log_metric(run_id, "loss", 0.4, step=2)
            postgres.start()
            client.log_metric(run_id, "loss", 0.3, step=3)
            assert history(client, run_id) == [(1, 0.5), (3, 0.3)]
    finally:
        postgres.remove()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    server = MlflowServer(tmp_path, nowhere, options=["--no-such-option"])
    with pytest.raises(RuntimeError, match="No such option"):
        server.start()
    assert not server.running
    server.kill()  # as whoever cleans up does


def _words(process: psutil.Process) -> list[str]:
    """Of its command line; none of a process that has ended."""
    return process.as_dict(["cmdline"])["cmdline"] or []


def test_a_server_whose_first_process_died_leaves_no_other_behind(tmp_path: Path) -> None:
    server = MlflowServer(tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}")
    server.start()
    (first,) = [child for child in psutil.Process().children() if str(server.port) in _words(child)]
    first.kill()
    server.kill()
    assert not listening(server.port)


def test_nothing_outlives_tests_that_are_killed(tmp_path: Path) -> None:
    """Not the server, not PostgreSQL, not its folder."""
    program = (
        "import sys, pathlib, threading, time; from server import *\n"
        "postgres = Postgres(); postgres.start()\n"
        "server = MlflowServer(pathlib.Path(sys.argv[1]), postgres.create_database('mlflow'))\n"
        "thread = threading.Thread(target=server.start); thread.start(); thread.join()\n"  # nor its thread is needed
        "print(postgres.folder, postgres.port, server.port, flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        folder, *ports = child.stdout.readline().split()
        family = psutil.Process(child.pid).children(recursive=True)
        assert len(family) > 3
        assert all(listening(int(port)) for port in ports)
        child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while Path(folder).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(folder).exists()
    assert not any(listening(int(port)) for port in ports)


def test_refused_connections(proxy: FaultyProxy, run_id: str) -> None:
    client = proxy.client()
    client.log_metric(run_id, "loss", 0.5, step=1)  # leaves a connection open
    proxy.refuse()
    assert not listening(proxy.port)
    with pytest.raises(MlflowException, match="Connection refused"):
        client.log_metric(run_id, "loss", 0.4, step=2)
    proxy.pass_through()
    client.log_metric(run_id, "loss", 0.3, step=3)
    assert history(client, run_id) == [(1, 0.5), (3, 0.3)]


def test_an_error_at_every_third_request(proxy: FaultyProxy, run_id: str) -> None:
    client = proxy.client()
    proxy.answer_error(every=3, path="log-metric")
    for step in range(9):
        spoiled = pytest.raises(MlflowException, match="500") if step in (2, 5, 8) else nullcontext()
        with spoiled:
            client.log_metric(run_id, "loss", float(step), step=step)
    assert proxy.counts["/api/2.0/mlflow/runs/log-metric"] == 9
    assert proxy.answered["/api/2.0/mlflow/runs/log-metric"] == 6
    assert history(client, run_id) == [(step, float(step)) for step in (0, 1, 3, 4, 6, 7)]


def test_a_client_that_tries_again_gets_through_every_third_error(
    proxy: FaultyProxy, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    client = proxy.client()
    proxy.answer_error(503, every=3, path="log-metric")
    for step in range(4):
        client.log_metric(run_id, "loss", float(step), step=step)
    assert [step for step, _ in history(client, run_id)] == [0, 1, 2, 3]
    assert proxy.counts["/api/2.0/mlflow/runs/log-metric"] == 5


def test_a_busy_server_says_when_to_come_back(
    proxy: FaultyProxy, mlflow_server: MlflowServer, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    client = proxy.client()
    proxy.answer_busy(retry_after=1, every=2)
    client.log_metric(run_id, "loss", 0.5, step=1)
    started = time.monotonic()
    client.log_metric(run_id, "loss", 0.4, step=2)  # 429, then, a second later, accepted
    assert 1 <= time.monotonic() - started < 60
    assert [step for step, _ in history(mlflow_server.client(), run_id)] == [1, 2]


def test_a_slow_server_makes_the_client_give_up_and_writes_all_the_same(
    proxy: FaultyProxy, mlflow_server: MlflowServer, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    proxy.hang(2, path="log-metric")
    with pytest.raises(MlflowException, match="timed out"):
        proxy.client().log_metric(run_id, "loss", 0.5, step=1)
    assert history(mlflow_server.client(), run_id) == []
    deadline = time.monotonic() + 10
    while not history(mlflow_server.client(), run_id) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert history(mlflow_server.client(), run_id) == [(1, 0.5)]


def test_what_hangs_goes_on_when_the_fault_ends(proxy: FaultyProxy, run_id: str) -> None:
    proxy.hang(30)
    client = proxy.client()
    with ThreadPoolExecutor() as pool:
        write = pool.submit(client.log_metric, run_id, "loss", 0.5, step=1)
        while not proxy.faults:
            time.sleep(0.01)
        proxy.pass_through()
        write.result(5)
    assert history(client, run_id) == [(1, 0.5)]


def test_a_dropped_answer_leaves_the_row_written(proxy: FaultyProxy, mlflow_server: MlflowServer, run_id: str) -> None:
    proxy.drop_answers(path="log-metric")
    with pytest.raises(MlflowException, match="Remote end closed connection"):
        proxy.client().log_metric(run_id, "loss", 0.5, step=1)
    assert history(mlflow_server.client(), run_id) == [(1, 0.5)]
    assert proxy.answered["/api/2.0/mlflow/runs/log-metric"] == 1


def test_a_run_made_behind_a_dropped_answer_is_made_twice_by_who_simply_tries_again(
    proxy: FaultyProxy, mlflow_server: MlflowServer, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why a writer must look for its run before it makes one: MLflow has no key that would make the second a first."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    experiment_id = mlflow_server.client().get_run(run_id).info.experiment_id
    proxy.drop_answers(every=2, path="runs/create")
    for name in ("first", "second"):
        proxy.client().create_run(experiment_id, run_name=name)
    runs = mlflow_server.client().search_runs([experiment_id], "attributes.run_name = 'second'")
    assert len(runs) == 2


def test_counts_can_be_forgotten(proxy: FaultyProxy) -> None:
    with urllib.request.urlopen(f"{proxy.uri}/health?verbose=1") as answer:
        assert answer.read() == b"OK"
    assert proxy.counts == {"/health": 1}
    proxy.reset()
    assert not proxy.counts


def test_many_at_once(proxy: FaultyProxy, run_id: str) -> None:
    client = proxy.client()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda step: client.log_metric(run_id, "loss", 0.0, step=step), range(40)))
    assert sorted(step for step, _ in history(client, run_id)) == list(range(40))
