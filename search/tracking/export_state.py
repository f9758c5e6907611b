"""Keep beside an event log how far its export has come, so that another process goes on there."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path


class ExportState:
    """How far the export has come.

    ``<name>.delivered`` beside the log holds the byte up to which it is exported and whether the sink was finalized
    there, ``<name>.refused`` the numbers of trials of which something was refused.

    Attributes
    ----------
    end : int
        Byte of the log up to which everything is exported; 0: where the file cannot be read, all of it comes again.
    finalized : bool
        Whether the sink was finalized after the last event. Earlier versions did not say: then it was.
    refused : set of int or None
        Numbers of the trials of which something was refused; None stands for the search itself.
    """

    def __init__(self, log: Path) -> None:
        self._position_file = log.with_name(log.name + ".delivered")
        self._refused_file = log.with_name(log.name + ".refused")
        self.end, self.finalized = self._read_position()
        self.refused = self._read_refused()

    def advance(self, end: int) -> None:
        """Everything up to this byte is exported."""
        self._keep(end, finalized=False)

    def finalize(self) -> None:
        """Nothing is left to do after the last event."""
        self._keep(self.end, finalized=True)

    def refuse(self, numbers: set[int | None]) -> None:
        """Something was refused of these trials, and of no other."""
        if numbers != self.refused:
            self.refused = numbers
            _replace(self._refused_file, sorted(numbers, key=lambda number: -1 if number is None else number))

    def _keep(self, end: int, finalized: bool) -> None:
        self.end, self.finalized = end, finalized
        _replace(self._position_file, {"end": end, "finalized": finalized})

    def _read_position(self) -> tuple[int, bool]:
        try:
            content = json.loads(self._position_file.read_text())
            return int(content["end"]), bool(content.get("finalized", True))
        except (OSError, ValueError):
            return 0, False

    def _read_refused(self) -> set[int | None]:
        try:
            return set(json.loads(self._refused_file.read_text()))
        except (OSError, ValueError):
            return set()


def _replace(file: Path, content: object) -> None:
    draft = file.with_name(file.name + ".tmp")
    with suppress(OSError):  # a full disk: exporting something again does no harm
        draft.write_text(json.dumps(content))
        draft.replace(file)
