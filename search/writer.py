"""Writes in a thread of their own, in order, so that a search never waits for its tracking server."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class Writer:
    """One thread that carries out writes in order, so that the search never waits for the server."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self.failures: list[str] = []
        self._thread.start()

    def put(self, write: Callable[[], object]) -> None:
        self._queue.put(write)

    def flush(self) -> None:
        """Return when everything put so far is written."""
        done = threading.Event()
        self.put(done.set)
        done.wait()

    @property
    def behind(self) -> int:
        """Writes that wait."""
        return self._queue.qsize()

    def close(self) -> None:
        """Return when everything is written."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (write := self._queue.get()) is not None:
            try:
                write()
            except Exception as error:  # the server's fault must not end a search; it is told at the end
                self.failures.append(f"{type(error).__name__}: {str(error).splitlines()[0][:300]}")
