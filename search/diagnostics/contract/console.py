"""What came of the checks, on a console: one line for each, and below one that failed what helps."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from search.diagnostics.console import StatusPrinter
from search.diagnostics.contract.law import Outcome

_STYLE = {"passed": "green", "failed": "bold red", "skipped": "dim"}
_INDENT = 9


class OutcomePrinter(StatusPrinter):
    """Print outcomes as they come, and how many of each at the end."""

    def __init__(self, console: Console, *, verbose: bool = False) -> None:
        super().__init__(console)
        self._verbose = verbose

    def print(self, outcome: Outcome) -> None:
        self.clear_status()
        self.counts[outcome.result] += 1
        head = Text(f"{outcome.result:<{_INDENT}}", style=_STYLE[outcome.result])
        reason = f": {outcome.found}" if outcome.result == "skipped" else ""
        self._console.print(head + Text(f"{outcome.check.name}{reason}", style=""), soft_wrap=True)
        if outcome.result != "failed":
            return
        for name, text in (
            ("law", outcome.check.law), ("found", outcome.found), ("cause", outcome.cause), ("remedy", outcome.remedy),
        ):  # fmt: skip
            self._console.print(Padding(Text(f"{name + ':':<8}{text}"), (0, 0, 0, _INDENT)), soft_wrap=False)
        if self._verbose:
            self._console.print(Text(outcome.details), soft_wrap=True)

    def print_summary(self) -> None:
        self.clear_status()
        failed, passed, skipped = (self.counts[result] for result in ("failed", "passed", "skipped"))
        self._console.print(Text(f"{failed} failed, {passed} passed, {skipped} skipped", style="bold"), soft_wrap=True)
