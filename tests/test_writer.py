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
    assert not gate.is_set()
    gate.set()
    writer.close()


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
        (OSError("http://me:hush@server/api is away"), "OSError: http://server/api is away"),
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


@pytest.mark.timeout(20)
def test_a_server_that_is_away_is_not_asked_for_every_write() -> None:
    """A client that retries may need minutes for each."""
    writer, tried = Writer(), []

    def write() -> None:
        tried.append(1)
        raise OSError("away")

    for _ in range(50):
        writer.put(write)
    writer.flush()
    assert 1 < len(tried) < 10
    assert len(writer.failures) == 50
    writer.close()


def test_a_fault_now_and_then_keeps_nobody_from_writing() -> None:
    writer, done = Writer(), []
    for number in range(30):
        writer.put(lambda: fail(OSError("busy")))
        writer.put(lambda number=number: done.append(number))
    writer.close()
    assert done == list(range(30))
    assert len(writer.failures) == 30
