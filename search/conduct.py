"""Conducts one search, from a settled plan to its leaderboard."""

from __future__ import annotations

import json as jsonlib
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from search.branches import Branches, find_branches
from search.command import Command
from search.delivery import PATIENCE_S, Delivery
from search.disk import write_atomically
from search.errors import TrackingError, UsageError, first_line
from search.folder import LEADERBOARD, SearchFolder
from search.gallery import draw_gallery
from search.journal import Journal
from search.leaderboard import Leaderboard, make_leaderboard
from search.outbox import Outbox
from search.plan import Plan
from search.progress import Progress
from search.records import Outcome, Recorder, TrialRecord
from search.resources import Share, gpu_names, ray_session, share_of
from search.sampler import OptunaSearcher, make_sampler, open_study, read_study
from search.scribe import Scribe
from search.settings import Site, seconds
from search.summary import Summary
from search.tracking import (
    Experiment,
    MlflowTarget,
    RunFacts,
    client_of,
    create_search_run,
    open_experiment,
    system_metrics,
)
from search.tuner import Brake, make_scheduler, make_tuner
from search.warm import WarmStart, warm_start
from search.workloads import Data

COMPLETE, NOTHING_COMPLETE, INTERRUPTED = 0, 1, 130  # exit codes
SHORT_PATIENCE_S = 5.0  # with a server that is away, when somebody waits for us to leave
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # Ctrl-C, a batch system's end, its warning before the end


@dataclass(frozen=True)
class Conducted:
    """What a search leaves to whoever started it."""

    code: int
    leaderboard: Leaderboard
    run_id: str  # of its MLflow run


def conduct(plan: Plan, command: Command[Any], console: Console, tags: Mapping[str, str] | None = None) -> Conducted:
    """Load, connect, fit, report; goes on with an earlier process's search where the flags ask for it.

    Parameters
    ----------
    tags : mapping of str to str, optional
        Put on the MLflow runs of the search and of its trials, beside the usual ones.
    """
    folder = SearchFolder(command.site.storage.resolve(), plan.name)
    check_writable(command.json)
    with folder.held():
        plan, resumed = _settled(plan, command.site, folder)
        if resumed and (ended := finished(plan, folder)):
            return _tell_finished(ended, plan, command, folder, Summary(console))
        return _run(plan, command, console, folder, resumed, tags or {})


def _settled(plan: Plan, site: Site, folder: SearchFolder) -> tuple[Plan, bool]:
    """The plan with its number of trials, and whether a search goes on."""
    if site.resume == "no" and not plan.added:
        folder.refuse_if_taken()
        return plan, False
    if not folder.begun:
        if plan.added or (site.resume == "yes" and not (folder.path / "token").exists()):
            raise UsageError(f"--resume: no search named {plan.name!r} is in {folder.path.parent}.")
        return plan, False
    folder.mend()
    before = int(folder.description()["trials"])
    if not plan.added:
        return replace(plan, trials=max(before, plan.trials) if plan.trials_asked else before), True
    if not folder.ended(before + len(plan.space.presets)):
        return replace(plan, trials=before), True  # of a job that died: what it was to add is counted already
    return replace(plan, trials=before + plan.trials), True


def finished(plan: Plan, folder: SearchFolder, all_trials: bool = True) -> Conducted | None:
    """What a search left, if nothing is left to do in it; without ``all_trials`` a time limit may have cut it short."""
    if not (folder.path / LEADERBOARD).exists() or not folder.ended(plan.samples if all_trials else 0):
        return None
    folder.require_same(plan)
    leaderboard = Leaderboard.from_dict(jsonlib.loads((folder.path / LEADERBOARD).read_text()))
    code = COMPLETE if leaderboard.best else NOTHING_COMPLETE
    return Conducted(code, leaderboard, folder.description()["facts"]["run_id"])


def _tell_finished(
    ended: Conducted, plan: Plan, command: Command[Any], folder: SearchFolder, summary: Summary
) -> Conducted:
    summary.say(f"search   {plan.name}: all its trials have ended; --trials +N adds more")
    summary.conclude(ended.leaderboard, folder.path, command.site)
    _keep(ended.leaderboard, command.json)
    return ended


def _run(
    plan: Plan, command: Command[Any], console: Console, folder: SearchFolder, resumed: bool, tags: Mapping[str, str]
) -> Conducted:
    site, storage, summary = command.site, command.site.storage.resolve(), Summary(console)
    known = folder.records() if resumed else []
    data = plan.workload.load_data(command.data, (site.cache or storage / "cache").resolve())
    experiment = _experiment(plan, site, folder, resumed, summary)
    before = folder.description()["branches"] if resumed else ()
    branches = _branches(plan, command.method.branches, data, experiment, before)
    if plan.workload.join:
        data = plan.workload.join(data, branches.models)
    warm = _warm(plan, command, data, folder, experiment)
    if resumed:
        folder.require_same(plan, data)
        folder.set_trials(plan.trials)
    baselines, references = plan.workload.baselines(data), plan.workload.references(data)
    brake = Brake(seconds(command.budget.time_limit) if command.budget.time_limit else None)
    lines = [*data.summary, *branches.lines, *warm.lines]
    summary.announce(plan, command.budget, command.method, site, lines, [*branches.warnings, *warm.warnings])
    with ray_session(site.address) as nodes:
        share = share_of(site, nodes, command.budget.max_concurrent, plan.samples)
        summary.device(share, gpu_names(nodes))
        facts = _facts(experiment, plan, command, data, share, folder, resumed, branches, tags)
        outbox = Outbox(folder.path)
        scribe = Scribe(Journal(folder.journal), outbox)
        target = MlflowTarget(experiment.client, facts, plan.goal, outbox)
        delivery = Delivery(folder.journal, target, summary.say)
        with _told(scribe, delivery, brake), system_metrics(experiment, facts.run_id, resumed):
            if resumed:
                scribe.resumed()
            else:
                scribe.text(jsonlib.dumps(plan.space.as_dict(), indent=2), "space.json")
            records = _fit(plan, command, data, share, folder, known, warm, scribe, delivery, brake, console)
            leaderboard = make_leaderboard(plan, records, baselines, data.objective_version, references)
            _keep(leaderboard, folder.path / LEADERBOARD, command.json)
            scribe.text(jsonlib.dumps(leaderboard.as_dict(), indent=2), "leaderboard.json")
            scribe.text(leaderboard.as_csv(), "leaderboard.csv")
            scribe.result(leaderboard)
            summary.conclude(leaderboard, folder.path, site)
            if brake.reason != "interrupted":
                _draw(plan, leaderboard, records, scribe, summary)
    summary.tell_delivery(delivery, plan.name, site)
    code = COMPLETE if leaderboard.best else NOTHING_COMPLETE
    return Conducted(INTERRUPTED if brake.reason == "interrupted" else code, leaderboard, facts.run_id)


@contextmanager
def _told(scribe: Scribe, delivery: Delivery, brake: Brake) -> Iterator[None]:
    """Whatever happens inside is told to MLflow, as far as it answers; how it ended, too."""
    delivery.start()
    status = "FAILED"
    try:
        yield
        status = "KILLED" if brake.reason == "interrupted" else "FINISHED"
    finally:
        scribe.end(status)
        delivery.close(SHORT_PATIENCE_S if status == "KILLED" else PATIENCE_S)


def _draw(plan: Plan, leaderboard: Leaderboard, records: list[TrialRecord], scribe: Scribe, summary: Summary) -> None:
    try:
        draw_gallery(plan, leaderboard, records, scribe)
    except Exception as error:  # figures must not cost the search its good end
        summary.say(f"warning  comparison figures not drawn: {type(error).__name__}: {first_line(error)}")


def _experiment(plan: Plan, site: Site, folder: SearchFolder, resumed: bool, summary: Summary) -> Experiment:
    """The workload's experiment. A new search needs a server that answers; one that goes on does not."""
    try:
        return open_experiment(site.server, site.storage.resolve(), plan.workload.name)
    except TrackingError as error:
        if not resumed:
            raise
        summary.say(f"warning  {error}\nwarning  the search goes on; what it logs waits in its journal")
        experiment_id = folder.description()["facts"]["experiment_id"]
        return Experiment(client_of(site.server, site.storage.resolve()), experiment_id)


def _branches(plan: Plan, named: Sequence[str], data: Data, experiment: Experiment, before: Sequence[str]) -> Branches:
    """The models that the workload builds on: those named now, or else those of the search that goes on."""
    if named and not plan.workload.builds_on:
        raise UsageError(f"--branches: {plan.workload.name} builds on no other model. Leave it out.")
    return find_branches(experiment.client, plan.workload.builds_on, named or before, data.fingerprint)


def _warm(plan: Plan, command: Command[Any], data: Data, folder: SearchFolder, experiment: Experiment) -> WarmStart:
    """Trials of earlier searches, for a new study; one that goes on has its own beside it."""
    method = command.method
    if not method.warm_from or read_study(folder.path, plan.name) is not None:
        return WarmStart()
    return warm_start(method.warm_from, plan, method.sampler, data, command.site.storage.resolve(), experiment)


def _facts(
    experiment: Experiment,
    plan: Plan,
    command: Command[Any],
    data: Data,
    share: Share,
    folder: SearchFolder,
    resumed: bool,
    branches: Branches,
    more_tags: Mapping[str, str],
) -> RunFacts:
    """What the search's MLflow runs have in common: of a new run, or as its folder keeps it."""
    if resumed:
        return RunFacts(**folder.description()["facts"])
    tags = {
        "search": plan.name,
        "objective": ",".join(plan.goal.objectives),
        "objective_version": data.objective_version,
        **branches.tags,
        **more_tags,
    }
    facts = create_search_run(
        experiment,
        name=plan.name,
        token=folder.token(),
        settings=_settings(plan, command, share),
        tags={"workload": plan.workload.name, **tags},
        fingerprint=data.fingerprint,
        source="\n".join(data.summary),
    )
    folder.describe(plan, data, asdict(facts), branches.runs)
    return facts


def _fit(
    plan: Plan,
    command: Command[Any],
    data: Data,
    share: Share,
    folder: SearchFolder,
    known: list[TrialRecord],
    warm: WarmStart,
    scribe: Scribe,
    delivery: Delivery,
    brake: Brake,
    console: Console,
) -> list[TrialRecord]:
    """Run all trials; whatever happens, every one of them is closed in the study and in the tracking."""
    budget, method = command.budget, command.method
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
    with Progress(console, plan, share.concurrent, delivery, known) as progress, _signals(brake, console):
        mutable = plan.workload.mutable if plan.scheduler == "pbt" else ()
        recorder = Recorder([scribe, searcher, progress], mutable, known)
        with ExitStack() as closing:
            closing.callback(lambda: searcher.close(interrupted=brake.reason == "interrupted"))
            closing.callback(lambda: recorder.close(*_end(brake)))
            if searcher.left:
                make_tuner(
                    plan.workload,
                    data,
                    searcher,
                    recorder,
                    make_scheduler(plan.scheduler, plan.workload, plan.space.distributions(), budget.seed),
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
def _signals(brake: Brake, console: Console) -> Iterator[None]:
    """A signal once ends the search in good order, so that it can be gone on with; Ctrl-C twice, at once."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def pull(number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, before[signal.SIGINT])
        brake.pull("interrupted")
        console.print(f"{signal.Signals(number).name}: closing the running trials; Ctrl-C to leave at once")

    for number in _SIGNALS:
        signal.signal(number, pull)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
        "warm_from": ", ".join(method.warm_from) or None,
        "scheduler": plan.scheduler,
        "limits": ", ".join(f"{name}={limit:g}" for name, limit in plan.goal.limits.items()),
        "presets": ", ".join(plan.space.presets) or "none",
        "searched": ", ".join(sorted(plan.space.distributions())),
        "held": ", ".join(f"{name}={value}" for name, value in plan.space.held.items()),
        **command.data.model_dump(mode="json", exclude={"data", "holdout"}),
    }


def _keep(leaderboard: Leaderboard, *files: Path | None) -> None:
    for file in filter(None, files):
        write_atomically(file, jsonlib.dumps(leaderboard.as_dict(), indent=2))


def check_writable(file: Path | None) -> None:
    """Before the first trial, not after the last."""
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a").close()
    except OSError as error:
        raise UsageError(f"--json {file}: cannot be written: {error.strerror}.") from error
