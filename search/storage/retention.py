"""Bound the size of a search's storage: which trials keep their checkpoints, and what is deleted of the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

from search.config.redaction import first_line
from search.storage.location import StoragePath
from search.storage.trial_record import TrialListener, TrialRecord
from trainables.base.checkpoint import FIGURE_DATA, REPORT_FOLDER
from trainables.base.objectives import Goal
from trainables.runtime.disk_space import Say, size_of

_TABLE_SUFFIXES = {".csv", ".txt", ".json"}  # of a report: the data of comparisons, and why a figure was not drawn


@dataclass(frozen=True)
class RetentionPolicy:
    """Which checkpoints stay, and when the others are deleted."""

    best: int  # so many complete trials at least keep their last checkpoint
    per_running_trial: int | None = None  # so many checkpoints of a running trial stay; None: Tune deletes the others
    only_at_end: bool = False  # population based training still copies from trials that have ended


class CheckpointRetention(TrialListener):
    """Keep the checkpoints of the best complete trials, and of trials that are not over, and delete the others.

    The best trials are the first of the leaderboard; of several objectives the whole Pareto front is best, whatever its
    size. Any other trial that is complete or has failed loses its weights and states, but not the small tables of its
    report. A resumed trial writes to a new folder: its old folder is deleted as soon as the new one holds a checkpoint,
    or the trial has ended.

    As a listener it must come after the listeners that record an event or copy files, because deleting is final.

    Parameters
    ----------
    place : StoragePath
        Of the search.
    known : iterable of TrialRecord
        Trials of earlier processes.
    safe : callable
        Whether a later process would find the newer checkpoints; otherwise the older ones stay for now.
    """

    def __init__(
        self,
        goal: Goal,
        policy: RetentionPolicy,
        place: StoragePath,
        say: Say,
        *,
        known: Iterable[TrialRecord] = (),
        safe: Callable[[], bool] = lambda: True,
    ) -> None:
        self._goal, self._policy, self._place, self._say, self._safe = goal, policy, place, say, safe
        self._files = place.files
        self._best: list[TrialRecord] = []
        self._lost: set[int] = set()  # numbers of the trials that keep only their tables
        self._postponed: list[TrialRecord] = []  # ended trials, for ``close``
        self._running: dict[int, deque[str]] = {}  # checkpoints of each running trial, oldest first
        self._worker = ThreadPoolExecutor(1, "retention")  # because a slow store must not block the search
        self._former_folders: dict[int, list[str]] = {}  # of each trial, from earlier processes
        self._reporting_errors(lambda: self._former_folders.update(_folders_by_number(place)))
        for record in known:
            if record.outcome is not None:
                self.trial_ended(record)

    # --- events of trials

    def checkpoint_saved(self, trial: TrialRecord) -> None:
        if self._policy.per_running_trial and trial.checkpoint:
            recent = self._running.setdefault(trial.number, deque())
            recent.append(trial.checkpoint.path)
            while len(recent) > self._policy.per_running_trial and self._safe():
                self._worker.submit(self._delete_folder, recent.popleft())
        if trial.number in self._former_folders and not self._policy.only_at_end:
            self._delete_former_folders(trial)

    def trial_ended(self, trial: TrialRecord) -> None:
        self._running.pop(trial.number, None)
        if trial.outcome == "interrupted":
            return
        if self._policy.only_at_end:
            self._postponed.append(trial)
        else:
            self._apply(trial)

    def close(self) -> None:
        """Delete what was to wait for the end of the search."""
        self._worker.shutdown()
        for trial in self._postponed:
            self._apply(trial)
        self._postponed.clear()

    def keeps(self, trial: TrialRecord) -> bool:
        """Return whether the trial has not lost its checkpoint to better ones."""
        return trial.number not in self._lost

    # --- deciding

    def _apply(self, trial: TrialRecord) -> None:
        """Delete what the end of this trial makes superfluous."""
        losers = self._losers(trial) if trial.outcome == "complete" else [trial]
        self._lost.update(loser.number for loser in losers)

        def delete() -> None:
            self._delete_former_folders(trial)
            for loser in losers:
                self._keep_only_tables(loser)
            if all(loser is not trial for loser in losers):
                self._keep_only_last(trial)

        self._reporting_errors(delete)

    def _losers(self, trial: TrialRecord) -> list[TrialRecord]:
        """Return the trials that are not among the best any more, now that this one is complete.

        The trainings of a race, which a promotion compares, take no trial's place.
        """
        if trial.repeats is not None:
            return [] if self._policy.best else [trial]
        rivals = [*self._best, trial]
        ranked = self._goal.ranked([record.metrics for record in rivals])
        kept = max(self._policy.best, sum(front for _, front in ranked) if self._goal.several else 0)
        self._best = [rivals[place] for place, _ in ranked[:kept]]
        return [rivals[place] for place, _ in ranked[kept:]]

    # --- deleting, which may fail but never raises

    def _delete_former_folders(self, trial: TrialRecord) -> None:
        """Delete the trial's folders of earlier processes than the one that last ran it."""
        current = self._current_folder(trial)
        for folder in self._former_folders.pop(trial.number, []):
            if folder != current:
                self._delete_folder(folder)

    def _keep_only_last(self, trial: TrialRecord) -> None:
        """Delete all checkpoints of an ended trial but the last."""
        if trial.checkpoint is None:
            return
        for checkpoint in self._checkpoints(self._current_folder(trial)):
            if checkpoint != trial.checkpoint.path:
                self._delete_folder(checkpoint)

    def _keep_only_tables(self, trial: TrialRecord) -> None:
        """Delete everything in the trial's checkpoints but the tables of its report, and figures to be drawn of them.

        A preset's figures are drawn in any case.
        """
        folder = self._current_folder(trial)
        for checkpoint in self._checkpoints(folder):
            files = [info.path for info in self._list(checkpoint, recursive=True) if info.type == fs.FileType.File]
            tables = [file for file in files if _is_table(file) or (trial.preset and _is_undrawn(file))]
            if not tables:
                self._delete_folder(checkpoint)
            for file in [file for file in files if file not in tables] if tables else []:
                self._delete_file(file)
        if not self._list(folder):
            self._delete_folder(folder)

    def _current_folder(self, trial: TrialRecord) -> str:
        """Return the folder that Tune made for the trial in the process that last ran it."""
        if trial.checkpoint is None:
            return self._place.joinpath(f"{trial.number:05d}_{trial.trial_id}").path
        return trial.checkpoint.path.rpartition("/")[0]

    def _checkpoints(self, folder: str) -> list[str]:
        found = [info.path.rstrip("/") for info in self._list(folder)]
        return sorted(path for path in found if path.rpartition("/")[2].startswith("checkpoint_"))

    def _list(self, folder: str, recursive: bool = False) -> list[fs.FileInfo]:
        selected = fs.FileSelector(folder, recursive=recursive, allow_not_found=True)
        return list(self._files.get_file_info(selected))

    def _delete_folder(self, folder: str) -> None:
        try:
            self._files.delete_dir(folder)
        except OSError as error:
            self._report(folder, error)

    def _delete_file(self, file: str) -> None:
        try:
            self._files.delete_file(file)
        except OSError as error:
            self._report(file, error)

    def _reporting_errors(self, work: Callable[[], object]) -> None:
        """Report an error instead of raising it; a later process deletes what stayed."""
        try:
            work()
        except OSError as error:
            self._report(str(self._place), error)

    def _report(self, path: str, error: BaseException) -> None:
        if not isinstance(error, FileNotFoundError):
            self._say(f"warning  not deleted: {path} ({first_line(error)})")


def largest_checkpoint_bytes(records: Iterable[TrialRecord]) -> int:
    """Return the size of the largest checkpoint of a running trial on this machine."""
    running = [record.checkpoint for record in records if record.outcome is None and record.checkpoint]
    return max((size_of(Path(checkpoint.path)) for checkpoint in running if checkpoint.is_local), default=0)


def _is_table(file: str) -> bool:
    path = Path(file)
    return path.parent.name == REPORT_FOLDER and path.suffix in _TABLE_SUFFIXES


def _is_undrawn(file: str) -> bool:
    path = Path(file)
    return path.parent.name == REPORT_FOLDER and path.name == FIGURE_DATA


def _folders_by_number(place: StoragePath) -> dict[int, list[str]]:
    """Find the folders of trials that earlier processes left."""
    found: dict[int, list[str]] = {}
    for name, info in sorted(place.entries().items()):
        number, mark, _ = name.partition("_")
        if mark and len(number) >= 5 and number.isdigit() and info.type == fs.FileType.Directory:
            found.setdefault(int(number), []).append(place.joinpath(name).path)
    return found
