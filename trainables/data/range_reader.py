"""The reader of files that may be read in ranges of entries, each by a process of its own: their counts add up."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, Self, TypeVar

from trainables.data.file_reader import FileReader, Rows
from trainables.data.root_ntuples import Range


class Counts(Protocol):
    """What a reader counts."""

    @property
    def events(self) -> int:
        """Number of events that were read, whether they became rows or not."""

    def add(self, other: Self, /) -> None:
        """Add the counts of a later range."""


C = TypeVar("C", bound=Counts)


class RangeReader(FileReader, Generic[C]):
    """A ``FileReader`` that can be pickled, and whose files have ranges.

    Parameters
    ----------
    nothing : callable
        Makes counts of nothing.
    """

    def __init__(self, nothing: Callable[[], C]) -> None:
        self._nothing = nothing
        self.counts = nothing()  # of the file, or of the range, that is being read

    @abstractmethod
    def ranges(self, file: str) -> list[Range]:
        """Divide the entries of a file of ``count_entries``; read one after another, they give what ``read`` gives."""

    @abstractmethod
    def read_range(self, file: str, part: Range | None) -> Iterator[Rows]:
        """Yield the rows of one range, or of all, and add to ``counts``; raises as ``read`` does."""

    @abstractmethod
    def check(self, file: str) -> None:
        """Check what only a whole file shows, by ``counts``."""

    def begin(self) -> None:
        """Forget the counts of the file that was read before."""
        self.counts = self._nothing()

    def read(self, file: str) -> Iterator[Rows]:
        self.begin()
        yield from self.read_range(file, None)
        self.check(file)
