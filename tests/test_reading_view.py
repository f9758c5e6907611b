"""How far the reading of files is stands on the console: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from pt_files import branches, write

from search.reporting import reading
from search.reporting.console import SafeConsole
from search.reporting.reading import reading_shown
from trainables.data.split import SPLIT_NONE
from trainables.pt.ingest import Reading, ingest
from trainables.runtime.progress import ReadProgress, tell


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(reading, "time", clock)
    return clock


def shown(clock: Clock, steps: list[tuple[float, ReadProgress]], **settings: Any) -> str:
    """What the console shows when these steps come at these times."""
    stream = io.StringIO()
    with reading_shown(SafeConsole(stream, markup=False, width=120, **settings), "data    "):
        for at, step in steps:
            clock.now = at
            tell(step)
    return stream.getvalue()


def steps(*times: float, events: int = 1000) -> list[tuple[float, ReadProgress]]:
    return [(at, ReadProgress(number // 2, 3, 100 * (number + 1), events)) for number, at in enumerate(times)]


def test_a_quick_reading_shows_nothing(clock: Clock) -> None:
    assert shown(clock, steps(0, 1, 4.9)) == ""
    assert shown(clock, steps(0, 1, 4.9), force_terminal=True) == ""


def test_without_a_terminal_there_is_a_line_now_and_then(clock: Clock) -> None:
    lines = shown(clock, steps(0, 10, 31, 40, 62)).splitlines()
    assert lines == [
        "data     file 2 of 3, 300 of 1,000 events, about 72 s left",
        "data     file 3 of 3, 500 of 1,000 events, about 62 s left",
    ]


def test_a_terminal_has_a_bar_that_goes_away(clock: Clock) -> None:
    text = shown(clock, steps(0, 3, 6, 8), force_terminal=True)
    assert "400 of 1,000 events, about 12 s left" in text
    assert "\x1b[?25h" in text  # the cursor is back
    assert text.endswith("\x1b[2K")


def test_the_next_files_begin_anew(clock: Clock) -> None:
    """A holdout is read after the data: its pace is its own."""
    text = shown(clock, [*steps(0, 31), (40.0, ReadProgress(0, 1, 50, 100)), (71.0, ReadProgress(0, 1, 60, 100))])
    assert text.splitlines()[-1] == "data     60 of 100 events, about 21 s left"


def test_an_ingest_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LINE_EVERY_S", 0.0)
    files = tuple(write(tmp_path / f"{seed}.root", branches(100, seed)) for seed in (1, 2))
    stream = io.StringIO()
    with reading_shown(SafeConsole(stream, width=120), "data    "):
        ingest(files, Reading("strict", -1, False, SPLIT_NONE), tmp_path)
    first, second = stream.getvalue().splitlines()
    assert first.startswith("data     file 1 of 2, 100 of 200 events, about ")
    assert second == "data     file 2 of 2, 200 of 200 events, about 0 s left"


def test_a_view_that_fails_does_not_end_the_reading(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading.ReadingView, "_update", lambda self, now: 1 / 0)
    assert shown(clock, steps(0, 6), force_terminal=True) == ""
