"""Carries the journal of a search to MLflow: in order, in batches, for as long as it takes, in a thread of its own."""

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

from search.storage.event_log import TRIAL_EVENTS, Entry, apply, read
from search.storage.trial_record import TrialRecord

WINDOW = 200  # entries that are delivered, or tried again, together
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0  # between attempts while the server is away
POLL_S = 0.2
PATIENCE_S = 20.0  # at the end of a search, for a server that is away


class Away(Exception):  # noqa: N818 - a state of the server, not a fault of ours
    """The server does not answer, or not now: what was to be written stays in the journal."""


@dataclass(frozen=True)
class PendingEvent:
    """One entry, with its trial as it was then."""

    entry: Entry
    trial: TrialRecord | None


class Sink(Protocol):
    """Where entries go. Delivering some of them twice must be the same as once."""

    refused: list[str]  # what will never be taken, and why

    def deduplicate(self) -> None:
        """The journal has lost entries that were delivered: what comes again may be there already."""

    def deliver(self, parcels: Sequence[PendingEvent]) -> None:
        """Write all of them, or raise ``Away``."""

    def finalize(self) -> None:
        """Everything is delivered: put right what a lost answer may have doubled. May raise ``Away``."""


class NullExporter:
    """In place of a delivery where no server is asked: everything waits in the journal for a later one."""

    trouble, behind, complete = "", 0, True
    refused: Sequence[str] = ()

    def start(self) -> None: ...

    def close(self, patience_s: float = PATIENCE_S) -> bool:
        return True


class MlflowExporter:
    """Reads the journal on from where the last process left off, and delivers it.

    Parameters
    ----------
    journal : Path
        May grow meanwhile. The place up to which it is delivered stands beside it, in ``<name>.delivered``.
    target : Sink
    say : callable
        Told when the server goes away, and when it is back.
    up_to : callable
        Byte of the journal up to which it may be delivered while the search goes on: MLflow must not know of what
        another machine, which goes on with the search, would do again.
    """

    def __init__(
        self,
        journal: Path,
        sink: Sink,
        say: Callable[[str], None],
        up_to: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self._journal, self._sink, self._say, self._up_to = journal, sink, say, up_to
        self._mark = journal.with_name(journal.name + ".delivered")
        self._records: dict[int, TrialRecord] = {}
        self._end, self.delivered = self._replay()
        self._waiting: list[PendingEvent] = []
        self._size = WINDOW
        self._away_since: float | None = None
        self._closing_since: float | None = None
        self._patience_s = PATIENCE_S
        self._complete = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="delivery", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def trouble(self) -> str:
        """For the live view: since when the server is away; empty: it is not."""
        if self._away_since is None:
            return ""
        return f"MLflow away for {(time.monotonic() - self._away_since) / 60:.1f} min"

    @property
    def complete(self) -> bool:
        """Closed, and everything is delivered."""
        return self._complete

    @property
    def behind(self) -> int:
        """Entries that wait in the journal."""
        return sum(1 for _ in read(self._journal, self._end))

    @property
    def refused(self) -> Sequence[str]:
        return self._sink.refused

    def close(self, patience_s: float = PATIENCE_S) -> bool:
        """Deliver the rest; True: all of it. Gives up when the server is away for longer than the patience."""
        self._patience_s, self._closing_since = patience_s, time.monotonic()
        self._wake.set()
        self._thread.join()
        return self._complete

    def _replay(self) -> tuple[int, int]:
        """Trials as they were at the place up to which the journal is delivered; that place in bytes and entries."""
        marked, end, entries = self._marked(), 0, 0
        for entry in read(self._journal) if marked else ():
            if entry.end > marked:
                break
            end, entries = entry.end, entries + 1
            if entry.event in TRIAL_EVENTS:
                apply(self._records, entry)
        if end < marked:  # its last lines were damaged and cut off
            self._sink.deduplicate()
        return end, entries

    def _marked(self) -> int:
        """Byte up to which the journal is delivered."""
        try:
            return int(json.loads(self._mark.read_text())["end"])
        except (OSError, ValueError):
            return 0  # then all of it is delivered again, which changes nothing

    def _work(self) -> None:
        while True:
            self._waiting = self._waiting or self._next()
            if self._waiting:
                if not self._insist(self._deliver_some):
                    return
            elif self._closing_since is not None:
                self._complete = self._insist(self._sink.finalize)
                return
            else:
                self._wake.wait(POLL_S)

    def _next(self) -> list[PendingEvent]:
        parcels, up_to = [], math.inf if self._closing_since is not None else self._up_to()
        for entry in islice(read(self._journal, self._end), WINDOW):
            if entry.end > up_to:
                break
            trial = copy(apply(self._records, entry)) if entry.event in TRIAL_EVENTS else None
            parcels.append(PendingEvent(entry, trial))
        return parcels

    def _deliver_some(self) -> None:
        """The first of those that wait: fewer after a failure, so that a server that answers now and then will do."""
        some = self._waiting[: self._size]
        try:
            self._sink.deliver(some)
        except Away:
            self._size = max(1, len(some) // 2)
            raise
        self._size = min(WINDOW, 2 * self._size)
        self._advance(some)
        del self._waiting[: len(some)]

    def _insist(self, write: Callable[[], None]) -> bool:
        """Try until it works; False: the search is over and the server has been away for longer than the patience."""
        pause = FIRST_PAUSE_S
        while True:
            try:
                write()
            except Away as away:
                if self._away_since is None:
                    self._away_since = time.monotonic()
                    self._say(f"MLflow does not answer ({away}); the trials go on, what they log waits in the journal")
                if self._given_up():
                    return False
                self._wake.wait(pause)
                self._wake.clear()
                pause = min(2 * pause, LONGEST_PAUSE_S)
                continue
            if self._away_since is not None:
                self._say("MLflow answers again; what waited is delivered")
                self._away_since = None
            return True

    def _given_up(self) -> bool:
        if self._closing_since is None or self._away_since is None:
            return False
        return time.monotonic() - max(self._closing_since, self._away_since) > self._patience_s

    def _advance(self, parcels: Sequence[PendingEvent]) -> None:
        self._end, self.delivered = parcels[-1].entry.end, self.delivered + len(parcels)
        draft = self._mark.with_name(self._mark.name + ".tmp")
        with suppress(OSError):  # a full disk: what is delivered again does no harm
            draft.write_text(json.dumps({"end": self._end}))
            draft.replace(self._mark)
