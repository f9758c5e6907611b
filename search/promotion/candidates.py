"""Choose the trials that are trained again, and gather the trained models that the holdout compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from search.config.redaction import first_line
from search.errors import UsageError
from search.promotion.evaluate import LoadedModel
from search.promotion.source_search import SourceSearch
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
    incomplete: Mapping[str, str]  # label of any other that was trained -> what happened to its seeds
    models: Mapping[str, LoadedModel]  # by name of a training
    preset: Sequence[str] = ()  # its complete trainings, where it is no complete finalist


def choose_finalists(source: SourceSearch, top: int, seeds: int) -> list[Finalist]:
    """Choose the best complete trials, presets too, never one that was stopped early or failed, whatever its value.

    Those that were raced have the seeds of the race, if these are more.

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
    found = [(row, max(seeds, _raced_seeds(source, row.label))) for row in ranked[:top]]
    finalists = [Finalist(row.label, row.value, _point(row.hyperparameters), count) for row, count in found]
    most = max(count for _, count in found)  # the reference gets as many as any candidate
    return [replace(one, seeds=most) if one.label == source.promotion.preset else one for one in finalists]


def _raced_seeds(source: SourceSearch, label: str) -> int:
    """Return how many seeds of a trial the race has trained, from the first on."""
    count = 0
    while f"{label}.seed{count + 1}" in source.raced:
        count += 1
    return count


def preset_to_train(source: SourceSearch, finalists: Sequence[Finalist], seeds: int) -> Finalist | None:
    """Return the preset that models are compared with; None where it is a finalist, or where there is none.

    It has as many new seeds as a finalist, because a mean over seeds is compared with it: the single run of the search
    may have been a lucky or an unlucky one.
    """
    name = source.promotion.preset
    if not name or name in {finalist.label for finalist in finalists}:
        return None
    config = source.workload.config(**{**source.held, **source.workload.presets[name]})
    return Finalist(name, None, _point(config.model_dump()), max([seeds, *(one.seeds for one in finalists)]))


def gather_candidates(
    source: SourceSearch, finalists: Sequence[Finalist], preset: Finalist | None, records: Records
) -> Candidates:
    """Load the models of complete finalists, and those of the preset that are complete.

    Raises
    ------
    UsageError
        No finalist is complete with all its seeds; weights are gone.
    """
    trained = [*finalists, *([preset] if preset else [])]
    incomplete = {one.label: reasons for one in trained if (reasons := _incomplete_trainings(one, records))}
    complete = [finalist for finalist in finalists if finalist.label not in incomplete]
    if not complete:
        reasons = "; ".join(f"{one.label}: {incomplete[one.label]}" for one in finalists)
        raise UsageError(f"No finalist is complete with all its seeds: {reasons}. Take more of them with --top.")
    reference = [name for one in trained if one.label == source.promotion.preset for name in one.trainings]
    if source.promotion.preset in {finalist.label for finalist in complete}:
        reference = []
    of_preset = [name for name in reference if (record := records.get(name)) and record.outcome == "complete"]
    names = [*(name for finalist in complete for name in finalist.trainings), *of_preset]
    models = {name: _load(source, records[name]) for name in names}
    return Candidates(complete, incomplete, models, of_preset)


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
