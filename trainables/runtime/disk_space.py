"""Room on the disk: whether there is enough to write, waiting until there is, and writing again what failed for want
of it."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
Say = Callable[[str], object]

POLL_S = 3.0  # between two looks at a full disk
_REMIND_S = 600.0
_FULL = {errno.ENOSPC, errno.EDQUOT}
# torch.save to a path tells of a full disk without its number
_FULL_TEXTS = ("iostream error", "PytorchStreamWriter failed writing file", "inline_container.cc")


class DiskFullError(OSError):
    """Room was waited for, and nobody made any, or who waited had to leave."""


@dataclass(frozen=True)
class Patience:
    """How a full disk is borne."""

    reserve_bytes: int = 32 * 2**20  # left by checkpoints to what is small and more important: the search's own state
    limit_s: float = 3600.0  # then whoever waits fails


def free_bytes(folder: Path) -> int:
    """Free room on the disk of a folder, which need not exist yet."""
    there = next((parent for parent in (folder, *folder.parents) if parent.exists()), Path("/"))
    return shutil.disk_usage(there).free


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder, each counted once however many names it has; 0 where there is none."""
    seen: dict[tuple[int, int], int] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                file = os.lstat(Path(place, name))
            except OSError:  # deleted meanwhile
                continue
            seen[file.st_dev, file.st_ino] = file.st_size
    return sum(seen.values())


def megabytes(size: int) -> str:
    """As a person reads it."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"


def is_full(error: BaseException | None) -> bool:
    """Whether an exception, or one that led to it, says that a disk or a quota is full."""
    while error is not None:
        if isinstance(error, DiskFullError):
            return False  # that was waited for already
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if isinstance(error, RuntimeError) and any(text in str(error) for text in _FULL_TEXTS):
            return True
        error = error.__cause__ or error.__context__
    return False


def can_write(folder: Path, size: int) -> bool:
    """Whether a file of that size can be written: a quota, or files that ran out, do not show in the free room."""
    block = b"\0" * 2**20
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            for start in range(0, max(size, 1), len(block)):
                file.write(block[: max(size, 1) - start])
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno in _FULL:
            return False
        raise
    return True


def wait_for_room(
    folder: Path,
    needed_bytes: int,
    say: Say,
    *,
    limit_s: float = float("inf"),
    by_writing: bool = False,
    leave: Callable[[], bool] = lambda: False,
) -> None:
    """Return once there is room; until then look every few seconds, and say what is missing.

    Parameters
    ----------
    by_writing : bool
        Do not believe the free room that the disk names, but try: see ``can_write``.
    leave : callable
        Whether it has become senseless to wait.

    Raises
    ------
    DiskFullError
        After ``limit_s``, or when it is time to leave.
    """
    started, told = time.monotonic(), -_REMIND_S
    while free_bytes(folder) < needed_bytes or (by_writing and not can_write(folder, needed_bytes)):
        waited = time.monotonic() - started
        if waited >= limit_s or leave():
            raise DiskFullError(f"{lacking(folder, needed_bytes)}, and nobody made room in {waited:.0f} s")
        if waited - told >= _REMIND_S:
            say(f"{lacking(folder, needed_bytes)}: waiting, nothing is lost. Delete something there; it then goes on")
            told = waited
        time.sleep(min(POLL_S, limit_s - waited))
    if told >= 0:
        say(f"disk of {folder} has room again: going on")


def lacking(folder: Path, needed_bytes: int) -> str:
    """Which disk is full, and how far."""
    return f"disk full: {folder} has {megabytes(free_bytes(folder))} free, {megabytes(needed_bytes)} are needed"


def patiently(
    write: Callable[[], T],
    undo: Callable[[], object],
    needed_bytes: Callable[[], Mapping[Path, int]],
    say: Say,
    *,
    limit_s: float = float("inf"),
    leave: Callable[[], bool] = lambda: False,
    passing: Callable[[BaseException], bool] = is_full,
) -> T:
    """What ``write`` returns, once there was room for it.

    Parameters
    ----------
    undo : callable
        Removes what a write that failed has left, whatever it failed of.
    needed_bytes : callable
        In which folders, asked anew before each try.
    passing : callable
        Whether an error is worth waiting for its end.

    Raises
    ------
    DiskFullError
        There was no room for ``limit_s``, or until it was time to leave. (Another error that did not pass is raised
        itself.)
    """
    failed_at = 0.0
    while True:
        for folder, needed in needed_bytes().items():
            wait_for_room(folder, needed, say, limit_s=limit_s, by_writing=bool(failed_at), leave=leave)
        try:
            return write()
        except Exception as error:
            undo()
            if not passing(error):
                raise
            failed_at = failed_at or time.monotonic()
            if time.monotonic() - failed_at > limit_s or leave():
                if not is_full(error):
                    raise
                raise DiskFullError(
                    f"{error}, again and again for {(time.monotonic() - failed_at) / 60:.3g} min"
                ) from error
            time.sleep(POLL_S)
