"""Write words on which nothing depends: a stream that cannot be written to becomes silent and raises nothing."""

from __future__ import annotations

import os
import select
import sys
from contextlib import suppress
from typing import Any, TextIO

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
