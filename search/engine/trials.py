"""Runs the trials of a search, and whatever happens closes every one of them in the study and in the records."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from rich.console import Console

from search.config.flags import Command
from search.config.provenance import git_commit
from search.config.spec import Plan
from search.engine.prepare import PreparedSearch
from search.reporting.progress import Progress
from search.reporting.summary import Summary
from search.storage.disk import DiskSpaceGuard
from search.storage.remote.mirror import Mirror
from search.storage.retention import CheckpointRetention, RetentionPolicy, largest_checkpoint_bytes
from search.storage.search_dir import SearchDir
from search.storage.trial_record import Outcome, TrialRecord
from search.tracking.events import EventRecorder
from search.tracking.exporter import MlflowExporter, NullExporter
from search.tuning.failures import FailureWatch
from search.tuning.optuna_searcher import OptunaSearcher, make_sampler, open_study
from search.tuning.recorder import Recorder
from search.tuning.resources import Share
from search.tuning.tuner import StopController, checkpoints_kept, make_scheduler, make_tuner

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # Ctrl-C, a batch system's end, its warning before the end


def run_trials(
    plan: Plan,
    command: Command[Any],
    opened: PreparedSearch,
    share: Share,
    folder: SearchDir,
    event_recorder: EventRecorder,
    exporter: MlflowExporter | NullExporter,
    stop_controller: StopController,
    console: Console,
) -> list[TrialRecord]:
    """Run all trials; whatever happens, every one of them is closed in the study and in the tracking."""
    budget, method, known, warm = command.budget, command.method, opened.known, opened.warm
    sampler = make_sampler(method.sampler, budget.seed, len(known) + len(warm.trials))
    searcher = OptunaSearcher(
        open_study(folder.path, plan.name, plan.goal.objectives.values(), sampler, warm.trials),
        plan.space,
        fixed={"epochs": plan.epochs},
        trials=plan.trials,
        goal=plan.goal,
        seed=budget.seed,
        records=known,
    )
    with Progress(console, plan, share.concurrent, exporter, known) as progress, _signals(stop_controller, console):
        mutable = plan.workload.mutable if plan.scheduler == "pbt" else ()
        say = Summary(console).say
        retention = _retention(plan, command, known, folder, say)
        watch = FailureWatch(stop_controller, budget.max_failures, known)
        recorder = Recorder(
            [event_recorder, searcher, *_mirrors(folder), progress, retention, watch], mutable, known, git_commit()
        )
        recorder.catch_up(searcher.ended())
        here = None if folder.mirror else lambda: largest_checkpoint_bytes(recorder.records.values())
        stop_controller.guard = DiskSpaceGuard(folder.path, say, here)
        with ExitStack() as closing:
            closing.callback(retention.close)
            closing.callback(lambda: searcher.close(interrupted=stop_controller.reason == "interrupted"))
            closing.callback(lambda: recorder.close(*_end(stop_controller)))
            if searcher.left:
                make_tuner(
                    plan.workload,
                    opened.data,
                    searcher,
                    recorder,
                    make_scheduler(plan.scheduler, plan.workload, plan.space.distributions(), budget.seed),
                    goal=plan.goal,
                    share=share,
                    retries=budget.retries,
                    stop_controller=stop_controller,
                    place=folder.storage_path,
                ).fit()
    return list(recorder.records.values())


def _retention(
    plan: Plan, command: Command[Any], known: list[TrialRecord], folder: SearchDir, say: Callable[[str], object]
) -> CheckpointRetention:
    mirror = folder.mirror
    policy = RetentionPolicy(
        command.site.keep,
        per_running_trial=checkpoints_kept(plan.scheduler) if mirror else None,
        only_at_end=plan.scheduler == "pbt",
    )
    return CheckpointRetention(
        plan.goal,
        policy,
        folder.storage_path,
        say,
        known=known,
        safe=lambda: mirror is None or not mirror.behind,
    )


def _mirrors(folder: SearchDir) -> list[Mirror]:
    """Who copies to a URL what was written, before anything is deleted there."""
    return [folder.mirror] if folder.mirror else []


def _end(stop_controller: StopController) -> tuple[Outcome, str]:
    """What became of the trials that were running at the end."""
    return (
        ("interrupted", "")
        if stop_controller.reason == "interrupted"
        else ("stopped_early", stop_controller.reason or "search ended")
    )


@contextmanager
def _signals(stop_controller: StopController, console: Console) -> Iterator[None]:
    """A signal once ends the search in good order, so that it can be gone on with; Ctrl-C twice, at once."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def request_stop(number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, before[signal.SIGINT])
        stop_controller.request_stop("interrupted")
        console.print(f"{signal.Signals(number).name}: closing the running trials; Ctrl-C to leave at once")

    for number in _SIGNALS:
        signal.signal(number, request_stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
