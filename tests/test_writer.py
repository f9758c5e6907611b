"""Laws of the writer: it keeps the order, never makes the search wait, and never dies of a fault."""

from __future__ import annotations

import threading
import time

import pytest

from search.writer import Writer


def fail(error: Exception) -> None:
    raise error


def test_writes_are_carried_out_in_order() -> None:
    writer, done = Writer(), []
    for number in range(200):
        writer.put(lambda number=number: done.append(number))
    writer.close()
    assert done == list(range(200))


def test_the_search_never_waits_for_a_write() -> None:
    writer, gate = Writer(), threading.Event()
    writer.put(gate.wait)
    started = time.monotonic()
    for _ in range(1_000):
        writer.put(lambda: None)
    assert time.monotonic() - started < 0.5
    assert writer.behind >= 999
    gate.set()
    writer.close()
    assert writer.behind == 0


def test_flush_returns_when_all_is_written() -> None:
    writer, done = Writer(), []
    writer.put(lambda: time.sleep(0.05))
    writer.put(lambda: done.append(1))
    writer.flush()
    assert done == [1]
    writer.close()


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("no space\nleft"), "OSError: no space"),
        (AssertionError(), "AssertionError"),  # without a word
        (ValueError("x" * 9_000), "ValueError: xxx"),
    ],
)
def test_a_fault_is_collected_and_later_writes_are_made(error: Exception, told: str) -> None:
    writer, done = Writer(), []
    writer.put(lambda: fail(error))
    writer.put(lambda: done.append(1))
    writer.flush()
    writer.close()
    assert done == [1]
    (failure,) = writer.failures
    assert failure.startswith(told)
    assert "\n" not in failure
    assert len(failure) < 400
