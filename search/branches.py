"""Finds the trained models that a workload builds on: runs the user names, champions, or the best of new searches."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from search.errors import TrackingError, UsageError, first_line
from search.tracking import MlflowClient, MlflowException, Run
from trainables.trainable import BEST_FILE
from trainables.training import TrainedModel

CHAMPION = "champion"  # alias of the promoted version in the model registry


def find_models(
    client: MlflowClient, workloads: Sequence[str], named: Sequence[str], fingerprint: str
) -> tuple[dict[str, TrainedModel], list[str]]:
    """One model for each of the workloads, and a line for people that says which it is and why.

    Parameters
    ----------
    client : MlflowClient
    workloads : sequence of str
    named : sequence of str
        MLflow runs, by id or name, of complete trials or of searches (then their best trial is meant).
    fingerprint : str
        Of the data now, which a model's training data are compared with.

    Raises
    ------
    UsageError
        A named run does not exist or is of no use; a workload has no model yet.
    TrackingError
        MLflow does not give what it should have.
    """
    try:
        chosen = _named(client, workloads, named)
        for workload in workloads:
            run, why = chosen.get(workload) or _default(client, workload, workloads)
            chosen[workload] = run, why
        models = {workload: _load(client, workload, chosen[workload][0]) for workload in workloads}
    except MlflowException as error:
        raise TrackingError(f"--branches: the MLflow tracking refused: {first_line(error)}") from error
    lines = []
    for workload, (run, why) in chosen.items():
        lines.append(f"builds on {run.info.run_name} of {workload}, search {run.data.tags.get('search')} ({why})")
        if [entry.dataset.digest for entry in run.inputs.dataset_inputs] != [fingerprint[:36]]:
            lines.append(f"warning: that {workload} was trained on other data; what is holdout here, it may have seen")
    return models, lines


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
            raise UsageError(f"--branches {name}: that run is not of {' or '.join(workloads)}.")
        if workload in chosen:
            raise UsageError(f"--branches {name}: a second run of {workload}. Name one run for each workload.")
        chosen[workload] = run, "named with --branches"
    return chosen


def _look_up(client: MlflowClient, experiments: Mapping[str, str], name: str) -> Run:
    if re.fullmatch("[0-9a-f]{32}", name):
        return client.get_run(name)
    quoted = name.replace("'", "")
    found = client.search_runs(
        list(experiments), f"attributes.run_name = '{quoted}'", order_by=["attributes.start_time DESC"], max_results=1
    )
    if not experiments or not found:
        raise UsageError(
            f"--branches {name}: no run has this id or name in {' or '.join(experiments.values()) or 'MLflow'}. Copy "
            "it from the MLflow UI."
        )
    return found[0]


def _trial(client: MlflowClient, run: Run, name: str) -> Run:
    """The run itself if it is of a trial; the best trial's if it is of a search."""
    tags = run.data.tags
    if tags.get("kind") == "search":
        if "best_run" not in tags:
            raise UsageError(f"--branches {name}: no trial of that search is complete.")
        return client.get_run(tags["best_run"])
    if tags.get("outcome") != "complete":
        raise UsageError(f"--branches {name}: expected a complete trial, found {tags.get('outcome', 'no trial')}.")
    return run


def _default(client: MlflowClient, workload: str, workloads: Sequence[str]) -> tuple[Run, str]:
    try:
        version = client.get_model_version_by_alias(workload, CHAMPION)
        return client.get_run(version.run_id), f"champion, version {version.version}"
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
    experiment = client.get_experiment_by_name(workload)
    found = experiment and client.search_runs(
        [experiment.experiment_id],
        "tags.kind = 'search' and tags.best_run LIKE '%'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    if not found:
        commands = "\n".join(f"  python -m search.run {name}" for name in workloads)
        raise UsageError(
            f"This search builds on a model of {workload}, and there is none yet: no champion, no search with a "
            f"complete trial. Run first, with the same --data, --storage and --tracking-uri:\n{commands}\n"
            "or name runs with --branches."
        )
    return client.get_run(found[0].data.tags["best_run"]), "best of the newest search"


def _load(client: MlflowClient, workload: str, run: Run) -> TrainedModel:
    with TemporaryDirectory() as temporary:
        try:
            weights = client.download_artifacts(run.info.run_id, f"checkpoint/{BEST_FILE}", temporary)
            point = client.download_artifacts(run.info.run_id, "hyperparameters.json", temporary)
            return TrainedModel(
                workload=workload,
                run=run.info.run_id,
                hyperparameters=json.loads(Path(point).read_text()),
                weights=torch.load(weights, map_location="cpu", weights_only=True),
            )
        except (OSError, MlflowException) as error:
            raise TrackingError(
                f"The model of {workload} in MLflow run {run.info.run_id} cannot be loaded: {first_line(error)}. Name "
                "another run with --branches."
            ) from error
