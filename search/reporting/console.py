"""Opens the console of a command, on which text is only text: brackets and colons in paths and names stay."""

from __future__ import annotations

import sys

from rich.console import Console


def open_console(width: int = 120, *, soft_wrap: bool = False) -> Console:
    """Standard output; ``width`` in characters is that of a log, a terminal has its own."""
    width_of_log = None if sys.stdout.isatty() else width
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=soft_wrap, width=width_of_log)
