"""Show how far the reading of files is: a bar in a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from search.reporting.console import SafeConsole
from trainables.runtime.progress import ReadProgress, heard_by

BAR_AFTER_S = 5.0  # a quicker step shows nothing
LINE_EVERY_S = 30.0  # where there is no terminal


class ReadingView:
    """The view of one reading after another.

    Parameters
    ----------
    label : str
        The first word of its lines, in its column.
    """

    def __init__(self, console: SafeConsole, label: str) -> None:
        self._console, self._label = console, label
        self._began = self._shown = time.monotonic()
        self._before: ReadProgress | None = None
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def hear(self, now: ReadProgress) -> None:
        """Show a step; a fault of the view is kept in the log, and the reading goes on."""
        with self._console.never_failing():
            if self._before is None or now.events_done <= self._before.events_done:  # the next files
                self.close()
                self._began = self._shown = time.monotonic()
            self._before = now
            if self._console.is_terminal:
                self._update(now)
            elif time.monotonic() - self._shown >= LINE_EVERY_S:
                self._shown = time.monotonic()
                self._console.print(f"{self._label} {self._words(now)}", markup=False, soft_wrap=True)

    def close(self) -> None:
        """Remove the bar."""
        bar, self._bar = self._bar, None
        if bar is not None:
            with self._console.never_failing():
                bar.stop()

    def _update(self, now: ReadProgress) -> None:
        if self._bar is None:
            if time.monotonic() - self._began < BAR_AFTER_S:
                return
            columns = TextColumn(self._label), BarColumn(), TextColumn("{task.description}")
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("", total=now.events)
            self._bar.start()
        self._bar.update(self._task, completed=now.events_done, description=self._words(now))

    def _words(self, now: ReadProgress) -> str:
        took_s = time.monotonic() - self._began
        left_s = took_s * (now.events - now.events_done) / max(now.events_done, 1)
        file = f"file {min(now.files_done + 1, now.files)} of {now.files}, " if now.files > 1 else ""
        return f"{file}{now.events_done:,} of {now.events:,} events, about {left_s:.0f} s left"


@contextmanager
def reading_shown(console: SafeConsole, label: str) -> Iterator[None]:
    """Show the progress of files that are read inside."""
    view = ReadingView(console, label)
    try:
        with heard_by(view.hear):
            yield
    finally:
        view.close()
