"""What breaks in the middle of a search of ``alone.py``, by the name that ``$ALONE_FAULT`` gives it."""

from __future__ import annotations

import builtins
import os
import signal
from typing import Any

import search.engine.search_run
from search.reporting.progress import Progress
from search.storage.trial_record import TrialRecord
from search.tuning.failures import FailureWatch


def install(fault: str) -> None:
    """``view``: the live view cannot be drawn. ``ERROR:TRIAL:EPOCH``: a listener raises at that epoch.

    ``SIGNAL@FUNCTION``: a function of ``search.engine.search_run`` begins with a signal to its process.
    """
    if fault == "view":
        Progress._value = broken  # type: ignore[method-assign]
        Progress._table = broken  # type: ignore[method-assign]
        return
    if "@" in fault:
        strike(*fault.split("@"))
        return
    error, number, epoch = fault.split(":")

    def epoch_ended(_: FailureWatch, trial: TrialRecord) -> None:
        if (trial.number, trial.epoch) == (int(number), int(epoch)):
            raise getattr(builtins, error)(7)

    FailureWatch.epoch_ended = epoch_ended  # type: ignore[method-assign]


def strike(name: str, function: str) -> None:
    real = getattr(search.engine.search_run, function)

    def struck(*words: Any, **more: Any) -> Any:
        os.kill(os.getpid(), signal.Signals[name])
        return real(*words, **more)

    setattr(search.engine.search_run, function, struck)


def broken(*_: object) -> str:
    raise KeyError("the view")
