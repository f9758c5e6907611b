"""Run one promotion: train the best trials of a search again, compare them on the holdout, decide, register."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from search.config.settings import Budget, Site
from search.engine.search_run import INTERRUPTED, run_search
from search.errors import UsageError
from search.promotion.candidates import Finalist, choose_finalists, gather_candidates, preset_to_train
from search.promotion.compare import HoldoutComparison
from search.promotion.evaluate import LoadedModel, evaluate_models
from search.promotion.register import Registration
from search.promotion.registry import Registry, Version
from search.promotion.result import RESULT
from search.promotion.retrain import describe_retraining
from search.promotion.source_search import find_search, open_search
from search.reporting.console import SafeConsole
from search.reporting.reading import reading_shown
from search.reporting.summary import ConsoleReporter, sync_command
from search.storage.disk import write_atomically
from search.storage.location import Storage
from search.storage.search_dir import SearchDir
from search.tracking.client import CHAMPION, open_experiment
from search.workload import Workload
from trainables.export.package import read_package

PROMOTED, NOT_PROMOTED = 0, 3  # exit codes


@dataclass(frozen=True)
class PromotionRequest:
    """What the user asks of a promotion."""

    search: str | None
    top: int
    seeds: int
    confidence: float
    force: str | None  # reason


@dataclass(frozen=True)
class PromotionEnd:
    """How a promotion ended."""

    code: int  # of the command
    folder: Path  # of the search that trained the finalists, with the result of the comparison
    version: int | None = None  # of the registered model that is the champion now by this promotion


def promote(
    workload: Workload, request: PromotionRequest, site: Site, budget: Budget, console: SafeConsole
) -> PromotionEnd:
    """Train finalists again, compare them on the holdout, and register the candidate."""
    storage, reporter = Storage.of(site), ConsoleReporter(console)
    say = reporter.print_line
    cache = (site.cache or storage.folder / "cache").resolve()
    folder = find_search(workload, request.search, storage)
    _require_exported(folder)
    with reporter.announcing("mlflow   opening the experiment ..."):
        experiment = open_experiment(site.server, storage.folder, workload.name)
    registry = Registry(experiment.client, workload.name)
    what = f"data     reading the events of search {folder.path.name}, and the holdout ..."
    with reporter.announcing(what), reading_shown(console, "data    "):
        source = open_search(workload, folder, cache, experiment)
        holdout = source.promotion.load_holdout(source.data_settings, cache)

    finalists = choose_finalists(source, request.top, request.seeds)
    preset = preset_to_train(source, finalists, request.seeds)
    spec = describe_retraining(source, [*finalists, *([preset] if preset else [])], site, budget)
    say(f"promote  {source.name}: {_cost(finalists, preset, len(spec.space.presets))}")
    retraining = SearchDir(storage, spec.name)
    if spec.space.presets and run_search(spec, console).code == INTERRUPTED:
        return PromotionEnd(INTERRUPTED, retraining.path)
    retraining.path.mkdir(parents=True, exist_ok=True)  # where the race had all of it
    records = {**source.raced, **{record.label: record for record in retraining.history.records()}}
    candidates = gather_candidates(source, finalists, preset, records)
    champion = registry.champion()
    if champion and champion.tags.get("promotion") == spec.name:
        say(f"verdict  version {champion.number}, made from these trainings, is the champion already")
        return PromotionEnd(PROMOTED, retraining.path, champion.number)

    models = {**candidates.models, **_load_champion(registry, champion)}
    say(f"holdout  {len(holdout)} events that no trial has seen; evaluating {len(models)} models on them")
    scores = evaluate_models(source.promotion, models, holdout, source.data, site, say)
    with reporter.announcing("naive    computing the naive predictors on the holdout ..."):
        naive = source.promotion.naive(source.data, holdout, source.promotion.replicas)
    comparison = HoldoutComparison(source, candidates, scores, naive, champion, request.confidence)
    uses = registry.record_use(comparison.holdout, spec.name, time.strftime("%Y-%m-%dT%H:%M:%S"))
    result = comparison.result(spec.name, uses)
    write_atomically(retraining.path / RESULT, result.as_json())
    retraining.upload(RESULT)
    with reporter.without("result not shown"):
        console.print(result.as_table())
        for line in result.summary():
            say(line)
    if not result.verdict.passed and request.force is None:
        return PromotionEnd(NOT_PROMOTED, retraining.path)
    registration = Registration(
        source=source,
        result=result,
        model=models[result.candidate],
        holdout=holdout,
        scores=comparison.figure_scores(result.candidate),
        champion=champion,
        forced=request.force,
    )
    trained_in = source.name if result.candidate in source.raced else spec.name
    run_id = registry.find_run(experiment.id, trained_in, result.candidate, str(storage))
    if not registration.carry_out(registry, run_id, say):
        return PromotionEnd(NOT_PROMOTED, retraining.path)
    promoted = registry.champion()
    return PromotionEnd(PROMOTED, retraining.path, promoted.number if promoted else None)


def _cost(finalists: Sequence[Finalist], preset: Finalist | None, left: int) -> str:
    """Describe what is trained, ``left`` of it now, the rest in the race of the search."""
    labels = ", ".join(finalist.label for finalist in finalists)
    also = f", and the preset {preset.label} that they are compared with" if preset else ""
    counts = [one.seeds for one in (*finalists, *([preset] if preset else []))]
    seeds = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else str(counts[0])
    raced = f", {sum(counts) - left} of them by the race of the search" if left < sum(counts) else ""
    return f"{labels}{also}, each with {seeds} new seeds: {sum(counts)} trainings{raced}"


def _require_exported(folder: SearchDir) -> None:
    """Raise UsageError where MLflow does not have the search, because a champion's tags name its run there."""
    if not folder.description()["facts"]["run_id"]:
        name = folder.path.name
        raise UsageError(
            f"Search {name!r} is not in MLflow yet. Export it, then promote: "
            f"{sync_command(name, str(folder.storage))} --tracking-uri URI"
        )


def _load_champion(registry: Registry, version: Version | None) -> dict[str, LoadedModel]:
    """Load the champion from its package, verified against the digest that was registered."""
    if version is None:
        return {}
    with TemporaryDirectory() as temporary:
        package = read_package(registry.fetch_package(version, Path(temporary)), version.tags.get("package"))
    return {CHAMPION: LoadedModel(package.model, package.branches)}
