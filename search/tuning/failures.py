"""Classify why trials fail, and end a search in which everything fails."""

# Each pattern was met on Ray 2.60 and torch 2.13, on a worker that was killed, ran out of memory, or lost its node.

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Literal, Protocol, get_args

from search.config.redaction import without_passwords
from search.storage.trial_record import TrialListener, TrialRecord

Cause = Literal["out_of_gpu_memory", "out_of_memory", "node_died", "worker_died", "error"]

# In this order: a worker that ran out of memory died, too. Ray's word on any dead worker names the OOM killer among
# the "common causes", so that "OOM" alone says nothing.
_PATTERNS: dict[Cause, re.Pattern[str]] = {
    "out_of_gpu_memory": re.compile(
        r"^out of GPU memory|(CUDA|HIP|XPU|MPS)\b.{0,40}out of memory|torch(\.cuda)?\.OutOfMemoryError"
        r"|(CUBLAS|CUDNN|CUFFT)_STATUS_ALLOC_FAILED"
    ),
    "out_of_memory": re.compile(
        r"^out of memory|killed due to the node running low on memory|ray\.exceptions\.OutOfMemoryError"
        r"|^[\w.]*MemoryError\b|can't allocate memory|Cannot allocate memory"
    ),
    "node_died": re.compile(r"^node died|its node has died|NodeDiedError|[Rr]aylet died"),
    "worker_died": re.compile(
        r"^worker died|worker process has died|worker died unexpectedly|ActorUnavailableError"
        r"|actor died unexpectedly before finishing"
    ),
}
_WORDS: dict[Cause, str] = {
    "out_of_gpu_memory": "out of GPU memory",
    "out_of_memory": "out of memory",
    "node_died": "node died",
    "worker_died": "worker died",
}
OUT_OF_MEMORY: frozenset[Cause] = frozenset({"out_of_gpu_memory", "out_of_memory"})
_LONGEST = 400


def cause_of(text: str) -> Cause:
    """Return the cause of the last failure in a text: Tune's error file, or one line of ``reason_of``."""
    return _found(text)[0]


def reason_of(text: str) -> str:
    """Return one line: the cause in words and the sentence that shows it; for other errors the exception itself.

    The line holds no password. Its own cause is that of the whole text.
    """
    cause, line = _found(text)
    words = _WORDS.get(cause, "")
    reason = line if not words or line.startswith(words) else f"{words}: {line}"
    return without_passwords(reason)[:_LONGEST]


def _found(text: str) -> tuple[Cause, str]:
    lines = _of_last_failure(text)
    plain = [line for line in lines if not line[0].isspace()]  # the others are source lines of a traceback
    for cause in get_args(Cause):
        if cause in _PATTERNS:
            matching = [line for line in plain if _PATTERNS[cause].search(line)]
            if matching:
                return cause, matching[-1].strip()
    return "error", lines[-1].strip() if lines else "unknown"


def _of_last_failure(text: str) -> list[str]:
    """Return the lines of the last failure, because Tune's error file holds one after the other."""
    lines = [line for line in text.splitlines() if line.strip()]
    starts = [number for number, line in enumerate(lines) if re.match(r"Failure # \d+", line)]
    return lines[starts[-1] :] if starts else lines


_WORKED = ("complete", "stopped_early")


class Stoppable(Protocol):
    """What can end a search in good order."""

    def request_stop(self, reason: str) -> None: ...


class FailureWatch(TrialListener):
    """Listen for failed trials and request a stop when ``most`` trials have failed and nothing works.

    Something works if a trial of this search, in this or an earlier process, was complete or was stopped by the
    scheduler, or if a running trial has come further than all that failed. Failures of an earlier process do not count,
    because their cause may be repaired. A trial counts as failed after its retries.

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
        """Return what the failures have in common, numbers aside."""
        kinds = Counter(_kind(trial) for trial in self._failed)
        kind, count = kinds.most_common(1)[0]
        example = next(trial.reason for trial in self._failed if _kind(trial) == kind)
        share = "all" if count == len(self._failed) else f"{count} of them"
        return f"{len(self._failed)} of {self._ended} trials failed, {share} with: {example}"


def _kind(trial: TrialRecord) -> str:
    return re.sub(r"[0-9a-f]{6,}|\d+", "#", trial.reason)
