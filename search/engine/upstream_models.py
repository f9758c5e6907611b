"""Finds the trained models that a workload builds on: runs the user names, champions, or the best of new searches."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from search.config.redaction import first_line
from search.errors import TrackingError, UsageError
from search.tracking.client import MlflowClient, MlflowException, Run
from trainables.base.trainable import BEST_FILE, best_weights
from trainables.base.training import TrainedModel

CHAMPION = "champion"  # alias of the promoted version in the model registry


@dataclass(frozen=True)
class UpstreamModels:
    """One model for each workload that is built on."""

    models: Mapping[str, TrainedModel]
    lines: tuple[str, ...]  # for people: which they are, and why
    warnings: tuple[str, ...]

    @property
    def runs(self) -> list[str]:
        """MLflow ids, to find the same ones again."""
        return [model.run for model in self.models.values()]

    @property
    def tags(self) -> dict[str, str]:
        """For the records."""
        return {f"builds_on.{workload}": model.run for workload, model in self.models.items()}


def find_upstream_models(
    client: MlflowClient, workloads: Sequence[str], named: Sequence[str], fingerprint: str
) -> UpstreamModels:
    """The models of these workloads.

    Parameters
    ----------
    named : sequence of str
        MLflow runs of complete trials or of searches (then their best trial is meant): ids, names of searches, or
        SEARCH/TRIAL. Of workloads without one: the champion, or else the best trial of the newest search that was
        trained on the same data.
    fingerprint : str
        Of the data now. Models of other data may have been trained on what is holdout here; they are taken only
        where they are named.

    Raises
    ------
    UsageError
        A named run does not exist or is of no use; a workload has no model yet.
    TrackingError
        MLflow does not give what it should have.
    """
    try:
        chosen = _named(client, workloads, named)
        lines, warnings = [], []
        for workload in workloads:
            run, why = chosen.get(workload) or _default(client, workload, workloads, fingerprint)
            chosen[workload] = run, why
            lines.append(f"builds on {run.info.run_name} of {workload}, search {run.data.tags.get('search')} ({why})")
            if _digest(run) != fingerprint[:36]:
                warnings.append(f"that {workload} was trained on other data: what is holdout here, it may have seen")
        models = {workload: _load(client, workload, chosen[workload][0]) for workload in workloads}
    except MlflowException as error:
        raise TrackingError(f"--branches: the MLflow tracking refused: {first_line(error)}") from error
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
            raise UsageError(f"--branches {name}: that run is not of {' or '.join(workloads)}.")
        if workload in chosen:
            raise UsageError(f"--branches {name}: a second run of {workload}. Name one run for each workload.")
        chosen[workload] = run, "named"
    return chosen


def _look_up(client: MlflowClient, experiments: Mapping[str, str], name: str) -> Run:
    """The run of this id or name; of SEARCH/TRIAL, or of a trial's name that only one search has."""
    if re.fullmatch("[0-9a-f]{32}", name):
        return client.get_run(name)
    search, _, trial = name.replace("'", "").rpartition("/")
    query = f"attributes.run_name = '{trial}'" + (f" and tags.search = '{search}'" if search else "")
    found = client.search_runs(list(experiments), query) if experiments else []
    if not found:
        raise UsageError(
            f"--branches {name}: no run has this id or name in {' or '.join(experiments.values()) or 'MLflow'}. Copy "
            "it from the MLflow UI."
        )
    if len(found) > 1:
        names = ", ".join(f"{run.data.tags.get('search')}/{run.info.run_name}" for run in found[:5])
        raise UsageError(f"--branches {name}: {len(found)} runs have this name: {names}. Name one of them so.")
    return found[0]


def _trial(client: MlflowClient, run: Run, name: str) -> Run:
    """The run itself if it is of a trial; the best trial's if it is of a search."""
    tags = run.data.tags
    if tags.get("kind") in ("search", "finalists"):
        if "best_run" not in tags:
            raise UsageError(f"--branches {name}: no trial of that search is complete.")
        return client.get_run(tags["best_run"])
    if tags.get("outcome") != "complete":
        raise UsageError(f"--branches {name}: expected a complete trial, found {tags.get('outcome', 'no trial')}.")
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
        f"the same flags for data, --storage and --tracking-uri:\n{commands}\nor name runs with --branches."
    )


def _champion(client: MlflowClient, workload: str) -> tuple[Run, str] | None:
    try:
        version = client.get_model_version_by_alias(workload, CHAMPION)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None
    return client.get_run(version.run_id), f"champion, version {version.version}"


def _digest(run: Run) -> str:
    """Of the data that a run was trained on."""
    return next((str(entry.dataset.digest) for entry in run.inputs.dataset_inputs), "")


def _load(client: MlflowClient, workload: str, run: Run) -> TrainedModel:
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
            raise TrackingError(
                f"The model of {workload} in MLflow run {run.info.run_id} cannot be loaded: {first_line(error)}. Name "
                "another run with --branches."
            ) from error
