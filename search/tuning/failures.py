"""Ends a search in which everything fails: early, and with the common cause."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from search.storage.trial_record import TrialListener, TrialRecord

_WORKED = ("complete", "stopped_early")


class Stoppable(Protocol):
    """What can end a search in good order."""

    def request_stop(self, reason: str) -> None: ...


class FailureWatch(TrialListener):
    """Listen for failed trials and request a stop when ``most`` trials have failed and nothing works.

    Something works where a trial of this search, now or in an earlier process, was complete or was stopped by the
    scheduler; or, for as long as it runs, where one has come further than all that failed. Failures of an earlier
    process do not count: perhaps their cause was mended. Retries are over when a trial counts as failed.

    Parameters
    ----------
    most : int
        0: never.
    """

    def __init__(self, stop_controller: Stoppable, most: int, known: Iterable[TrialRecord] = ()) -> None:
        self._stop_controller, self._most = stop_controller, most
        self._works = any(record.outcome in _WORKED for record in known)
        self._running: dict[int, TrialRecord] = {}
        self._failed: list[TrialRecord] = []
        self._ended = 0

    def trial_started(self, trial: TrialRecord) -> None:
        self._running[trial.number] = trial

    def trial_resumed(self, trial: TrialRecord) -> None:
        self._running[trial.number] = trial

    def trial_ended(self, trial: TrialRecord) -> None:
        self._running.pop(trial.number, None)
        self._ended += 1
        self._works |= trial.outcome in _WORKED
        if trial.outcome == "failed":
            self._failed.append(trial)
        if self._most and len(self._failed) >= self._most and not self._works and not self._hope:
            self._stop_controller.request_stop(self._reason())

    @property
    def _hope(self) -> bool:
        furthest = max(trial.epoch for trial in self._failed)
        return any(trial.epoch > furthest for trial in self._running.values())

    def _reason(self) -> str:
        """In words: what the failures have in common, numbers aside."""
        kinds = Counter(_kind(trial) for trial in self._failed)
        kind, count = kinds.most_common(1)[0]
        example = next(trial.reason for trial in self._failed if _kind(trial) == kind)
        share = "all" if count == len(self._failed) else f"{count} of them"
        return f"{len(self._failed)} of {self._ended} trials failed, {share} with: {example}"


def _kind(trial: TrialRecord) -> str:
    return re.sub(r"[0-9a-f]{6,}|\d+", "#", trial.reason)
