"""Put the best model of a search, compared on the holdout, into the registry: python -m search.promote WORKLOAD."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from search.config.catalogue import find_workload
from search.config.redaction import first_line
from search.config.settings import Budget, ExecutionFlags, FixedShareFlags, Site, WhereFlags
from search.errors import SearchError, UsageError
from search.reporting.console import SafeConsole, libraries_logged, open_console, run_command
from search.reporting.summary import ConsoleReporter
from search.workload import Workload
from trainables.base.errors import DataError

if TYPE_CHECKING:
    from search.promotion.run import PromotionRequest

DONE, WRONG_INPUT, INTERRUPTED = 0, 2, 130  # exit codes


@dataclass(frozen=True)
class Flags:
    """Train the best trials of a search again with new seeds, evaluate them and the champion on the holdout, and make
    the best of them the champion if it is better. Exit codes: 0; 2 wrong usage or bad data; 3 the answer is no."""

    workload: Annotated[tyro.conf.Positional[str], tyro.conf.arg(help="workload of the search, as in search.run")]
    search: Annotated[str | None, tyro.conf.arg(help="name of the search; None: the last to end in good order")] = None
    top: Annotated[int, tyro.conf.arg(help="so many of its best complete trials are trained again")] = 3
    seeds: Annotated[int, tyro.conf.arg(help="how often each, with new seeds")] = 3
    confidence: Annotated[float, tyro.conf.arg(help="of the interval by which a candidate must be better")] = 0.95
    force: Annotated[str | None, tyro.conf.arg(metavar="REASON", help="promote in spite of the verdict; stored")] = None
    list: Annotated[bool, tyro.conf.arg(help="only show what was promoted")] = False
    rollback: Annotated[bool, tyro.conf.arg(help="only make the previous champion the champion again")] = False
    export: Annotated[Path | None, tyro.conf.arg(help="only write the champion's files into this new folder")] = None
    where: WhereFlags = field(default_factory=WhereFlags)
    share: FixedShareFlags = field(default_factory=FixedShareFlags)
    execution: ExecutionFlags = field(default_factory=ExecutionFlags)

    def check(self) -> None:
        """Raise UsageError for values out of range."""
        if self.top < 1 or self.seeds < 1:
            raise UsageError("--top, --seeds: expected at least 1 of each.")
        if not 0.5 <= self.confidence < 1:
            raise UsageError(f"--confidence {self.confidence}: expected a number from 0.5 to below 1, as 0.95.")
        if self.force is not None and len(self.force.split()) < 2:
            raise UsageError("--force: expected the reason, in words, for all users of the model.")
        if sum((self.list, self.rollback, self.export is not None)) > 1:
            raise UsageError("--list, --rollback, --export: one at a time.")

    @property
    def request(self) -> PromotionRequest:
        """What is asked of a promotion; raises UsageError for values out of range."""
        self.check()
        from search.promotion.run import PromotionRequest

        return PromotionRequest(self.search, self.top, self.seeds, self.confidence, self.force)

    @property
    def site(self) -> Site:
        return Site(**self.where.model_dump(), **self.share.model_dump())

    @property
    def budget(self) -> Budget:
        return Budget(**self.execution.model_dump())


def main(arguments: list[str] | None = None) -> int:
    """Promote a model, or show, roll back or export what was promoted; return the exit code."""
    console = open_console(160)
    flags = tyro.cli(Flags, prog="python -m search.promote", args=arguments, config=(tyro.conf.OmitArgPrefixes,))
    try:
        if flags.list or flags.rollback or flags.export:
            return _administer(flags, console)
        workload, request = workload_to_promote(flags.workload), flags.request
        return _promote(workload, request, flags, console)
    except (SearchError, DataError) as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return error.exit_code if isinstance(error, SearchError) else WRONG_INPUT
    except KeyboardInterrupt:
        console.print("interrupted at once: the same command resumes it")
        return INTERRUPTED


def _promote(workload: Workload, request: PromotionRequest, flags: Flags, console: SafeConsole) -> int:
    """Run a promotion; whatever ends it, say how it is resumed."""
    with ConsoleReporter(console).announcing("promote  loading the libraries ..."):
        from search.promotion.run import promote  # only here, as below: --help and a wrong flag need no libraries
    try:
        with libraries_logged(console.log_file):
            code = promote(workload, request, flags.site, flags.budget, console).code
    except (SearchError, DataError, KeyboardInterrupt):
        raise
    except BaseException as error:
        console.print(f"ended by {type(error).__name__}: {first_line(error)}. The same command resumes it")
        console.log_traceback()
        raise
    if code == INTERRUPTED:
        console.print("interrupted: the same command resumes it")
    return code


def _administer(flags: Flags, console: SafeConsole) -> int:
    """Show, roll back or export what was promoted."""
    workload, site, _ = workload_to_promote(flags.workload), flags.site, flags.request
    reporter = ConsoleReporter(console)
    with reporter.announcing("promote  loading the libraries ..."):
        from search.promotion.admin import export, roll_back, show
        from search.promotion.registry import Registry
        from search.storage.location import Storage
        from search.tracking.client import open_experiment
    with reporter.announcing("mlflow   opening the registry ..."):
        client = open_experiment(site.server, Storage.of(site).folder, workload.name).client
    registry = Registry(client, workload.name)
    if flags.rollback:
        roll_back(registry, console)
    if flags.export:
        export(registry, flags.export, console)
    else:
        show(registry, console)
    return DONE


def workload_to_promote(word: str) -> Workload:
    """Return the workload of this word; raises UsageError where there is none, or it has no promotion."""
    workload = find_workload(word)
    if workload.promoted_by is None:
        raise UsageError(
            f"Workload {workload.name} cannot be promoted: it gives no promotion, and the default one needs "
            "load(files) and a training with from_weights, score and predict, as TorchTraining has."
        )
    return workload


if __name__ == "__main__":
    run_command(main)
