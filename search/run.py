"""One search, from the command line to the leaderboard: python -m search.run WORKLOAD."""

from __future__ import annotations

import json as jsonlib
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro
from rich.console import Console

from search.errors import SearchError, UsageError
from search.folder import SearchFolder
from search.gallery import draw_gallery
from search.leaderboard import Leaderboard, make_leaderboard
from search.plan import Plan, make_plan
from search.progress import Progress
from search.records import Recorder, TrialRecord
from search.resources import Share, on_network_file_system, ray_session, share_of
from search.sampler import OptunaSearcher, make_sampler, open_study
from search.settings import Budget, Method, Site, seconds
from search.tracking import SearchRun, TrialLogger, open_experiment
from search.tuner import Brake, make_scheduler, make_tuner
from search.workloads import WORKLOADS, Data, Workload
from trainables.errors import DataError
from trainables.files import DataSettings

COMPLETE, NOTHING_COMPLETE, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130

S = TypeVar("S", bound=DataSettings)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Command(Generic[S]):
    """The flags of one search."""

    data: S
    budget: Budget = field(default_factory=Budget)
    method: Method = field(default_factory=Method)
    site: Site = field(default_factory=Site)
    json: Annotated[Path | None, tyro.conf.arg(help="write the leaderboard to this file as well")] = None


def main(arguments: list[str] | None = None) -> int:
    """Run one search; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    try:
        workload, command = parse(arguments)
        plan = make_plan(workload, command.budget, command.method, command.site, demo=not command.data.data)
        code = search(plan, command, console)
    except (SearchError, DataError) as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return error.exit_code if isinstance(error, SearchError) else WRONG_INPUT
    except KeyboardInterrupt:
        console.print("interrupted before the first trial: nothing to go on with, start again")
        return INTERRUPTED
    if code == INTERRUPTED:
        again = ["python", "-m", "search.run", *arguments]
        again += [] if command.site.name else ["--name", plan.name]
        again += [] if command.site.resume else ["--resume"]
        _printer(console)(f"interrupted: every trial keeps its last whole epoch. Go on with:\n{shlex.join(again)}")
    return code


def parse(arguments: list[str]) -> tuple[Workload, Command[Any]]:
    """Flags to settings; wrong words end the program with code 2, as --help does with 0."""

    def of(workload: Workload) -> Any:
        def flags(command: Any) -> tuple[Workload, Command[Any]]:
            return workload, command

        flags.__annotations__["command"] = Command[workload.settings]  # type: ignore[name-defined]
        flags.__doc__ = workload.title
        return flags

    return tyro.extras.subcommand_cli_from_dict(  # type: ignore[no-any-return]
        {name: of(workload) for name, workload in WORKLOADS.items()},
        prog="python -m search.run",
        description="Run one hyperparameter search. Its flags: python -m search.run WORKLOAD --help",
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
    )


def search(plan: Plan, command: Command[Any], console: Console) -> int:
    """Load, connect, fit, report."""
    workload, site, storage = plan.workload, command.site, command.site.storage.resolve()
    folder = SearchFolder(storage, plan.name)
    folder.check(site.resume)
    data = workload.load_data(command.data, (site.cache or storage / "cache").resolve())
    baselines = workload.baselines(data)
    experiment = open_experiment(site.tracking_uri, storage, workload.name)
    known = folder.records() if site.resume else []
    if len(known) >= plan.samples and not any(record.outcome == "interrupted" for record in known):
        raise UsageError(f"--resume: all {plan.samples} trials of search {plan.name!r} have ended.")
    brake = Brake(seconds(command.budget.time_limit) if command.budget.time_limit else None)
    with ray_session(site.address) as resources:
        share = share_of(site, resources, command.budget.max_concurrent, plan.samples)
        _announce(_printer(console), plan, command, data, share, storage)
        with SearchRun(
            *experiment,
            name=plan.name,
            settings=_settings(plan, command, share),
            tags={
                "workload": workload.name,
                "objective": plan.objective,
                "objective_version": workload.objective_version,
            },
            fingerprint=data.fingerprint,
            source="\n".join(data.summary),
            run_id=folder.run_id(plan, data.fingerprint) if site.resume else None,
        ) as parent:
            if not site.resume:
                folder.claim()
                folder.describe(plan, data.fingerprint, parent.run_id)
                parent.log_text(jsonlib.dumps(plan.space.as_dict(), indent=2), "space.json")
            logger = TrialLogger(
                parent, name=plan.name, objective=plan.objective, objective_version=workload.objective_version
            )
            records = _fit(plan, command, data, share, folder, known, logger, brake, console)
            leaderboard = make_leaderboard(plan, records, baselines)
            draw_gallery(plan, leaderboard, records, logger)
            _keep(leaderboard, parent, folder.path / "leaderboard.json", command.json)
    _conclude(_printer(console), console, leaderboard, folder, command, parent)
    if brake.reason == "interrupted":
        return INTERRUPTED
    return COMPLETE if leaderboard.best else NOTHING_COMPLETE


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
    searcher = OptunaSearcher(
        open_study(folder.path, plan.name, plan.mode, make_sampler(method.sampler, budget.seed)),
        plan.space,
        fixed={"epochs": plan.epochs},
        trials=plan.trials,
        objective=plan.objective,
        seed=budget.seed,
        interrupted=[record for record in known if record.outcome == "interrupted"],
    )
    with Progress(console, plan, share.concurrent, known) as progress, _ctrl_c(brake, console):
        mutable = plan.workload.mutable if method.scheduler == "pbt" else ()
        recorder = Recorder([searcher, logger, progress], mutable, known)
        try:
            make_tuner(
                plan.workload,
                data,
                searcher,
                recorder,
                make_scheduler(method.scheduler, plan.workload, plan.space.distributions(), budget.seed),
                objective=plan.objective,
                share=share,
                retries=budget.retries,
                brake=brake,
                folder=folder.path,
            ).fit()
        finally:
            if brake.reason == "interrupted":
                recorder.close("interrupted", "")
            else:
                recorder.close("stopped_early", brake.reason or "the search ended")
            searcher.close()
            folder.save(recorder.records.values())
    return list(recorder.records.values())


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


# --- what is said and kept


def _printer(console: Console) -> Say:
    return lambda line: console.print(line, markup=False, soft_wrap=True)


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
        "presets": ", ".join(plan.space.presets) or "none",
        "searched": ", ".join(sorted(plan.space.distributions())),
        "held": ", ".join(f"{name}={value}" for name, value in plan.space.held.items()),
        **command.data.model_dump(mode="json", exclude={"data", "holdout"}),
    }


def _announce(say: Say, plan: Plan, command: Command[Any], data: Data, share: Share, storage: Path) -> None:
    """One line each for data, cache, device and budget."""
    budget, method = command.budget, command.method
    say(f"search   {plan.name}: {plan.workload.title}; {plan.objective} is {plan.mode}imised")
    if plan.demo:
        say("demo     no --data: the carried sample and a small budget; --data FILES takes yours and the report's own")
    for line in data.summary:
        say(f"data     {line}")
    device = f"{share.gpus:g} GPU" if share.gpus else "no GPU"
    say(f"device   {share.concurrent} trials at a time, each {share.cpus:g} CPU and {device}")
    presets = f"{len(plan.space.presets)} presets + {plan.trials} sampled trials, {plan.epochs} epochs each"
    limit = f", at most {budget.time_limit}" if budget.time_limit else ""
    say(f"budget   {presets}, sampler {method.sampler}, scheduler {method.scheduler}{limit}")
    if command.site.tracking_uri is None and on_network_file_system(storage):
        say(
            f"warning  {storage} is on a network file system, where SQLite locks badly: put --storage on a local disk, "
            "or start a server (see mlflow/README.md) and pass --tracking-uri"
        )


def _keep(leaderboard: Leaderboard, parent: SearchRun, *files: Path | None) -> None:
    text = jsonlib.dumps(leaderboard.as_dict(), indent=2)
    for file in filter(None, files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    parent.log_text(text, "leaderboard.json")
    parent.log_text(leaderboard.as_csv(), "leaderboard.csv")


def _conclude(
    say: Say,
    console: Console,
    leaderboard: Leaderboard,
    folder: SearchFolder,
    command: Command[Any],
    parent: SearchRun,
) -> None:
    console.print(leaderboard.as_table())
    for line in leaderboard.against_naive():
        say(line)
    outcomes = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(leaderboard.outcomes.items()))
    say(f"outcomes {outcomes or 'no trial ran'}")
    say(f"compute  {leaderboard.compute_hours:.2f} trial-hours; stopping early saved {leaderboard.saved_hours:.2f}")
    for failure in parent.failures[:3]:
        say(f"warning  not written to MLflow: {failure}")
    say(f"mlflow   {_how_to_look(command.site)}")
    say(f"files    {folder.path}")


def _how_to_look(site: Site) -> str:
    if site.tracking_uri is None:
        return f"make ui STORAGE={site.storage}, then http://127.0.0.1:5000"
    return "open the server of your --tracking-uri in a browser"


if __name__ == "__main__":
    sys.exit(main())
