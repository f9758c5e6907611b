"""Slurm: a search as a batch script that a person can read, and its submission."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from search.cluster.site_config import SlurmSite
from search.config.settings import LONGEST_NAME
from search.errors import ClusterError, UsageError
from trainables.runtime import telemetry

if TYPE_CHECKING:
    from search.cluster.job_spec import JobSpec


class _Code(str):
    """Text that goes into a script as it is, because it is shell code already."""


def batch_script(job: JobSpec, site: SlurmSite, *, classic: bool, array: int | None, folder: Path) -> str:
    """Write the script.

    Parameters
    ----------
    classic : bool
        Start head and workers one by one; otherwise ``ray symmetric-run`` starts them, on nodes of this job alone.
    array : int, optional
        Number of searches in one array job.
    folder : Path
        Where the script runs; relative paths of the command are relative to it.
    """
    if array is not None and array < 1:
        raise UsageError(f"--array {array}: expected the number of searches, 1 or more.")
    if array and len(last := f"{job.name}-{array - 1}") > LONGEST_NAME:
        raise UsageError(
            f"--array {array}: the last search would be {last}, and names may have {LONGEST_NAME} characters: give a "
            f"--name that is shorter by {len(last) - LONGEST_NAME}."
        )
    without_identity = ["python", "-m", "search.run", job.workload, *job.flags]
    return _render(
        "search.sbatch.j2",
        job=job,
        command=_quoted(without_identity if array else job.command),
        site=site,
        gpus=_gpus(site),
        array=array,
        classic=classic,
        folder=folder,
        run=_Code(_quoted(site.container) + " " if site.container else ""),
        own_python=None if site.setup or site.modules or site.container else Path(sys.executable).parent,
        as_code=_Code,
        telemetry_off=telemetry.OFF,
    )


def sbatch(script: Path) -> str:
    """Submit a script; returns the job's id.

    Raises
    ------
    ClusterError
        There is no sbatch here, or it refuses; with its message.
    """
    try:
        done = subprocess.run(
            ["sbatch", "--parsable", str(script)], capture_output=True, text=True, timeout=120, check=False
        )
    except FileNotFoundError as error:
        raise ClusterError(f"There is no sbatch on this machine. On a login node: sbatch {script}") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError("sbatch has not answered for two minutes. Is the controller up: scontrol ping") from error
    id = done.stdout.strip().partition(";")[0]
    if done.returncode or not re.fullmatch(r"\d+", id):
        raise ClusterError(f"sbatch refuses {script}: {(done.stderr or done.stdout).strip()}")
    return id


def _gpus(site: SlurmSite) -> _Code | None:
    if not site.gpus_per_node:
        return None
    kind = f"{site.gpu_type}:" if site.gpu_type else ""
    return _Code(f"{site.gpu_option}={'gpu:' * (site.gpu_option == 'gres')}{kind}{site.gpus_per_node}")


def _quoted(words: Iterable[object]) -> _Code:
    """Quote words so that the shell reads each of them as one word."""
    return _Code(" ".join(quote(str(word)) for word in words))


def _render(template: str, **values: object) -> str:
    """Fill in a shell script: each value is quoted as one word, unless it is code."""
    environment = Environment(
        loader=PackageLoader("search.cluster", "."),
        undefined=StrictUndefined,
        comment_start_string="<#",  # because Jinja's own one is the beginning of ${#array[@]}
        comment_end_string="#>",
        finalize=lambda value: value if isinstance(value, _Code) else quote(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # this is not HTML
    )
    return environment.get_template(template).render(values)
