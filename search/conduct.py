"""Conducts one search, from a settled plan to its leaderboard."""

from __future__ import annotations

import json as jsonlib
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from search.branches import find_models
from search.command import Command
from search.errors import TrackingError, UsageError, first_line
from search.folder import SearchFolder
from search.gallery import draw_gallery
from search.leaderboard import Leaderboard, make_leaderboard
from search.plan import Plan
from search.progress import Progress
from search.records import Outcome, Recorder, TrialRecord
from search.resources import Share, gpu_names, ray_session, share_of
from search.sampler import OptunaSearcher, make_sampler, open_study
from search.settings import seconds
from search.summary import Summary
from search.tracking import Experiment, SearchRun, TrialLogger, open_experiment
from search.tuner import Brake, make_scheduler, make_tuner
from search.workloads import Data

COMPLETE, NOTHING_COMPLETE, INTERRUPTED = 0, 1, 130  # exit codes


@dataclass(frozen=True)
class Conducted:
    """What a search leaves to whoever started it."""

    code: int
    leaderboard: Leaderboard
    run_id: str  # of its MLflow run


def conduct(plan: Plan, command: Command[Any], console: Console, tags: Mapping[str, str] | None = None) -> Conducted:
    """Load, connect, fit, report.

    Parameters
    ----------
    tags : mapping of str to str, optional
        Put on the MLflow runs of the search and of its trials, beside the usual ones.
    """
    site, storage, summary = command.site, command.site.storage.resolve(), Summary(console)
    folder = SearchFolder(storage, plan.name)
    folder.check(site.resume)
    check_writable(command.json)
    known = _known(folder, plan) if site.resume else []
    data = plan.workload.load_data(command.data, (site.cache or storage / "cache").resolve())
    experiment = open_experiment(site.server, storage, plan.workload.name)
    data, branch_lines = _join(plan, command, data, experiment)
    baselines, references = plan.workload.baselines(data), plan.workload.references(data)
    brake = Brake(seconds(command.budget.time_limit) if command.budget.time_limit else None)
    summary.announce(plan, command.budget, command.method, site, [*data.summary, *branch_lines])
    with ray_session(site.address) as nodes:
        share = share_of(site, nodes, command.budget.max_concurrent, plan.samples)
        summary.device(share, gpu_names(nodes))
        about = {"objective": ",".join(plan.goal.objectives), "objective_version": data.objective_version}
        about |= {"search": plan.name, **(tags or {})}
        with _parent_run(experiment, plan, command, data, share, folder, about) as parent:
            logger = TrialLogger(parent, plan.goal, about)
            records = _fit(plan, command, data, share, folder, known, logger, brake, console)
            parent.interrupted = brake.reason == "interrupted"
            leaderboard = make_leaderboard(plan, records, baselines, data.objective_version, references)
            _keep(leaderboard, parent, folder.path / "leaderboard.json", command.json)
            logger.log_result(leaderboard)
            summary.conclude(leaderboard, folder.path, site)
            try:
                draw_gallery(plan, leaderboard, records, logger)
            except Exception as error:  # figures must not cost the search its good end
                summary.say(f"warning  comparison figures not drawn: {type(error).__name__}: {first_line(error)}")
    summary.tell_failures(parent.failures)
    code = INTERRUPTED if parent.interrupted else COMPLETE if leaderboard.best else NOTHING_COMPLETE
    return Conducted(code, leaderboard, parent.run_id)


def finished(plan: Plan, folder: SearchFolder) -> Conducted | None:
    """What a search of this name left, if nothing is left to do in it."""
    if not (folder.path / "leaderboard.json").exists() or not _all_ended(folder.records(), plan):
        return None
    leaderboard = Leaderboard.from_dict(jsonlib.loads((folder.path / "leaderboard.json").read_text()))
    return Conducted(COMPLETE if leaderboard.best else NOTHING_COMPLETE, leaderboard, folder.search_run_id())


def _join(plan: Plan, command: Command[Any], data: Data, experiment: Experiment) -> tuple[Data, list[str]]:
    """The data with the models that the workload builds on, and lines that say which."""
    named, join = command.method.branches, plan.workload.join
    if join is None:
        if named:
            raise UsageError(f"--branches: {plan.workload.name} builds on no other model. Leave it out.")
        return data, []
    models, lines = find_models(experiment.client, plan.workload.builds_on, named, data.fingerprint)
    return join(data, models), lines


def _all_ended(known: list[TrialRecord], plan: Plan) -> bool:
    return len(known) >= plan.samples and not any(record.outcome == "interrupted" for record in known)


def _known(folder: SearchFolder, plan: Plan) -> list[TrialRecord]:
    known = folder.records()
    if _all_ended(known, plan):
        raise UsageError(f"--resume: all {plan.samples} trials of search {plan.name!r} have ended.")
    return known


def _parent_run(
    experiment: Experiment,
    plan: Plan,
    command: Command[Any],
    data: Data,
    share: Share,
    folder: SearchFolder,
    tags: Mapping[str, str],
) -> SearchRun:
    """The search's folder and its MLflow run: new ones, or those of the search that is resumed."""
    if not command.site.resume:
        folder.claim()
    try:
        parent = SearchRun(
            experiment,
            name=plan.name,
            settings=_settings(plan, command, share),
            tags={"workload": plan.workload.name, **tags},
            fingerprint=data.fingerprint,
            source="\n".join(data.summary),
            run_id=folder.run_id(plan, data) if command.site.resume else None,
        )
    except TrackingError:
        folder.release()
        raise
    if not command.site.resume:
        folder.describe(plan, data, parent.run_id)
        parent.log_text(jsonlib.dumps(plan.space.as_dict(), indent=2), "space.json")
    return parent


def _fit(
    plan: Plan,
    command: Command[Any],
    data: Data,
    share: Share,
    folder: SearchFolder,
    known: list[TrialRecord],
    logger: TrialLogger,
    brake: Brake,
    console: Console,
) -> list[TrialRecord]:
    """Run all trials; whatever happens, every one of them is closed in the study and in the tracking."""
    budget, method = command.budget, command.method
    sampler = make_sampler(method.sampler, budget.seed, len(known))
    searcher = OptunaSearcher(
        open_study(folder.path, plan.name, plan.goal.objectives.values(), sampler),
        plan.space,
        fixed={"epochs": plan.epochs},
        trials=plan.trials,
        goal=plan.goal,
        seed=budget.seed,
        records=known,
    )
    with Progress(console, plan, share.concurrent, known) as progress, _ctrl_c(brake, console):
        mutable = plan.workload.mutable if method.scheduler == "pbt" else ()
        recorder = Recorder([searcher, logger, progress], mutable, known)
        with ExitStack() as closing:
            closing.callback(lambda: folder.save(recorder.records.values()))
            closing.callback(lambda: searcher.close(interrupted=brake.reason == "interrupted"))
            closing.callback(lambda: recorder.close(*_end(brake)))
            make_tuner(
                plan.workload,
                data,
                searcher,
                recorder,
                make_scheduler(method.scheduler, plan.workload, plan.space.distributions(), budget.seed),
                goal=plan.goal,
                share=share,
                retries=budget.retries,
                brake=brake,
                folder=folder.path,
            ).fit()
    return list(recorder.records.values())


def _end(brake: Brake) -> tuple[Outcome, str]:
    """What became of the trials that were running at the end."""
    return ("interrupted", "") if brake.reason == "interrupted" else ("stopped_early", brake.reason or "search ended")


@contextmanager
def _ctrl_c(brake: Brake, console: Console) -> Iterator[None]:
    """Ctrl-C once ends the search in good order; twice, at once."""
    before = signal.getsignal(signal.SIGINT)

    def pull(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        brake.pull("interrupted")
        console.print("interrupted: closing the running trials; Ctrl-C again to leave at once")

    signal.signal(signal.SIGINT, pull)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _settings(plan: Plan, command: Command[Any], share: Share) -> dict[str, Any]:
    """What a person compares between searches. No address and no URI: those may hold passwords."""
    budget, method = command.budget, command.method
    return {
        "trials": plan.trials,
        "epochs": plan.epochs,
        "seed": budget.seed,
        "retries": budget.retries,
        "time_limit": budget.time_limit,
        "max_concurrent": share.concurrent,
        "cpus_per_trial": share.cpus,
        "gpus_per_trial": share.gpus,
        "sampler": method.sampler,
        "scheduler": method.scheduler,
        "limits": ", ".join(f"{name}={limit:g}" for name, limit in plan.goal.limits.items()),
        "presets": ", ".join(plan.space.presets) or "none",
        "searched": ", ".join(sorted(plan.space.distributions())),
        "held": ", ".join(f"{name}={value}" for name, value in plan.space.held.items()),
        **command.data.model_dump(mode="json", exclude={"data", "holdout"}),
    }


def _keep(leaderboard: Leaderboard, parent: SearchRun, *files: Path | None) -> None:
    text = jsonlib.dumps(leaderboard.as_dict(), indent=2)
    for file in filter(None, files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    parent.log_text(text, "leaderboard.json")
    parent.log_text(leaderboard.as_csv(), "leaderboard.csv")


def check_writable(file: Path | None) -> None:
    """Before the first trial, not after the last."""
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a").close()
    except OSError as error:
        raise UsageError(f"--json {file}: cannot be written: {error.strerror}.") from error
