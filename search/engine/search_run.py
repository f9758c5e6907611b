"""Conducts one search, from a settled plan to its leaderboard."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from search.config.flags import Command
from search.config.redaction import first_line
from search.config.settings import Site, seconds
from search.config.spec import Plan
from search.engine.prepare import PreparedSearch, prepare_search, run_facts
from search.engine.trials import run_trials
from search.errors import UsageError
from search.reporting.comparison_plots import draw_gallery
from search.reporting.leaderboard import Leaderboard, make_leaderboard
from search.reporting.mlflow_notes import record_opening, record_result
from search.reporting.summary import Summary
from search.storage.disk import check_writable, stop_waiting_when, write_atomically
from search.storage.event_log import EventLog
from search.storage.location import Storage
from search.storage.names import LEADERBOARD, TOKEN
from search.storage.search_dir import SearchDir
from search.storage.trial_record import TrialRecord
from search.tracking.client import system_metrics
from search.tracking.events import EventRecorder, StagedFiles
from search.tracking.exporter import PATIENCE_S, MlflowExporter, NullExporter
from search.tracking.mlflow_writer import MlflowWriter
from search.tracking.run_info import RunFacts
from search.tuning.autosize.resolve import SIZING, resolve_share
from search.tuning.resources import gpu_names, ray_session
from search.tuning.tuner import StopController

COMPLETE, NOTHING_COMPLETE, INTERRUPTED = 0, 1, 130  # exit codes
SHORT_PATIENCE_S = 5.0  # with a server that is away, when somebody waits for us to leave


@dataclass(frozen=True)
class SearchResult:
    """What a search leaves to whoever started it."""

    code: int
    leaderboard: Leaderboard
    run_id: str  # of its MLflow run; empty: no server has heard of it


def run_search(
    plan: Plan, command: Command[Any], console: Console, tags: Mapping[str, str] | None = None
) -> SearchResult:
    """Load, connect, fit, report; goes on with an earlier process's search where the flags ask for it.

    Parameters
    ----------
    tags : mapping of str to str, optional
        Put on the MLflow runs of the search and of its trials, beside the usual ones.
    """
    folder = SearchDir(Storage.of(command.site), plan.name)
    check_writable(command.json)
    with folder.locked(wait=command.site.resume == "auto", say=Summary(console).say):
        plan, resumed = _settled(plan, command.site, folder)
        if resumed and (ended := finished(plan, folder)):
            return _tell_finished(ended, plan, command, folder, Summary(console))
        return _run(plan, command, console, folder, resumed, tags or {})


def _settled(plan: Plan, site: Site, folder: SearchDir) -> tuple[Plan, bool]:
    """The plan with its number of trials, and whether a search goes on."""
    if site.resume == "no" and not plan.added:
        folder.refuse_if_taken()
        return plan, False
    if not folder.begun:
        if plan.added or (site.resume == "yes" and not (folder.path / TOKEN).exists()):
            raise UsageError(f"--resume: no search named {plan.name!r} is in {site.storage}.")
        return plan, False
    folder.repair()
    before = int(folder.description()["trials"])
    if not plan.added:
        return replace(plan, trials=max(before, plan.trials) if plan.trials_asked else before), True
    if not folder.history.complete(before + len(plan.space.presets)):
        return replace(plan, trials=before), True  # of a job that died: what it was to add is counted already
    return replace(plan, trials=before + plan.trials), True


def finished(plan: Plan, folder: SearchDir, all_trials: bool = True) -> SearchResult | None:
    """What a search left, if nothing is left to do in it; without ``all_trials`` a time limit may have cut it short."""
    if not (folder.path / LEADERBOARD).exists() or not folder.history.complete(plan.samples if all_trials else 0):
        return None
    folder.require_same(plan)
    leaderboard = Leaderboard.from_dict(jsonlib.loads((folder.path / LEADERBOARD).read_text()))
    code = COMPLETE if leaderboard.best else NOTHING_COMPLETE
    return SearchResult(code, leaderboard, folder.description()["facts"]["run_id"])


def _tell_finished(
    ended: SearchResult, plan: Plan, command: Command[Any], folder: SearchDir, summary: Summary
) -> SearchResult:
    summary.say(f"search   {plan.name}: all its trials have ended; --trials +N adds more")
    summary.conclude(ended.leaderboard, folder.path, command.site)
    _keep(ended.leaderboard, command.json)
    return ended


def _run(
    plan: Plan, command: Command[Any], console: Console, folder: SearchDir, resumed: bool, tags: Mapping[str, str]
) -> SearchResult:
    site, summary = command.site, Summary(console)
    opened = prepare_search(plan, command, folder, resumed, summary)
    data = opened.data
    baselines, references = plan.workload.baselines(data), plan.workload.references(data)
    stop_controller = StopController(seconds(command.budget.time_limit) if command.budget.time_limit else None)
    with ray_session(site.address) as nodes:
        share = resolve_share(plan, data, command, nodes, folder.path, summary.say)
        summary.device(share, gpu_names(nodes))
        facts = run_facts(opened, plan, command, share, folder, tags)
        staged = StagedFiles(folder.path)
        log = EventLog(folder.event_log)
        event_recorder = EventRecorder(log, staged)
        exporter = _exporter(opened, facts, plan, folder, staged, summary)
        folder.on_taken_over = partial(_tell_lost, summary, stop_controller)
        exporting, metrics = (
            _exporting(event_recorder, exporter, stop_controller),
            system_metrics(opened.experiment, facts.run_id, resumed),
        )
        with stop_waiting_when(stop_controller.due), exporting, metrics:
            if log.entry_count:
                event_recorder.search_resumed()
            else:
                record_opening(event_recorder, plan.workload, plan.goal)
                event_recorder.log_text(jsonlib.dumps(plan.space.as_dict(), indent=2), "space.json")
            if (folder.path / SIZING).exists():
                event_recorder.log_text((folder.path / SIZING).read_text(), SIZING)
            folder.push()
            records = run_trials(
                plan, command, opened, share, folder, event_recorder, exporter, stop_controller, console
            )
            leaderboard = make_leaderboard(plan, records, baselines, data.objective_version, references)
            leaderboard = replace(leaderboard, share=share.as_dict())
            _keep(leaderboard, folder.path / LEADERBOARD, command.json)
            event_recorder.log_text(jsonlib.dumps(leaderboard.as_dict(), indent=2), LEADERBOARD)
            event_recorder.log_text(leaderboard.as_csv(), "leaderboard.csv")
            record_result(event_recorder, leaderboard)
            summary.conclude(leaderboard, folder.path, site)
            if stop_controller.reason not in ("", "interrupted"):
                summary.say(f"ended    early: {stop_controller.reason}")
            if plan.drawn and stop_controller.reason != "interrupted":
                _draw(plan, leaderboard, records, event_recorder, summary)
                _report(folder, event_recorder, summary)
    summary.tell_delivery(exporter, plan.name, site)
    code = COMPLETE if leaderboard.best else NOTHING_COMPLETE
    return SearchResult(INTERRUPTED if stop_controller.reason == "interrupted" else code, leaderboard, facts.run_id)


def _exporter(
    opened: PreparedSearch, facts: RunFacts, plan: Plan, folder: SearchDir, staged: StagedFiles, summary: Summary
) -> MlflowExporter | NullExporter:
    if opened.experiment is None:
        return NullExporter()
    target = MlflowWriter(opened.experiment.client, facts, plan.goal, staged)
    return MlflowExporter(folder.event_log, target, summary.say, folder.safe_log_bytes)


def _tell_lost(summary: Summary, stop_controller: StopController, other: str) -> None:
    """This machine was out of reach for too long."""
    summary.say(f"warning  {other} has taken this search over; it ends here")
    stop_controller.request_stop("interrupted")


@contextmanager
def _exporting(
    event_recorder: EventRecorder, exporter: MlflowExporter | NullExporter, stop_controller: StopController
) -> Iterator[None]:
    """Whatever happens inside is told to MLflow, as far as it answers; how it ended, too."""
    exporter.start()
    status = "FAILED"
    try:
        yield
        status = "KILLED" if stop_controller.reason == "interrupted" else "FINISHED"
    finally:
        event_recorder.search_ended(status)
        exporter.close(SHORT_PATIENCE_S if status == "KILLED" else PATIENCE_S)


def _draw(
    plan: Plan, leaderboard: Leaderboard, records: list[TrialRecord], event_recorder: EventRecorder, summary: Summary
) -> None:
    try:
        draw_gallery(plan, leaderboard, records, event_recorder)
    except Exception as error:  # figures must not cost the search its good end
        summary.say(f"warning  comparison figures not drawn: {type(error).__name__}: {first_line(error)}")


def _report(folder: SearchDir, event_recorder: EventRecorder, summary: Summary) -> None:
    """The page that python -m search.report makes, here and in MLflow."""
    try:
        from search.reporting.html.load import read_search
        from search.reporting.html.render import (  # only here: its libraries take a second to load
            REPORT,
            make_page,
            write_page,
        )

        page = make_page(read_search(folder.storage, folder.path.name, "finished"))
        write_page(page, folder.path / REPORT)
        event_recorder.log_text(page, REPORT)
    except Exception as error:  # nor must a page
        summary.say(f"warning  report page not written: {type(error).__name__}: {first_line(error)}")
    else:
        summary.say(f"report   {folder.path / REPORT}")


def _keep(leaderboard: Leaderboard, *files: Path | None) -> None:
    for file in filter(None, files):
        write_atomically(file, jsonlib.dumps(leaderboard.as_dict(), indent=2))
