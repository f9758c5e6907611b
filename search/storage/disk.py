"""A full disk: the search waits with a clear word instead of failing, and no file of its own is ever half written."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trainables.runtime.disk_space as room
from search.errors import UsageError
from trainables.runtime.disk_space import (
    DiskFullError,
    Patience,
    Say,
    free_bytes,
    is_full,
    lacking,
    megabytes,
    patiently,
    size_of,
)

__all__ = ["size_of"]

STATE_BYTES = 2**20  # room below which the search itself stops writing; far less than what checkpoints leave
_BLOCK = 4096  # of a file system


_leave: list[Callable[[], bool]] = []  # whether the search that runs here is to end


@contextmanager
def waiting_until(leave: Callable[[], bool]) -> Iterator[None]:
    """Inside, nothing waits for room any longer once ``leave`` says so, but raises ``DiskFullError``.

    What is then not written is found out by a resume, as after any other death.
    """
    _leave.append(leave)
    try:
        yield
    finally:
        _leave.pop()


def time_to_leave() -> bool:
    """Whether the search that runs here is to end."""
    return any(leave() for leave in _leave)


def full(error: BaseException) -> bool:
    """Whether a full disk was the cause of an exception."""
    return isinstance(error, DiskFullError) or is_full(error)


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def enough_room(folder: Path, needed_bytes: int = STATE_BYTES) -> bool:
    """Whether that much can still be written on the disk of a folder."""
    return free_bytes(folder) >= needed_bytes


def wait_for_room(folder: Path, needed_bytes: int = STATE_BYTES, say: Say = to_stderr) -> None:
    """Return once that much can be written; until then say what is missing, and look again every few seconds."""
    room.wait_for_room(folder, needed_bytes, say, leave=time_to_leave)


def patience_of_checkpoints() -> Patience:
    """From the environment: ``SEARCH_DISK_RESERVE_MB`` and ``SEARCH_DISK_WAIT_S``."""
    usual = Patience()
    return Patience(
        reserve_bytes=int(float(os.environ.get("SEARCH_DISK_RESERVE_MB", usual.reserve_bytes / 2**20)) * 2**20),
        limit_s=float(os.environ.get("SEARCH_DISK_WAIT_S", usual.limit_s)),
    )


def write_atomically(path: Path, text: str, say: Say = to_stderr) -> None:
    """Replace a file as a whole: whatever happens, it holds the old text or the new."""
    write_bytes(path, text.encode(), say)


def write_bytes(path: Path, content: bytes, say: Say = to_stderr) -> None:
    """The same, of any content."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def write() -> None:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    needed = {path.parent: len(content) + _BLOCK}
    patiently(write, lambda: draft.unlink(missing_ok=True), lambda: needed, say, leave=time_to_leave)


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


def append(path: Path, data: bytes, say: Say = to_stderr, *, sync: bool = True) -> None:
    """Add to a file that only this process writes: all of the data, or, while the disk is full, nothing yet."""

    def write() -> None:
        with path.open("ab") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())

    append_whole(path, write, len(data), say)


def append_whole(path: Path, write: Callable[[], None], size: int, say: Say = to_stderr) -> None:
    """Let ``write`` add that many bytes to a file; what a failed one has added is taken away again."""
    before = path.stat().st_size if path.exists() else 0

    def cut_back() -> None:
        with suppress(FileNotFoundError):
            if path.stat().st_size > before:
                os.truncate(path, before)

    patiently(write, cut_back, lambda: {path.parent: size + _BLOCK}, say, leave=time_to_leave)


def on_network_file_system(folder: Path) -> bool:
    """Whether SQLite had better stay away from this folder: it locks badly there."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return False
    best, kind = "", ""
    for line in mounts.read_text().splitlines():
        _, point, fstype, *_ = line.split()
        if folder.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, fstype
    return kind.startswith(("nfs", "lustre", "gpfs", "cifs", "smb", "afs", "beegfs", "ceph", "fuse.sshfs"))


def files_line(folder: Path) -> str:
    """Where a search's files are, and how large they are, for people."""
    return f"files    {folder} ({megabytes(size_of(folder))})"


class RoomGuard:
    """Looks at the disk between two steps of the search, and holds it while there is no room for its own state.

    Tune writes its own state to the temporary folder after each step and gives the whole search up if it cannot.
    Checkpoints wait by themselves, in the trials' processes, and leave a reserve; a person is told of that here.

    Parameters
    ----------
    folder : Path
        Of the search.
    checkpoint_bytes : callable, optional
        Size of a trial's checkpoint, as far as it is known; None: checkpoints are not on this disk.
    """

    def __init__(self, folder: Path, say: Say, checkpoint_bytes: Callable[[], int] | None = lambda: 0) -> None:
        self._folder, self._say, self._checkpoint_bytes = folder, say, checkpoint_bytes
        self._reserve = patience_of_checkpoints().reserve_bytes
        self._looked, self._full = float("-inf"), False

    def __call__(self, stopped: Callable[[], bool]) -> None:
        """Return when the search may go on, or is to be stopped."""
        if time.monotonic() - self._looked < room.POLL_S:
            return
        if self._checkpoint_bytes:
            self._tell_of_checkpoints(self._checkpoint_bytes())
        for place in (self._folder, Path(tempfile.gettempdir())):
            if not enough_room(place):
                self._hold(place, stopped)
        self._looked = time.monotonic()

    def _tell_of_checkpoints(self, checkpoint_bytes: int) -> None:
        needed = self._reserve + checkpoint_bytes
        full = not enough_room(self._folder, needed)
        if full and not self._full:
            about = lacking(self._folder, needed)
            self._say(f"{about}: trials wait before their next checkpoint, nothing is lost. Delete something there")
        elif self._full and not full:
            self._say(f"disk of {self._folder} has room again: trials go on")
        self._full = full

    def _hold(self, place: Path, stopped: Callable[[], bool]) -> None:
        self._say(f"{lacking(place, STATE_BYTES)}: the search waits, nothing is lost. Delete something there")
        while not enough_room(place) and not stopped():
            time.sleep(room.POLL_S)
