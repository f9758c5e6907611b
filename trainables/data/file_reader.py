"""What a workload says about its files: the abstract reader, whose rows become the columns of a cache."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

HASH = "event_hash"  # the column that identifies an event

Rows = dict[str, NDArray[Any]]


class FileReader(ABC):
    """The reader of a workload's files: their branches, what an event is, what to count. Used for one cache."""

    @abstractmethod
    def count_entries(self, file: str) -> int:
        """Return the number of events of a file that looks readable; raises where it is not, or has none."""

    @abstractmethod
    def read(self, file: str) -> Iterator[Rows]:
        """Yield rows of every column, among them ``event_hash``, chunk by chunk; raises at anything wrong.

        Counts of this file stay apart from those of earlier files until ``keep``.
        """

    @abstractmethod
    def keep(self, file: str) -> None:
        """Add the counts of the file that was read last: it was whole."""

    @abstractmethod
    def finish(self) -> dict[str, Any]:
        """Check what only all files together can show; return JSON values to keep beside the arrays."""

    @abstractmethod
    def too_few(self, entries: Mapping[str, int]) -> str:
        """Describe, for a message, what was found in files (with their events) that together hold too few."""
