"""Findings on a console: wrapped and coloured in a terminal, one line each in a log."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.diagnostics.finding import Finding
from search.reporting.console import announcing

_STYLE = {"fine": "green", "warning": "yellow", "wrong": "bold red"}


class StatusPrinter:
    """Show which check runs, and count what came of the checks."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._running = ExitStack()  # holds the status that is shown
        self.counts: Counter[str] = Counter()

    def show_status(self, check: str) -> None:
        """Show the check that runs now; in a log only one that takes longer than a few seconds."""
        self.clear_status()
        if self._console.is_terminal:
            self._running.enter_context(self._console.status(f"checking {check}"))
        else:
            self._running.enter_context(announcing(f"checking {check} ...", self._print_line))

    def clear_status(self) -> None:
        self._running.close()

    def _print_line(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


class FindingPrinter(StatusPrinter):
    """Print findings as they are made, and how many of each level at the end."""

    def print(self, finding: Finding) -> None:
        self.counts[finding.level] += 1
        if not self._console.is_terminal:
            self._console.print(Text(finding.line), soft_wrap=True)
            return
        text = Text(finding.description)
        if finding.fix:
            text.append(f"\nfix: {finding.fix}", style="cyan")
        grid = Table.grid(padding=(0, 2))
        grid.add_column(width=7, no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(Text(finding.level, style=_STYLE[finding.level]), text)
        self._console.print(grid)

    def print_summary(self) -> None:
        self.clear_status()
        wrong, warnings = self.counts["wrong"], self.counts["warning"]
        verdict = f"{wrong} wrong" if wrong else "ready"
        more = f", {warnings} to think about" if warnings else ""
        self._console.print(Text(f"{verdict}{more}, {self.counts['fine']} fine", style="bold"), soft_wrap=True)
