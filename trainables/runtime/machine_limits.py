"""The CPUs and the memory that this process may use: the job's, where a batch system or container gives it a part.

Ray itself looks only at the limits of the outermost control group that it sees; a batch system sets those of the job's
own group, or the CPUs of its processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_V2 = ""  # name of the unified hierarchy in /proc/self/cgroup, which has no name for it


@dataclass(frozen=True)
class MachineLimits:
    """What this process may use."""

    cpus: int
    memory: int | None  # bytes; None: no control group limits it


def machine_limits(root: Path = Path("/")) -> MachineLimits:
    """Read the CPUs of this process, and the limits of its control groups, of version 1 and 2.

    Parameters
    ----------
    root : Path
        Where ``proc`` and the paths of its mounts lie.
    """
    quota = min((quota for folder in _groups(root, "cpu") if (quota := _quota(folder))), default=float("inf"))
    memory = min((limit for folder in _groups(root, "memory") if (limit := _memory(folder))), default=None)
    return MachineLimits(max(1, int(min(_usable_cpus(), quota) + 1e-9)), memory)


def _usable_cpus() -> int:
    try:
        return len(os.sched_getaffinity(0))  # of a cpuset and of taskset
    except (AttributeError, OSError):  # not on macOS
        return os.cpu_count() or 1


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """List the folders of this process's group and of those above it: each of them limits the process."""
    paths = _own_paths(root)
    for name, inside, mount in _mounts(root, controller):
        path = paths.get(name)
        if path is None:
            continue
        below = path.relative_to(inside) if path.is_relative_to(inside) else PurePosixPath()
        parts = () if ".." in below.parts else below.parts  # outside of what this container sees
        for depth in range(len(parts), -1, -1):
            yield mount.joinpath(*parts[:depth])


def _own_paths(root: Path) -> dict[str, PurePosixPath]:
    """Read the path of this process's group in the hierarchy of each controller."""
    paths: dict[str, PurePosixPath] = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        paths |= {name: PurePosixPath(path) for name in controllers.split(",")}
    return paths


def _mounts(root: Path, controller: str) -> Iterator[tuple[str, PurePosixPath, Path]]:
    """List where the hierarchies of a controller are mounted: hierarchy, the group that the mount shows, its folder."""
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, (kind, _, *options) = before.split(), after.split()
        inside, mount = PurePosixPath(_unescaped(fields[3])), root / _unescaped(fields[4]).lstrip("/")
        if kind == "cgroup2":
            yield _V2, inside, mount
        elif kind == "cgroup" and controller in options[-1].split(","):
            yield controller, inside, mount


def _unescaped(path: str) -> str:
    return path.replace("\\040", " ")


def _quota(folder: Path) -> float | None:
    """CPUs that the quota of a group is worth."""
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    for line in _lines(folder / "cpu.max"):
        quota, period = (int(word) if word.isdecimal() else None for word in line.split())
    return quota / period if quota and period else None


def _memory(folder: Path) -> int | None:
    """Bytes that a group may use; version 1 writes "no limit" as a number of nearly 2**63.

    Version 2 slows a group down above ``memory.high``, until it hardly moves.
    """
    files = ("memory.max", "memory.high", "memory.limit_in_bytes")
    return min((limit for file in files if (limit := _number(folder / file)) and limit < 2**60), default=None)


def _number(file: Path) -> int | None:
    text = "".join(_lines(file))
    return int(text) if text.isdecimal() else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:  # not there, or not readable
        return []
