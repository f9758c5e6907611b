"""Run a search as a job of a cluster: python -m search.submit WORKLOAD --to TARGET -- FLAGS."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from search.config import catalogue
from search.errors import SearchError, UsageError
from search.reporting.console import SafeConsole, open_console, run_command
from search.reporting.summary import ConsoleReporter
from trainables.runtime.imports import file_of

# Functions import what they need, so that --help and a wrong flag answer at once.
if TYPE_CHECKING:
    from search.cluster.ray_jobs import JobServer

DONE, STILL_RUNNING = 0, 130
PROGRAM = "python -m search.submit"
_USAGE = f"""usage: {PROGRAM} WORKLOAD --to TARGET [its flags] -- [the flags of search.run]
       {PROGRAM} status|logs|stop ID [--address URL]

TARGET is one of
  ray      a running Ray cluster, through Ray Jobs
  slurm    a batch script, written and (with --submit) submitted
  kuberay  a RayJob manifest for kubectl apply
Its flags: {PROGRAM} WORKLOAD --to TARGET --help
WORKLOAD is one of {{known}}, or FILE.py:ATTRIBUTE or MODULE:ATTRIBUTE
"""


def _help(text: str) -> Any:
    return tyro.conf.arg(help=text)


WorkloadName = Annotated[
    str, tyro.conf.Positional, tyro.conf.arg(metavar="WORKLOAD", help="workload, or chain of them")
]
Address = Annotated[
    str | None,
    _help("dashboard of the cluster, http://HOST:8265; None: $RAY_API_SERVER_ADDRESS, or this machine's"),
]
SiteFile = Annotated[Path | None, _help("TOML file on the cluster: docs/cluster.md; examples in search/cluster/sites")]
Script = Annotated[Path | None, _help("file to write; None: NAME.sbatch or NAME.yaml in this folder")]
Overwrite = Annotated[bool, _help("replace that file if it is there")]


@dataclass(frozen=True)
class RayFlags:
    """Run a search as a job of a running Ray cluster."""

    workload: WorkloadName
    to: Literal["ray"]
    address: Address = None
    wait: Annotated[bool, _help("show the job's output until it ends, and end with its exit code")] = True
    pip: Annotated[bool, _help("install requirements.lock on the cluster first; otherwise it has the packages")] = False
    include: Annotated[
        tuple[Path, ...], _help("more files or folders to send, beside search, spaces and trainables")
    ] = ()
    exclude: Annotated[tuple[str, ...], _help("patterns of files not to send, as in '*.csv'")] = ()


@dataclass(frozen=True)
class SlurmFlags:
    """Write a batch script for Slurm that runs a search on one node or several."""

    workload: WorkloadName
    to: Literal["slurm"]
    site: SiteFile = None
    submit: Annotated[bool, _help("give the script to sbatch")] = False
    classic: Annotated[bool, _help("start head and workers one by one instead of with ray symmetric-run")] = False
    script: Script = None
    overwrite: Overwrite = False
    nodes: Annotated[int | None, _help("nodes of one search; None: the site file's")] = None
    cpus_per_node: Annotated[int | None, _help("CPU cores of each; None: the site file's")] = None
    gpus_per_node: Annotated[int | None, _help("GPUs of each; None: the site file's")] = None
    time: Annotated[str | None, _help("time limit, as in 4:00:00; None: the site file's")] = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    array: Annotated[int | None, _help("so many searches, NAME-0, NAME-1, ..., each with a seed of its own")] = None


@dataclass(frozen=True)
class KubeRayFlags:
    """Write a RayJob manifest for a Kubernetes cluster with the KubeRay operator."""

    workload: WorkloadName
    to: Literal["kuberay"]
    site: SiteFile = None
    script: Script = None
    overwrite: Overwrite = False
    image: Annotated[str | None, _help("container image; None: the site file's")] = None
    workers: Annotated[int | None, _help("worker pods; None: the site file's")] = None
    min_workers: Annotated[
        int | None,
        _help("worker pods of a cluster that grows from them to --workers; None: the site file's"),
    ] = None
    gpus_per_worker: Annotated[int | None, _help("GPUs of each; None: the site file's")] = None


@dataclass(frozen=True)
class JobQuery:
    """Show the status or the output of a job of a Ray cluster, or stop it."""

    action: Annotated[Literal["status", "logs", "stop"], tyro.conf.Positional]
    id: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ID", help="of the job, or the search's name")]
    address: Address = None


TargetFlags = RayFlags | SlurmFlags | KubeRayFlags
_TARGETS: dict[str, type[TargetFlags]] = {"ray": RayFlags, "slurm": SlurmFlags, "kuberay": KubeRayFlags}


def main(arguments: list[str] | None = None) -> int:
    """Submit a job or query one; returns the exit code: that of the search if the command waits for it."""
    command, search_flags = _parse(sys.argv[1:] if arguments is None else arguments)
    console = open_console(soft_wrap=True)
    try:
        match command:
            case RayFlags():
                return _submit_to_ray(command, search_flags, console)
            case SlurmFlags():
                return _submit_to_slurm(command, search_flags, console)
            case KubeRayFlags():
                return _write_manifest(command, search_flags, console)
            case JobQuery():
                return _query(command, console)
    except SearchError as error:
        console.print(f"error: {error}", style="red")
        return error.exit_code


def _parse(arguments: list[str]) -> tuple[TargetFlags | JobQuery, list[str]]:
    """Parse the flags before ``--``; wrong ones end the program with code 2, as --help does with 0."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    ours, search_flags = arguments[:end], arguments[end + 1 :]
    if ours[:1] and ours[0] in ("status", "logs", "stop"):
        return tyro.cli(JobQuery, prog=PROGRAM, args=ours), []
    target = _TARGETS.get(_value(ours, "--to"))
    known = ", ".join(catalogue.titles())
    if target is None:
        asked_for_help = "--help" in ours or "-h" in ours
        print(_USAGE.format(known=known), file=sys.stdout if asked_for_help else sys.stderr)
        raise SystemExit(0 if asked_for_help else 2)
    parsed = tyro.cli(target, prog=PROGRAM, args=ours)
    if parsed.workload not in catalogue.titles() and ":" not in parsed.workload:
        print(f"{PROGRAM}: no workload named {parsed.workload!r}; choose one of {known}", file=sys.stderr)
        raise SystemExit(2)
    return parsed, search_flags


def _value(words: list[str], flag: str) -> str:
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word == flag:
            return following
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return ""


def _submit_to_ray(flags: RayFlags, search_flags: list[str], console: SafeConsole) -> int:
    from search.cluster.job_spec import make_job_spec
    from search.cluster.ray_jobs import JobServer

    job = make_job_spec(flags.workload, search_flags, may_restart=False, remote=True)
    word, code = catalogue.for_a_job(flags.workload)
    job, include = replace(job, workload=word), [*flags.include, *code]
    with ConsoleReporter(console).announcing("job      packing the code and sending it ..."):
        server = JobServer(flags.address)
        id = server.submit(job, pip=flags.pip, include=include, exclude=flags.exclude)
    console.print(f"job      {id}, search {job.name}, at {server.address}")
    return _follow(server, id, console) if flags.wait else DONE


def _submit_to_slurm(flags: SlurmFlags, search_flags: list[str], console: SafeConsole) -> int:
    from search.cluster.job_spec import make_job_spec, write_script
    from search.cluster.site_config import SlurmSite, read_site
    from search.cluster.slurm import batch_script, sbatch

    fields = ("nodes", "cpus_per_node", "gpus_per_node", "time", "partition", "account", "qos")
    site = read_site(flags.site, "slurm", SlurmSite, **{name: getattr(flags, name) for name in fields})
    job = make_job_spec(flags.workload, search_flags, may_restart=True, remote=False, environment=site.environment)
    text = batch_script(job, site, classic=flags.classic, array=flags.array, folder=Path.cwd())
    file = write_script(text, flags.script or Path(f"{job.name}.sbatch"), flags.overwrite)
    console.print(f"script   {file}")
    if not flags.submit:
        console.print(f"submit   sbatch {quote(str(file))}")
        return DONE
    id = sbatch(file)
    output = f"{job.name}-{id}{'_*' if flags.array else ''}.out"
    console.print(f"job      {id}; output: {output}; look: squeue --job {id}; stop: scancel --batch --signal=TERM {id}")
    return DONE


def _write_manifest(flags: KubeRayFlags, search_flags: list[str], console: SafeConsole) -> int:
    from search.cluster.job_spec import make_job_spec, write_script
    from search.cluster.kuberay import manifest
    from search.cluster.site_config import KubeRaySite, read_site

    if file_of(flags.workload) is not None:
        raise UsageError(
            f"{flags.workload}: a file of this machine is not in the job's image. Put the code into the image as a "
            "module, and name it as MODULE:ATTRIBUTE."
        )
    fields = ("image", "workers", "min_workers", "gpus_per_worker")
    site = read_site(flags.site, "kuberay", KubeRaySite, **{name: getattr(flags, name) for name in fields})
    job = make_job_spec(flags.workload, search_flags, may_restart=True, remote=True, environment=site.environment)
    file = write_script(manifest(job, site), flags.script or Path(f"{job.name}.yaml"), flags.overwrite)
    console.print(f"manifest {file}\nsubmit   kubectl apply -f {quote(str(file))}")
    return DONE


def _query(query: JobQuery, console: SafeConsole) -> int:
    from search.cluster.ray_jobs import JobServer, exit_code

    server = JobServer(query.address)
    job = server.find_job(query.id)
    if query.action == "logs":
        return _follow(server, job.submission_id, console)
    if query.action == "stop" and not job.status.is_terminal():
        server.stop(job.submission_id)
        console.print(f"job      {job.submission_id}: its search closes its trials and leaves")
        return DONE
    ended = f", exit code {exit_code(job)}" if job.status.is_terminal() else ""
    console.print(f"job      {job.submission_id}: {job.status}{ended}\nsearch   {job.metadata.get('search')}")
    return DONE


def _follow(server: JobServer, id: str, console: SafeConsole) -> int:
    try:
        return server.follow(id, console.stream)
    except KeyboardInterrupt:
        where = f"{id} --address {server.address}"
        console.print(f"the job goes on. Look again: {PROGRAM} logs {where}\nStop it: {PROGRAM} stop {where}")
        return STILL_RUNNING


if __name__ == "__main__":
    run_command(main)
