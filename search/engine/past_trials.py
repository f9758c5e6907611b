"""Read the trials of earlier searches: from the study in a search's directory, or from MLflow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search.config.redaction import first_line
from search.config.spec import unknown
from search.errors import TrackingError, UsageError
from search.storage.location import Storage
from search.storage.names import DESCRIPTION
from search.storage.search_dir import SearchDir
from search.tracking.client import Experiment, MlflowException, Run, find_runs
from search.tuning.study import read_study

_SHOWN = 20  # names of searches, where one is not found


@dataclass(frozen=True)
class Earlier:
    """One trial of an earlier search, wherever it was read."""

    label: str
    complete: bool  # to its last epoch and as it was asked for
    objectives: frozenset[str]
    objective_version: str
    hyperparameters: Mapping[str, Any]  # those held too; as text where MLflow gave them
    metrics: Mapping[str, float]  # of the last epoch


@dataclass(frozen=True)
class EarlierSearch:
    """All trials of one earlier search, and the fingerprint of its data."""

    source: str  # where they were read
    fingerprint: str  # of the data, or its first 36 characters
    trials: Sequence[Earlier]


def find_earlier(name: str, workload: str, storage: Storage, experiment: Experiment | None) -> EarlierSearch:
    """Find the search of that name: in the storage, or else in MLflow, where a server is contacted.

    Raises
    ------
    UsageError
        There is none of that workload.
    TrackingError
        MLflow is asked and refuses.
    """
    folder = SearchDir(storage, name)
    folder.fetch()
    found = _in_folder(name, workload, folder.path)
    if found is not None:
        return found
    if experiment is None:
        raise UsageError(
            f"--warm-from {name}: no study of that search is in {storage}, and no server is asked. Name one with "
            "--tracking-uri, or a search that is there."
        )
    try:
        found = _in_mlflow(name, experiment)
        if found is None:
            raise unknown(f"search of {workload} to start from", name, _near(name, storage.folder, experiment))
    except MlflowException as error:
        raise TrackingError(f"--warm-from {name}: the MLflow tracking refused: {first_line(error)}") from error
    return found


def _in_folder(name: str, workload: str, folder: Path) -> EarlierSearch | None:
    """Read the study in the search's directory; None where it has none with metrics."""
    try:
        about = json.loads((folder / DESCRIPTION).read_text())
    except FileNotFoundError:
        return None
    if about["workload"] != workload:
        raise UsageError(f"--warm-from {name}: that search is of {about['workload']}, not of {workload}.")
    trials = read_study(folder, name)
    if trials is None or not all("metrics" in trial.user_attrs for trial in trials if _is_complete(trial)):
        return None
    return EarlierSearch(
        "study",
        about["data"],
        [
            Earlier(
                label=trial.user_attrs.get("preset") or f"trial-{trial.number:03d}",
                complete=_is_complete(trial),
                objectives=frozenset(about["objectives"]),
                objective_version=about["objective version"],
                hyperparameters=trial.user_attrs.get("hyperparameters", {}),
                metrics=trial.user_attrs.get("metrics", {}),
            )
            for trial in trials
            if trial.state != TrialState.WAITING
        ],
    )


def _is_complete(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE


def _in_mlflow(name: str, experiment: Experiment) -> EarlierSearch | None:
    runs = find_runs(experiment.client, experiment.id, f"tags.search = '{name}' and tags.kind = 'trial'")
    if not runs:
        return None
    digests = [entry.dataset.digest for run in runs for entry in run.inputs.dataset_inputs]
    return EarlierSearch(
        "MLflow",
        digests[0] if digests else "",
        [
            Earlier(
                label=run.info.run_name,
                complete=run.data.tags.get("outcome") == "complete" and not _perturbed(run, experiment),
                objectives=frozenset(run.data.tags.get("objective", "").split(",")),
                objective_version=run.data.tags.get("objective_version", ""),
                hyperparameters=run.data.params,
                metrics=run.data.metrics,
            )
            for run in runs
        ],
    )


def _perturbed(run: Run, experiment: Experiment) -> bool:
    """Whether population based training changed the run's parameters: its value belongs to no single point."""
    marks = [metric for metric in run.data.metrics if metric.startswith("hyperparameter_")]
    return any(
        row.value != float(run.data.params[metric.removeprefix("hyperparameter_")])
        for metric in marks
        for row in experiment.client.get_metric_history(run.info.run_id, metric)
    )


def _near(name: str, storage: Path, experiment: Experiment) -> tuple[str, ...]:
    """Return names of searches: first similar ones, then the newest."""
    folders = [path.name for path in (storage / "searches").glob("*") if path.is_dir()]
    runs = [run.info.run_name for run in find_runs(experiment.client, experiment.id, "tags.kind = 'search'")]
    known = list(dict.fromkeys([*reversed(runs), *folders]))
    return tuple(dict.fromkeys([*get_close_matches(name, known, n=3, cutoff=0.45), *known[:_SHOWN]]))
