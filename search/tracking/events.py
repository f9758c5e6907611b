"""Record what happens in a search in its event log, and stage the files that are to be exported with it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from search.storage.disk import is_stopping, print_to_stderr, wait_for_space
from search.storage.event_log import Entry, EventLog, now_ms
from search.storage.location import StoragePath
from search.storage.names import STAGED_FILES
from search.storage.trial_record import TrialRecord
from trainables.base.checkpoint import BEST_FILE, FIGURE_DATA, LAST_FILE, REPORT_FOLDER
from trainables.runtime.disk_space import is_full, retry
from trainables.runtime.object_store import is_away


class EventRecorder(EventLog):
    """The event log of a running search, with the files that belong to its events."""

    def __init__(self, path: Path, staged: StagedFiles) -> None:
        super().__init__(path)
        self._staged = staged

    def trial_ended(self, trial: TrialRecord) -> None:
        if trial.outcome == "complete":  # first, because files that are missing after the end would stay missing
            self._log_files(self._staged.stage_trial(trial), trial.number)
        super().trial_ended(trial)

    # --- the search itself

    def search_opened(self, note: str, views: Mapping[str, str]) -> None:
        """Record the description of the experiment, and tags with its first views of the trials."""
        self.append("search_opened", now_ms(), note=note, views=views)

    def search_resumed(self) -> None:
        self.append("search_resumed", now_ms())

    def log_text(self, text: str, file: str) -> None:
        """Record a text file of the search's own run."""
        self._log_files(self._staged.stage_text(text, file))

    def log_report(self, trial: TrialRecord, folder: Path) -> None:
        """Record figures of a trial that were drawn after its end."""
        self._log_files(self._staged.stage_folder(folder, REPORT_FOLDER), trial.number)

    def log_comparison(self, trial: TrialRecord | None, folder: Path) -> None:
        """Record figures that compare one trial with others or, without a trial, belong to the whole search."""
        self._log_files(self._staged.stage_folder(folder, "comparison"), trial.number if trial else None)

    def search_described(self, note: str, views: Mapping[str, str]) -> None:
        """Record the description of the result, and tags of the experiment with its views of the trials."""
        self.append("search_described", now_ms(), note=note, views=views)

    def search_result(
        self, label: str, number: int | None, metrics: Mapping[str, float], front: Mapping[int, bool]
    ) -> None:
        """Record the best trial and, for the number of each complete trial, whether it is in the Pareto front."""
        self.append("search_result", now_ms(), metrics=metrics, label=label, number=number, front=list(front.items()))

    def search_ended(self, status: str) -> None:
        """Record the end of the search with a status of MLflow, and force the log to the disk."""
        self.append("search_ended", now_ms(), status=status)
        self.sync()

    def _log_files(self, name: str, number: int | None = None) -> None:
        """Record files that are staged under a name: those of a trial or, without a number, of the search."""
        self.append("files", now_ms(), number=number, parcel=name)


class StagedFiles:
    """Copies of files in the directory of a search, each kept until MLflow has it.

    What is staged together is one folder; an event refers to it by its name.
    """

    def __init__(self, search_folder: Path) -> None:
        self.path = search_folder / STAGED_FILES

    def stage_text(self, text: str, file: str) -> str:
        """Stage a text under a file name, and return the name of its folder."""
        staged = self._new_folder()
        (staged / file).write_text(text)
        return staged.name

    def stage_folder(self, folder: Path, to: str) -> str:
        """Stage the files of a folder under the folder name ``to``."""
        staged = self._new_folder()
        _copy_tree(folder, staged / to)
        return staged.name

    def stage_trial(self, trial: TrialRecord) -> str:
        """Stage report, weights and hyperparameters of a complete trial; figures may be drawn later."""
        staged = self._new_folder()
        # MLflow 3.17 cannot compare a run that has files beside its folders with one that has nothing
        weights = staged / "checkpoint"
        weights.mkdir()
        (weights / "hyperparameters.json").write_text(json.dumps(trial.hyperparameters, indent=2))
        if trial.checkpoint is not None:
            with _fetched(trial.checkpoint) as checkpoint:
                if (report := checkpoint / REPORT_FOLDER).exists():
                    _copy_tree(report, staged / REPORT_FOLDER)
                for name in (BEST_FILE, LAST_FILE):
                    if (file := checkpoint / name).exists():
                        _copy(str(file), str(weights / name))
        return staged.name

    def folder_of(self, entry: Entry) -> Path:
        """Return the folder of an event's files, which exists until they are in MLflow."""
        return self.path / str(entry.content["parcel"])

    def discard_file(self, path: Path) -> None:
        """Delete a file, which MLflow has now, and its folders once they are empty."""
        folder = path.parent
        with suppress(OSError):  # not empty, or not ours to delete: then a later export finds it, which does no harm
            path.unlink(missing_ok=True)
            while folder != self.path:
                folder.rmdir()
                folder = folder.parent

    def discard_folder(self, folder: Path) -> None:
        """Delete what was staged together."""
        shutil.rmtree(folder, ignore_errors=True)

    def discard_except(self, names: Container[str]) -> None:
        """Delete what a killed process had staged without recording it: all folders but those of these names."""
        for folder in self.path.iterdir() if self.path.exists() else ():
            if folder.name not in names:
                self.discard_folder(folder)
        with suppress(OSError):  # not empty
            self.path.rmdir()

    def _new_folder(self) -> Path:
        wait_for_space(self.path.parent)
        folder = self.path / uuid4().hex[:16]
        folder.mkdir(parents=True)
        return folder


@contextmanager
def _fetched(checkpoint: StoragePath) -> Iterator[Path]:
    """Yield a checkpoint as a folder of this machine; wait while its store does not answer."""
    with ExitStack() as open_folders:
        yield retry(
            lambda: open_folders.enter_context(checkpoint.as_folder()),
            lambda: None,
            dict,
            print_to_stderr,
            leave=is_stopping,
            passing=lambda error: is_full(error) or is_away(error, checkpoint.files),
        )


def _copy_tree(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target, copy_function=_copy, ignore=shutil.ignore_patterns(FIGURE_DATA))


def _copy(source: str, target: str) -> None:
    """Create a hard link where the file system has them, otherwise a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
