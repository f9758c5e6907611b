"""Searches in which things break on purpose, and what must be true of every one of them afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from finished import Finished
from forked import ForkedPython
from optuna.trial import TrialState
from tiny import TinyConfig, expected_loss, size

from search.storage.event_log import read_entries
from search.storage.search_dir import SearchDir
from search.storage.trial_record import TrialRecord

# Random points follow from their trials' numbers: a search that was disturbed has those of one that was not.
REPEATABLE = ("--sampler", "random", "--scheduler", "none", "--presets", "none", "--max-concurrent", "1")
LONG_S = 180  # for whatever must happen, on a machine with much else to do


def wait_until(true: Callable[[], Any], what: str, seconds: float = LONG_S) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not in {seconds:g} s: {what}"
        time.sleep(0.02)


def entries(journal: Path) -> int:
    """Whole lines of a journal that another process may be writing."""
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


@dataclass(frozen=True)
class Alone:
    """A search of the tiny workload, each of whose lives is a process of its own with a Ray of its own."""

    storage: Path
    name: str
    trials: int
    epochs: int
    uri: str = ""  # of the server; empty: the database in the storage
    url: str = ""  # what --storage says, where it is no folder; ``storage`` is then where it works
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def journal(self) -> Path:
        return SearchDir(self.storage, self.name).event_log

    def start(self, *flags: str, epoch_s: float = 0.0) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            str(Path(__file__).parent / "alone.py"),
            "tiny",
            "--storage",
            self.url or str(self.storage),
        ]
        command += ["--name", self.name, "--trials", str(self.trials), "--epochs", str(self.epochs), *REPEATABLE]
        command += ["--tracking-uri", self.uri] if self.uri else []
        self.storage.mkdir(parents=True, exist_ok=True)
        with self._output.open("wb") as output:
            return ForkedPython(
                [*command, *flags],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"TINY_EPOCH_SECONDS": str(epoch_s), "ALONE_FORKS": "1"} | self.environment,
                start_new_session=True,
            )

    def sync(self) -> None:
        """Deliver what MLflow does not have."""
        words = ("--sync", self.name, "--storage", str(self.storage), "--tracking-uri", self.uri)
        subprocess.run([sys.executable, "-m", "search.run", *words], check=True, timeout=LONG_S, capture_output=True)

    @property
    def text(self) -> str:
        """What its last life has printed."""
        return self._output.read_text(errors="replace")

    @property
    def _output(self) -> Path:
        return self.storage / f"{self.name}.out"

    def lines(self, life: subprocess.Popen[bytes], count: int) -> None:
        """Return when its journal has so many lines."""

        def there() -> bool:
            assert life.poll() is None, self.text
            return entries(self.journal) >= count

        wait_until(there, f"{count} lines in {self.journal}")

    def end(self, life: subprocess.Popen[bytes], seconds: float = LONG_S) -> Finished:
        """Its end in good order."""
        try:
            life.wait(seconds)
        finally:
            if life.poll() is None:
                kill(life)
        return self.finished(life.returncode)

    def finished(self, code: int = 0) -> Finished:
        return Finished(code, self.text, self.storage, self.name, uri=self.uri)


def kill(life: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """kill -9 of a driver; returns those of its processes that outlived it, ended by now.

    Without Ray's two agents, which hold nothing and notice the end of their node only after a while.
    """
    family = psutil.Process(life.pid).children(recursive=True)
    life.kill()
    life.wait(30)
    deadline = time.monotonic() + 30
    while (alive := [one for one in family if lives(one) and not _agent(one)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return alive


def _agent(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        command = " ".join(process.cmdline())
        words = ("ray::DashboardAgent", "ray::RuntimeEnvAgent", "dashboard/agent.py", "runtime_env/agent/main.py")
        return any(word in command for word in words)
    return False


def lives(process: psutil.Process) -> bool:
    """Not one that only waits for somebody to ask how it ended."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def when(journal: Path, count: int, act: Callable[[], object]) -> Iterator[threading.Thread]:
    """Do this in another thread as soon as a journal has so many lines; it has been done when the block is left."""
    failures: list[BaseException] = []

    def wait_and_act() -> None:
        try:
            wait_until(lambda: entries(journal) >= count, f"{count} lines in {journal}")
            act()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()
    if failures:
        raise failures[0]


# ---------------------------------------------------------------- what must be true afterwards


@dataclass(frozen=True)
class Points:
    """Rows of metrics, each of a trial, a metric and an epoch."""

    written: int  # that the trials returned
    found: int  # of these, in MLflow
    duplicates: int


def points_of(done: Finished) -> Points:
    """Counted in the journal and in MLflow."""
    written = {
        (entry.content["number"], name, entry.content["epoch"])
        for entry in read_entries(done.folder / "search.journal")
        if entry.event == "epoch_ended"
        for name in entry.content["metrics"]
    }
    found = Counter(
        (int(run.data.tags["trial_number"]), name, step)
        for run in _children(done)
        for name in run.data.metrics
        for step, _ in _rows(done, run, name)
    )
    return Points(len(written), len(written & found.keys()), found.total() - len(found))


def expected_points(done: Finished, epochs: int) -> int:
    """Metrics of all tiny trials and epochs; one of them only trials with y above 0 have."""
    trials = done.study.get_trials()
    return (9 * len(trials) + sum(trial.params.get("y", 0.0) > 0 for trial in trials)) * epochs


def require_nothing_lost(done: Finished, trials: int, epochs: int) -> Points:
    """All trials of the search are complete, and whoever is asked says the same of each.

    MLflow holds one run for each and one for the search, and each row once, with the value that the trainable
    returned; the study holds the values; nothing is still running anywhere.
    """
    records = {record.number: record for record in SearchDir(done.storage, done.name).history.records()}
    assert sorted(records) == list(range(trials)), done.text
    assert {record.outcome for record in records.values()} == {"complete"}, done.text
    assert len(done.runs) == trials + 1, done.text
    assert {run.info.status for run in done.runs} == {"FINISHED"}, done.text
    assert sorted(int(run.data.tags["trial_number"]) for run in _children(done)) == list(range(trials))
    for run in _children(done):
        _require_run(done, run, records[int(run.data.tags["trial_number"])], epochs)
    _require_study(done, records, epochs)
    _require_best(done, records, epochs)
    assert not (done.folder / "outbox").exists(), done.text
    points = points_of(done)
    assert points == Points(points.written, points.written, 0)
    return points


def _require_run(done: Finished, run: Any, record: TrialRecord, epochs: int) -> None:
    config, all_epochs = TinyConfig(**record.hyperparameters), list(range(1, epochs + 1))
    assert run.data.params == {name: str(value) for name, value in record.hyperparameters.items()}
    assert (run.data.tags["outcome"], run.data.tags["epoch"]) == ("complete", str(epochs))
    for name in run.data.metrics:
        assert [step for step, _ in _rows(done, run, name)] == all_epochs, f"{name} of {run.info.run_name}"
    assert _rows(done, run, "loss") == [(epoch, pytest.approx(expected_loss(config, epoch))) for epoch in all_epochs]
    assert _rows(done, run, "size") == [(epoch, pytest.approx(size(config))) for epoch in all_epochs]
    assert {"checkpoint/hyperparameters.json", "checkpoint/last.pt", "report/value.csv"} <= set(done.files(run))


def _require_study(done: Finished, records: dict[int, TrialRecord], epochs: int) -> None:
    for trial in done.study.get_trials():
        config = TinyConfig(**records[trial.number].hyperparameters)
        assert trial.state == TrialState.COMPLETE
        assert trial.value == pytest.approx(expected_loss(config, epochs))
        assert sorted(trial.intermediate_values) == list(range(1, epochs + 1))


def _require_best(done: Finished, records: dict[int, TrialRecord], epochs: int) -> None:
    best = min(records.values(), key=lambda record: expected_loss(TinyConfig(**record.hyperparameters), epochs))
    (first,) = (label for label, row in done.rows.items() if row["rank"] == 1)
    assert first == best.label
    assert done.study.best_trial.number == best.number
    assert done.parent.data.tags["best_trial"] == best.label


def require_points(done: Finished, calm: Finished) -> None:
    """Each trial trained at the point that it has in a search that nothing disturbed."""
    disturbed, undisturbed = sampled(done), sampled(calm)
    assert disturbed == {number: undisturbed[number] for number in disturbed}


def sampled(done: Finished) -> dict[int, dict[str, Any]]:
    records = SearchDir(done.storage, done.name).history.records()
    return {
        record.number: {name: record.hyperparameters.get(name) for name in ("x", "y", "optional", "seed")}
        for record in records
    }


def _children(done: Finished) -> list[Any]:
    return [run for run in done.runs if "mlflow.parentRunId" in run.data.tags]


def _rows(done: Finished, run: Any, name: str) -> list[tuple[int, float]]:
    history = done.client.get_metric_history(run.info.run_id, name)
    return sorted((row.step, row.value) for row in history)


def owner(storage: Path, name: str) -> dict[str, Any]:
    """Who holds a search."""
    content: dict[str, Any] = json.loads((SearchDir(storage, name).path / "owner.json").read_text())
    return content
