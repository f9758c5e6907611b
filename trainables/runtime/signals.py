"""What a process does at the signals that end it: leave as after Ctrl-C, wait for a moment, or what a caller says."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C, a batch system's end, its warning before the end, a closed terminal
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)

Handler = Callable[[int, FrameType | None], object]


def interrupt(number: int, _frame: FrameType | None = None) -> None:
    """Leave as after Ctrl-C, so that whatever is open is closed on the way: locks, folders, runs in MLflow."""
    raise KeyboardInterrupt(signal.Signals(number).name)


@contextmanager
def handled(handler: Handler) -> Iterator[None]:
    """Call a handler for each signal that ends a process.

    A signal that is ignored stays so: of nohup, of a shell that starts a command in the background. In another thread
    than the main one nothing is changed, because only that one receives signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    changed = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in changed:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in changed.items():
            signal.signal(number, old)


@contextmanager
def deferred() -> Iterator[None]:
    """Let a signal that comes inside take effect at the end: what is begun here is closed from then on."""
    received: list[int] = []
    with handled(lambda number, _frame: received.append(number)):
        yield
    if received:
        signal.raise_signal(received[0])


@contextmanager
def kept_by_ray() -> Iterator[None]:
    """Start Ray inside, whose processes ignore the SIGHUP of a closed terminal, because the driver ends them itself.

    Ray replaces the handler of SIGTERM by one that ends the process; a handler of ours is put back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hangup, end = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, hangup)
        if callable(end):
            signal.signal(signal.SIGTERM, end)
