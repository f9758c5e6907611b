"""End a search in good order: time limit, signals, requests to stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray import tune

from search.storage.disk import DiskSpaceGuard

_running: list[StopController] = []  # of the searches whose trials run in this process


def interrupt() -> bool:
    """End the search of this process in good order, from any thread, as Ctrl-C does; False: none is running."""
    for controller in _running:
        controller.request_stop("interrupted")
    return bool(_running)


class StopController(tune.Stopper):  # type: ignore[misc]
    """End a search in good order: after the time limit, or on request.

    Tune asks it after each step, just before it writes its own state; ``guard`` may then make the search wait for disk
    space.
    """

    def __init__(self, time_limit_s: float | None) -> None:
        self._deadline = time.monotonic() + time_limit_s if time_limit_s else float("inf")
        self.guard: DiskSpaceGuard | None = None
        self.reason = ""  # why the search was ended early; empty: it was not

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"guard": None}  # Tune pickles it once at the start

    def request_stop(self, reason: str) -> None:
        self.reason = self.reason or reason

    @contextmanager
    def resumable(self) -> Iterator[None]:
        """Leave the trials for a resume if anything is raised inside: only reasons of its own close them for good.

        A first Ctrl-C ends the search in good order also where no handler of signals could be set.
        """
        _running.append(self)
        try:
            yield
        except BaseException as error:
            first = not self.reason
            self.reason = "interrupted"
            if not (first and isinstance(error, KeyboardInterrupt)):
                raise
        finally:
            _running.remove(self)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if self.guard:
            self.guard(self.due)
        return self.due()

    def due(self) -> bool:
        if time.monotonic() > self._deadline:
            self.request_stop("time limit")
        if not threading.main_thread().is_alive():  # Ctrl-C has ended it, and only this thread holds the process
            self.request_stop("interrupted")
        return bool(self.reason)


class SignalGuard(tune.Callback):  # type: ignore[misc]
    """Restore the handler of SIGUSR1, which Tune replaces when it starts."""

    def __init__(self) -> None:
        self._before = signal.getsignal(signal.SIGUSR1)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks once at the start

    def setup(self, *args: Any, **info: Any) -> None:
        if threading.current_thread() is threading.main_thread():  # elsewhere Tune has left it alone
            signal.signal(signal.SIGUSR1, self._before)
