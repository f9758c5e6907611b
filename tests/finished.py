"""Runs one search in this process, all parts real, and reads back everything that it left behind."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.storages.journal import JournalFileBackend, JournalStorage

import search.run
from search.tracking.client import embedded_uri
from search.workload import Workload
from search.workloads import WORKLOADS

TRIAL_FACTS = {"train_seconds", "validate_seconds"}  # metrics that no formula gives


@contextmanager
def registered(workload: Workload) -> Iterator[None]:
    """The workload among WORKLOADS for a while, which is all that a workload needs."""
    before = dict(WORKLOADS)
    WORKLOADS[workload.name] = workload
    try:
        yield
    finally:
        WORKLOADS.clear()
        WORKLOADS.update(before)


def call(workload: Workload, *flags: str, others: tuple[Workload, ...] = ()) -> tuple[int, str]:
    """Exit code and printed text of ``python -m search.run`` with these arguments."""
    text = io.StringIO()
    with ExitStack() as held, redirect_stdout(text), redirect_stderr(text):
        for one in (workload, *others):
            held.enter_context(registered(one))
        try:
            code = search.run.main([str(flag) for flag in flags])
        except SystemExit as end:
            code = int(end.code or 0)
    return code, text.getvalue()


def run_search(workload: Workload, storage: Path, name: str, *flags: str) -> Finished:
    """One search of this workload; without a race, unless it is asked for: whether there is one hangs on its times."""
    started = time.time()
    if not {"--race", "--resume"} & set(flags):
        flags = (*flags, "--race", "0")
    where = ("--storage", str(storage), "--name", name, "--json", str(storage / f"{name}.json"))
    code, text = call(workload, workload.name, *where, *flags)
    return Finished(code, text, storage, name, workload.name, time.time() - started)


@dataclass(frozen=True)
class Finished:
    """What is left of a search: on the screen, in its folder, in the study and in MLflow."""

    code: int
    text: str
    storage: Path
    name: str
    workload: str = "tiny"
    seconds: float = 0.0
    uri: str = ""  # of the server; empty: the database in the storage

    @property
    def folder(self) -> Path:
        return self.storage / "searches" / self.name

    @cached_property
    def board(self) -> dict[str, Any]:
        board: dict[str, Any] = json.loads((self.folder / "leaderboard.json").read_text())
        return board

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["label"]: row for row in self.board["rows"]}

    @cached_property
    def study(self) -> optuna.Study:
        journal = JournalStorage(JournalFileBackend(str(self.folder / "optuna.journal")))
        return optuna.load_study(study_name=self.name, storage=journal)

    @property
    def trials(self) -> dict[str, optuna.trial.FrozenTrial]:
        """Trials of the study by label."""
        return {
            trial.user_attrs.get("preset") or f"trial-{trial.number:03d}": trial for trial in self.study.get_trials()
        }

    @cached_property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri or embedded_uri(self.storage))

    @cached_property
    def runs(self) -> list[Run]:
        experiment = self.client.get_experiment_by_name(self.workload)
        assert experiment is not None
        found = self.client.search_runs([experiment.experiment_id], f"tags.search = '{self.name}'", max_results=5_000)
        return list(found)

    @property
    def parent(self) -> Run:
        (parent,) = (run for run in self.runs if "mlflow.parentRunId" not in run.data.tags)
        return parent

    @property
    def children(self) -> dict[str, Run]:
        """Runs of trials by label."""
        runs = [run for run in self.runs if "mlflow.parentRunId" in run.data.tags]
        assert len({run.info.run_name for run in runs}) == len(runs)
        return {run.info.run_name: run for run in runs}

    def curve(self, label: str, metric: str) -> list[tuple[int, float]]:
        """(step, value) of each row that MLflow holds, in order of steps."""
        history = self.client.get_metric_history(self.children[label].info.run_id, metric)
        return sorted((point.step, point.value) for point in history)

    def files(self, run: Run, folder: str | None = None) -> list[str]:
        """Paths of all artifacts of a run."""
        found = []
        for entry in self.client.list_artifacts(run.info.run_id, folder):
            found += self.files(run, entry.path) if entry.is_dir else [entry.path]
        return sorted(found)

    def artifact(self, run: Run, file: str) -> str:
        local = self.client.download_artifacts(run.info.run_id, file)
        return Path(local).read_text()

    def table(self) -> list[dict[str, str]]:
        """Rows of leaderboard.csv as MLflow holds it."""
        return list(csv.DictReader(io.StringIO(self.artifact(self.parent, "leaderboard.csv"))))
