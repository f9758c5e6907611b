"""Bounds the size of a search's storage: who may keep a checkpoint, and what is deleted of the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyarrow import fs

from search.config.redaction import first_line
from search.storage.location import StoragePath
from search.storage.trial_record import TrialListener, TrialRecord
from trainables.base.objectives import Goal
from trainables.base.trainable import REPORT_FOLDER
from trainables.runtime.disk_space import Say, size_of

_SMALL = {".csv", ".txt", ".json"}  # of a report: what comparisons are drawn from, and why one could not be drawn


class Keeper(TrialListener):
    """A listener that keeps the checkpoints of the best complete trials, and of those that still go on.

    Best is who stands first in the leaderboard; of several objectives the whole Pareto front is best, however many
    they are. Whoever is not, or has ended without being complete, loses its weights and states, but not the small
    tables of its report. A trial that goes on in another process has a new folder there: the old one goes as soon as
    the new one holds a checkpoint, or the trial has ended.

    It must hear of an event after whoever writes it down or copies the files: what is deleted here is gone.

    Parameters
    ----------
    place : StoragePath
        The search's own: a folder, or in a URL.
    keep : int
        So many complete trials at least keep their checkpoint.
    known : iterable of TrialRecord
        Trials of an earlier process.
    at_end : bool
        Delete only in ``close``: in population based training others may still copy from a trial that has ended.
    each : int, optional
        So many checkpoints of a running trial stay; None: Tune sees to that.
    safe : callable
        Whether the next process would know of the newer ones: else the older ones stay for now.
    """

    def __init__(
        self,
        goal: Goal,
        keep: int,
        place: StoragePath,
        say: Say,
        *,
        known: Iterable[TrialRecord] = (),
        at_end: bool = False,
        each: int | None = None,
        safe: Callable[[], bool] = lambda: True,
    ) -> None:
        self._goal, self._keep, self._place, self._say, self._at_end = goal, keep, place, say, at_end
        self._files, self._each, self._safe = place.files, each, safe
        self._best: list[TrialRecord] = []
        self._waiting: list[TrialRecord] = []  # ended, for ``close``
        self._running: dict[int, deque[str]] = {}  # checkpoints of running trials, where ``each`` bounds them
        self._aside = ThreadPoolExecutor(1, "keeper")  # a store may take its time; the search must not
        self._folders: dict[int, list[str]] = {}  # of trials in earlier processes
        self._patiently(lambda: self._folders.update(_folders_by_number(place)))
        for record in known:
            if record.outcome is not None:
                self.trial_ended(record)

    # --- the records tell

    def checkpoint_saved(self, trial: TrialRecord) -> None:
        if self._each and trial.checkpoint:
            recent = self._running.setdefault(trial.number, deque())
            recent.append(trial.checkpoint.path)
            while len(recent) > self._each and self._safe():
                self._aside.submit(self._remove, recent.popleft())
        if trial.number in self._folders and not self._at_end:
            self._delete_stale(trial)

    def trial_ended(self, trial: TrialRecord) -> None:
        self._running.pop(trial.number, None)
        if trial.outcome == "interrupted":
            return
        if self._at_end:
            self._waiting.append(trial)
        else:
            self._judge(trial)

    def close(self) -> None:
        """Delete what was to wait for the end of the search."""
        self._aside.shutdown()
        for trial in self._waiting:
            self._judge(trial)
        self._waiting.clear()

    # --- who loses

    def _judge(self, trial: TrialRecord) -> None:
        losers = self._losers(trial) if trial.outcome == "complete" else [trial]

        def delete() -> None:
            self._delete_stale(trial)
            for loser in losers:
                self._strip(loser)
            if all(loser is not trial for loser in losers):
                self._only_last(trial)

        self._patiently(delete)

    def _patiently(self, look: Callable[[], object]) -> None:
        """What fails while looking is told; a later process finds what stayed."""
        try:
            look()
        except OSError as error:
            self._tell(str(self._place), error)

    def _losers(self, trial: TrialRecord) -> list[TrialRecord]:
        """Who is no longer among the best, now that this one is complete, too."""
        rivals = [*self._best, trial]
        ranked = self._goal.ranked([record.metrics for record in rivals])
        kept = max(self._keep, sum(front for _, front in ranked) if self._goal.several else 0)
        self._best = [rivals[place] for place, _ in ranked[:kept]]
        return [rivals[place] for place, _ in ranked[kept:]]

    # --- deleting, which may fail but never raises

    def _delete_stale(self, trial: TrialRecord) -> None:
        """Folders of this trial from processes before the one that it was last seen in."""
        present = self._present(trial)
        for folder in self._folders.pop(trial.number, []):
            if folder != present:
                self._remove(folder)

    def _only_last(self, trial: TrialRecord) -> None:
        """Of the checkpoints of a trial that has ended, the last is enough."""
        if trial.checkpoint is None:
            return
        for checkpoint in self._checkpoints(self._present(trial)):
            if checkpoint != trial.checkpoint.path:
                self._remove(checkpoint)

    def _strip(self, trial: TrialRecord) -> None:
        """Take everything from the checkpoints of a trial but the tables of its report."""
        folder = self._present(trial)
        for checkpoint in self._checkpoints(folder):
            files = [info.path for info in self._listed(checkpoint, deep=True) if info.type == fs.FileType.File]
            tables = [file for file in files if _is_table(file)]
            if not tables:
                self._remove(checkpoint)
            for file in [file for file in files if file not in tables] if tables else []:
                self._unlink(file)
        if not self._listed(folder):
            self._remove(folder)

    def _present(self, trial: TrialRecord) -> str:
        """The folder that Tune made for the trial in the process that last ran it."""
        if trial.checkpoint is None:
            return self._place.at(f"{trial.number:05d}_{trial.trial_id}").path
        return str(trial.checkpoint.path).rpartition("/")[0]

    def _checkpoints(self, folder: str) -> list[str]:
        found = [info.path.rstrip("/") for info in self._listed(folder)]
        return sorted(path for path in found if path.rpartition("/")[2].startswith("checkpoint_"))

    def _listed(self, folder: str, deep: bool = False) -> list[fs.FileInfo]:
        selected = fs.FileSelector(folder, recursive=deep, allow_not_found=True)
        return list(self._files.get_file_info(selected))

    def _remove(self, folder: str) -> None:
        try:
            self._files.delete_dir(folder)
        except OSError as error:
            self._tell(folder, error)

    def _unlink(self, file: str) -> None:
        try:
            self._files.delete_file(file)
        except OSError as error:
            self._tell(file, error)

    def _tell(self, path: str, error: BaseException) -> None:
        if not isinstance(error, FileNotFoundError):
            self._say(f"warning  not deleted: {path} ({first_line(error)})")


def checkpoint_bytes(records: Iterable[TrialRecord]) -> int:
    """Size of the largest checkpoint of a running trial, in local folders."""
    running = [record.checkpoint for record in records if record.outcome is None and record.checkpoint]
    local = [checkpoint for checkpoint in running if checkpoint.is_local]
    return max((size_of(Path(checkpoint.path)) for checkpoint in local), default=0)


def _is_table(file: str) -> bool:
    path = Path(file)
    return path.parent.name == REPORT_FOLDER and path.suffix in _SMALL


def _folders_by_number(place: StoragePath) -> dict[int, list[str]]:
    """Folders of trials that earlier processes left."""
    found: dict[int, list[str]] = {}
    for name, info in sorted(place.listed().items()):
        number, mark, _ = name.partition("_")
        if mark and len(number) >= 5 and number.isdigit() and info.type == fs.FileType.Directory:
            found.setdefault(int(number), []).append(place.at(name).path)
    return found
