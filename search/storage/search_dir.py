"""Lock, identify and describe the directory of one search."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from search.config.spec import SearchSpec
from search.errors import NameTakenError, UsageError
from search.storage.disk import print_to_stderr, write_atomically
from search.storage.event_log import repair
from search.storage.history import SearchHistory
from search.storage.location import Storage, StoragePath, readable_errors
from search.storage.names import APPEND_ONLY, DESCRIPTION, EVENT_LOG, LOCK, OWNER, STATE, TOKEN
from search.storage.remote.lease import Lease
from search.storage.remote.mirror import Mirror
from search.storage.remote.session import remote_session
from search.workload import Data

_VERSION = "objective version"
_OTHER_FLAGS = "Repeat the flags of its first command, or choose another --name."
_OTHER_VERSION = (
    "Values of different versions are never compared. Repeat the flags of its first command; where they are the same, "
    "this program defines the objective anew: choose another --name."
)


class SearchDir:
    """``<storage>/searches/<name>``: event log, study, checkpoints of trials, leaderboard, description.

    Where the storage is a URL, the checkpoints are in ``storage_path`` alone; all other files are in ``path`` on this
    machine, with a copy in the URL.

    Raises
    ------
    UsageError
        The name would lead out of the storage.
    """

    def __init__(self, storage: Storage | Path, name: str) -> None:
        if Path(name).name != name or name in ("", ".."):
            raise UsageError(f"There is no search {name!r}: expected the name of one, not a path.")
        self.storage = storage if isinstance(storage, Storage) else Storage(storage)
        self.path = self.storage.folder / "searches" / name
        self.mirror: Mirror | None = None  # while this process runs the search, and the storage is a URL
        self.on_taken_over: Callable[[str], object] = lambda _other: None  # called when another process runs it now

    @cached_property
    def storage_path(self) -> StoragePath:
        """Folder of the trials' checkpoints."""
        return self.storage.root.joinpath("searches", self.path.name)

    @property
    def event_log(self) -> Path:
        return self.path / EVENT_LOG

    @property
    def history(self) -> SearchHistory:
        return SearchHistory(self.event_log, self.storage_path)

    @property
    def begun(self) -> bool:
        """Return whether a search of this name has got as far as its first trial."""
        return (self.path / DESCRIPTION).exists()

    @property
    def where(self) -> str:
        """Return the folder or URL, as users read it."""
        return str(self.storage_path) if self.storage.url else str(self.path)

    # --- lock

    @contextmanager
    def locked(self, wait: bool = False, say: Callable[[str], object] = print_to_stderr) -> Iterator[None]:
        """Create the directory if need be, and keep other processes out of it.

        Parameters
        ----------
        wait : bool
            In a URL: wait until the lease of a driver on another machine, which may be dead, expires.
        say : callable
            In a URL: receives lines about waiting, and about a store that does not answer.

        Raises
        ------
        NameTakenError
            Another process runs this search. (A process that died on this machine locks nothing; one that died on
            another machine locks a URL for ``lease.stale_s``.)
        UsageError
            The directory cannot be created.
        """
        with self._local_lock() as owner, self._remote_lock(owner, wait, say):
            yield

    @contextmanager
    def _local_lock(self) -> Iterator[Path]:
        """Lock the directory on this machine; yield the file that describes the owner."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"--storage: cannot write to {self.path.parent} ({error.strerror}). Name another."
            ) from error
        lock, owner = FileLock(self.path / LOCK), self.path / OWNER
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise NameTakenError(
                f"A search named {self.path.name!r} is running now: {_describe(owner)}. Choose another --name, or wait."
            ) from None
        try:
            yield owner
        finally:
            owner.unlink(missing_ok=True)
            lock.release()
            if not self.begun and not (self.path / TOKEN).exists():
                shutil.rmtree(self.path, ignore_errors=True)  # nothing was begun: the name is free again
                with suppress(OSError):
                    self.path.parent.rmdir()  # fails where there are other searches

    @contextmanager
    def _remote_lock(self, owner: Path, wait: bool, say: Callable[[str], object]) -> Iterator[None]:
        """Lock the search on all machines, where the storage is a URL."""
        former_lease = _lease_of(owner)
        _write_owner(owner, former_lease)
        if not self.storage.url:
            yield
            return
        with remote_session(
            self.path,
            self.storage_path,
            former_lease=former_lease,
            wait=wait,
            say=say,
            on_taken_over=lambda other: self.on_taken_over(other),
        ) as (lease, self.mirror):
            _write_owner(owner, lease)
            try:
                yield
            finally:
                self.mirror = None

    # --- copy in a URL

    def push(self) -> None:
        """Copy to the URL what was written since the last call."""
        if self.mirror is not None:
            self.mirror.push()

    def safe_log_bytes(self) -> float:
        """Return how many bytes of the event log are in the URL, where another machine would continue from."""
        return self.mirror.copied_bytes(EVENT_LOG) if self.mirror is not None else math.inf

    def fetch(self) -> None:
        """Copy newer files from the URL, for reading; those of a search that runs on this machine are the newest."""
        if not self.storage.url:
            return
        with readable_errors(str(self.storage_path)):
            if not self.storage_path.joinpath(STATE).entries():
                return
            self.path.mkdir(parents=True, exist_ok=True)
            with suppress(Timeout), FileLock(self.path / LOCK, timeout=0):
                Mirror(self.path, self.storage_path.joinpath(STATE), APPEND_ONLY, print_to_stderr).fetch()

    def locked_elsewhere(self) -> bool:
        """Return whether a driver on another machine may be running the search."""
        if not self.storage.url:
            return False
        with readable_errors(str(self.storage_path)):
            return Lease(self.storage_path, self.path.name).is_fresh()

    def upload(self, *names: str) -> None:
        """Copy files to the URL that were written after the end of the search."""
        for name in names if self.storage.url else ():
            with readable_errors(str(self.storage_path)):
                self.storage_path.joinpath(STATE).write(name, (self.path / name).read_bytes())

    # --- identity

    def refuse_if_taken(self) -> None:
        """Refuse a new search whose name an earlier one has.

        Raises
        ------
        NameTakenError
            Names the two ways out.
        """
        if self.begun:
            raise NameTakenError(
                f"A search named {self.path.name!r} exists already, in {self.where}. Go on with it with --resume, or "
                "choose another --name."
            )

    def token(self) -> str:
        """Return the word by which MLflow finds this search again; a death before its description changes nothing."""
        file = self.path / TOKEN
        if not file.exists():
            write_atomically(file, uuid4().hex)
            self.push()
        return file.read_text()

    def repair(self) -> None:
        """Cut off the incomplete lines that a killed process or a full disk left."""
        for name in APPEND_ONLY:
            repair(self.path / name)

    def require_same(self, spec: SearchSpec, data: Data | None = None) -> None:
        """Require that a resumed search is the one that began; without data, as far as the flags say.

        Raises
        ------
        UsageError
            The flags or data are not those that it began with; names the difference.
        """
        before = self.description()
        now = json.loads(json.dumps(spec.identity(data)))
        for key in sorted(now, key=lambda key: key != _VERSION):  # first what flags alone may be unable to undo
            if before[key] != now[key]:
                raise UsageError(
                    f"--resume: {key} of search {spec.name!r} was {before[key]!r} and is now {now[key]!r}. "
                    + (_OTHER_VERSION if key == _VERSION else _OTHER_FLAGS)
                )

    # --- description

    def describe(self, spec: SearchSpec, data: Data, **more: Any) -> None:
        """Write what a resumed search must have in common with this one, and its number of trials.

        Parameters
        ----------
        more : JSON values
            For later commands: ``facts`` and ``own_run`` (its MLflow runs), ``branches``, ``method``, ``commit``.
        """
        where = spec.data.absolute().model_dump(mode="json")
        self._write({**more, "settings": where, "trials": spec.trials, **spec.identity(data)})

    def set(self, **changed: Any) -> None:
        """Change the description, all at once or not at all."""
        self._write({**self.description(), **changed})

    def description(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.path / DESCRIPTION).read_text())
        return content

    def _write(self, content: dict[str, Any]) -> None:
        write_atomically(self.path / DESCRIPTION, json.dumps(content, indent=1))
        self.push()


def _write_owner(file: Path, lease: str) -> None:
    file.write_text(json.dumps({"host": platform.node(), "pid": os.getpid(), "lease": lease}))


def _lease_of(owner: Path) -> str:
    """Return the id of the lease that a process which died here left behind; empty: none."""
    try:
        return str(json.loads(owner.read_text()).get("lease", ""))
    except (OSError, ValueError):
        return ""


def _describe(owner: Path) -> str:
    try:
        content = json.loads(owner.read_text())
        return f"process {content['pid']} on {content['host']}"
    except (OSError, ValueError, KeyError):
        return "by another process"
