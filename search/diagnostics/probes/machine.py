"""What a machine grants: its clock, open files, environment, room on its disks."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def nothing() -> None:
    """Whether there is room to run at all."""


def clock() -> float:
    """Seconds since 1970."""
    return time.time()


def limits(variables: Sequence[str]) -> dict[str, Any]:
    """``files``: so many a process may open (-1: any number); ``cores``; ``environment``: variables that are set."""
    import resource

    environment = inherited()
    return {
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "cores": os.cpu_count() or 1,
        "environment": {name: environment[name] for name in variables if name in environment},
    }


def inherited() -> dict[str, str]:
    """The environment that Ray was started with here: it gives its workers one of its own."""
    parent = Path(f"/proc/{os.getppid()}")
    try:
        if not (parent / "cmdline").read_bytes().split(b"\0")[0].endswith(b"raylet"):
            return dict(os.environ)  # a driver
        raw = (parent / "environ").read_bytes()
    except OSError:
        return dict(os.environ)
    return dict(entry.split("=", 1) for entry in raw.decode(errors="replace").split("\0") if "=" in entry)


def room(folder: str | None) -> dict[str, tuple[str, int, int, int]]:
    """Disks of the storage, of temporary files and of shared memory.

    Returns
    -------
    dict
        What it is for, to: path, bytes in all, bytes that are free, files that can still be made (-1: any number).
    """
    places = {"temporary files": tempfile.gettempdir(), "shared memory": "/dev/shm"}
    if folder:
        places["storage"] = folder
    told = {}
    for what, place in places.items():
        there = next((path for path in (Path(place), *Path(place).parents) if path.exists()), None)
        if there is None or (what == "shared memory" and not Path(place).exists()):
            continue
        disk = os.statvfs(there)
        files = disk.f_favail if disk.f_files else -1
        told[what] = (place, disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize, files)
    return told
