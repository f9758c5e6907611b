"""Print words on a console and keep them in a log file; output that fails costs nothing but itself.

All words of a command pass here. A search needs none of them: when its terminal is closed or paused, the reader of its
pipe is gone or reads nothing, or the disk of its output is full, it goes on silently, and the log in its directory
keeps every line.
"""

# Every command opens its console here, before it loads anything: heavy modules are imported where they are needed.

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO, cast

from rich.console import Console

from search.config.redaction import without_passwords
from trainables.runtime import signals
from trainables.runtime.output import PART, has_room, open_terminal, silence, write_safely, write_to_terminal

_INTERRUPTED = 130  # exit code
_PATIENCE_S = 3.0  # with an output that takes nothing
_LEFT_OUT = "\n... what could not be shown meanwhile is in the log\n"
_MOST_WAITING = 2_000  # texts that are kept until a log file is open
SLOW_S = 3.0  # after which a step that takes longer says what it does


@contextmanager
def announcing(line: str, print_line: Callable[[str], None]) -> Iterator[None]:
    """Print the line where what is done inside takes longer than a few seconds; a fast step prints nothing."""
    timer = threading.Timer(SLOW_S, print_line, (line,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class LogFile:
    """The words of a command, in a file as soon as one is open; a file that cannot be written to delays nothing."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._waiting: deque[str] = deque(maxlen=_MOST_WAITING)
        self._lock = threading.RLock()  # the handler of a signal may interrupt a write with a line of its own

    def open(self, path: Path, command: str) -> None:
        """Append to this file from now on, beginning with the command and what it printed before any file was open."""
        with self._lock:
            self._path = path
            self._waiting.appendleft(f"--- {time.strftime('%Y-%m-%d %H:%M:%S %z')}  {without_passwords(command)}\n")
        self._write_waiting()

    @property
    def is_open(self) -> bool:
        return self._path is not None

    def write(self, text: str) -> int:
        if text:
            self._waiting.append(without_passwords(text))
            self._write_waiting()
        return len(text)

    def flush(self) -> None: ...

    def _write_waiting(self) -> None:
        with self._lock:
            if self._path is None:
                return
            texts = [self._waiting.popleft() for _ in range(len(self._waiting))]
            try:
                with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write("".join(texts))
            except OSError:
                self._waiting.extendleft(reversed(texts))  # it is written with the next line


class SafeConsole(Console):
    """A console that never raises: what cannot be printed is in the log alone."""

    def __init__(self, stream: TextIO | None, **settings: Any) -> None:
        settings["force_jupyter"] = False  # in a notebook rich would show all lines itself, those of the log, too
        if in_notebook():  # a kernel sets FORCE_COLOR
            settings["force_terminal"] = False
        self.log_file = LogFile()
        super().__init__(file=cast(TextIO, SafeStream(stream, lambda: self.log_file.is_open)), **settings)
        plain = {"width": self.width, "force_terminal": False, "color_system": None}
        self._copy = Console(file=cast(TextIO, self.log_file), **(settings | plain))

    def print(self, *objects: Any, **options: Any) -> None:
        for show in (super().print, self._copy.print):
            with self.never_failing():
                show(*objects, **options)

    def stream(self, text: str) -> None:
        """Write a part of a text as it is, without keeping it in the log."""
        self.file.write(text)

    def log_traceback(self) -> None:
        """Keep the traceback of the exception that is handled now in the log alone."""
        self.log_file.write(traceback.format_exc())

    @contextmanager
    def never_failing(self) -> Iterator[None]:
        """Keep an exception of what is only shown in the log, instead of raising it."""
        try:
            yield
        except Exception:
            self.log_traceback()


class SafeStream:
    """A stream that becomes silent when it cannot be written to; None: the process was started without it.

    Parameters
    ----------
    copied : callable
        Whether all text is kept elsewhere, too. Then a stream that takes nothing (a paused terminal, a pipe that nobody
        reads) is not waited for, and shows again what is written later.
    """

    def __init__(self, stream: TextIO | None, copied: Callable[[], bool] = lambda: False) -> None:
        self._stream, self._works = stream, stream is not None
        self._copied, self._stuck = copied, False
        self._terminal: int | None = None
        self._terminal_sought = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def encoding(self) -> str:
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        if in_notebook():  # its stream says that it is a terminal, and knows no cursor
            return False
        with suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    def write(self, text: str) -> int:
        if not self._copied():
            self._works = self._works and write_safely(self._stream, text)
            return len(text)
        if not self._terminal_sought:
            self._terminal, self._terminal_sought = open_terminal(self._stream), True
        for start in range(0, len(text), PART):
            wait_s = 0 if self._stuck else _PATIENCE_S
            if not (self._works and has_room(self._stream, wait_s)):
                self._stuck = self._works
                break
            part = _LEFT_OUT * self._stuck + text[start : start + PART]
            self._stuck = not self._write_part(part, wait_s)
        return len(text)

    def _write_part(self, part: str, wait_s: float) -> bool:
        """Write a short text; False: a terminal takes no more."""
        if self._terminal is None:
            self._works = write_safely(self._stream, part)
            return True
        try:
            return write_to_terminal(self._terminal, part.encode(self.encoding, "backslashreplace"), wait_s)
        except OSError:
            self._works = False
            silence(self._stream)
            return True

    def flush(self) -> None:
        """Do nothing: each text is written at once."""


def in_notebook() -> bool:
    """Return whether what is printed stands below the cell of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def open_console(width: int = 120, *, soft_wrap: bool = False) -> SafeConsole:
    """Open standard output as a console that shows text as it is: brackets and colons in names are no markup.

    Parameters
    ----------
    width : int
        Of a log, in characters; a terminal has its own.
    """
    log_width = None if SafeStream(sys.stdout).isatty() else width
    return SafeConsole(sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=soft_wrap, width=log_width)


def run_command(main: Callable[[], int]) -> NoReturn:
    """Run a command and end the process with its exit code, whether its output can be written or not.

    A signal that ends it is a Ctrl-C, which every command handles.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file to be opened would take its place and receive what others print
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = (cast(TextIO, SafeStream(stream)) for stream in (sys.stdout, sys.stderr))
    try:
        with signals.handled(signals.interrupt):
            code = main()
    except KeyboardInterrupt as error:
        print(f"interrupted by {error}" if error.args else "interrupted")
        code = _INTERRUPTED
    sys.exit(code)


@contextmanager
def libraries_logged(log: LogFile) -> Iterator[None]:
    """Send what libraries log and warn of to the log, so that it does not stand among the lines of the search.

    Call this when they are imported: each brings handlers of its own, which print.
    """
    if any(isinstance(one, _LogHandler) for one in logging.root.handlers):
        yield
        return
    handler = _LogHandler(cast(TextIO, log))
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    changed = [(logger, [*logger.handlers], logger.propagate) for logger in _printing_loggers()]
    before = warnings.showwarning
    logging.captureWarnings(True)
    captured_before = warnings.showwarning is before
    logging.root.addHandler(handler)
    for logger, handlers, _ in changed:
        logger.handlers = [one for one in handlers if not _prints(one)]
        logger.propagate = True
    try:
        yield
    finally:
        for logger, handlers, propagate in changed:
            logger.handlers, logger.propagate = handlers, propagate
        logging.root.removeHandler(handler)
        logging.captureWarnings(captured_before)


class _LogHandler(logging.StreamHandler[TextIO]):
    """The handler that writes to the log of a search."""


def _printing_loggers() -> list[logging.Logger]:
    known = [*logging.root.manager.loggerDict.values()]
    return [one for one in known if isinstance(one, logging.Logger) and any(map(_prints, one.handlers))]


def _prints(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
