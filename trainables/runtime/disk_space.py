"""Room on the disk: measure it, wait for it, and retry what failed for want of it."""

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
_STEP_S = 0.1  # between two questions whether to stop waiting
_REMIND_S = 600.0
_FULL = {errno.ENOSPC, errno.EDQUOT}
# torch.save to a path reports a full disk without its number
_FULL_TEXTS = ("iostream error", "PytorchStreamWriter failed writing file", "inline_container.cc")


class DiskFullError(OSError):
    """A disk stayed full until the wait for room ended."""


@dataclass(frozen=True)
class Patience:
    """How a trial treats a full disk."""

    reserve_bytes: int = 32 * 2**20  # left by checkpoints to what is small and more important: the search's own state
    limit_s: float = 3600.0  # of waiting, then the trial fails


def free_bytes(folder: Path) -> int:
    """Return the free room on the disk of a folder, which need not exist yet."""
    there = next((parent for parent in (folder, *folder.parents) if parent.exists()), Path("/"))
    return shutil.disk_usage(there).free


def size_of(folder: Path) -> int:
    """Sum the bytes of all files in a folder, each counted once however many names it has; 0 where there is none."""
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
    """Format a size for people."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"


def is_full(error: BaseException | None) -> bool:
    """Decide whether an exception, or one that led to it, says that a disk or a quota is full."""
    while error is not None:
        if isinstance(error, DiskFullError):
            return False  # the wait for room is over
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if isinstance(error, RuntimeError) and any(text in str(error) for text in _FULL_TEXTS):
            return True
        error = error.__cause__ or error.__context__
    return False


def can_write(folder: Path, size: int) -> bool:
    """Try to write a file of that size, because the free room shows neither a quota nor a lack of inodes."""
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
    by_writing: bool = False,
    leave: Callable[[], bool] = lambda: False,
) -> None:
    """Return once there is room; until then look every few seconds, and say what is missing.

    Parameters
    ----------
    by_writing : bool
        Try to write instead of trusting the free room that the disk names: see ``can_write``.
    leave : callable
        Whether to stop waiting; asked many times a second.

    Raises
    ------
    DiskFullError
        The disk was still full when it was time to leave.
    """
    started, said = time.monotonic(), -_REMIND_S
    while free_bytes(folder) < needed_bytes or (by_writing and not can_write(folder, needed_bytes)):
        if (waited := time.monotonic() - started) - said >= _REMIND_S:
            say(f"{lacking(folder, needed_bytes)}: waiting, nothing is lost. Delete something there; it then continues")
            said = waited
        if not _pause(leave):
            waited = time.monotonic() - started
            raise DiskFullError(f"{lacking(folder, needed_bytes)}, and no space was freed in {waited:.0f} s")
    if said >= 0:
        say(f"disk of {folder} has room again: continuing")


def _pause(leave: Callable[[], bool]) -> bool:
    """Wait until the next look at the disk; return False at once when it is time to leave."""
    end = time.monotonic() + POLL_S
    while (left_s := end - time.monotonic()) > 0:
        if leave():
            return False
        time.sleep(min(_STEP_S, left_s))
    return True


def lacking(folder: Path, needed_bytes: int) -> str:
    """Say which disk is full, and what is missing."""
    return f"disk full: {folder} has {megabytes(free_bytes(folder))} free, {megabytes(needed_bytes)} are needed"


def after(limit_s: float) -> Callable[[], bool]:
    """Make a condition that becomes true ``limit_s`` after it was first asked."""
    end_s: list[float] = []

    def passed() -> bool:
        now_s = time.monotonic()
        if not end_s:
            end_s.append(now_s + limit_s)
        return now_s >= end_s[0]

    return passed


def retry(
    write: Callable[[], T],
    undo: Callable[[], object],
    needed_bytes: Callable[[], Mapping[Path, int]],
    say: Say,
    *,
    leave: Callable[[], bool] = lambda: False,
    passing: Callable[[BaseException], bool] = is_full,
) -> T:
    """Call ``write`` until it succeeds, and return what it returns; wait for room before each attempt.

    Parameters
    ----------
    undo : callable
        Removes what a failed ``write`` has left, whatever the error was.
    needed_bytes : callable
        The bytes that each folder needs, asked again before each attempt.
    say : callable
        Receives one line when the wait begins, now and then while it lasts, and when it ends.
    leave : callable
        Whether to stop waiting.
    passing : callable
        Whether an error may pass, so that another attempt makes sense.

    Raises
    ------
    DiskFullError
        The disk was still full when it was time to leave. (Another error that did not pass is raised itself.)
    """
    failed_at = 0.0
    while True:
        for folder, needed in needed_bytes().items():
            wait_for_room(folder, needed, say, by_writing=bool(failed_at), leave=leave)
        try:
            return write()
        except Exception as error:
            undo()
            if not passing(error):
                raise
            failed_at = failed_at or time.monotonic()
            if not _pause(leave):
                if not is_full(error):
                    raise
                raise DiskFullError(
                    f"{error}, again and again for {(time.monotonic() - failed_at) / 60:.3g} min"
                ) from error
