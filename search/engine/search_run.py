"""Run one search, from its specification to its leaderboard."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from search.config.provenance import command_line
from search.config.spec import SearchSpec
from search.engine.context import PreparedSearch, SearchContext, open_event_log, open_ray
from search.engine.export_rest import export_rest
from search.engine.prepare import prepare_search, run_facts
from search.engine.race import is_left, refuse_race, settle_race
from search.engine.trials import run_trials
from search.errors import UsageError
from search.reporting.comparison_plots import Comparison, begin_comparisons
from search.reporting.console import SafeConsole, libraries_logged
from search.reporting.draw_pool import DrawPool
from search.reporting.leaderboard import Leaderboard, LeaderboardSpec
from search.reporting.mlflow_notes import record_opening, record_result
from search.reporting.precision import about_baselines, about_trials
from search.reporting.ranking import make_leaderboard
from search.reporting.summary import ConsoleReporter
from search.reporting.trial_figures import TrialFigures
from search.storage.disk import check_writable, stop_waiting_when, write_atomically
from search.storage.location import Storage
from search.storage.names import LEADERBOARD, LOG, TOKEN
from search.storage.search_dir import SearchDir
from search.storage.trial_record import TrialRecord, study_trials
from search.tracking.client import system_metrics
from search.tracking.events import StagedFiles
from search.tracking.exporter import MlflowExporter, NullExporter
from search.tracking.mlflow_writer import MlflowWriter
from search.tracking.run_info import RunFacts
from search.tuning.autosize.resolve import SIZING, resolve_share
from search.tuning.resources import gpu_names, live_nodes
from search.tuning.stack_choice import refuse_stack, stacked_share
from search.tuning.stack_servers import StackServers
from search.tuning.stopping import StopController
from search.workload import Data
from trainables.base.objectives import Metrics
from trainables.runtime import signals

COMPLETE, NOTHING_COMPLETE, INTERRUPTED = 0, 1, 130  # exit codes


@dataclass(frozen=True)
class SearchResult:
    """What a search leaves to its caller."""

    code: int
    leaderboard: Leaderboard
    run_id: str  # of its MLflow run; empty: nothing was exported to a server


def run_search(spec: SearchSpec, console: SafeConsole) -> SearchResult:
    """Load the data, run the trials, report; resume an earlier process's search where the flags ask for it."""
    directory, reporter = SearchDir(Storage.of(spec.site), spec.name), ConsoleReporter(console)
    check_writable(spec.json)
    refuse_race(spec)
    refuse_stack(spec)
    with libraries_logged(console.log_file), directory.locked(spec.site.resume == "auto", reporter.print_line):
        spec, resumed = _settle_trials(spec, directory)
        console.log_file.open(directory.path / LOG, command_line())
        if resumed and (result := finished(spec, directory)):
            return _report_finished(result, spec, directory, reporter)
        return _run(spec, prepare_search(spec, directory, resumed, reporter), directory, reporter)


def _settle_trials(spec: SearchSpec, directory: SearchDir) -> tuple[SearchSpec, bool]:
    """Settle the number of trials; also return whether a search is resumed."""
    resume = spec.site.resume
    if resume == "no" and not spec.trials_added:
        directory.refuse_if_taken()
        return spec, False
    if not directory.begun:
        if spec.trials_added or (resume == "yes" and not (directory.path / TOKEN).exists()):
            raise UsageError(f"--resume: no search named {spec.name!r} is in {spec.site.storage}.")
        return spec, False
    directory.repair()
    about = directory.description()
    before, method = int(about["trials"]), about.get("method", {})
    if spec.method.scheduler == "auto":  # its trials are judged as those before them
        spec = replace(spec, scheduler=method.get("scheduler", spec.scheduler))
    if spec.method.sampler == "auto":  # and proposed as these were
        spec = replace(spec, sampler=method.get("sampler", spec.sampler))
    spec = settle_race(spec, method)
    if not spec.trials_added:
        return replace(spec, trials=max(before, spec.trials) if spec.trials_asked else before), True
    if not directory.history.complete(before + len(spec.space.presets)):
        return replace(spec, trials=before), True  # of a job that died: the trials it added are counted already
    return replace(spec, trials=before + spec.trials), True


def finished(spec: SearchSpec, directory: SearchDir, all_trials: bool = True) -> SearchResult | None:
    """Return the result of a search in which nothing is left to do.

    Parameters
    ----------
    all_trials : bool
        False: a search that a time limit cut short counts as finished, too.
    """
    if not (directory.path / LEADERBOARD).exists() or not directory.history.complete(spec.samples if all_trials else 0):
        return None
    directory.require_same(spec)
    if all_trials and is_left(spec, directory.history.records()):
        return None
    leaderboard = Leaderboard.from_dict(jsonlib.loads((directory.path / LEADERBOARD).read_text()))
    code = COMPLETE if leaderboard.best else NOTHING_COMPLETE
    return SearchResult(code, leaderboard, directory.description()["facts"]["run_id"])


def _report_finished(
    result: SearchResult, spec: SearchSpec, directory: SearchDir, reporter: ConsoleReporter
) -> SearchResult:
    reporter.print_line(f"search   {spec.name}: all its trials have ended; --trials +N adds more")
    reporter.print_result(result.leaderboard, directory, spec.site)
    reporter.write_json(spec.json, _as_json(result.leaderboard))
    with reporter.announcing("mlflow   exporting what still waits ..."):
        export_rest(spec.site, directory, reporter)
    return result


def _run(spec: SearchSpec, prepared: PreparedSearch, directory: SearchDir, reporter: ConsoleReporter) -> SearchResult:
    data = prepared.data
    with reporter.announcing("naive    computing the naive predictors ..."):
        baselines, references = spec.workload.baselines(data), spec.workload.references(data)
    for line in _precision(spec, prepared, baselines):
        reporter.print_line(line)
    stop_controller = StopController(spec.time_limit_s)

    def leaderboard_of(records: Sequence[TrialRecord]) -> Leaderboard:
        leaderboard = make_leaderboard(_leaderboard_spec(spec, data), records, baselines, references)
        return replace(leaderboard, share=share.as_dict())

    with open_ray(spec.site.address, reporter) as nodes:
        with reporter.announcing("autosize measuring what one trial takes ..."):
            share = resolve_share(spec, data, nodes, directory.path, reporter.print_line)
        with reporter.announcing("stack    choosing the number of slots ..."):
            share = stacked_share(spec, data, share, reporter.print_line)
        reporter.print_share(share, gpu_names(live_nodes()), spec.most_concurrent if spec.site.address else 0)
        with ExitStack() as stack:
            with signals.deferred():  # once the search's run is in MLflow, its end must be logged there, too
                facts = run_facts(spec, prepared, share, directory)
                events, continued = open_event_log(directory)
                exporter = _exporter(spec, prepared, facts, directory, reporter)
                figures = TrialFigures(DrawPool(spec.workload), events, reporter.print_line)
                stacks = StackServers(spec, data, share) if share.servers else None
                context = SearchContext(directory, reporter, stop_controller, events, exporter, figures, stacks)
                directory.on_taken_over = partial(_report_lost, context)
                stack.enter_context(stop_waiting_when(stop_controller.due))
                stack.enter_context(context.exporting())
            stack.enter_context(closing(figures))
            stack.enter_context(system_metrics(prepared.experiment, facts.run_id, prepared.resumed))
            _log_start(spec, context, continued)
            try:
                records = run_trials(spec, prepared, share, context)
            except BaseException:  # whatever ends the driver, what is complete is written; the rest is left to a resume
                with reporter.without("leaderboard not written"):
                    records = directory.history.records()
                    _conclude(spec, leaderboard_of(records), records, context)
                raise
            leaderboard = leaderboard_of(records)
            _conclude(spec, leaderboard, records, context)
    reporter.print_export(exporter, spec.name, spec.site)
    code = COMPLETE if leaderboard.best else NOTHING_COMPLETE
    return SearchResult(INTERRUPTED if context.interrupted else code, leaderboard, facts.run_id)


def _leaderboard_spec(spec: SearchSpec, data: Data) -> LeaderboardSpec:
    workload = spec.workload
    return LeaderboardSpec(
        spec.name, workload.name, spec.goal, workload.columns, data.objective_version, spec.budget.min_effect
    )


def _precision(spec: SearchSpec, prepared: PreparedSearch, baselines: Mapping[str, Metrics]) -> list[str]:
    """Say how well the objective can rank trials of these data, as far as that is known before the first one."""
    complete = [record.metrics for record in study_trials(prepared.known) if record.outcome == "complete"]
    ranked = [complete[place] for place, _ in spec.goal.ranked(complete)]
    return about_trials(spec.goal, ranked) or about_baselines(spec.goal, baselines)


def _exporter(
    spec: SearchSpec, prepared: PreparedSearch, facts: RunFacts, directory: SearchDir, reporter: ConsoleReporter
) -> MlflowExporter | NullExporter:
    if prepared.experiment is None:
        return NullExporter()
    writer = MlflowWriter(prepared.experiment.client, facts, spec.goal, StagedFiles(directory.path))
    if problem := writer.location_problem():
        reporter.print_line(f"warning  files stay in {directory.path}: {problem}")
    return MlflowExporter(directory.event_log, writer, reporter.print_line, directory.safe_log_bytes)


def _report_lost(context: SearchContext, other: str) -> None:
    """End the search here because another process has taken it over: this machine was unreachable for too long."""
    context.reporter.print_line(f"warning  {other} has taken this search over; it ends here")
    context.stop_controller.request_stop("interrupted")


def _log_start(spec: SearchSpec, context: SearchContext, continued: bool) -> None:
    events, directory = context.events, context.directory
    if continued:
        events.search_resumed()
    else:
        record_opening(events, spec.workload, spec.goal)
        events.log_text(jsonlib.dumps(spec.space.as_dict(), indent=2), "space.json")
    if (directory.path / SIZING).exists():
        events.log_text((directory.path / SIZING).read_text(), SIZING)
    directory.push()


def _conclude(
    spec: SearchSpec, leaderboard: Leaderboard, records: Sequence[TrialRecord], context: SearchContext
) -> None:
    """Write, log and print the leaderboard, then figures and the report page."""
    events, reporter, directory = context.events, context.reporter, context.directory
    write_atomically(directory.path / LEADERBOARD, _as_json(leaderboard))
    events.log_text(_as_json(leaderboard), LEADERBOARD)
    events.log_text(leaderboard.as_csv(), "leaderboard.csv")
    record_result(events, leaderboard)
    with reporter.without("result not shown"):
        reporter.print_result(leaderboard, directory, spec.site)
    reporter.write_json(spec.json, _as_json(leaderboard))
    if context.stop_controller.reason not in ("", "interrupted"):
        reporter.print_line(f"ended    early: {context.stop_controller.reason}")
    if not context.interrupted:
        _draw(spec, leaderboard, records, context)


def _draw(spec: SearchSpec, leaderboard: Leaderboard, records: Sequence[TrialRecord], context: SearchContext) -> None:
    """Draw what is left of the trials' figures, comparisons and, meanwhile, the page."""
    figures, reporter = context.figures, context.reporter
    with ExitStack() as opened:
        comparisons: list[Comparison] = []
        if spec.figures:
            with reporter.without("comparison figures not drawn"):
                folder = Path(opened.enter_context(TemporaryDirectory()))
                comparisons = list(begin_comparisons(figures.compare, leaderboard, records, folder, opened))
        figures.hurry()
        with (
            reporter.without("figures not drawn"),
            reporter.announcing("figures  drawing those of the best trials ..."),
        ):
            figures.finish()
        if spec.figures:
            with reporter.without("report page not written"):
                _write_report(context)
            with reporter.without("comparison figures not drawn"), reporter.announcing("figures  comparing trials ..."):
                figures.finish([one.drawing for one in comparisons])
                for one in comparisons:
                    one.drawing.result()
                    context.events.log_comparison(one.trial, one.folder)


def _write_report(context: SearchContext) -> None:
    """Write the page of ``python -m search.report``, here and to MLflow."""
    from search.reporting.html.load import read_search  # only here: its libraries take a second to load
    from search.reporting.html.render import REPORT, render_page

    directory, reporter = context.directory, context.reporter
    with reporter.announcing("report   drawing the page ..."):
        page = render_page(read_search(directory.storage, directory.path.name, "finished"))
    write_atomically(directory.path / REPORT, page)
    context.events.log_text(page, REPORT)
    reporter.print_line(f"report   {directory.path / REPORT}")


def _as_json(leaderboard: Leaderboard) -> str:
    return jsonlib.dumps(leaderboard.as_dict(), indent=2)
