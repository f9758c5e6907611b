"""Ray, started here or joined: which resources it has, which share a trial gets, how many trials fit."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # compute nodes often have no way out
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # CPU trials must not hide the GPUs of others

import ray

from search.errors import ClusterError
from search.settings import Site


@dataclass(frozen=True)
class Share:
    """What one trial gets, and how many trials run at the same time."""

    cpus: float
    gpus: float
    concurrent: int

    @property
    def bundle(self) -> dict[str, float]:
        return {"CPU": self.cpus, "GPU": self.gpus} if self.gpus else {"CPU": self.cpus}


@contextmanager
def ray_session(address: str | None) -> Iterator[dict[str, float]]:
    """Join the cluster at ``address``, or start one on this machine for as long as the search lives.

    Yields
    ------
    dict of str to float
        Resources of the whole cluster.

    Raises
    ------
    ClusterError
        Nothing answers at ``address``.
    """
    joined = ray.is_initialized()
    if not joined:
        where = {"address": address} if address else {"address": "local", "include_dashboard": False}
        try:
            ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ClusterError(
                f"No Ray cluster answers at {address or 'this machine'}: {str(error).splitlines()[0]}\n"
                "Start one with: ray start --head; or leave out --address (and $RAY_ADDRESS) to use this machine."
            ) from error
    try:
        yield ray.cluster_resources()
    finally:
        if not joined:
            ray.shutdown()


def share_of(site: Site, resources: dict[str, float], wanted: int | None, samples: int) -> Share:
    """The share of one trial on a cluster with these resources.

    Raises
    ------
    ClusterError
        Not a single trial fits.
    """
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    gpu_share = (1.0 if gpus else 0.0) if site.gpus_per_trial is None else site.gpus_per_trial
    fits = int(cpus // site.cpus_per_trial)
    if gpu_share:
        fits = min(fits, int(gpus // gpu_share))
    if fits < 1:
        raise ClusterError(
            f"Not one trial fits: it asks for {site.cpus_per_trial:g} CPUs and {gpu_share:g} GPUs, the cluster has "
            f"{cpus:g} and {gpus:g}. Lower --cpus-per-trial or --gpus-per-trial."
        )
    return Share(site.cpus_per_trial, gpu_share, min(fits, wanted or fits, samples))


def on_network_file_system(folder: Path) -> bool:
    """Whether SQLite had better stay away from this folder: it locks badly there."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return False
    best, kind = "", ""
    for line in mounts.read_text().splitlines():
        _, point, fstype, *_ = line.split()
        if str(folder).startswith(point) and len(point) >= len(best):
            best, kind = point, fstype
    return kind.startswith(("nfs", "lustre", "gpfs", "cifs", "smb", "afs", "beegfs", "ceph", "fuse.sshfs"))
