"""How far a long reading is: told by what reads, heard by whoever shows it; nobody needs to listen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class ReadProgress:
    """What of some files is read."""

    files_done: int
    files: int
    events_done: int
    events: int


Listener = Callable[[ReadProgress], object]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Call a listener, which must not raise, at each step of a reading inside."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(progress: ReadProgress) -> None:
    """Tell the listener, if there is one."""
    if (listener := _listener.get()) is not None:
        listener(progress)
