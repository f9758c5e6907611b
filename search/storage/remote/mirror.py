"""Copy the small files of a search to its URL while it runs, and back from there."""

# Object stores cannot append: a growing file is stored as blocks, of which only the last one changes.

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pyarrow import fs

from search.config.redaction import first_line
from search.storage.disk import write_bytes_atomically
from search.storage.location import StoragePath
from search.storage.names import LOCK, LOG, OWNER, STAGED_FILES
from search.storage.trial_record import TrialListener, TrialRecord
from trainables.runtime.object_store import refuses

BLOCK_BYTES = 256 * 1024
PAUSE_S = 5.0  # after which a store that did not answer is tried again
_PAUSE_FACTOR = 4.0  # after a push, the search runs this many times as long before the next push of growing files alone
PATIENCE_S = 20.0  # with a store that does not answer at the end of a search


class Mirror(TrialListener):
    """A folder of this machine and its copy in a URL.

    As a listener it must come after the listeners that write files. A failed copy is tried again at the next event,
    and does not stop the search.

    Parameters
    ----------
    folder : Path
        Of the search, on this machine.
    place : StoragePath
        Of the copy.
    append_only : sequence of str
        Files that only grow. What a later one refers to is never missing in an earlier one, in the copy too.
    say : callable
        Receives a line when the store does not answer, and when it answers again.
    """

    def __init__(
        self, folder: Path, place: StoragePath, append_only: Sequence[str], say: Callable[[str], object]
    ) -> None:
        self._folder, self._place, self._append_only, self._say = folder, place, append_only, say
        self._copied = dict.fromkeys(append_only, 0)  # bytes in the copy
        self._due = dict.fromkeys(append_only, 0)  # bytes that are to be in the copy
        self._sent: dict[str, tuple[int, int]] = {}  # other files in the copy: size and time when they were sent
        self._wanted: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._unavailable = False
        self._behind = False
        self._next_try = float("-inf")
        self.closed = False  # another process writes to the copy now

    def copied_bytes(self, name: str) -> int:
        """Return how much of an append-only file is in the copy."""
        return self._copied[name]

    @property
    def unavailable(self) -> bool:
        """Return whether the store did not answer at the last attempt."""
        return self._unavailable

    @property
    def behind(self) -> bool:
        """Return whether something is still to be sent."""
        return self._behind

    @property
    def due(self) -> bool:
        """Return whether something is to be sent now."""
        return self._behind and time.monotonic() >= self._next_try

    # --- from the copy

    def fetch(self) -> None:
        """Take over the copy unless this machine is ahead of it. Raises what the store raises."""
        copy = {
            name: info for name, info in self._place.entries(recursive=True).items() if info.type == fs.FileType.File
        }
        if not copy:
            return
        there = {name: self._join_blocks(name, copy) for name in self._append_only}
        here = {name: _content(self._folder / name) for name in self._append_only}
        others = [name for name in copy if name.partition("/")[0] not in self._append_only]
        if not all(here[name].startswith(there[name]) for name in self._append_only):
            self._replace(here, there)
        if all(_content(self._folder / name) == there[name] for name in self._append_only):
            for name in others:
                self._fetch_newer(name, copy[name])
        self._copied = {name: len(content) for name, content in there.items()}
        self._sent = dict.fromkeys(others, (-1, -1)) | self._sent

    def _join_blocks(self, name: str, copy: Mapping[str, fs.FileInfo]) -> bytes:
        return b"".join(self._place.read(block) or b"" for block in sorted(copy) if block.startswith(f"{name}/"))

    def _replace(self, here: Mapping[str, bytes], there: Mapping[str, bytes]) -> None:
        """Replace the files of this machine, because another machine has continued the search."""
        for name in self._small_files():
            (self._folder / name).unlink()
        shutil.rmtree(self._folder / STAGED_FILES, ignore_errors=True)
        for name, content in there.items():
            if here[name] and not content.startswith(here[name]):  # the copy lacks what was done here last
                write_bytes_atomically(self._folder / f"{name}.lost", here[name])
            write_bytes_atomically(self._folder / name, content)

    def _fetch_newer(self, name: str, info: fs.FileInfo) -> None:
        file = self._folder / name
        if file.exists() and file.stat().st_mtime_ns >= (info.mtime_ns or 0):
            return
        content = self._place.read(name)
        if content is None:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomically(file, content)
        if info.mtime_ns:
            os.utime(file, ns=(info.mtime_ns, info.mtime_ns))
        self._sent[name] = _stamp(file)

    # --- to the copy

    def push(self, everything: bool = True) -> bool:
        """Bring the copy up to date: everything, or append-only files alone. False: it is not up to date yet.

        Frequent events mark only what is due; ``catch_up`` sends it later.
        """
        with self._lock:
            self._mark(everything)
            at_once = everything and not self._unavailable
            return (at_once or time.monotonic() >= self._next_try) and self._send()

    def catch_up(self) -> None:
        """Send what was marked and not sent."""
        with self._lock:
            self._send()

    def close(self) -> bool:
        """Send the rest. True: the copy has everything."""
        deadline = time.monotonic() + PATIENCE_S
        self._next_try = float("-inf")
        while not self.push() and not self.closed:
            if time.monotonic() > deadline:
                return False
            time.sleep(max(0.0, min(self._next_try, deadline) - time.monotonic()) + 0.01)
        return True

    def _mark(self, everything: bool) -> None:
        """Mark the files as they are now, which fit together; only the thread that writes them may call this."""
        self._behind = True
        for name in self._append_only:
            file = self._folder / name
            self._due[name] = file.stat().st_size if file.exists() else 0
        if everything:
            self._wanted = {name: _stamp(self._folder / name) for name in self._small_files()}

    def _small_files(self) -> Iterator[str]:
        """Yield the files that are sent whole."""
        for place, folders, names in os.walk(self._folder):
            folders[:] = [folder for folder in folders if not folder.startswith(".")]
            for name in names:
                relative = str((Path(place) / name).relative_to(self._folder))
                temporary = name.startswith(".") or ".lock" in name or name.endswith((".damaged", ".lost"))
                if relative not in (*self._append_only, LOCK, OWNER, LOG) and not temporary:
                    yield relative

    def _send(self) -> bool:
        if self.closed:
            return False
        started = time.monotonic()
        try:
            for name, stamp in self._wanted.items():
                if self._sent.get(name) != stamp:
                    self._send_whole(name, stamp)
            for name in reversed(self._append_only):
                self._send_blocks(name)
            for name in self._sent.keys() - self._wanted.keys():
                self._place.delete(name)
                del self._sent[name]
        except Exception as error:  # whatever file systems raise
            self.report_failure(error)
            return False
        self._report_success()
        self._behind = False
        self._next_try = time.monotonic() + _PAUSE_FACTOR * (time.monotonic() - started)
        return True

    def _send_whole(self, name: str, stamp: tuple[int, int]) -> None:
        try:
            content = (self._folder / name).read_bytes()
        except FileNotFoundError:  # exported meanwhile
            return
        self._place.write(name, content)
        self._sent[name] = stamp

    def _send_blocks(self, name: str) -> None:
        due = self._due[name]
        if due <= self._copied[name]:
            return
        with (self._folder / name).open("rb") as file:
            for start in range(self._copied[name] // BLOCK_BYTES * BLOCK_BYTES, due, BLOCK_BYTES):
                file.seek(start)
                end = min(start + BLOCK_BYTES, due)
                self._place.write(f"{name}/{start // BLOCK_BYTES:06d}", file.read(end - start))
                self._copied[name] = end

    # --- messages

    def report_failure(self, error: BaseException) -> None:
        """Say once that the store cannot be written, and try again after a pause."""
        self._next_try = time.monotonic() + PAUSE_S
        if not self._unavailable:
            does = "refuses" if refuses(error) else "does not answer"
            self._say(
                f"storage  {self._place} {does} ({first_line(error)}); nothing is lost: checkpoints wait, and the "
                f"files of the search are in {self._folder}"
            )
        self._unavailable = self._behind = True

    def _report_success(self) -> None:
        if self._unavailable:
            self._say("storage  answers again; what waited is there")
        self._unavailable = False

    # --- events of trials

    def trial_started(self, trial: TrialRecord) -> None:
        self.push(everything=False)

    def trial_resumed(self, trial: TrialRecord) -> None:
        self.push(everything=False)

    def trial_retried(self, trial: TrialRecord) -> None:
        self.push(everything=False)

    def checkpoint_saved(self, trial: TrialRecord) -> None:
        self.push(everything=False)

    def trial_ended(self, trial: TrialRecord) -> None:
        self.push()


def _content(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""


def _stamp(file: Path) -> tuple[int, int]:
    """Return size and time of a file, by which a change is noticed."""
    found = file.stat()
    return found.st_size, found.st_mtime_ns
