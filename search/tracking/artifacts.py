"""Upload staged files to MLflow in a thread of its own, each file by itself, so that metrics never wait for one."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from search.storage.event_log import Entry
from search.tracking.artifact_location import find_problem
from search.tracking.client import MlflowClient
from search.tracking.events import StagedFiles
from search.tracking.server_calls import RefusedError, UnavailableError, upload

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0  # between rounds in which no file was uploaded
_LAST_FILE_S = 1.0  # for an upload that runs when the queue is closed
_MOST_NAMES = 6  # of files, in one line
_NOT_TRIED = "not tried yet"


@dataclass
class _File:
    """One staged file; it stays until MLflow has it."""

    path: Path
    folder: Path  # of the files that were staged together
    number: int | None  # of the trial; None: the search itself
    owner: str  # as users read it
    reason: str = _NOT_TRIED  # why MLflow does not have it

    @property
    def name(self) -> str:
        return self.path.relative_to(self.folder).as_posix()


class ArtifactQueue:
    """Files that wait for MLflow.

    A file that fails because the server does not answer goes to the end of the queue. One that is refused is left
    alone by this process and stays staged, so that a later export tries it again.

    Parameters
    ----------
    search_run_id : str
        The search's own run, by which the place of the artifacts is tested.
    run_of : callable
        From the number of a trial, None for the search itself, to the id of its run; None: it has no run.
    """

    def __init__(
        self,
        client: MlflowClient,
        staged: StagedFiles,
        search_run_id: str,
        run_of: Callable[[int | None], str | None],
    ) -> None:
        self._client, self._staged, self._search_run_id, self._run_of = client, staged, search_run_id, run_of
        self._waiting: deque[_File] = deque()
        self._refused: list[_File] = []
        self._names: set[str] = set()  # of the staged folders that belong to an event
        self._problem: str | None = None  # of the place of the artifacts; empty: none; None: not known yet
        self._failures = 0  # since the last file that was uploaded or refused
        self._moved_at = time.monotonic()  # when that was
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def location_problem(self) -> str:
        """Say why files do not arrive where MLflow keeps artifacts; empty: they do, or the server does not answer."""
        try:
            return self._find_problem()
        except (UnavailableError, RefusedError):
            return ""

    def add(self, entry: Entry, owner: str) -> None:
        """Queue the staged files of an event, unless they are in MLflow or in the queue already."""
        folder, number = self._staged.folder_of(entry), entry.content["number"]
        if folder.name in self._names:
            return
        self._names.add(folder.name)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())  # "checkpoint/" comes first
        if not paths:  # a process was killed between deleting the last file, which arrived, and its folders
            self._staged.discard_folder(folder)
            return
        with self._changed:
            self._waiting += [_File(path, folder, number, owner) for path in paths]
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="artifacts", daemon=True)
                self._thread.start()

    @property
    def missing(self) -> list[str]:
        """List the files that MLflow does not have, one line for each reason."""
        groups: dict[str, list[str]] = defaultdict(list)
        with self._changed:
            for file in (*self._refused, *self._waiting):
                groups[file.reason].append(f"{file.name} of {file.owner}")
        return [f"{_enumerate(names)}: {reason}" for reason, names in groups.items()]

    @property
    def first_refusal(self) -> str:
        """Describe the first file that was refused, for another reason than the place of all artifacts."""
        with self._changed:
            found = (f"{file.name} of {file.owner}: {file.reason}" for file in self._refused)
            return next((line for line in found if not self._problem or self._problem not in line), "")

    def settle(self, patience_s: float) -> None:
        """Return when no file waits, or when a file has failed and none was uploaded for that long."""
        with self._changed:
            self._moved_at = time.monotonic()
            while self._waiting and not self._closed:
                if self._failures and time.monotonic() - self._moved_at > patience_s:
                    return
                self._changed.wait(0.1)
            self._staged.discard_except(self._names)

    def close(self) -> None:
        """End the thread; what is not uploaded stays staged."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_LAST_FILE_S)

    # --- the thread

    def _work(self) -> None:
        pause_s = FIRST_PAUSE_S
        while (file := self._next()) is not None:
            self._try(file)
            with self._changed:
                if not self._failures:
                    pause_s = FIRST_PAUSE_S
                elif self._failures >= len(self._waiting):
                    self._changed.wait_for(lambda: self._closed, pause_s)
                    self._failures, pause_s = 1, min(2 * pause_s, LONGEST_PAUSE_S)

    def _next(self) -> _File | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return None if self._closed else self._waiting[0]

    def _try(self, file: _File) -> None:
        try:
            self._upload(file)
        except UnavailableError as error:
            with self._changed:
                file.reason, self._failures = str(error), self._failures + 1
                self._waiting.rotate(-1)
                self._changed.notify_all()
        except RefusedError as error:
            file.reason = str(error)
            self._move_on([file])
        else:
            self._staged.discard_file(file.path)
            self._move_on([])

    def _move_on(self, refused: list[_File]) -> None:
        with self._changed:
            self._waiting.popleft()
            self._refused += refused
            self._failures, self._moved_at = 0, time.monotonic()
            self._changed.notify_all()

    def _upload(self, file: _File) -> None:
        if problem := self._find_problem():
            raise RefusedError(problem)
        run_id = self._run_of(file.number)
        if run_id is None:
            raise RefusedError("its run is not in MLflow")
        if file.path.exists():  # otherwise another process has uploaded it
            folder = file.path.parent.relative_to(file.folder).as_posix()
            to = None if folder == "." else folder
            upload(lambda: self._client.log_artifact(run_id, str(file.path), to))

    def _find_problem(self) -> str:
        if self._problem is None:
            self._problem = find_problem(self._client, self._search_run_id)
        return self._problem


def _enumerate(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more files" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
