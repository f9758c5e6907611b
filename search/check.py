"""Check whether a workload keeps the contract that searches rely on: python -m search.check WORKLOAD."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from pydantic import BaseModel, ConfigDict, Field

from search.errors import SearchError, UsageError
from search.reporting.console import open_console, run_command

if TYPE_CHECKING:
    from search.diagnostics.contract.subject import Subject

KEEPS, BREAKS, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130  # exit codes
_DESCRIPTION = (
    "Does a workload keep the contract that searches rely on? Small runs are trained, on simulated data or on --data. "
    "One line for each check: passed, skipped because the workload does not give what it is about, or failed, with "
    "what was found, the usual cause and the remedy. Exit code 0: none failed; 1: one did; 2: wrong usage or bad data."
)


class Flags(BaseModel):
    """What is checked, and on what."""

    model_config = ConfigDict(frozen=True)

    workload: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="WORKLOAD")] = Field(
        description="name of a workload, FILE.py:ATTRIBUTE or MODULE:ATTRIBUTE"
    )
    data: tuple[str, ...] = Field(
        (), description="small input files, as search.run takes them; none: the workload simulates data"
    )
    epochs: int = Field(4, ge=2, description="epochs of each run; a run of two passes by half of a schedule")
    only: tuple[str, ...] = Field((), description="checks to make, and what they build on; none: all")
    verbose: bool = Field(False, description="show the traceback of each failure")


def main(arguments: list[str] | None = None) -> int:
    """Run the checks and print what came of them; returns the exit code."""
    flags = tyro.cli(
        Flags, prog="python -m search.check", description=_DESCRIPTION, args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
    )  # fmt: skip
    console = open_console()
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _check(_subject(flags, Path(folder)), flags, console)
    except SearchError as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        console.print("interrupted: the checks without a line were not made")
        return INTERRUPTED


def _subject(flags: Flags, folder: Path) -> Subject:
    """Find the workload and its data. Raises UsageError."""
    from search.config.catalogue import find_workload  # here, so that --help answers at once
    from search.diagnostics.contract.given import simulation
    from search.diagnostics.contract.subject import Subject

    workload = find_workload(flags.workload)
    if not flags.data and simulation(workload) is None:
        raise UsageError(
            f"{flags.workload} has no simulate_data. Name a small file of its data: "
            f"python -m search.check {flags.workload} --data FILE"
        )
    return Subject(workload, folder, flags.data, flags.epochs)


def _check(subject: Subject, flags: Flags, console: Any) -> int:
    from search.diagnostics.contract.console import OutcomePrinter
    from search.diagnostics.contract.law import Check
    from search.diagnostics.contract.runner import run_checks

    printer = OutcomePrinter(console, verbose=flags.verbose)
    try:
        for step in run_checks(subject, flags.only):
            if isinstance(step, Check):
                printer.show_status(step.name)
            else:
                printer.print(step)
    finally:
        printer.clear_status()
    printer.print_summary()
    return BREAKS if printer.counts["failed"] else KEEPS


if __name__ == "__main__":
    run_command(main)
