"""Write the files of a search whole or not at all, and wait with a clear message while the disk is full."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trainables.runtime.disk_space as disk_space
from search.errors import UsageError
from trainables.runtime.disk_space import (
    DiskFullError,
    Patience,
    Say,
    free_bytes,
    is_full,
    lacking,
    megabytes,
    retry,
    size_of,
)
from trainables.runtime.output import write_safely

STATE_BYTES = 2**20  # free bytes below which the search itself stops writing; far less than what checkpoints leave
_BLOCK_BYTES = 4096  # of a file system
_NETWORK_FILE_SYSTEMS = ("nfs", "lustre", "gpfs", "cifs", "smb", "afs", "beegfs", "ceph", "fuse.sshfs")

log = logging.getLogger(__name__)
log.setLevel(logging.INFO)  # into the log of the search that runs here; without one, nowhere

_stop_conditions: list[Callable[[], bool]] = []  # of the search that runs in this process


@contextmanager
def stop_waiting_when(stopping: Callable[[], bool]) -> Iterator[None]:
    """Raise ``DiskFullError`` inside instead of waiting for disk space, as soon as ``stopping`` returns True.

    A resume then finds out what was not written, as after any other death of the process.
    """
    _stop_conditions.append(stopping)
    try:
        yield
    finally:
        _stop_conditions.pop()


def is_stopping() -> bool:
    """Return whether the search that runs in this process is to end."""
    return any(stopping() for stopping in _stop_conditions)


def is_disk_full(error: BaseException) -> bool:
    """Return whether a full disk caused an exception."""
    return isinstance(error, DiskFullError) or is_full(error)


def print_to_stderr(line: str) -> None:
    write_safely(sys.stderr, f"{line}\n")
    log.info(line)


def has_space(folder: Path, needed_bytes: int = STATE_BYTES) -> bool:
    """Return whether the disk of a folder has that many bytes free."""
    return free_bytes(folder) >= needed_bytes


def wait_for_space(folder: Path, needed_bytes: int = STATE_BYTES, say: Say = print_to_stderr) -> None:
    """Return once that many bytes are free; until then say what is missing, and look again every few seconds."""
    disk_space.wait_for_room(folder, needed_bytes, say, leave=is_stopping)


def checkpoint_patience() -> Patience:
    """Read how checkpoints wait for disk space from ``$SEARCH_DISK_RESERVE_MB`` and ``$SEARCH_DISK_WAIT_S``."""
    usual = Patience()
    return Patience(
        reserve_bytes=int(float(os.environ.get("SEARCH_DISK_RESERVE_MB", usual.reserve_bytes / 2**20)) * 2**20),
        limit_s=float(os.environ.get("SEARCH_DISK_WAIT_S", usual.limit_s)),
    )


def write_atomically(path: Path, text: str, say: Say = print_to_stderr) -> None:
    """Replace a file as a whole: whatever happens, it holds the old text or the new."""
    write_bytes_atomically(path, text.encode(), say)


def write_bytes_atomically(path: Path, content: bytes, say: Say = print_to_stderr) -> None:
    """Replace a file as a whole: whatever happens, it holds the old bytes or the new.

    A device or a pipe, as /dev/stdout, is written to; the file that a link names is replaced, not the link.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    path = path.resolve()
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def write() -> None:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    needed = {path.parent: len(content) + _BLOCK_BYTES}
    retry(write, lambda: draft.unlink(missing_ok=True), lambda: needed, say, leave=is_stopping)


def append(path: Path, data: bytes, say: Say = print_to_stderr, *, sync: bool = True) -> None:
    """Append to a file that only this process writes: all of the data or, while the disk is full, nothing yet."""

    def write() -> None:
        with path.open("ab") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())

    append_whole(path, write, len(data), say)


def append_whole(path: Path, write: Callable[[], None], size: int, say: Say = print_to_stderr) -> None:
    """Let ``write`` append ``size`` bytes to a file, and cut off again what a failed write has appended."""
    before = path.stat().st_size if path.exists() else 0

    def cut_back() -> None:
        with suppress(FileNotFoundError):
            if path.stat().st_size > before:
                os.truncate(path, before)

    retry(write, cut_back, lambda: {path.parent: size + _BLOCK_BYTES}, say, leave=is_stopping)


def check_writable(file: Path | None) -> None:
    """Create the folder of the file that ``--json`` names, and open the file, before a search and not after it.

    Raises
    ------
    UsageError
        The file cannot be written.
    """
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a").close()
    except OSError as error:
        raise UsageError(f"--json {file}: cannot be written: {error.strerror}.") from error


def on_network_file_system(folder: Path) -> bool:
    """Return whether a folder lies on a network file system, where the locks of SQLite are not reliable."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return False
    best, kind = "", ""
    for line in mounts.read_text().splitlines():
        _, point, fstype, *_ = line.split()
        if folder.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, fstype
    return kind.startswith(_NETWORK_FILE_SYSTEMS)


def files_line(folder: Path) -> str:
    """Describe for the user where the files of a search are, and their size."""
    return f"files    {folder} ({megabytes(size_of(folder))})"


class DiskSpaceGuard:
    """Check the disk between two steps of the search, and block while there is no space for the search's own state.

    Tune writes its state to the temporary folder after each step and gives up the whole search if it cannot.
    Checkpoints wait by themselves, in the processes of the trials, and leave a reserve; the guard only reports that.

    Parameters
    ----------
    folder : Path
        Of the search.
    largest_checkpoint_bytes : callable, optional
        Size of a trial's checkpoint as far as it is known; None: checkpoints are not on this disk.
    """

    def __init__(self, folder: Path, say: Say, largest_checkpoint_bytes: Callable[[], int] | None = lambda: 0) -> None:
        self._folder, self._say, self._checkpoint_bytes = folder, say, largest_checkpoint_bytes
        self._reserve_bytes = checkpoint_patience().reserve_bytes
        self._checked_at, self._checkpoints_wait = float("-inf"), False

    def __call__(self, stopped: Callable[[], bool]) -> None:
        """Return when the search may continue, or when ``stopped`` returns True."""
        if time.monotonic() - self._checked_at < disk_space.POLL_S:
            return
        if self._checkpoint_bytes:
            self._report_checkpoints(self._checkpoint_bytes())
        for folder in (self._folder, Path(tempfile.gettempdir())):
            if not has_space(folder):
                self._wait(folder, stopped)
        self._checked_at = time.monotonic()

    def _report_checkpoints(self, largest_checkpoint_bytes: int) -> None:
        needed_bytes = self._reserve_bytes + largest_checkpoint_bytes
        full = not has_space(self._folder, needed_bytes)
        if full and not self._checkpoints_wait:
            missing = lacking(self._folder, needed_bytes)
            self._say(f"{missing}: trials wait before their next checkpoint, nothing is lost. Delete something there")
        elif self._checkpoints_wait and not full:
            self._say(f"disk of {self._folder} has room again: trials go on")
        self._checkpoints_wait = full

    def _wait(self, folder: Path, stopped: Callable[[], bool]) -> None:
        self._say(f"{lacking(folder, STATE_BYTES)}: the search waits, nothing is lost. Delete something there")
        while not has_space(folder) and not stopped():
            time.sleep(disk_space.POLL_S)
