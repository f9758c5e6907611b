"""Whether this machine, or a cluster, is ready for a search: python -m search.doctor."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from search.config.settings import Site, seconds
from search.diagnostics.console import Teller
from search.diagnostics.context import Setup
from search.diagnostics.runner import run
from search.errors import UsageError
from search.reporting.summary import open_console
from search.storage.disk import check_writable, write_atomically

FINE, WRONG, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130  # exit codes
Check = Literal[
    "cluster", "machine", "versions", "gpus", "clocks", "storage",
    "disks", "ports", "upload", "data", "tracking", "trial",
]  # fmt: skip


_DESCRIPTION = (
    "Is this machine, or a cluster, ready for a search? One line for each thing that is looked at: fine, or what is "
    "wrong and the command that mends it. Exit code 0: nothing is wrong (there may be warnings); 1: something is; "
    "2: wrong usage."
)


def _says(text: str) -> Any:
    return tyro.conf.arg(help=text)


@dataclass(frozen=True)
class Flags:
    """What a search is about to use. The defaults are those of search.run."""

    address: Annotated[str | None, _says("Ray cluster; None: a Ray started here; from $RAY_ADDRESS if set")] = field(
        default_factory=lambda: Site().address
    )
    tracking_uri: Annotated[
        str | None, _says("MLflow, or journal; None: that of $MLFLOW_TRACKING_URI, or else a database in --storage")
    ] = None
    data: Annotated[tuple[str, ...], _says("input files, as search.run takes them; none: the carried sample")] = ()
    storage: Annotated[str, _says("folder or URL of searches; from $SEARCH_STORAGE if set")] = field(
        default_factory=lambda: str(Site().storage)
    )
    workload: Annotated[str | None, _says("who reads the data and gives the trial; None: told by the data")] = None
    cpus_per_trial: float = 1
    gpus_per_trial: Annotated[float | None, _says("None: 1 where the cluster has any, else 0")] = None
    only: Annotated[tuple[Check, ...], _says("checks to make; none: all")] = ()
    time_limit: Annotated[str, _says("of a single check: 90s, 5m")] = "90s"
    json: Annotated[Path | None, _says("write the findings to this file as well")] = None


def main(arguments: list[str] | None = None) -> int:
    """Check and tell; returns the exit code."""
    flags = tyro.cli(Flags, prog="python -m search.doctor", description=_DESCRIPTION, args=arguments)
    console = open_console()
    try:
        setup = _setup(flags)
    except (ValueError, UsageError) as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return WRONG_USAGE
    teller, findings = Teller(console), []
    try:
        for check, finding in run(setup, flags.only):
            if finding is None:
                teller.begin(check)
                continue
            teller.tell(finding)
            findings.append({"check": check, **asdict(finding)})
    except KeyboardInterrupt:
        teller.rest()
        console.print("interrupted: the checks that are not told of were not made")
        return INTERRUPTED
    teller.conclude()
    code = WRONG if teller.counts["wrong"] else FINE
    if flags.json:
        write_atomically(flags.json, json.dumps({"exit_code": code, "findings": findings}, indent=1))
    return code


def _setup(flags: Flags) -> Setup:
    """Raises ValueError or UsageError for words that make no sense."""
    check_writable(flags.json)
    if flags.cpus_per_trial <= 0 or (flags.gpus_per_trial or 0) < 0:
        raise ValueError("--cpus-per-trial and --gpus-per-trial: expected a number above 0 (no GPU: 0).")
    return Setup(
        address=flags.address,
        server=flags.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"),
        storage=_storage(flags.storage),
        data=flags.data,
        workload=_known(flags.workload) if flags.workload else None,
        cpus_per_trial=flags.cpus_per_trial,
        gpus_per_trial=flags.gpus_per_trial,
        limit_s=seconds(flags.time_limit),
    )


def _storage(words: str) -> str:
    """An absolute folder, or a URL without a password."""
    if words.startswith("file://") or "://" not in words:
        return str(Path(words.removeprefix("file://")).expanduser().resolve())
    from search.storage.location import Storage  # only here, as below

    return str(Storage(words))


def _known(workload: str) -> str:
    from search.workloads import WORKLOADS  # only here: a machine on which it cannot be imported is looked at, too

    if workload not in WORKLOADS:
        raise ValueError(f"--workload {workload}: there is none of that name; there are {', '.join(WORKLOADS)}.")
    return workload


if __name__ == "__main__":
    sys.exit(main())
