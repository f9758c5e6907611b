"""Slurm: a search as a batch script that a person can read, and its submission."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from search.cluster.job_spec import SearchRequest
from search.cluster.rendering import Verbatim, render_shell, shell_words
from search.cluster.site_config import SlurmSite
from search.config.settings import LONGEST_NAME
from search.errors import ClusterError, UsageError


def batch_script(request: SearchRequest, site: SlurmSite, *, classic: bool, array: int | None, folder: Path) -> str:
    """The script.

    Parameters
    ----------
    classic : bool
        Head and workers are started one by one; otherwise by ``ray symmetric-run``, which wants nodes of its own.
    array : int, optional
        So many searches in one array job.
    folder : Path
        Where it runs; relative paths of the command are relative to it.
    """
    if array is not None and array < 1:
        raise UsageError(f"--array {array}: expected the number of searches, 1 or more.")
    if array and len(last := f"{request.name}-{array - 1}") > LONGEST_NAME:
        raise UsageError(
            f"--array {array}: the last search would be {last}, and names may have {LONGEST_NAME} characters: give a "
            f"--name that is shorter by {len(last) - LONGEST_NAME}."
        )
    plain = ["python", "-m", "search.run", request.what, *request.words]
    return render_shell(
        "search.sbatch.j2",
        name=request.name,
        what=request.what,
        seed=request.seed,
        resume=request.resume,
        command=shell_words(plain if array else request.command),
        site=site,
        gpus=_gpus(site),
        array=array,
        classic=classic,
        folder=folder,
        run=Verbatim(shell_words(site.container) + " " if site.container else ""),
        own_python=None if site.setup or site.modules or site.container else Path(sys.executable).parent,
        verbatim=Verbatim,
    )


def sbatch(script: Path) -> str:
    """Submit a script; returns the job's id.

    Raises
    ------
    ClusterError
        There is no sbatch here, or it refuses; with what it says.
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


def _gpus(site: SlurmSite) -> Verbatim | None:
    if not site.gpus_per_node:
        return None
    kind = f"{site.gpu_type}:" if site.gpu_type else ""
    return Verbatim(f"{site.gpu_option}={'gpu:' * (site.gpu_option == 'gres')}{kind}{site.gpus_per_node}")
