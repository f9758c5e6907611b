"""Bounds the size of a search's folder: who may keep a checkpoint, and what is deleted of the others."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from search.errors import first_line
from search.records import TrialRecord
from trainables.goal import Goal
from trainables.room import Say, size_of
from trainables.trainable import REPORT_FOLDER

_SMALL = {".csv", ".txt", ".json"}  # of a report: what comparisons are drawn from, and why one could not be drawn


class Keeper:
    """A listener that keeps the checkpoints of the best complete trials, and of those that still go on.

    Best is who stands first in the leaderboard; of several objectives the whole Pareto front is best, however many
    they are. Whoever is not, or has ended without being complete, loses its weights and states, but not the small
    tables of its report. A trial that goes on in another process has a new folder there: the old one goes as soon as
    the new one holds a checkpoint, or the trial has ended.

    It must hear of an event after whoever writes it down or copies the files: what is deleted here is gone.

    Parameters
    ----------
    folder : Path
        The search's own.
    keep : int
        So many complete trials at least keep their checkpoint.
    known : iterable of TrialRecord
        Trials of an earlier process.
    at_end : bool
        Delete only in ``close``: in population based training others may still copy from a trial that has ended.
    """

    def __init__(
        self,
        goal: Goal,
        keep: int,
        folder: Path,
        say: Say,
        *,
        known: Iterable[TrialRecord] = (),
        at_end: bool = False,
    ) -> None:
        self._goal, self._keep, self._folder, self._say, self._at_end = goal, keep, folder, say, at_end
        self._best: list[TrialRecord] = []
        self._waiting: list[TrialRecord] = []  # ended, for ``close``
        self._left_alone: set[str] = set()  # kinds of storage
        self._folders = _folders_by_number(folder)  # of earlier processes
        for record in known:
            if record.outcome is not None:
                self.trial_ended(record)

    # --- the records tell

    def trial_started(self, trial: TrialRecord) -> None: ...

    def trial_resumed(self, trial: TrialRecord) -> None: ...

    def trial_retried(self, trial: TrialRecord) -> None: ...

    def epoch_ended(self, trial: TrialRecord) -> None: ...

    def checkpoint_saved(self, trial: TrialRecord) -> None:
        if trial.number in self._folders and not self._at_end:
            self._delete_stale(trial)

    def trial_ended(self, trial: TrialRecord) -> None:
        if trial.outcome == "interrupted":
            return
        if self._at_end:
            self._waiting.append(trial)
        else:
            self._judge(trial)

    def close(self) -> None:
        """Delete what was to wait for the end of the search."""
        for trial in self._waiting:
            self._judge(trial)
        self._waiting.clear()

    # --- who loses

    def _judge(self, trial: TrialRecord) -> None:
        losers = self._losers(trial) if trial.outcome == "complete" else [trial]
        try:
            self._delete_stale(trial)
            for loser in losers:
                self._strip(loser)
            if all(loser is not trial for loser in losers):
                self._only_last(trial)
        except OSError as error:  # while looking
            self._tell(str(self._folder), error)

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
        for folder in self._folders.pop(trial.number, []) if present else []:
            if folder != present:
                self._remove(folder)

    def _only_last(self, trial: TrialRecord) -> None:
        """Of the checkpoints of a trial that has ended, the last is enough."""
        folder = self._present(trial)
        if folder is None or trial.checkpoint is None:
            return
        for checkpoint in _checkpoints(folder):
            if checkpoint != Path(trial.checkpoint.path):
                self._remove(checkpoint)

    def _strip(self, trial: TrialRecord) -> None:
        """Take everything from the checkpoints of a trial but the tables of its report."""
        folder = self._present(trial)
        if folder is None:
            return
        for checkpoint in _checkpoints(folder):
            for file in [path for path in checkpoint.rglob("*") if not path.is_dir()]:
                if file.parent.name != REPORT_FOLDER or file.suffix not in _SMALL:
                    self._unlink(file)
            if not any(path.is_file() for path in checkpoint.rglob("*")):
                self._remove(checkpoint)
        if folder.is_dir() and not any(folder.iterdir()):
            self._remove(folder)

    def _present(self, trial: TrialRecord) -> Path | None:
        """The folder that Tune made for the trial in the process that last ran it; None: out of our reach."""
        if trial.checkpoint is None:
            return self._folder / f"{trial.number:05d}_{trial.trial_id}"
        kind = trial.checkpoint.filesystem.type_name
        if kind == "local":
            return Path(trial.checkpoint.path).parent
        if kind not in self._left_alone:
            self._left_alone.add(kind)
            self._say(f"warning  checkpoints in {kind} storage are all kept: --keep deletes only in local folders")
        return None

    def _remove(self, folder: Path) -> None:
        shutil.rmtree(folder, onerror=lambda _call, path, error: self._tell(path, error[1]))

    def _unlink(self, file: Path) -> None:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            self._tell(str(file), error)

    def _tell(self, path: str, error: BaseException) -> None:
        if not isinstance(error, FileNotFoundError):
            self._say(f"warning  not deleted: {path} ({first_line(error)})")


def checkpoint_bytes(records: Iterable[TrialRecord]) -> int:
    """Size of the largest checkpoint of a running trial, in local folders."""
    running = [record.checkpoint for record in records if record.outcome is None and record.checkpoint]
    return max((size_of(Path(checkpoint.path)) for checkpoint in running), default=0)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint_*"))


def _folders_by_number(folder: Path) -> dict[int, list[Path]]:
    """Folders of trials that earlier processes left."""
    found: dict[int, list[Path]] = {}
    for path in sorted(folder.glob("[0-9][0-9][0-9][0-9][0-9]*_*")):
        number = path.name.partition("_")[0]
        if path.is_dir() and number.isdigit():
            found.setdefault(int(number), []).append(path)
    return found
