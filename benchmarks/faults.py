"""What is lost when things break: faults on purpose, and the points that are found afterwards.

    python -m benchmarks.faults

Searches of trivial trials with a real MLflow server on a real PostgreSQL (both must be installed), and a proxy between
them that misbehaves: those of the tests, in tests/. A point is one metric of one trial at one epoch.

Seconds to recover, of a killed driver: from the start of the next process until its journal has two lines more, imports
and Ray included; of a killed worker: until the next epoch; of a server that was away: from the moment at which it
answers again until it has what waited.
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil
import tyro
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the machinery that breaks things

from broken import Alone, Points, entries, kill, points_of, wait_until
from proxy import FaultyProxy
from server import MlflowServer, running_postgres, running_server

from search.storage.event_log import read_entries


@dataclass(frozen=True)
class Place:
    """What faults are made with."""

    folder: Path
    server: MlflowServer
    proxy: FaultyProxy
    trials: int
    epochs: int

    def search(self, name: str) -> Alone:
        return Alone(self.folder, name, self.trials, self.epochs, self.proxy.uri)


@dataclass(frozen=True)
class Row:
    fault: str
    points: Points
    runs: int
    recovered_s: float | None  # None: nothing had to be waited for


EPOCH_S = 0.3


def main(
    trials: Annotated[int, tyro.conf.arg(help="trials of a search")] = 5,
    epochs: Annotated[int, tyro.conf.arg(help="epochs of a trial")] = 5,
    kills: Annotated[int, tyro.conf.arg(help="how often the driver is killed")] = 10,
) -> None:
    """Print the table."""
    table = Table(title=f"{trials} trials of {epochs} epochs of {EPOCH_S} s, one at a time")
    for column in ("fault", "points written", "points found", "duplicates", "runs (expected)", "seconds to recover"):
        table.add_column(column, justify="left" if column == "fault" else "right")
    with tempfile.TemporaryDirectory() as folder, running_postgres() as postgres:
        uri = postgres.create_database("faults")
        with running_server(Path(folder, "server"), uri) as server, FaultyProxy(server.uri) as proxy:
            place = Place(Path(folder, "results"), server, proxy, trials, epochs)
            for make in (_none, _killed(kills), _worker, _stopped, _every_third, _busy, _answers_lost, _journal_cut):
                row = make(place)
                recovered = "" if row.recovered_s is None else f"{row.recovered_s:.1f}"
                points = (str(row.points.written), str(row.points.found), str(row.points.duplicates))
                table.add_row(row.fault, *points, f"{row.runs} ({trials + 1})", recovered)
                proxy.pass_through()
    Console(width=120).print(table)


def _row(fault: str, alone: Alone, recovered_s: float | None = None) -> Row:
    done = alone.finished()
    return Row(fault, points_of(done), len(done.runs), recovered_s)


def _none(place: Place) -> Row:
    alone = place.search("none")
    alone.end(alone.start(epoch_s=EPOCH_S))
    return _row("none", alone)


def _killed(kills: int) -> Callable[[Place], Row]:
    def make(place: Place) -> Row:
        """Until the first line of a resumed trial: from the start of a process, its imports included."""
        alone, chance, waits = place.search("killed"), random.Random(1), []
        for count in range(kills):
            started, before = time.monotonic(), entries(alone.journal)
            life = alone.start("--resume", "auto", epoch_s=EPOCH_S)
            alone.lines(life, before + 2)
            waits += [time.monotonic() - started] if count else []
            alone.lines(life, before + 2 + chance.randint(0, 3))
            time.sleep(chance.uniform(0, EPOCH_S))
            kill(life)
        alone.end(alone.start("--resume", "auto"))
        return _row(f"driver killed {kills} times (kill -9); each time", alone, sum(waits) / max(1, len(waits)))

    return make


def _worker(place: Place) -> Row:
    alone = place.search("worker")
    life = alone.start("--retries", "2", epoch_s=EPOCH_S)
    alone.lines(life, 6)
    told = [entry.content["metrics"]["pid"] for entry in read_entries(alone.journal) if entry.event == "epoch_ended"]
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(told[-1])).kill()
    killed, before = time.monotonic(), _epochs(alone)
    wait_until(lambda: _epochs(alone) > before, "an epoch after the worker's death")
    recovered_s = time.monotonic() - killed
    alone.end(life)
    return _row("worker killed", alone, recovered_s)


def _epochs(alone: Alone) -> int:
    return sum(entry.event == "epoch_ended" for entry in read_entries(alone.journal))


def _stopped(place: Place) -> Row:
    alone = place.search("stopped")
    life = alone.start(epoch_s=EPOCH_S)
    alone.lines(life, 4)
    place.server.kill()
    life.wait(300)  # it ends without the server
    place.server.start()
    back = time.monotonic()
    alone.sync()
    return _row("server killed, off until the end, then --sync", alone, time.monotonic() - back)


def _every_third(place: Place) -> Row:
    place.proxy.answer_error(500, every=3)
    alone = place.search("third")
    alone.end(alone.start(epoch_s=EPOCH_S))
    return _row("500 to every third request", alone)


def _busy(place: Place) -> Row:
    return _for_a_while(place, "busy", "429 to everything for 5 s", place.proxy.answer_busy)


def _answers_lost(place: Place) -> Row:
    return _for_a_while(place, "lost", "every answer lost for 5 s", place.proxy.drop_answers)


def _for_a_while(place: Place, name: str, fault: str, misbehave: Callable[[], None]) -> Row:
    alone = place.search(name)
    life = alone.start(epoch_s=EPOCH_S)
    alone.lines(life, 4)
    misbehave()
    time.sleep(5)
    written = alone.journal.stat().st_size
    place.proxy.pass_through()
    back = time.monotonic()
    wait_until(lambda: _delivered(alone) >= written, "what waited is delivered")
    recovered_s = time.monotonic() - back
    alone.end(life)
    return _row(fault, alone, recovered_s)


def _delivered(alone: Alone) -> int:
    """Byte of the journal up to which MLflow has it."""
    mark = alone.journal.with_name(alone.journal.name + ".delivered")
    return int("".join(filter(str.isdigit, mark.read_text()))) if mark.exists() else 0


def _journal_cut(place: Place) -> Row:
    alone = place.search("cut")
    life = alone.start(epoch_s=EPOCH_S)
    alone.lines(life, 10)
    kill(life)
    alone.journal.write_bytes(alone.journal.read_bytes()[:-5])
    alone.end(alone.start("--resume", epoch_s=EPOCH_S))
    return _row("driver killed, last line of its journal cut in half", alone)


if __name__ == "__main__":
    tyro.cli(main)
