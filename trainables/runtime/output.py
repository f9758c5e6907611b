"""Write words on which nothing depends: a stream that cannot be written to becomes silent and raises nothing."""

from __future__ import annotations

import os
import select
import sys
import time
from contextlib import suppress
from typing import Any, TextIO

_PAUSE_S = 0.02
PART = 1024  # characters: fewer bytes than a pipe takes that is said to have room


def write_safely(stream: TextIO | None, text: str) -> bool:
    """Write a text at once; characters that the stream's encoding cannot spell are escaped.

    Returns
    -------
    bool
        False: the stream cannot be written to (its reader is gone, its disk is full, it is closed), now or later.
    """
    if stream is None:  # the process was started without it
        return False
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except (OSError, ValueError):
        silence(stream)
        return False
    except RuntimeError:  # the handler of a signal has interrupted a write to the same stream
        pass
    return True


def has_room(stream: Any, wait_s: float) -> bool:
    """Return whether a stream takes a short text now, or within so many seconds.

    A terminal that is paused does not (Ctrl-S), nor a pipe whose reader reads nothing. Ask it again for each part of at
    most ``PART`` characters.
    """
    try:
        return bool(select.select([], [stream], [], wait_s)[1])
    except (OSError, ValueError, TypeError):  # no file of the system, or a closed one, which a write finds out
        return True


def open_terminal(stream: Any) -> int | None:
    """Open the terminal of a stream once more, for writes that never wait; None: it is none, or belongs to others.

    A terminal says that it has room as soon as it takes one character. The shell's own settings stay as they are.
    """
    with suppress(OSError, ValueError, AttributeError):
        if stream.isatty():
            number = stream.fileno()
            path = f"/proc/self/fd/{number}" if sys.platform == "linux" else os.ttyname(number)
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    return None


def write_to_terminal(terminal: int, text: bytes, wait_s: float) -> bool:
    """Write to a terminal of ``open_terminal``.

    Returns
    -------
    bool
        False: it has taken nothing for so many seconds (Ctrl-S, a window or a connection that hangs); the rest is lost.

    Raises
    ------
    OSError
        It is closed.
    """
    given_up_at = time.monotonic() + wait_s
    while text:
        try:
            text = text[os.write(terminal, text) :]
            given_up_at = time.monotonic() + wait_s
        except BlockingIOError:
            left_s = given_up_at - time.monotonic()
            if left_s <= 0 or not select.select([], [terminal], [], left_s)[1]:
                return False
            time.sleep(_PAUSE_S)  # there may be room for one character, and too little for the next one
    return True


def silence(stream: Any) -> None:
    """Lead a stream to nowhere, so that what it still holds raises nothing at the exit of the process either."""
    with suppress(OSError, ValueError, AttributeError):
        descriptor = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def print_safely(line: str) -> None:
    """Print a line on standard output, whether that can be written to or not."""
    write_safely(sys.stdout, f"{line}\n")
