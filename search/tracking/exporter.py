"""Export the event log of a search to MLflow in a thread: in order, in batches, and for as long as it takes."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from search.storage.event_log import TRIAL_EVENTS, Entry, apply_entry, read_entries
from search.storage.trial_record import TrialRecord
from search.tracking.export_state import ExportState
from search.tracking.server_calls import UnavailableError

WINDOW = 200  # entries that are written, or tried again, together
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0  # between attempts while the server does not answer
POLL_S = 0.2
PATIENCE_S = 20.0  # at the end of a search, with a server that does not answer


@dataclass(frozen=True)
class PendingEvent:
    """One entry of the event log, with its trial as it was then."""

    entry: Entry
    trial: TrialRecord | None  # None: the event is not a trial's, nor one of its files


class Sink(Protocol):
    """The receiver of events. Writing an event twice must have the same result as writing it once."""

    refused: list[str]  # what the server did not accept, and why
    incomplete: set[int | None]  # numbers of the trials of which it refused something; None: the search itself

    def deduplicate(self) -> None:
        """Expect rows that are already there, because the event log has lost entries that were exported."""

    def write(self, events: Sequence[PendingEvent]) -> None:
        """Write all events, or raise ``UnavailableError``."""

    def finalize(self) -> None:
        """Remove what lost answers may have duplicated, after the last event. May raise ``UnavailableError``."""

    def lacks(self, entry: Entry) -> bool:
        """Return whether files of an entry that was written are still missing."""

    def settle(self, patience_s: float) -> None:
        """Wait for the files; give up when one has failed and none has arrived for that long."""

    def close(self) -> None:
        """End what works in the background."""

    @property
    def missing(self) -> Sequence[str]:
        """What did not arrive, files too, and why."""

    @property
    def first_refusal(self) -> str:
        """The first of it that users should know at once; empty: nothing."""


class NullExporter:
    """Exporter of a search that asks no server: everything waits in the event log for a later export."""

    trouble, behind, complete = "", 0, True
    missing: Sequence[str] = ()

    def start(self) -> None: ...

    def close(self, patience_s: float = PATIENCE_S) -> bool:
        return True


class MlflowExporter:
    """Read the event log from where the last process stopped, and write it to a sink.

    Parameters
    ----------
    log : Path
        The event log, which may grow meanwhile. An ``ExportState`` is kept beside it: a later exporter goes on where
        this one stopped, and repeats the events of which something was refused.
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
        self._state = ExportState(log)
        self._records: dict[int, TrialRecord] = {}
        self._waiting: list[PendingEvent] = []
        self._end, self.exported = self._replay()
        self._repeated = len(self._waiting)  # of those that wait: how many were written before
        self._said_refused = False
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
    def has_work(self) -> bool:
        """Return whether anything is to be exported, tried again, or finalized after a process that was killed."""
        return bool(self._waiting or self.behind or not self._state.finalized)

    @property
    def missing(self) -> Sequence[str]:
        """What MLflow does not have of the events that were exported, and why."""
        return self._sink.missing

    def close(self, patience_s: float = PATIENCE_S) -> bool:
        """Export the rest; give up when the server does not answer for that long.

        True: all events are exported, and what MLflow did not take of them is ``missing``.
        """
        self._patience_s, self._closing_since = patience_s, time.monotonic()
        self._wake.set()
        self._thread.join()
        return self._complete

    def _replay(self) -> tuple[int, int]:
        """Rebuild the trials at the position of the export; return that position in bytes and in entries.

        Events of which MLflow lacks something wait for being written again.
        """
        position, end, entries = self._state.end, 0, 0
        for entry in read_entries(self._log) if position else ():
            if entry.end > position:
                break
            end, entries = entry.end, entries + 1
            event = self._with_trial(entry)
            if self._sink.lacks(entry) or self._was_refused(entry):
                self._waiting.append(event)
        if end < position:  # a repair has cut off the last lines
            self._sink.deduplicate()
        return end, entries

    def _was_refused(self, entry: Entry) -> bool:
        """Return whether an entry may have been refused. The few of the search itself are repeated with any trial's."""
        of_trial = entry.event in TRIAL_EVENTS
        return entry.content["number"] in self._state.refused if of_trial else bool(self._state.refused)

    def _with_trial(self, entry: Entry) -> PendingEvent:
        """Apply an entry to its trial's record, and return it with the trial as it is then."""
        if entry.event in TRIAL_EVENTS:
            return PendingEvent(entry, copy(apply_entry(self._records, entry)))
        number = entry.content.get("number") if entry.event == "files" else None
        return PendingEvent(entry, copy(self._records[number]) if number in self._records else None)

    def _work(self) -> None:
        try:
            self._export()
        finally:
            self._sink.close()

    def _export(self) -> None:
        while True:
            self._waiting = self._waiting or self._next_events()
            if self._waiting:
                if not self._retry(self._write_some):
                    return
            elif self._closing_since is not None:
                if self._retry(self._sink.finalize):
                    self._remember_refused()
                    self._sink.settle(self._patience_s)
                    self._state.finalize()
                    self._complete = True
                return
            else:
                self._wake.wait(POLL_S)
            self._report_refusal()

    def _report_refusal(self) -> None:
        """Say once, while the search runs, that MLflow does not take something."""
        if not self._said_refused and (refusal := self._sink.first_refusal):
            self._said_refused = True
            self._say(f"warning  MLflow does not take {refusal}. It is kept, and the search goes on")

    def _next_events(self) -> list[PendingEvent]:
        events, up_to = [], math.inf if self._closing_since is not None else self._up_to()
        for entry in islice(read_entries(self._log, self._end), WINDOW):
            if entry.end > up_to:
                break
            events.append(self._with_trial(entry))
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
        repeated = min(self._repeated, len(events))
        self._repeated -= repeated
        self._remember_refused()
        if new := events[repeated:]:
            self._end, self.exported = new[-1].entry.end, self.exported + len(new)
            self._state.advance(self._end)

    def _remember_refused(self) -> None:
        """Keep what was refused before until all of it was tried again."""
        before = self._state.refused if self._repeated else set()
        self._state.refuse(before | self._sink.incomplete)
