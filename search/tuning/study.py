"""Open the Optuna study of a search, in the journal file of its directory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from search.storage.disk import append_whole
from search.storage.names import STUDY
from search.tuning.history_sampler import HistorySampler, keep, kept
from trainables.base.objectives import Mode

_MOST_SEEN = {TPESampler: 1_000, GPSampler: 250}  # ended trials: TPE's time grows with them, GP's with their cube


class _WholeLines(JournalFileBackend):
    """Append whole lines to Optuna's journal file: a full disk adds nothing rather than half a line."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        size = sum(len(str(log)) for log in logs)
        append_whole(Path(self._file_path), lambda: super(_WholeLines, self).append_logs(logs), size)


def open_study(
    folder: Path, name: str, modes: Iterable[Mode], sampler: BaseSampler, earlier: Sequence[FrozenTrial] = ()
) -> optuna.Study:
    """Open the study of a search, in the journal file of its directory; create it if need be.

    Parameters
    ----------
    earlier : sequence of FrozenTrial
        Complete trials of earlier searches, from which the sampler learns. They are stored beside a new study and found
        again when it is opened later; they are none of its own trials.
    """
    storage = _journal(folder)
    directions = [StudyDirection.MINIMIZE if mode == "min" else StudyDirection.MAXIMIZE for mode in modes]
    if name not in optuna.get_all_study_names(storage):
        keep(storage, name, directions, earlier)  # first: where the study exists, they are complete
    stored = kept(storage, name)
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=directions,
        sampler=HistorySampler(sampler, stored, most) if (most := _MOST_SEEN.get(type(sampler))) else sampler,
        load_if_exists=True,
    )
    if stored and "warm_from" not in study.user_attrs:
        study.set_user_attr("warm_from", Counter(trial.user_attrs["warm_from"] for trial in stored))
    return study


def read_study(folder: Path, name: str) -> list[FrozenTrial] | None:
    """Return all trials of the study of a search; None where it has not asked for a point yet."""
    study = load_study(folder, name)
    return study.get_trials() if study else None


def load_study(folder: Path, name: str) -> optuna.Study | None:
    """Return the study of a search, for reading; None where it has not asked for a point yet."""
    if not (folder / STUDY).exists():
        return None
    storage = _journal(folder)
    if name not in optuna.get_all_study_names(storage):
        return None
    return optuna.load_study(study_name=name, storage=storage)


def _journal(folder: Path) -> JournalStorage:
    journal = str(folder / STUDY)
    backend = _WholeLines(journal, lock_obj=JournalFileOpenLock(journal))  # holds on network file systems
    return JournalStorage(backend)
