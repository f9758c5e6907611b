"""Keeps a copy of a search's small files in its URL while it runs, and brings them back from there."""

# Object stores have no append: a file that grows is there as blocks, of which only the last one changes.

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pyarrow import fs

from search.config.redaction import first_line
from search.storage.disk import write_bytes
from search.storage.location import StoragePath
from search.storage.trial_record import TrialListener, TrialRecord
from trainables.runtime.object_store import refuses

BLOCK_BYTES = 256 * 1024
PAUSE_S = 5.0  # before a store that did not answer is tried again
_REST = 4.0  # times as long as a push took the search has to itself, before the next one of growing files alone
PATIENCE_S = 20.0  # with it at the end of a search
_OWN = ("lock", "owner.json")  # of this machine


class Mirror(TrialListener):
    """A folder of this machine and its copy; the listener that comes after whoever writes files.

    What fails is tried again at the next occasion, and costs the search nothing.

    Parameters
    ----------
    folder : Path
        Of the search, on this machine.
    place : StoragePath
        Where the copy is.
    growing : sequence of str
        Files to which lines are added. What a later one tells of is never missing in an earlier one, here and there.
    say : callable
        Told when the store goes away, and when it is back.
    """

    def __init__(self, folder: Path, place: StoragePath, growing: Sequence[str], say: Callable[[str], object]) -> None:
        self._folder, self._place, self._growing, self._say = folder, place, growing, say
        self._there = dict.fromkeys(growing, 0)  # bytes in the copy
        self._due = dict.fromkeys(growing, 0)  # bytes that are to be there
        self._sent: dict[str, tuple[int, int]] = {}  # other files in the copy: size and time of what was sent
        self._wanted: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._away = False
        self._owed = False  # something is marked and not sent
        self._next_try = float("-inf")
        self.closed = False  # somebody else writes there now

    def length(self, name: str) -> int:
        """Bytes of a growing file that are safe."""
        return self._there[name]

    @property
    def away(self) -> bool:
        """The store did not answer when it was last asked."""
        return self._away

    @property
    def behind(self) -> bool:
        """Something is still to be sent."""
        return self._owed

    @property
    def due(self) -> bool:
        """And now is the time."""
        return self._owed and time.monotonic() >= self._next_try

    # --- from there

    def pull(self) -> None:
        """Take over what is there, unless this machine is ahead of it. Raises what the store raises."""
        files = {name: info for name, info in self._place.listed(deep=True).items() if info.type == fs.FileType.File}
        if not files:
            return
        there = {name: self._joined(name, files) for name in self._growing}
        here = {name: _content(self._folder / name) for name in self._growing}
        others = [name for name in files if name.partition("/")[0] not in self._growing]
        if not all(here[name].startswith(there[name]) for name in self._growing):
            self._replace(here, there)
        if all(_content(self._folder / name) == there[name] for name in self._growing):
            for name in others:
                self._take(name, files[name])
        self._there = {name: len(text) for name, text in there.items()}
        self._sent = dict.fromkeys(others, (-1, -1)) | self._sent

    def _joined(self, name: str, files: Mapping[str, fs.FileInfo]) -> bytes:
        return b"".join(self._place.read(block) or b"" for block in sorted(files) if block.startswith(f"{name}/"))

    def _replace(self, here: Mapping[str, bytes], there: Mapping[str, bytes]) -> None:
        """Another machine has gone on with the search."""
        for name in self._small():
            (self._folder / name).unlink()
        shutil.rmtree(self._folder / "outbox", ignore_errors=True)
        for name, text in there.items():
            if here[name] and not text.startswith(here[name]):  # it has lost what was done here last
                write_bytes(self._folder / f"{name}.lost", here[name])
            write_bytes(self._folder / name, text)

    def _take(self, name: str, info: fs.FileInfo) -> None:
        file = self._folder / name
        if file.exists() and file.stat().st_mtime_ns >= (info.mtime_ns or 0):
            return
        content = self._place.read(name)
        if content is None:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, content)
        if info.mtime_ns:
            os.utime(file, ns=(info.mtime_ns, info.mtime_ns))
        self._sent[name] = _stamp(file)

    # --- to there

    def push(self, everything: bool = True) -> bool:
        """Bring the copy up to date; only growing files, or everything. False: not now.

        Where events come thick and fast their growing files are left to whoever calls ``catch_up``.
        """
        with self._lock:
            self._mark(everything)
            at_once = everything and not self._away
            return (at_once or time.monotonic() >= self._next_try) and self._send()

    def catch_up(self) -> None:
        """Send what was marked and not sent."""
        with self._lock:
            self._send()

    def close(self) -> bool:
        """The last push; True: the copy has everything."""
        deadline = time.monotonic() + PATIENCE_S
        self._next_try = float("-inf")
        while not self.push() and not self.closed:
            if time.monotonic() > deadline:
                return False
            time.sleep(max(0.0, min(self._next_try, deadline) - time.monotonic()) + 0.01)
        return True

    def _mark(self, everything: bool) -> None:
        """What is there now belongs together; only the thread that writes the files may say so."""
        self._owed = True
        for name in self._growing:
            file = self._folder / name
            self._due[name] = file.stat().st_size if file.exists() else 0
        if everything:
            self._wanted = {name: _stamp(self._folder / name) for name in self._small()}

    def _small(self) -> Iterator[str]:
        """Files that are sent whole."""
        for place, folders, names in os.walk(self._folder):
            folders[:] = [folder for folder in folders if not folder.startswith(".")]
            for name in names:
                relative = str((Path(place) / name).relative_to(self._folder))
                passing = name.startswith(".") or ".lock" in name or name.endswith((".damaged", ".lost"))
                if relative not in (*self._growing, *_OWN) and not passing:
                    yield relative

    def _send(self) -> bool:
        if self.closed:
            return False
        started = time.monotonic()
        try:
            for name, stamp in self._wanted.items():
                if self._sent.get(name) != stamp:
                    self._send_whole(name, stamp)
            for name in reversed(self._growing):
                self._send_growing(name)
            for name in self._sent.keys() - self._wanted.keys():
                self._place.delete(name)
                del self._sent[name]
        except Exception as error:  # whatever file systems raise
            self.fail(error)
            return False
        self._works()
        self._owed = False
        self._next_try = time.monotonic() + _REST * (time.monotonic() - started)
        return True

    def _send_whole(self, name: str, stamp: tuple[int, int]) -> None:
        try:
            content = (self._folder / name).read_bytes()
        except FileNotFoundError:  # delivered meanwhile
            return
        self._place.write(name, content)
        self._sent[name] = stamp

    def _send_growing(self, name: str) -> None:
        due = self._due[name]
        if due <= self._there[name]:
            return
        with (self._folder / name).open("rb") as file:
            for start in range(self._there[name] // BLOCK_BYTES * BLOCK_BYTES, due, BLOCK_BYTES):
                file.seek(start)
                end = min(start + BLOCK_BYTES, due)
                self._place.write(f"{name}/{start // BLOCK_BYTES:06d}", file.read(end - start))
                self._there[name] = end

    # --- what is said of it

    def fail(self, error: BaseException) -> None:
        """The store did not answer."""
        self._next_try = time.monotonic() + PAUSE_S
        if not self._away:
            does = "refuses" if refuses(error) else "does not answer"
            self._say(
                f"storage  {self._place} {does} ({first_line(error)}); nothing is lost: checkpoints wait, and the "
                f"files of the search are in {self._folder}"
            )
        self._away = self._owed = True

    def _works(self) -> None:
        if self._away:
            self._say("storage  answers again; what waited is there")
        self._away = False

    # --- the records tell

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
    found = file.stat()
    return found.st_size, found.st_mtime_ns
