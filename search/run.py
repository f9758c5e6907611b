"""One search, from the command line to the leaderboard: python -m search.run WORKLOAD."""

from __future__ import annotations

import json as jsonlib
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro
from rich.console import Console

from search.errors import SearchError, TrackingError, UsageError, first_line, without_passwords
from search.folder import SearchFolder
from search.gallery import draw_gallery
from search.leaderboard import Leaderboard, make_leaderboard
from search.plan import Plan, make_plan
from search.progress import Progress
from search.records import Outcome, Recorder, TrialRecord
from search.resources import Share, gpu_names, ray_session, share_of
from search.sampler import OptunaSearcher, make_sampler, open_study
from search.settings import Budget, Method, Site, seconds
from search.summary import Summary
from search.tracking import SearchRun, TrialLogger, open_experiment
from search.tuner import Brake, make_scheduler, make_tuner
from search.workloads import WORKLOADS, Data, Workload
from trainables.errors import DataError
from trainables.files import DataSettings

COMPLETE, NOTHING_COMPLETE, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130

S = TypeVar("S", bound=DataSettings)


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
        console.print("interrupted at once; if trials had run, the same command goes on with --name NAME --resume")
        return INTERRUPTED
    if code == INTERRUPTED:
        again = ["python", "-m", "search.run", *arguments]
        again += [] if command.site.name else ["--name", plan.name]
        again += [] if command.site.resume else ["--resume"]
        Summary(console).say(
            f"interrupted: every trial keeps its last whole epoch. Go on with:\n{without_passwords(shlex.join(again))}"
        )
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
    """Load, connect, fit, report; returns the exit code."""
    site, storage, summary = command.site, command.site.storage.resolve(), Summary(console)
    folder = SearchFolder(storage, plan.name)
    folder.check(site.resume)
    _check_writable(command.json)
    known = _known(folder, plan) if site.resume else []
    data = plan.workload.load_data(command.data, (site.cache or storage / "cache").resolve())
    baselines = plan.workload.baselines(data)
    experiment = open_experiment(site.server, storage, plan.workload.name)
    brake = Brake(seconds(command.budget.time_limit) if command.budget.time_limit else None)
    summary.announce(plan, command.budget, command.method, site, data)
    with ray_session(site.address) as nodes:
        share = share_of(site, nodes, command.budget.max_concurrent, plan.samples)
        summary.device(share, gpu_names(nodes))
        with _parent_run(experiment, plan, command, data, share, folder) as parent:
            logger = TrialLogger(
                parent, name=plan.name, objective=plan.objective, objective_version=data.objective_version
            )
            records = _fit(plan, command, data, share, folder, known, logger, brake, console)
            parent.interrupted = brake.reason == "interrupted"
            leaderboard = make_leaderboard(plan, records, baselines, data.objective_version)
            _keep(leaderboard, parent, folder.path / "leaderboard.json", command.json)
            summary.conclude(leaderboard, folder.path, site)
            try:
                draw_gallery(plan, leaderboard, records, logger)
            except Exception as error:  # figures must not cost the search its good end
                summary.say(f"warning  comparison figures not drawn: {type(error).__name__}: {first_line(error)}")
    summary.tell_failures(parent.failures)
    if parent.interrupted:
        return INTERRUPTED
    return COMPLETE if leaderboard.best else NOTHING_COMPLETE


def _known(folder: SearchFolder, plan: Plan) -> list[TrialRecord]:
    known = folder.records()
    if len(known) >= plan.samples and not any(record.outcome == "interrupted" for record in known):
        raise UsageError(f"--resume: all {plan.samples} trials of search {plan.name!r} have ended.")
    return known


def _parent_run(
    experiment: tuple[Any, str], plan: Plan, command: Command[Any], data: Data, share: Share, folder: SearchFolder
) -> SearchRun:
    """The search's folder and its MLflow run: new ones, or those of the search that is resumed."""
    if not command.site.resume:
        folder.claim()
    try:
        parent = SearchRun(
            *experiment,
            name=plan.name,
            settings=_settings(plan, command, share),
            tags={
                "workload": plan.workload.name,
                "objective": plan.objective,
                "objective_version": data.objective_version,
            },
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
    searcher = OptunaSearcher(
        open_study(folder.path, plan.name, plan.mode, make_sampler(method.sampler, budget.seed, len(known))),
        plan.space,
        fixed={"epochs": plan.epochs},
        trials=plan.trials,
        objective=plan.objective,
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
                objective=plan.objective,
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


def _check_writable(file: Path | None) -> None:
    """Before the first trial, not after the last."""
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a").close()
    except OSError as error:
        raise UsageError(f"--json {file}: cannot be written: {error.strerror}.") from error


if __name__ == "__main__":
    sys.exit(main())
