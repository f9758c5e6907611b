"""What breaks in the middle of a search of ``alone.py``, by the name that ``$ALONE_FAULT`` gives it."""

from __future__ import annotations

import builtins

from search.reporting.progress import Progress
from search.storage.trial_record import TrialRecord
from search.tuning.failures import FailureWatch


def install(fault: str) -> None:
    """``view``: the live view cannot be drawn. ``ERROR:TRIAL:EPOCH``: a listener raises at that epoch."""
    if fault == "view":
        Progress._value = broken  # type: ignore[method-assign]
        Progress._table = broken  # type: ignore[method-assign]
        return
    error, number, epoch = fault.split(":")

    def epoch_ended(_: FailureWatch, trial: TrialRecord) -> None:
        if (trial.number, trial.epoch) == (int(number), int(epoch)):
            raise getattr(builtins, error)(7)

    FailureWatch.epoch_ended = epoch_ended  # type: ignore[method-assign]


def broken(*_: object) -> str:
    raise KeyError("the view")
