"""Files on their way to MLflow: copies in the search's folder that nobody deletes until they have arrived."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

from search.storage.disk import time_to_leave, to_stderr, wait_for_room
from search.storage.location import StoragePath
from search.storage.trial_record import TrialRecord
from trainables.base.trainable import BEST_FILE, LAST_FILE, REPORT_FOLDER
from trainables.runtime.disk_space import is_full, patiently
from trainables.runtime.object_store import is_away


class Outbox:
    """``<search folder>/outbox``; what is staged is known by a name relative to it."""

    def __init__(self, search_folder: Path) -> None:
        self.path = search_folder / "outbox"

    def stage_text(self, text: str, file: str) -> str:
        """A text that is to arrive under this file name."""
        parcel = self._parcel()
        (parcel / file).write_text(text)
        return parcel.name

    def stage_folder(self, folder: Path, to: str) -> str:
        """The files of a folder, that are to arrive in the folder ``to``."""
        parcel = self._parcel()
        _copy_tree(folder, parcel / to)
        return parcel.name

    def stage_trial(self, trial: TrialRecord) -> str:
        """Report, weights and hyperparameters of a complete trial."""
        parcel = self._parcel()
        # MLflow 3.17 cannot compare a run that has files beside its folders with one that has nothing
        weights = parcel / "checkpoint"
        weights.mkdir()
        (weights / "hyperparameters.json").write_text(json.dumps(trial.hyperparameters, indent=2))
        if trial.checkpoint is not None:
            with self._fetched(trial.checkpoint) as checkpoint:
                if (report := checkpoint / REPORT_FOLDER).exists():
                    _copy_tree(report, parcel / REPORT_FOLDER)
                for name in (BEST_FILE, LAST_FILE):
                    if (file := checkpoint / name).exists():
                        _copy(str(file), str(weights / name))
        return parcel.name

    @contextmanager
    def _fetched(self, checkpoint: StoragePath) -> Iterator[Path]:
        """A checkpoint as a folder here; waits for a store that is away."""
        with ExitStack() as held:
            yield patiently(
                lambda: held.enter_context(checkpoint.as_folder()),
                lambda: None,
                dict,
                to_stderr,
                leave=time_to_leave,
                passing=lambda error: is_full(error) or is_away(error, checkpoint.files),
            )

    def delivered(self, parcel: str) -> None:
        """It has arrived and is not needed here any more."""
        shutil.rmtree(self.path / parcel, ignore_errors=True)

    def clear(self) -> None:
        """Everything has arrived: also what a killed process had staged and not written down."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _parcel(self) -> Path:
        wait_for_room(self.path.parent)
        parcel = self.path / uuid4().hex[:16]
        parcel.mkdir(parents=True)
        return parcel


def _copy_tree(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target, copy_function=_copy)


def _copy(source: str, target: str) -> None:
    """A second name for the same bytes where the file system has that, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
