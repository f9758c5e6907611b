"""Check whether this machine, or a cluster, is ready for a search: python -m search.doctor."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import tyro

from search.config.settings import ClusterFlags, FixedShareFlags, TrackingFlags, seconds
from search.diagnostics.console import FindingPrinter
from search.diagnostics.context import DiagnosticContext
from search.diagnostics.runner import Check, run_checks
from search.errors import UsageError
from search.reporting.console import open_console, run_command
from search.reporting.summary import ConsoleReporter
from search.storage.disk import check_writable

FINE, WRONG, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130  # exit codes
_DESCRIPTION = (
    "Is this machine, or a cluster, ready for a search? One line for each thing that is checked: fine, or what is "
    "wrong and the command that fixes it. Exit code 0: nothing is wrong (there may be warnings); 1: something is; "
    "2: wrong usage."
)


def _help(text: str) -> Any:
    return tyro.conf.arg(help=text)


@dataclass(frozen=True)
class Flags:
    """What a search is about to use."""

    cluster: ClusterFlags = field(default_factory=ClusterFlags)
    tracking: TrackingFlags = field(default_factory=TrackingFlags)
    share: FixedShareFlags = field(default_factory=FixedShareFlags)
    data: Annotated[tuple[str, ...], _help("input files, as search.run takes them; none: the carried sample")] = ()
    workload: Annotated[str | None, _help("reads the data and runs a trial; None: the one that reads the data")] = None
    only: Annotated[tuple[Check, ...], _help("checks to make; none: all")] = ()
    time_limit: Annotated[str, _help("of a single check: 90s, 5m")] = "90s"
    json: Annotated[Path | None, _help("write the findings to this file as well")] = None


def main(arguments: list[str] | None = None) -> int:
    """Run the checks and print their findings; returns the exit code."""
    flags = tyro.cli(
        Flags, prog="python -m search.doctor", description=_DESCRIPTION, args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
    )  # fmt: skip
    console = open_console()
    try:
        context = _context(flags)
    except (ValueError, UsageError) as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return WRONG_USAGE
    printer, findings = FindingPrinter(console), []
    try:
        for check, finding in run_checks(context, flags.only):
            if finding is None:
                printer.show_status(check)
                continue
            printer.print(finding)
            findings.append({"check": check, **asdict(finding)})
    except KeyboardInterrupt:
        printer.clear_status()
        console.print("interrupted: the checks without a line were not made")
        return INTERRUPTED
    printer.print_summary()
    code = WRONG if printer.counts["wrong"] else FINE
    text = json.dumps({"exit_code": code, "findings": findings}, indent=1)
    ConsoleReporter(console).write_json(flags.json, text)
    return code


def _context(flags: Flags) -> DiagnosticContext:
    """Validate the flags. Raises ValueError or UsageError."""
    check_writable(flags.json)
    return DiagnosticContext(
        address=flags.cluster.address,
        server=flags.tracking.server,
        storage=_storage(flags.tracking.storage),
        data=flags.data,
        workload=_workload(flags.workload) if flags.workload else None,
        cpus_per_trial=flags.share.cpus_per_trial,
        gpus_per_trial=flags.share.gpus_per_trial,
        time_limit_s=seconds(flags.time_limit),
    )


def _storage(storage: str) -> str:
    """Return an absolute folder, or a URL without a password."""
    if storage.startswith("file://"):
        storage = unquote(urlsplit(storage).path)  # as searches read it
    if "://" not in storage:
        return str(Path(storage).expanduser().resolve())
    from search.storage.location import Storage  # here, because a machine may be checked that cannot import it

    return str(Storage(storage))


def _workload(word: str) -> str:
    from search.config.catalogue import find_workload  # here, because a machine may be checked that cannot import them

    find_workload(word)
    return word


if __name__ == "__main__":
    run_command(main)
