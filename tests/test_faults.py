"""Nothing is lost: whatever dies around a search, each of its points is found once, and its trials end as they should.

Real processes, a real MLflow server on a real PostgreSQL, and a proxy between them that misbehaves.
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from broken import (
    LONG_S,
    REPEATABLE,
    Alone,
    entries,
    expected_points,
    kill,
    lives,
    owner,
    require_nothing_lost,
    require_points,
    wait_until,
    when,
)
from finished import Finished, call, run_search
from proxy import FaultyProxy
from server import MlflowServer
from tiny import make_tiny

import search.engine.context
from search.storage.event_log import read_entries
from search.storage.search_dir import SearchDir

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_here")]

EPOCHS = 4


@pytest.fixture
def here(tmp_path: Path) -> Callable[..., Finished]:
    """``here(uri, *flags, trials=3)``: a search in this process, on the Ray of the tests, its workers real."""

    def run(uri: str, *flags: str, trials: int = 3, epoch_s: float = 0.0) -> Finished:
        budget = ("--trials", str(trials), "--epochs", str(EPOCHS), "--set", f"epoch_seconds={epoch_s}")
        where = ("--tracking-uri", uri) if uri else ()
        done = run_search(make_tiny(), tmp_path, tmp_path.name, *budget, *REPEATABLE, *where, *flags)
        return Finished(done.code, done.text, done.storage, done.name, uri=uri)

    return run


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return SearchDir(tmp_path, tmp_path.name).event_log


@pytest.fixture(scope="module")
def calm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A search that nothing disturbs."""
    request.getfixturevalue("ray_here")
    flags = ("--trials", "6", "--epochs", str(EPOCHS), *REPEATABLE)
    return run_search(make_tiny(), tmp_path_factory.mktemp("calm"), "calm", *flags)


@pytest.fixture
def long_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.engine.context, "PATIENCE_S", float(LONG_S))


def test_nothing_is_lost_where_nothing_happens(calm: Finished) -> None:
    """What the other tests compare with."""
    points = require_nothing_lost(calm, trials=6, epochs=EPOCHS)
    assert points.written == expected_points(calm, EPOCHS)


# ---------------------------------------------------------------- the server


@pytest.mark.parametrize(
    "misbehave",
    [
        pytest.param(lambda proxy: proxy.answer_error(500, every=3), id="500-to-every-third"),
        pytest.param(lambda proxy: proxy.answer_error(429, every=3), id="429-to-every-third"),
        pytest.param(lambda proxy: proxy.drop_answers(every=3), id="every-third-answer-lost"),
        pytest.param(lambda proxy: proxy.hang(0.2, every=5), id="slow"),
    ],
)
def test_a_server_that_misbehaves_all_the_time_has_everything_once(
    here: Callable[..., Finished], proxy: FaultyProxy, calm: Finished, misbehave: Callable[[FaultyProxy], None]
) -> None:
    """From the first request of the search to the last one."""
    misbehave(proxy)
    done = here(proxy.uri)
    proxy.pass_through()
    assert done.code == 0, done.text
    assert proxy.faults.total() > 3
    require_nothing_lost(done, trials=3, epochs=EPOCHS)
    require_points(done, calm)


@pytest.mark.usefixtures("long_patience")
@pytest.mark.parametrize(
    "misbehave",
    [
        pytest.param(lambda proxy: proxy.answer_busy(1), id="429"),
        pytest.param(lambda proxy: proxy.drop_answers(), id="answers-lost"),
        pytest.param(lambda proxy: proxy.refuse(), id="refuses"),
    ],
)
def test_a_server_that_is_useless_for_a_while_has_everything_once(
    here: Callable[..., Finished],
    proxy: FaultyProxy,
    journal: Path,
    misbehave: Callable[[FaultyProxy], None],
) -> None:
    def for_a_while() -> None:
        misbehave(proxy)
        time.sleep(3)
        proxy.pass_through()

    with when(journal, 3, for_a_while):
        done = here(proxy.uri, epoch_s=0.1)
    assert done.code == 0, done.text
    require_nothing_lost(done, trials=3, epochs=EPOCHS)


@pytest.mark.usefixtures("long_patience")
def test_a_server_that_is_stopped_for_twenty_seconds_has_everything_once(
    here: Callable[..., Finished], mlflow_server: MlflowServer, proxy: FaultyProxy, journal: Path
) -> None:
    """And no trial waits for it."""
    ended_meanwhile: list[bool] = []

    def stop_and_start() -> None:
        mlflow_server.stop()
        time.sleep(20)
        ended_meanwhile.append(b'"leaderboard.json"' in journal.read_bytes() or _all_ended(journal))
        mlflow_server.start()

    with when(journal, 6, stop_and_start):
        done = here(proxy.uri, epoch_s=0.1)
    assert done.code == 0, done.text
    assert "MLflow does not answer" in done.text
    assert "MLflow answers again" in done.text
    assert ended_meanwhile == [True]
    require_nothing_lost(done, trials=3, epochs=EPOCHS)


def _all_ended(journal: Path) -> bool:
    return journal.read_bytes().count(b'"trial_ended"') == 3


def test_a_server_that_is_off_until_the_end_gets_the_rest_later(
    here: Callable[..., Finished],
    mlflow_server: MlflowServer,
    proxy: FaultyProxy,
    journal: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The search itself ends well, and says what is to be done."""
    monkeypatch.setattr(search.engine.context, "PATIENCE_S", 1.0)
    with when(journal, 6, mlflow_server.stop):
        done = here(proxy.uri, epoch_s=0.1)
    assert done.code == 0, done.text
    sync = shlex.split(done.text.partition("When it is back: python -m search.run ")[2].splitlines()[0])
    assert {row["outcome"] for row in done.board["rows"] if row["number"] is not None} == {"complete"}
    assert sync == ["--sync", done.name, "--storage", str(tmp_path), "--tracking-uri", proxy.uri]
    monkeypatch.setattr("search.tracking.exporter.MlflowExporter.close.__defaults__", (0.1,))
    code, text = call(make_tiny(), *sync)
    assert (code, "MLflow is still away" in text) == (2, True), text
    mlflow_server.start()
    for times in (1, 2):
        code, text = call(make_tiny(), *sync)
        assert (code, f"MLflow has all of search {done.name}" in text) == (0, True), text
        assert (" 0 entries delivered" in text) == (times == 2)
    require_nothing_lost(done, trials=3, epochs=EPOCHS)


# ---------------------------------------------------------------- workers and drivers


def test_a_killed_worker_costs_nothing_but_its_epoch(
    here: Callable[..., Finished], proxy: FaultyProxy, journal: Path, calm: Finished
) -> None:
    def kill_worker() -> None:
        """Its row of metrics tells which process it is."""
        told = [entry.content["metrics"]["pid"] for entry in read_entries(journal) if entry.event == "epoch_ended"]
        psutil.Process(int(told[-1])).kill()

    with when(journal, 6, kill_worker):
        done = here(proxy.uri, "--retries", "2", epoch_s=0.3)
    assert done.code == 0, done.text
    require_nothing_lost(done, trials=3, epochs=EPOCHS)
    require_points(done, calm)
    assert "2" in {run.data.tags["attempts"] for run in done.children.values()}


@pytest.mark.timeout(1_200)
def test_a_driver_that_is_killed_ten_times_at_random_moments(
    tmp_path: Path, proxy: FaultyProxy, calm: Finished
) -> None:
    """Nothing of it outlives it, and the same command goes on each time."""
    chance = random.Random(4)
    alone = Alone(tmp_path, "killed", trials=6, epochs=EPOCHS, uri=proxy.uri)
    for _ in range(10):
        life = alone.start("--resume", "auto", epoch_s=0.15)
        if chance.random() < 0.3:
            time.sleep(chance.uniform(3, 12))  # while it begins, or goes on
        else:
            alone.lines(life, entries(alone.journal) + chance.randint(1, 7))
            time.sleep(chance.uniform(0, 0.15))
        assert life.poll() is None, alone.text
        assert kill(life) == []
    done = alone.end(alone.start("--resume", "auto"))
    assert done.code == 0, done.text
    require_nothing_lost(done, trials=6, epochs=EPOCHS)
    require_points(done, calm)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_batch_systems_signal_is_heeded_in_thirty_seconds_while_an_epoch_lasts_a_minute(
    tmp_path: Path, mlflow_server: MlflowServer, number: signal.Signals
) -> None:
    alone = Alone(tmp_path, f"signalled-{number}", trials=2, epochs=EPOCHS, uri=mlflow_server.uri)
    life = alone.start(epoch_s=60)
    wait_until(lambda: b"trial_started" in _content(alone.journal), "a trial")
    if number == signal.SIGTERM:
        _refused_while_it_runs(alone, life.pid)
    family = psutil.Process(life.pid).children(recursive=True)
    sent = time.monotonic()
    life.send_signal(number)
    interrupted = alone.end(life)
    assert time.monotonic() - sent < 30
    assert interrupted.code == 130, interrupted.text
    wait_until(lambda: not any(map(lives, family)), "all its processes are gone", 30)
    done = alone.end(alone.start("--resume"))
    assert done.code == 0, done.text
    require_nothing_lost(done, trials=2, epochs=EPOCHS)


def _content(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""


def _refused_while_it_runs(alone: Alone, pid: int) -> None:
    """The same name twice at the same time: the second is refused, with the owner, whatever it asks for."""
    held = owner(alone.storage, alone.name)
    assert (held["host"], held["pid"]) == (os.uname().nodename, pid)
    for resume in ("no", "auto"):
        where = ("--storage", str(alone.storage), "--name", alone.name, "--resume", resume)
        code, text = call(make_tiny(), "tiny", *where, *REPEATABLE)
        assert code == 2
        assert f"'{alone.name}' is running now: process {pid} on {os.uname().nodename}" in text


def test_two_searches_at_once_share_a_database_and_a_cache(tmp_path: Path, calm: Finished) -> None:
    both = [Alone(tmp_path, name, trials=3, epochs=EPOCHS) for name in ("one", "two")]
    lives = [alone.start(epoch_s=0.2) for alone in both]
    for alone, life in zip(both, lives, strict=True):
        done = alone.end(life)
        assert done.code == 0, done.text
        assert "locked" not in done.text
        require_nothing_lost(done, trials=3, epochs=EPOCHS)
        require_points(done, calm)


# ---------------------------------------------------------------- damaged files


@pytest.fixture(scope="module")
def died(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """A search that was killed in its second trial, with its database, and a copy of all that beside it."""
    alone = Alone(tmp_path_factory.mktemp("died") / "results", "here", trials=3, epochs=EPOCHS)
    life = alone.start(epoch_s=0.4)
    wait_until(
        lambda: list(SearchDir(alone.storage, "here").path.glob("00001_*/checkpoint_000001/state.pt")),
        "a checkpoint",
    )
    alone.lines(life, entries(alone.journal) + 1)
    assert kill(life) == []
    shutil.copytree(alone.storage, alone.storage.with_name("copy"))
    return alone


@pytest.fixture
def dead(died: Alone, tmp_path: Path) -> Alone:
    """The same, as it was when it died; its database elsewhere, for MLflow keeps those open that it knows."""
    shutil.rmtree(died.storage)
    shutil.copytree(died.storage.with_name("copy"), died.storage)
    shutil.copy(died.storage / "mlflow" / "mlflow.db", tmp_path)
    return replace(died, uri=f"sqlite:///{tmp_path / 'mlflow.db'}")


def _go_on(dead: Alone) -> Finished:
    where = ("--trials", "3", "--epochs", str(EPOCHS), "--resume", *REPEATABLE, "--tracking-uri", dead.uri)
    return replace(run_search(make_tiny(), dead.storage, dead.name, *where), uri=dead.uri)


def _checkpoints(dead: Alone) -> list[Path]:
    return sorted(SearchDir(dead.storage, dead.name).path.glob("00001_*/checkpoint_*/state.pt"))


def _cut_in_half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _cut_last_line(dead: Alone, name: str) -> None:
    file = dead.journal.with_name(name)
    file.write_bytes(file.read_bytes()[:-5])


def _cut_from(dead: Alone, event: bytes) -> None:
    """As if a machine had lost its power: all from the last such line on is gone."""
    content = dead.journal.read_bytes()
    dead.journal.write_bytes(content[: content.rindex(b"\n", 0, content.rindex(event)) + 1])


def _append_garbage(dead: Alone, name: str) -> None:
    with dead.journal.with_name(name).open("ab") as file:
        file.write(b"\0\0garbage")


def _spoil_all(dead: Alone) -> None:
    for state in _checkpoints(dead):
        _cut_in_half(state)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda dead: None, id="none"),
        pytest.param(lambda dead: _cut_last_line(dead, "search.journal"), id="last-line-of-the-journal"),
        pytest.param(lambda dead: _append_garbage(dead, "search.journal"), id="garbage-in-the-journal"),
        pytest.param(lambda dead: _cut_last_line(dead, "optuna.journal"), id="last-line-of-the-study"),
        pytest.param(lambda dead: _append_garbage(dead, "optuna.journal"), id="garbage-in-the-study"),
        pytest.param(lambda dead: _cut_from(dead, b'"trial_ended"'), id="end-of-a-trial-that-the-study-knows"),
        pytest.param(lambda dead: _cut_in_half(_checkpoints(dead)[-1]), id="last-checkpoint"),
        pytest.param(_spoil_all, id="all-checkpoints-of-a-trial"),
        pytest.param(lambda dead: shutil.rmtree(_checkpoints(dead)[0].parents[1]), id="folder-of-a-trial"),
    ],
)
def test_a_damaged_file_costs_epochs_at_most(dead: Alone, calm: Finished, damage: Callable[[Alone], Any]) -> None:
    damage(dead)
    done = _go_on(dead)
    assert done.code == 0, done.text
    assert "Traceback" not in done.text
    require_nothing_lost(done, trials=3, epochs=EPOCHS)
    require_points(done, calm)


# ---------------------------------------------------------------- no room


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_waited_out(tmp_path: Path, mlflow_server: MlflowServer, calm: Finished) -> None:
    """A person makes room, and the search ends as if nothing had been."""
    from subprocess import run

    disk = tmp_path / "disk"
    disk.mkdir()
    if run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        alone = Alone(disk, "full", trials=3, epochs=EPOCHS, uri=mlflow_server.uri)
        life = alone.start(epoch_s=0.3)
        alone.lines(life, 5)
        filler = disk / "filler"
        with filler.open("wb") as file:
            try:
                while True:
                    file.write(b"x" * 65_536)
            except OSError:
                pass
        before = entries(alone.journal)
        time.sleep(8)
        assert life.poll() is None, alone.text
        assert entries(alone.journal) <= before + 3
        filler.unlink()
        done = alone.end(life)
        assert done.code == 0, done.text
        assert "disk full" in done.text
        require_nothing_lost(done, trials=3, epochs=EPOCHS)
        require_points(done, calm)
    finally:
        run(["umount", "-l", str(disk)], check=False)
