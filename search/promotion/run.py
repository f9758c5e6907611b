"""One promotion: from a search that has ended to a verdict, and to a new champion where it is yes."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from search.config.settings import Budget, Site
from search.engine.search_run import INTERRUPTED
from search.errors import UsageError
from search.promotion.candidates import champion_of, gather
from search.promotion.compare import HoldoutComparison
from search.promotion.evaluate import judge
from search.promotion.register import Deployment
from search.promotion.registry import Registry
from search.promotion.retrain import choose, retrain, yardstick
from search.promotion.source_search import find_search, open_subject
from search.reporting.summary import Summary, sync_command
from search.storage.disk import write_atomically
from search.storage.location import Storage
from search.storage.search_dir import SearchDir
from search.tracking.client import open_experiment
from search.workloads import Workload

PROMOTED, NO = 0, 3  # exit codes
RESULT = "promotion.json"


@dataclass(frozen=True)
class PromotionRequest:
    """What the user asks of a promotion."""

    search: str | None
    top: int
    seeds: int
    confidence: float
    force: str | None  # why


def promote(workload: Workload, wish: PromotionRequest, site: Site, budget: Budget, console: Console) -> int:
    """Train again, evaluate, decide, and register; returns the exit code."""
    storage, say = Storage.of(site), Summary(console).say
    cache = (site.cache or storage.folder / "cache").resolve()
    folder = find_search(workload, wish.search, storage)
    _require_told(folder)
    experiment = open_experiment(site.server, storage.folder, workload.name)
    registry = Registry(experiment.client, workload.name)
    subject = open_subject(workload, folder, cache, experiment)
    holdout = subject.promotion.load_holdout(subject.settings, cache)
    finalists = choose(subject, wish.top, wish.seeds)
    preset = yardstick(subject, finalists, storage)
    say(f"promote  {subject.name}: {', '.join(one.label for one in finalists)}, each with {wish.seeds} new seeds")
    trained = retrain(subject, [*finalists, *preset], site, budget, console)
    if trained.code == INTERRUPTED:
        return INTERRUPTED
    contenders = gather(subject, finalists, preset, trained, storage)
    champion = registry.champion()
    if champion and champion.tags.get("promotion") == trained.name:
        say(f"verdict  version {champion.number}, which came of these very trainings, is the champion already")
        return PROMOTED
    with TemporaryDirectory() as temporary:
        contenders = replace(contenders, champion=champion_of(registry, champion, Path(temporary)))
        say(f"holdout  {len(holdout)} events that no trial has seen; evaluating {len(contenders.all)} models on them")
        judged = judge(subject.promotion, contenders.all, holdout, subject.data, site)
    naive = subject.promotion.naive(subject.data, holdout, subject.promotion.replicas)
    hearing = HoldoutComparison(subject, finalists, contenders, judged, naive, champion, wish.confidence)
    uses = registry.note_use(hearing.holdout, trained.name, time.strftime("%Y-%m-%dT%H:%M:%S"))
    result = hearing.result(trained.name, uses)
    finals = SearchDir(storage, trained.name)
    write_atomically(finals.path / RESULT, json.dumps(result.as_dict(), indent=2))
    finals.upload(RESULT)
    console.print(result.as_table())
    for line in result.about():
        say(line)
    if not result.verdict.passed and wish.force is None:
        return NO
    scores = hearing.scores(result.candidate)
    deployment = Deployment(subject, result, contenders, trained.records, holdout, scores, str(storage))
    return PROMOTED if deployment.carry_out(registry, experiment.id, champion, wish.force, say) else NO


def _require_told(folder: SearchDir) -> None:
    """A champion's origin is to be found in MLflow."""
    if not folder.description()["facts"]["run_id"]:
        name = folder.path.name
        raise UsageError(
            f"MLflow has not heard of search {name!r} yet. Deliver it, then promote: "
            f"{sync_command(name, str(folder.storage))} --tracking-uri URI"
        )
