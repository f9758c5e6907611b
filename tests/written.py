"""Writes the folder of a search as a search writes it, without Ray: journal, study and leaderboard, in milliseconds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from specs import spec_of
from tiny import TinyConfig, TinyData, expected_loss, make_mirrored, make_tiny, size

from search.config.settings import Budget, Method, Site
from search.config.spec import SearchSpec
from search.reporting.leaderboard import LeaderboardSpec
from search.reporting.ranking import make_leaderboard
from search.storage.names import LEADERBOARD
from search.storage.search_dir import SearchDir
from search.storage.trial_record import Outcome, TrialRecord
from search.tracking.events import EventRecorder, StagedFiles
from search.tuning.optuna_searcher import OptunaSearcher
from search.tuning.samplers import make_sampler
from search.tuning.study import open_study

STARTED_S = 1_800_000_000.0


@dataclass(frozen=True)
class Fate:
    """What becomes of one trial."""

    outcome: Outcome | None = "complete"  # None: it still runs
    reason: str = ""
    epochs: int | None = None  # that it finishes; None: all
    seconds: float = 4.0  # an epoch


@dataclass(frozen=True)
class WrittenSearch:
    """The search beside its trials."""

    objective: str = "loss"
    limit: tuple[str, ...] = ()
    mirrored: bool = False  # all metrics negative, and maximised
    presets: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    version: str = "tiny-1"
    status: str | None = "FINISHED"  # None: it still runs, or died
    leaderboard: bool = True


def write_search(storage: Path, name: str, fates: Iterable[Fate], about: WrittenSearch | None = None) -> Path:
    """The folder of a search of tiny whose trials, presets first, had these fates."""
    about, fates = about or WrittenSearch(), list(fates)
    workload = make_mirrored(**about.presets) if about.mirrored else make_tiny(**about.presets)
    budget = Budget(trials=str(max(len(fates) - len(about.presets), 1)))
    method = Method(objective=about.objective, constraint=about.limit)
    plan = spec_of(workload, budget=budget, method=method, site=Site(name=name))
    folder = SearchDir(storage, name)
    folder.path.mkdir(parents=True)
    facts = {"run_id": "r", "experiment_id": "1", "tags": {}, "fingerprint": "tiny-data", "source": "nothing at all"}
    folder.describe(plan, TinyData(objective_version=about.version), facts=facts, branches=[])
    event_recorder = EventRecorder(folder.event_log, StagedFiles(folder.path))
    records = _run(plan, folder, event_recorder, fates)
    if about.leaderboard:
        spec = LeaderboardSpec(name, workload.name, plan.goal, workload.columns, about.version)
        board = make_leaderboard(spec, records, workload.baselines(TinyData()))
        (folder.path / LEADERBOARD).write_text(json.dumps(board.as_dict()))
    if about.status:
        event_recorder.search_ended(about.status)
    return folder.path


def _run(plan: SearchSpec, folder: SearchDir, event_recorder: EventRecorder, fates: list[Fate]) -> list[TrialRecord]:
    study = open_study(folder.path, plan.name, plan.goal.objectives.values(), make_sampler("random", 0))
    searcher = OptunaSearcher(study, plan)
    records, sign = [], plan.goal.sign("loss")
    for fate in fates:
        asked: Any = searcher.suggest("trial")
        number, hyperparameters = asked["number"], asked["hyperparameters"]
        started = STARTED_S + 1.3 * number  # many at a time: they do not end in order
        record = TrialRecord(f"{number:08x}", number, asked["preset"], hyperparameters, plan.epochs, started)
        for listener in (event_recorder, searcher):
            listener.trial_started(record)
        _train(record, plan.epochs if fate.epochs is None else fate.epochs, fate, (event_recorder, searcher), sign)
        if fate.outcome:
            record.outcome, record.reason, record.ended = fate.outcome, fate.reason, started + record.seconds
            for listener in (event_recorder, searcher):
                listener.trial_ended(record)
        records.append(record)
    return records


def _train(record: TrialRecord, epochs: int, fate: Fate, listeners: tuple[Any, ...], sign: int) -> None:
    config = TinyConfig(**record.hyperparameters)
    for epoch in range(1, epochs + 1):
        loss = expected_loss(config, epoch)
        record.epoch, record.metrics = epoch, {"loss": sign * loss, "size": sign * size(config)}
        record.best = {"epoch": epoch, "value": sign * loss}
        record.seconds += fate.seconds
        for listener in listeners:
            listener.epoch_ended(record)
