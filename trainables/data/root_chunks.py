"""A chunk of a ROOT tree: its lists of numbers as flat arrays, and the refusal of lists and values that are wrong."""

# N events and H numbers of one chunk
# awkward takes a second to import: only functions that look into a chunk do it.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainables.base.errors import DataError

if TYPE_CHECKING:
    import awkward as ak


@dataclass(frozen=True)
class Chunk:
    """Consecutive entries of one file, unchanged."""

    file: str
    first_entry: int
    fields: Mapping[str, ak.Array]  # (N, var), by our names
    branches: Mapping[str, str]  # the branch of each field, for messages

    def where(self, event: int) -> str:
        """Name file and entry, as every message begins."""
        return f"{self.file}: entry {self.first_entry + event}"

    def counts(self, field: str) -> NDArray[np.int64]:
        """Return the length of each event's list, shape (N,)."""
        import awkward as ak

        if plain := _plain_lists(self.fields[field]):
            return np.diff(plain[0])
        return np.asarray(ak.to_numpy(ak.num(self.fields[field], axis=1)), dtype=np.int64)

    def flat(self, field: str) -> NDArray[Any]:
        """Return all numbers of a field, shape (H,)."""
        import awkward as ak

        if plain := _plain_lists(self.fields[field]):
            return plain[1]
        return np.asarray(ak.to_numpy(ak.flatten(self.fields[field], axis=1)))

    def refuse(
        self,
        bad_H: NDArray[np.bool_],
        field: str,
        values_H: NDArray[Any],
        expected: str,
        event_H: NDArray[np.int64] | None = None,
    ) -> None:
        """Raise DataError for the first value that is bad.

        Parameters
        ----------
        bad_H, values_H : arrays (H,)
        field, expected : str
        event_H : array (H,), optional
            The event, 0 ... N - 1, of each value; None: one value an event.
        """
        if bad_H.any():
            first = int(np.argmax(bad_H))
            event, what = (first, "events") if event_H is None else (int(event_H[first]), "values")
            raise DataError(
                f"{self.where(event)}: '{self.branches[field]}': expected {expected}; found {values_H[first]:g} "
                f"({int(bad_H.sum())} such {what} nearby). Leave these events out when the file is written."
            )

    def refuse_not_finite(self, field: str, values_H: NDArray[Any], event_H: NDArray[np.int64]) -> None:
        """Raise DataError for the first value that is infinite or not a number."""
        finite_H = np.isfinite(values_H)
        if not finite_H.all():
            self.refuse(~finite_H, field, values_H, "finite numbers", event_H)

    def check_lists(self, fields: Sequence[str], advice: str) -> None:
        """Check that every field is a list of numbers per event, and that the lists of one event are equally long.

        Raises
        ------
        DataError
            A branch is of another type (the message ends with ``advice``), or two lists differ in length.
        """
        for field in fields:
            array = self.fields[field]
            if _plain_lists(array):
                continue
            if array.ndim != 2 or not np.issubdtype(_number_type(array), np.number):
                raise DataError(
                    f"{self.file}: branch '{self.branches[field]}' should hold a list of numbers per event, "
                    f"found type {array.type.content}. {advice}"
                )
        first, *others = fields
        first_N = self.counts(first)
        for field in others:
            count_N = self.counts(field)
            if not np.array_equal(count_N, first_N):
                event = int(np.argmax(count_N != first_N))
                raise DataError(
                    f"{self.where(event)}: unequal lengths: '{self.branches[first]}' has {first_N[event]} values, "
                    f"'{self.branches[field]}' has {count_N[event]}. These lists belong together: write the file "
                    "again."
                )


def _plain_lists(array: ak.Array) -> tuple[NDArray[np.int64], NDArray[Any]] | None:
    """Return the ends (N + 1,) and the numbers (H,) of lists of numbers; None for anything else.

    Of a chunk awkward's own functions take longer to begin than the numbers take.
    """
    import awkward as ak

    lists = array.layout
    if not isinstance(lists, ak.contents.ListOffsetArray) or not isinstance(lists.content, ak.contents.NumpyArray):
        return None
    ends_N, numbers_H = np.asarray(lists.offsets.data, dtype=np.int64), np.asarray(lists.content.data)
    words = lists.parameters or lists.content.parameters  # of strings, and of behaviours
    if words or numbers_H.ndim != 1 or not np.issubdtype(numbers_H.dtype, np.number):
        return None
    return ends_N, numbers_H[ends_N[0] : ends_N[-1]]


def _number_type(array: ak.Array) -> np.dtype[Any]:
    import awkward as ak

    flat = ak.flatten(array, axis=None)
    return np.asarray(ak.to_numpy(flat[:1])).dtype
