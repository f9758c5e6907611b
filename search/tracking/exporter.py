"""Export the event log of a search to MLflow in a thread: in order, in batches, and for as long as it takes."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from search.storage.event_log import TRIAL_EVENTS, Entry, apply_entry, read_entries
from search.storage.trial_record import TrialRecord

WINDOW = 200  # entries that are written, or tried again, together
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0  # between attempts while the server does not answer
POLL_S = 0.2
PATIENCE_S = 20.0  # at the end of a search, with a server that does not answer


class UnavailableError(Exception):
    """The server does not answer, or not now; what was to be written stays in the event log."""


@dataclass(frozen=True)
class PendingEvent:
    """One entry of the event log, with its trial as it was then."""

    entry: Entry
    trial: TrialRecord | None  # None: the event is not a trial's


class Sink(Protocol):
    """The receiver of events. Writing an event twice must have the same result as writing it once."""

    refused: list[str]  # what the server will never accept, and why

    def deduplicate(self) -> None:
        """Expect rows that are already there, because the event log has lost entries that were exported."""

    def write(self, events: Sequence[PendingEvent]) -> None:
        """Write all events, or raise ``UnavailableError``."""

    def finalize(self) -> None:
        """Remove what lost answers may have duplicated, after the last event. May raise ``UnavailableError``."""


class NullExporter:
    """Exporter of a search that asks no server: everything waits in the event log for a later export."""

    trouble, behind, complete = "", 0, True
    refused: Sequence[str] = ()

    def start(self) -> None: ...

    def close(self, patience_s: float = PATIENCE_S) -> bool:
        return True


class MlflowExporter:
    """Read the event log from where the last process stopped, and write it to a sink.

    Parameters
    ----------
    log : Path
        The event log, which may grow meanwhile. ``<name>.delivered`` beside it holds the position of the export.
    sink : Sink
    say : callable
        Receives a line when the server does not answer, and when it answers again.
    up_to : callable
        Byte of the log up to which it may be exported while the search runs, because MLflow must not hold what another
        machine would repeat when it resumes the search.
    """

    def __init__(
        self,
        log: Path,
        sink: Sink,
        say: Callable[[str], None],
        up_to: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self._log, self._sink, self._say, self._up_to = log, sink, say, up_to
        self._position_file = log.with_name(log.name + ".delivered")
        self._records: dict[int, TrialRecord] = {}
        self._end, self.exported = self._replay()
        self._waiting: list[PendingEvent] = []
        self._size = WINDOW
        self._unavailable_since: float | None = None
        self._closing_since: float | None = None
        self._patience_s = PATIENCE_S
        self._complete = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="exporter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Say for the live view how long the server has not answered; empty: it answers."""
        if self._unavailable_since is None:
            return ""
        return f"MLflow away for {(time.monotonic() - self._unavailable_since) / 60:.1f} min"

    @property
    def complete(self) -> bool:
        """Return whether the exporter is closed and has exported everything."""
        return self._complete

    @property
    def behind(self) -> int:
        """Return how many entries wait in the event log."""
        return sum(1 for _ in read_entries(self._log, self._end))

    @property
    def refused(self) -> Sequence[str]:
        return self._sink.refused

    def close(self, patience_s: float = PATIENCE_S) -> bool:
        """Export the rest; give up when the server does not answer for that long. True: everything is exported."""
        self._patience_s, self._closing_since = patience_s, time.monotonic()
        self._wake.set()
        self._thread.join()
        return self._complete

    def _replay(self) -> tuple[int, int]:
        """Rebuild the trials at the position of the export; return that position in bytes and in entries."""
        position, end, entries = self._position(), 0, 0
        for entry in read_entries(self._log) if position else ():
            if entry.end > position:
                break
            end, entries = entry.end, entries + 1
            if entry.event in TRIAL_EVENTS:
                apply_entry(self._records, entry)
        if end < position:  # a repair has cut off the last lines
            self._sink.deduplicate()
        return end, entries

    def _position(self) -> int:
        """Read the byte up to which the log is exported."""
        try:
            return int(json.loads(self._position_file.read_text())["end"])
        except (OSError, ValueError):
            return 0  # then everything is exported again, which changes nothing

    def _work(self) -> None:
        while True:
            self._waiting = self._waiting or self._next_events()
            if self._waiting:
                if not self._retry(self._write_some):
                    return
            elif self._closing_since is not None:
                self._complete = self._retry(self._sink.finalize)
                return
            else:
                self._wake.wait(POLL_S)

    def _next_events(self) -> list[PendingEvent]:
        events, up_to = [], math.inf if self._closing_since is not None else self._up_to()
        for entry in islice(read_entries(self._log, self._end), WINDOW):
            if entry.end > up_to:
                break
            trial = copy(apply_entry(self._records, entry)) if entry.event in TRIAL_EVENTS else None
            events.append(PendingEvent(entry, trial))
        return events

    def _write_some(self) -> None:
        """Write the first waiting events; fewer after a failure, for a server that answers only now and then."""
        some = self._waiting[: self._size]
        try:
            self._sink.write(some)
        except UnavailableError:
            self._size = max(1, len(some) // 2)
            raise
        self._size = min(WINDOW, 2 * self._size)
        self._advance(some)
        del self._waiting[: len(some)]

    def _retry(self, write: Callable[[], None]) -> bool:
        """Try until it works; False: the search is over, and the server has not answered for the whole patience."""
        pause = FIRST_PAUSE_S
        while True:
            try:
                write()
            except UnavailableError as error:
                if self._unavailable_since is None:
                    self._unavailable_since = time.monotonic()
                    self._say(f"MLflow does not answer ({error}); the trials go on, what they log waits in the journal")
                if self._patience_is_over():
                    return False
                self._wake.wait(pause)
                self._wake.clear()
                pause = min(2 * pause, LONGEST_PAUSE_S)
                continue
            if self._unavailable_since is not None:
                self._say("MLflow answers again; what waited is exported")
                self._unavailable_since = None
            return True

    def _patience_is_over(self) -> bool:
        if self._closing_since is None or self._unavailable_since is None:
            return False
        return time.monotonic() - max(self._closing_since, self._unavailable_since) > self._patience_s

    def _advance(self, events: Sequence[PendingEvent]) -> None:
        self._end, self.exported = events[-1].entry.end, self.exported + len(events)
        draft = self._position_file.with_name(self._position_file.name + ".tmp")
        with suppress(OSError):  # a full disk: exporting something again does no harm
            draft.write_text(json.dumps({"end": self._end}))
            draft.replace(self._position_file)
