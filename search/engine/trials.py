"""Run the trials of a search, and close every one of them in the study and in the records, whatever happens."""

from __future__ import annotations

import signal
from contextlib import AbstractContextManager, ExitStack

from search.config.provenance import git_commit
from search.config.spec import SearchSpec
from search.engine.context import PreparedSearch, SearchContext
from search.engine.race import run_race
from search.reporting.progress import Progress
from search.reporting.summary import ConsoleReporter
from search.storage.disk import DiskSpaceGuard
from search.storage.remote.mirror import Mirror
from search.storage.retention import CheckpointRetention, RetentionPolicy, largest_checkpoint_bytes
from search.storage.search_dir import SearchDir
from search.storage.trial_record import Outcome, TrialRecord, study_trials
from search.tuning.failures import FailureWatch
from search.tuning.optuna_searcher import OptunaSearcher
from search.tuning.recorder import Recorder
from search.tuning.resources import Share
from search.tuning.samplers import make_sampler
from search.tuning.stopping import StopController
from search.tuning.study import open_study
from search.tuning.tuner import TuneHooks, checkpoints_kept, make_tuner
from trainables.runtime import signals


def run_trials(spec: SearchSpec, prepared: PreparedSearch, share: Share, context: SearchContext) -> list[TrialRecord]:
    """Run all trials that are left, then the race; return the records of all."""
    directory, stop_controller, known = context.directory, context.stop_controller, prepared.known
    searcher = _searcher(spec, prepared, directory)
    with (
        Progress(context.reporter.console, spec, share.concurrent, context.exporter, known) as progress,
        _signals(stop_controller, context.reporter),
    ):
        retention = _retention(spec, known, directory, context.reporter)
        recorder = Recorder(
            [
                context.events,
                searcher,
                *([context.stacks] if context.stacks else []),
                context.figures,
                *_mirrors(directory),
                progress,
                retention,
                FailureWatch(stop_controller, spec.budget.max_failures, known),
            ],
            spec.workload.mutable if spec.scheduler == "pbt" else (),
            known,
            git_commit(),
        )
        context.figures.follow(retention.keeps, known)
        recorder.catch_up(searcher.ended())
        here = None if directory.mirror else lambda: largest_checkpoint_bytes(recorder.records.values())
        stop_controller.guard = DiskSpaceGuard(directory.path, context.reporter.print_line, here)
        with ExitStack() as closing:
            closing.callback(context.close_stacks)
            closing.callback(retention.close)
            closing.callback(lambda: searcher.close(interrupted=context.interrupted))
            closing.callback(lambda: recorder.close(*_end(stop_controller)))
            closing.enter_context(stop_controller.resumable())
            if searcher.left:
                hooks = TuneHooks(searcher, recorder, stop_controller, context.stacks)
                make_tuner(spec, prepared.data, share, directory.storage_path, hooks).fit()
            run_race(spec, prepared, share, context, recorder)
    return list(recorder.records.values())


def _searcher(spec: SearchSpec, prepared: PreparedSearch, directory: SearchDir) -> OptunaSearcher:
    warm = prepared.warm.trials
    sampler = make_sampler(spec.sampler, spec.seed, len(study_trials(prepared.known)) + len(warm))
    study = open_study(directory.path, spec.name, spec.goal.objectives.values(), sampler, warm)
    return OptunaSearcher(study, spec, prepared.known)


def _retention(
    spec: SearchSpec, known: list[TrialRecord], directory: SearchDir, reporter: ConsoleReporter
) -> CheckpointRetention:
    mirror = directory.mirror
    policy = RetentionPolicy(
        spec.site.keep_checkpoints,
        per_running_trial=checkpoints_kept(spec.scheduler) if mirror else None,
        only_at_end=spec.scheduler == "pbt",
    )
    return CheckpointRetention(
        spec.goal,
        policy,
        directory.storage_path,
        reporter.print_line,
        known=known,
        safe=lambda: mirror is None or not mirror.behind,
    )


def _mirrors(directory: SearchDir) -> list[Mirror]:
    """Return the listeners that copy to a URL what was written, before anything is deleted there."""
    return [directory.mirror] if directory.mirror else []


def _end(stop_controller: StopController) -> tuple[Outcome, str]:
    """Return what becomes of the trials that were running at the end."""
    if stop_controller.reason == "interrupted":
        return "interrupted", ""
    return "stopped_early", stop_controller.reason or "search ended"


def _signals(stop_controller: StopController, reporter: ConsoleReporter) -> AbstractContextManager[None]:
    """End the search in good order at a first signal, so that it can be resumed; at a second Ctrl-C at once.

    Only the main thread may set handlers; elsewhere ``StopController`` sees that the main thread has ended.
    """

    def request_stop(number: int, _frame: object) -> None:
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            signal.signal(signal.SIGINT, signals.interrupt)
        stop_controller.request_stop("interrupted")
        reporter.print_line(f"{signal.Signals(number).name}: closing the running trials; Ctrl-C to leave at once")

    return signals.handled(request_stop)
