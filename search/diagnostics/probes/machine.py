"""Clock, limits, environment and disks of a machine."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def no_operation() -> None:
    """Return at once: a node that returns has resources for a task."""


def current_time() -> float:
    """Seconds since 1970."""
    return time.time()


def limits(variables: Sequence[str]) -> dict[str, Any]:
    """Return ``files`` that a process may open (-1: no limit), ``cores``, and those variables that are set."""
    import resource

    from trainables.runtime.machine_limits import machine_limits

    environment = inherited_environment()
    return {
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "cores": machine_limits().cpus,
        "environment": {name: environment[name] for name in variables if name in environment},
    }


def inherited_environment() -> dict[str, str]:
    """The environment in which Ray was started on this node, because Ray changes that of its workers."""
    parent = Path(f"/proc/{os.getppid()}")
    try:
        if not (parent / "cmdline").read_bytes().split(b"\0")[0].endswith(b"raylet"):
            return dict(os.environ)  # a driver
        raw = (parent / "environ").read_bytes()
    except OSError:
        return dict(os.environ)
    return dict(entry.split("=", 1) for entry in raw.decode(errors="replace").split("\0") if "=" in entry)


def disk_space(folder: str | None) -> dict[str, tuple[str, int, int, int]]:
    """Return the space on the disks of the storage, of temporary files and of shared memory.

    Returns
    -------
    dict
        From the use of a disk to: path, bytes in all, free bytes, files that can still be made (-1: no limit).
    """
    paths = {"temporary files": tempfile.gettempdir(), "shared memory": "/dev/shm"}
    if folder:
        paths["storage"] = folder
    disks = {}
    for use, path in paths.items():
        existing = next((place for place in (Path(path), *Path(path).parents) if place.exists()), None)
        if existing is None or (use == "shared memory" and not Path(path).exists()):
            continue
        disk = os.statvfs(existing)
        files = disk.f_favail if disk.f_files else -1
        disks[use] = (path, disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize, files)
    return disks
