"""Writes in a thread of their own, in order, so that a search never waits for its tracking server."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from search.errors import first_line

_PATIENCE = 3  # failures in a row, after which the server is taken to be away,
_PAUSE_S = 60.0  # and for so long nothing is tried: a client that retries may need minutes for each write


class Writer:
    """Carries out writes one after another. What fails is counted and told at the end, and stops nobody."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], object] | threading.Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._in_a_row, self._away_until = 0, 0.0
        self.failures: list[str] = []
        self._thread.start()

    def put(self, write: Callable[[], object]) -> None:
        self._queue.put(write)

    def flush(self) -> None:
        """Return when everything put so far is written, or has failed."""
        done = threading.Event()
        self._queue.put(done)
        done.wait()

    def close(self) -> None:
        """Return when everything is written, or has failed."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (write := self._queue.get()) is not None:
            if isinstance(write, threading.Event):
                write.set()
            elif time.monotonic() < self._away_until:
                self.failures.append("not tried: the server did not answer before")
            else:
                self._try(write)

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
            self._in_a_row = 0
        except Exception as error:  # the server's fault must not end a search
            self.failures.append(f"{type(error).__name__}: {first_line(error)}")
            self._in_a_row += 1
            if self._in_a_row >= _PATIENCE:
                self._away_until = time.monotonic() + _PAUSE_S
