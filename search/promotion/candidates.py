"""Who is judged on the holdout: the finalists' trainings, the preset, the champion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from search.errors import UsageError
from search.promotion.evaluate import Contender, kept_model
from search.promotion.registry import Registry, Version
from search.promotion.retrain import Finalist, Trained, searched_preset
from search.promotion.source_search import Subject
from search.storage.location import Storage
from search.storage.trial_record import TrialRecord
from trainables.export.package import read_package

CHAMPION = "champion"


@dataclass(frozen=True)
class Contenders:
    """By what they are called in the table."""

    trainings: Mapping[str, Mapping[str, Contender]]  # finalist -> training -> model; only those with all their seeds
    preset: Mapping[str, Contender]  # one, or none where it is a finalist itself
    incomplete: Mapping[str, str]  # finalist -> what became of the seeds that have no model
    champion: Mapping[str, Contender] = field(default_factory=dict)  # one or none

    @property
    def all(self) -> dict[str, Contender]:
        models = {name: model for seeds in self.trainings.values() for name, model in seeds.items()}
        return {**models, **self.preset, **self.champion}


def gather(
    subject: Subject, finalists: Sequence[Finalist], preset: Sequence[Finalist], trained: Trained, storage: Storage
) -> Contenders:
    """All but the champion.

    Raises
    ------
    UsageError
        No finalist came through with all its seeds; weights are gone.
    """
    incomplete = {one.label: why for one in finalists if (why := _incomplete(one, trained))}
    if len(incomplete) == len(finalists):
        told = "; ".join(f"{label}: {what}" for label, what in incomplete.items())
        raise UsageError(f"No finalist came through with all its seeds: {told}. Take more of them with --top.")
    trainings = {
        one.label: {name: _contender(subject, trained.records[name]) for name in one.trainings}
        for one in finalists
        if one.label not in incomplete
    }
    yardstick = None if subject.promotion.preset in trainings else _preset(subject, preset, trained, storage)
    return Contenders(trainings, {subject.promotion.preset: yardstick} if yardstick else {}, incomplete)


def champion_of(registry: Registry, version: Version | None, folder: Path) -> dict[str, Contender]:
    """The champion's model, from its package: none but the one that was registered is taken."""
    if version is None:
        return {}
    package = read_package(registry.fetch_package(version, folder), version.tags.get("package"))
    return {CHAMPION: Contender(package.model, package.branches)}


def _preset(subject: Subject, preset: Sequence[Finalist], trained: Trained, storage: Storage) -> Contender | None:
    """As it was trained for this, or else by the search; None where it did not come to its end."""
    found = [trained.records.get(name) for one in preset for name in one.trainings]
    if found:
        return next((_contender(subject, one) for one in found if one and one.outcome == "complete"), None)
    model = searched_preset(subject, storage)
    return Contender(model, subject.branches.models) if model else None


def _incomplete(finalist: Finalist, trained: Trained) -> str:
    """What became of the trainings that are not complete; nothing: all are."""
    found = [(name, trained.records.get(name)) for name in finalist.trainings]
    bad = [
        f"{name} {record.outcome} ({record.reason})" if record else f"{name} was not started"
        for name, record in found
        if record is None or record.outcome != "complete"
    ]
    return ", ".join(bad)


def _contender(subject: Subject, record: TrialRecord) -> Contender:
    return Contender(kept_model(subject.workload.name, record), subject.branches.models)
