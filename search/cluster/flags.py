"""The words of python -m search.submit: a target with its flags, then ``--`` and the flags of search.run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from search.workloads import CHAINS, WORKLOADS

PROGRAM = "python -m search.submit"
_USAGE = f"""usage: {PROGRAM} WORKLOAD --to TARGET [its flags] -- [the flags of search.run]
       {PROGRAM} status|logs|stop ID [--address URL]

TARGET is one of
  ray      a running Ray cluster, through Ray Jobs
  slurm    a batch script, written and (with --submit) submitted
  kuberay  a RayJob manifest for kubectl apply
Its flags: {PROGRAM} WORKLOAD --to TARGET --help
WORKLOAD is one of {{known}}
"""

What = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="WORKLOAD", help="workload, or chain of them")]
Address = Annotated[
    str | None,
    tyro.conf.arg(help="dashboard of the cluster, http://HOST:8265; None: $RAY_API_SERVER_ADDRESS, or this machine's"),
]
SiteFile = Annotated[
    Path | None, tyro.conf.arg(help="TOML file on the cluster: README, 'Slurm' and 'Kubernetes'; examples in sites/")
]
Script = Annotated[Path | None, tyro.conf.arg(help="file to write; None: NAME.sbatch or NAME.yaml in this folder")]
Overwrite = Annotated[bool, tyro.conf.arg(help="replace that file if it is there")]


@dataclass(frozen=True)
class ToRay:
    """Run a search as a job of a running Ray cluster."""

    what: What
    to: Literal["ray"]
    address: Address = None
    wait: Annotated[bool, tyro.conf.arg(help="show the job's output until it ends, and end with its exit code")] = True
    pip: Annotated[
        bool, tyro.conf.arg(help="install requirements.lock on the cluster first; otherwise it has the packages")
    ] = False
    include: Annotated[
        tuple[Path, ...], tyro.conf.arg(help="more files or folders to send, beside search, spaces and trainables")
    ] = ()
    exclude: Annotated[tuple[str, ...], tyro.conf.arg(help="patterns of files not to send, as in '*.csv'")] = ()


@dataclass(frozen=True)
class ToSlurm:
    """Write a batch script for Slurm that runs a search on one node or several."""

    what: What
    to: Literal["slurm"]
    site: SiteFile = None
    submit: Annotated[bool, tyro.conf.arg(help="give the script to sbatch")] = False
    classic: Annotated[
        bool, tyro.conf.arg(help="start head and workers one by one instead of with ray symmetric-run")
    ] = False
    script: Script = None
    overwrite: Overwrite = False
    nodes: Annotated[int | None, tyro.conf.arg(help="nodes of one search; None: the site file's")] = None
    cpus_per_node: Annotated[int | None, tyro.conf.arg(help="CPU cores of each; None: the site file's")] = None
    gpus_per_node: Annotated[int | None, tyro.conf.arg(help="GPUs of each; None: the site file's")] = None
    time: Annotated[str | None, tyro.conf.arg(help="time limit, as in 4:00:00; None: the site file's")] = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    array: Annotated[
        int | None, tyro.conf.arg(help="so many searches, NAME-0, NAME-1, ..., each with a seed of its own")
    ] = None


@dataclass(frozen=True)
class ToKubeRay:
    """Write a RayJob manifest for a Kubernetes cluster with the KubeRay operator."""

    what: What
    to: Literal["kuberay"]
    site: SiteFile = None
    script: Script = None
    overwrite: Overwrite = False
    image: Annotated[str | None, tyro.conf.arg(help="container image; None: the site file's")] = None
    workers: Annotated[int | None, tyro.conf.arg(help="worker pods; None: the site file's")] = None
    gpus_per_worker: Annotated[int | None, tyro.conf.arg(help="GPUs of each; None: the site file's")] = None


@dataclass(frozen=True)
class About:
    """Ask for a job, show its output, or stop it."""

    do: Annotated[Literal["status", "logs", "stop"], tyro.conf.Positional]
    id: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ID", help="of the job, or the search's name")]
    address: Address = None


Target = ToRay | ToSlurm | ToKubeRay
_TARGETS: dict[str, type[Target]] = {"ray": ToRay, "slurm": ToSlurm, "kuberay": ToKubeRay}


def parse_submit(arguments: list[str]) -> tuple[Target | About, list[str]]:
    """Our flags, and those of search.run; wrong words end the program with code 2, as --help does with 0."""
    place = arguments.index("--") if "--" in arguments else len(arguments)
    ours, theirs = arguments[:place], arguments[place + 1 :]
    if ours[:1] and ours[0] in ("status", "logs", "stop"):
        return tyro.cli(About, prog=PROGRAM, args=ours), []
    target = _TARGETS.get(_value(ours, "--to"))
    known = ", ".join([*WORKLOADS, *CHAINS])
    if target is None:
        asked_for_help = "--help" in ours or "-h" in ours
        print(_USAGE.format(known=known), file=sys.stdout if asked_for_help else sys.stderr)
        raise SystemExit(0 if asked_for_help else 2)
    parsed = tyro.cli(target, prog=PROGRAM, args=ours)
    if parsed.what not in {*WORKLOADS, *CHAINS}:
        print(f"{PROGRAM}: no workload named {parsed.what!r}; choose one of {known}", file=sys.stderr)
        raise SystemExit(2)
    return parsed, theirs


def _value(words: list[str], flag: str) -> str:
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word == flag:
            return following
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return ""
