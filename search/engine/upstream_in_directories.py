"""Read the trained models that a workload builds on from search directories, where no server has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from search.errors import UsageError
from search.storage.event_log import read_entries
from search.storage.location import Storage
from search.storage.names import LEADERBOARD
from search.storage.search_dir import SearchDir
from search.storage.trial_record import TrialRecord
from search.tracking.events import StagedFiles
from trainables.base.checkpoint import BEST_FILE, best_weights
from trainables.base.training import TrainedModel


@dataclass(frozen=True)
class UpstreamModels:
    """One trained model for each upstream workload."""

    models: Mapping[str, TrainedModel]
    lines: tuple[str, ...]  # for people: which models, and why
    warnings: tuple[str, ...]

    @property
    def runs(self) -> list[str]:
        """MLflow run ids, by which the same models are found again."""
        return [model.run for model in self.models.values()]

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the MLflow runs that build on them."""
        return {f"builds_on.{workload}": model.run for workload, model in self.models.items()}


def find_in_directories(
    storage: Storage, workloads: Sequence[str], named: Sequence[str], fingerprint: str
) -> UpstreamModels:
    """Find a model for each of these workloads.

    Parameters
    ----------
    named : sequence of str
        One search for each workload (then its best trial is meant), or SEARCH/TRIAL.
    fingerprint : str
        Fingerprint of the data now; a model of other data is named in a warning.

    Raises
    ------
    UsageError
        A workload without a name, or a name that leads to no complete trial whose weights are there.
    """
    models, lines, warnings = dict[str, TrainedModel](), [], []
    for name in named:
        folder = _folder(storage, name)
        about = folder.description()
        if (workload := about["workload"]) not in workloads or workload in models:
            expected = f"one search of each of {', '.join(workloads)}"
            raise UsageError(f"--upstream {name}: expected {expected}; found one more of {workload}.")
        trial = _trial(folder, name)
        models[workload] = _load(folder, workload, trial)
        lines.append(f"builds on {trial.label} of {workload}, search {folder.path.name} (from its folder)")
        if about["data"][:36] != fingerprint[:36]:
            warnings.append(f"that {workload} was trained on other data: what is holdout here, it may have seen")
    if missing := [workload for workload in workloads if workload not in models]:
        raise UsageError(
            f"This search builds on models of {', '.join(missing)}, which are looked for in MLflow, and no server is "
            "asked. Name one with --tracking-uri, or searches in this --storage: --upstream SEARCH SEARCH."
        )
    return UpstreamModels({workload: models[workload] for workload in workloads}, tuple(lines), tuple(warnings))


def is_only_in_directory(storage: Storage, name: str) -> bool:
    """Whether a name leads to a search that no server has received yet."""
    folder = _found(storage, name)
    return folder is not None and not folder.description()["facts"]["run_id"]


def find_undelivered(storage: Storage, search: str, run_id: str, label: str) -> TrainedModel | None:
    """Return the model of a trial from the directory of its search; None: it is not in this storage.

    Parameters
    ----------
    run_id : str
        Of the search's own MLflow run, because another storage may have another search of that name.
    """
    folder = _found(storage, search) if search else None
    if folder is None or folder.description()["facts"]["run_id"] != run_id:
        return None
    name = f"{search}/{label}"
    try:
        return _load(folder, folder.description()["workload"], _trial(folder, name))
    except UsageError:
        return None


def _found(storage: Storage, name: str) -> SearchDir | None:
    search = name.partition("/")[0]
    if Path(search).name != search:
        return None
    folder = SearchDir(storage, search)
    folder.fetch()
    return folder if folder.begun else None


def _folder(storage: Storage, name: str) -> SearchDir:
    folder = _found(storage, name)
    if folder is None:
        raise UsageError(
            f"--upstream {name}: no search of that name is in {storage}, and no server is asked. Name one that is "
            "there, or the server that knows that run with --tracking-uri."
        )
    return folder


def _trial(folder: SearchDir, name: str) -> TrialRecord:
    label = name.partition("/")[2] or _best(folder)
    if not label:
        raise UsageError(f"--upstream {name}: no trial of that search is complete.")
    for record in folder.history.records():
        if record.label == label and record.outcome == "complete":
            return record
    raise UsageError(f"--upstream {name}: that search has no complete trial {label}.")


def _best(folder: SearchDir) -> str:
    """Return the label of the best trial; empty where the search has none, or no result yet."""
    file = folder.path / LEADERBOARD
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    return next((str(row["label"]) for row in rows if row["rank"] == 1 and row["number"] is not None), "")


def _load(folder: SearchDir, workload: str, trial: TrialRecord) -> TrainedModel:
    name = f"{folder.path.name}/{trial.label}"  # MLflow finds it by that, too, once it was exported
    with ExitStack() as opened:
        for path in _folders(folder, trial, opened):
            if (path / BEST_FILE).exists():
                return TrainedModel(workload, name, trial.hyperparameters, best_weights(path))
    raise UsageError(
        f"--upstream {name}: its weights are not in {folder.where} any more (--keep-checkpoints). Name another "
        "trial, or a server."
    )


def _folders(folder: SearchDir, trial: TrialRecord, opened: ExitStack) -> Iterator[Path]:
    """Yield the folders that may hold its weights: staged for MLflow, or its checkpoint."""
    for entry in read_entries(folder.event_log):
        if entry.event == "files" and entry.content["number"] == trial.number:
            yield StagedFiles(folder.path).folder_of(entry) / "checkpoint"
    if trial.checkpoint is not None:
        try:
            yield opened.enter_context(trial.checkpoint.as_folder())
        except FileNotFoundError:
            return
