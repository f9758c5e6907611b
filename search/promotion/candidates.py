"""Choose the trials that are trained again, and gather the trained models that the holdout compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from search.config.redaction import first_line
from search.errors import UsageError
from search.promotion.evaluate import LoadedModel
from search.promotion.source_search import SourceSearch
from search.storage.location import Storage
from search.storage.search_dir import SearchDir
from search.storage.trial_record import TrialRecord
from trainables.base.checkpoint import best_weights
from trainables.base.training import TrainedModel

Records = Mapping[str, TrialRecord]  # by name of a training


@dataclass(frozen=True)
class Finalist:
    """Hyperparameters of a trial that are trained again with new seeds."""

    label: str
    value: float | None  # of the objective in the source search
    hyperparameters: Mapping[str, Any]  # without epochs and seed
    seeds: int

    @property
    def trainings(self) -> list[str]:
        """Name of the training with each seed."""
        return [f"{self.label}.seed{number}" for number in range(1, self.seeds + 1)]


@dataclass(frozen=True)
class Candidates:
    """Trained models, one of which may become the champion."""

    finalists: Sequence[Finalist]  # those that are complete with all their seeds
    incomplete: Mapping[str, str]  # label of every other finalist -> what happened to its seeds
    models: Mapping[str, LoadedModel]  # by name of a training; the preset, where it is no finalist, by its label


def choose_finalists(source: SourceSearch, top: int, seeds: int) -> list[Finalist]:
    """Choose the best complete trials, presets too, never one that was stopped early or failed, whatever its value.

    Raises
    ------
    UsageError
        No trial is complete.
    """
    ranked = sorted((row for row in source.leaderboard.rows if row.rank), key=lambda row: row.rank or 0)
    if not ranked:
        outcomes = [f"{count} {name.replace('_', ' ')}" for name, count in source.leaderboard.outcomes.items()]
        raise UsageError(
            f"No trial of search {source.name!r} is complete: {', '.join(outcomes) or 'none has ended'}. There is "
            "nothing to promote; run it for longer."
        )
    return [Finalist(row.label, row.value, _point(row.hyperparameters), seeds) for row in ranked[:top]]


def preset_to_train(source: SourceSearch, finalists: Sequence[Finalist], storage: Storage) -> Finalist | None:
    """Return the preset that models are compared with; None where a finalist or the search provides it.

    A search keeps the weights of its best trials alone, so a preset that has lost them is trained again.
    """
    name = source.promotion.preset
    if name in {finalist.label for finalist in finalists} or _searched_preset(source, storage):
        return None
    config = source.workload.config(**{**source.held, **source.workload.presets[name]})
    return Finalist(name, None, _point(config.model_dump()), seeds=1)


def gather_candidates(
    source: SourceSearch, finalists: Sequence[Finalist], preset: Finalist | None, records: Records, storage: Storage
) -> Candidates:
    """Load the models of complete finalists, and of the preset.

    Raises
    ------
    UsageError
        No finalist is complete with all its seeds; weights are gone.
    """
    incomplete = {one.label: reasons for one in finalists if (reasons := _incomplete_trainings(one, records))}
    complete = [finalist for finalist in finalists if finalist.label not in incomplete]
    if not complete:
        reasons = "; ".join(f"{label}: {reason}" for label, reason in incomplete.items())
        raise UsageError(f"No finalist is complete with all its seeds: {reasons}. Take more of them with --top.")
    models = {name: _load(source, records[name]) for finalist in complete for name in finalist.trainings}
    name = source.promotion.preset
    if name not in {finalist.label for finalist in complete} and (model := _preset(source, preset, records, storage)):
        models[name] = model
    return Candidates(complete, incomplete, models)


def _preset(source: SourceSearch, trained: Finalist | None, records: Records, storage: Storage) -> LoadedModel | None:
    """Load the preset as it was trained for this promotion, or else by the search; None where it is not complete."""
    if trained is None:
        return _searched_preset(source, storage)
    record = records.get(trained.trainings[0])
    return _load(source, record) if record and record.outcome == "complete" else None


def _searched_preset(source: SourceSearch, storage: Storage) -> LoadedModel | None:
    """Load the preset as the search trained it; None where it is not complete there, or its weights are gone."""
    for record in SearchDir(storage, source.name).history.records():
        if record.label == source.promotion.preset and record.outcome == "complete":
            with suppress(UsageError):
                return _load(source, record)
    return None


def _incomplete_trainings(finalist: Finalist, records: Records) -> str:
    """List the trainings that are not complete, each with its reason; nothing: all are."""
    found = [(name, records.get(name)) for name in finalist.trainings]
    return ", ".join(
        f"{name} {record.outcome} ({record.reason})" if record else f"{name} was not started"
        for name, record in found
        if record is None or record.outcome != "complete"
    )


def _load(source: SourceSearch, record: TrialRecord) -> LoadedModel:
    """Load the best epoch of a complete training from its checkpoint; raises UsageError where that is gone."""
    try:
        if record.checkpoint is None:
            raise FileNotFoundError("it has no checkpoint")
        with record.checkpoint.as_folder() as folder:
            weights = best_weights(folder)
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"The weights of {record.label} cannot be read ({first_line(error)}). Search with a larger "
            "--keep-checkpoints."
        ) from error
    trained = TrainedModel(source.workload.name, record.label, record.hyperparameters, weights)
    return LoadedModel(trained, source.upstream.models)


def _point(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in hyperparameters.items() if name not in ("epochs", "seed")}
