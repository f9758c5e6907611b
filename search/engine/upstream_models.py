"""Find the trained models that a workload builds on: named runs, champions, or the best of the newest searches."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from search.config.redaction import first_line
from search.engine.upstream_in_directories import (
    UpstreamModels,
    find_in_directories,
    find_undelivered,
    is_only_in_directory,
)
from search.errors import TrackingError, UsageError
from search.storage.location import Storage
from search.tracking.client import Experiment, MlflowClient, MlflowException, Run, find_champion
from trainables.base.checkpoint import BEST_FILE, best_weights
from trainables.base.training import TrainedModel


def find_upstream_models(
    experiment: Experiment | None, storage: Storage, workloads: Sequence[str], named: Sequence[str], fingerprint: str
) -> UpstreamModels:
    """Find a model for each of these workloads.

    Parameters
    ----------
    experiment : Experiment, optional
        None: no server is contacted, and the models are read from search directories.
    named : sequence of str
        MLflow runs of complete trials or of searches (then their best trial is meant): ids, names of searches, or
        SEARCH/TRIAL. For workloads without one: the champion, or else the best trial of the newest search that was
        trained on the same data.
    fingerprint : str
        Fingerprint of the data now. Models of other data may have been trained on what is holdout here; they are used
        only where they are named.

    Raises
    ------
    UsageError
        A named run does not exist or is of no use; a workload has no model yet.
    TrackingError
        MLflow does not give what it should have.
    """
    if experiment is None or any(is_only_in_directory(storage, name) for name in named):
        return find_in_directories(storage, workloads, named, fingerprint)
    client = experiment.client
    try:
        chosen = _named(client, workloads, named)
        lines, warnings = [], []
        for workload in workloads:
            run, why = chosen.get(workload) or _default(client, workload, workloads, fingerprint)
            chosen[workload] = run, why
            lines.append(f"builds on {run.info.run_name} of {workload}, search {run.data.tags.get('search')} ({why})")
            if _digest(run) != fingerprint[:36]:
                warnings.append(f"that {workload} was trained on other data: what is holdout here, it may have seen")
        models = {workload: _load(client, storage, workload, chosen[workload][0]) for workload in workloads}
    except MlflowException as error:
        raise TrackingError(f"--upstream: the MLflow tracking refused: {first_line(error)}") from error
    return UpstreamModels(models, tuple(lines), tuple(warnings))


def _named(client: MlflowClient, workloads: Sequence[str], named: Sequence[str]) -> dict[str, tuple[Run, str]]:
    experiments = {}
    for workload in workloads:
        if (found := client.get_experiment_by_name(workload)) is not None:
            experiments[found.experiment_id] = workload
    chosen: dict[str, tuple[Run, str]] = {}
    for name in named:
        run = _trial(client, _look_up(client, experiments, name), name)
        workload = experiments.get(run.info.experiment_id, "")
        if not workload:
            raise UsageError(f"--upstream {name}: that run is not of {' or '.join(workloads)}.")
        if workload in chosen:
            raise UsageError(f"--upstream {name}: a second run of {workload}. Name one run for each workload.")
        chosen[workload] = run, "named"
    return chosen


def _look_up(client: MlflowClient, experiments: Mapping[str, str], name: str) -> Run:
    """Return the run of this id or name: of a search, SEARCH/TRIAL, or a trial's name that only one search has."""
    if re.fullmatch("[0-9a-f]{32}", name):
        return client.get_run(name)
    search, _, trial = name.replace("'", "").rpartition("/")
    query = f"attributes.run_name = '{trial}'" + (f" and tags.search = '{search}'" if search else "")
    found = client.search_runs(list(experiments), query) if experiments else []
    if not found:
        raise UsageError(
            f"--upstream {name}: no run has this id or name in {' or '.join(experiments.values()) or 'MLflow'}. Copy "
            "it from the MLflow UI."
        )
    if len(found) > 1:
        names = ", ".join(f"{run.data.tags.get('search')}/{run.info.run_name}" for run in found[:5])
        raise UsageError(f"--upstream {name}: {len(found)} runs have this name: {names}. Name one of them so.")
    return found[0]


def _trial(client: MlflowClient, run: Run, name: str) -> Run:
    """Return the run itself if it is a trial's; the best trial's if it is a search's."""
    tags = run.data.tags
    if tags.get("kind") in ("search", "finalists"):
        if "best_run" not in tags:
            raise UsageError(f"--upstream {name}: no trial of that search is complete.")
        return client.get_run(tags["best_run"])
    if tags.get("outcome") != "complete":
        raise UsageError(f"--upstream {name}: expected a complete trial, found {tags.get('outcome', 'no trial')}.")
    return run


def _default(client: MlflowClient, workload: str, workloads: Sequence[str], fingerprint: str) -> tuple[Run, str]:
    others = []
    if (champion := _champion(client, workload)) is not None:
        if _digest(champion[0]) == fingerprint[:36]:
            return champion
        others.append("the champion")
    experiment = client.get_experiment_by_name(workload)
    query, newest = "tags.kind = 'search' and tags.best_run LIKE '%'", ["attributes.start_time DESC"]
    for search in client.search_runs([experiment.experiment_id], query, order_by=newest) if experiment else ():
        run = client.get_run(search.data.tags["best_run"])
        if _digest(run) == fingerprint[:36]:
            return run, "best of the newest search"
        others.append(f"search {search.info.run_name}")
    commands = "\n".join(f"  python -m search.run {name}" for name in workloads)
    there = f"; {', '.join(others[:3])} saw other data, perhaps what is holdout here" if others else ""
    raise UsageError(
        f"This search builds on a model of {workload}, and there is none yet of the same data{there}. Run first, with "
        f"the same flags for data, --storage and --tracking-uri:\n{commands}\nor name runs with --upstream."
    )


def _champion(client: MlflowClient, workload: str) -> tuple[Run, str] | None:
    version = find_champion(client, workload)
    return (client.get_run(version.run_id), f"champion, version {version.version}") if version else None


def _digest(run: Run) -> str:
    """Return the fingerprint of the data that a run was trained on."""
    return next((str(entry.dataset.digest) for entry in run.inputs.dataset_inputs), "")


def _load(client: MlflowClient, storage: Storage, workload: str, run: Run) -> TrainedModel:
    """Load a model from its run or, where MLflow did not take its files, from the directory of its search."""
    with TemporaryDirectory() as temporary:
        try:
            weights = client.download_artifacts(run.info.run_id, f"checkpoint/{BEST_FILE}", temporary)
            point = client.download_artifacts(run.info.run_id, "checkpoint/hyperparameters.json", temporary)
            return TrainedModel(
                workload=workload,
                run=run.info.run_id,
                hyperparameters=json.loads(Path(point).read_text()),
                weights=best_weights(Path(weights).parent),
            )
        except (OSError, MlflowException) as error:
            search, parent = run.data.tags.get("search", ""), run.data.tags.get("mlflow.parentRunId", "")
            if found := find_undelivered(storage, search, parent, run.info.run_name):
                return replace(found, workload=workload, run=run.info.run_id)
            raise TrackingError(
                f"The model of {workload} in MLflow run {run.info.run_id} cannot be loaded: {first_line(error)}. Name "
                "another run with --upstream."
            ) from error
