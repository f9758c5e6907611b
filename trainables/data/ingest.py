"""Read the files of any workload into a columnar cache: each file once, in chunks, split, or refused whole."""

# N events of one chunk

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.base.errors import DataError
from trainables.data.cache import Cache, CacheSpec, open_or_build
from trainables.data.cache_writer import CacheWriter, Column
from trainables.data.files import UnreadableFile
from trainables.data.split import MIN_EVENTS, parts_of, positions
from trainables.data.stamps import Stamp, nothing_left, stamp_all

HASH = "event_hash"  # the column that identifies an event
HASH_COLUMN = Column("<u8")
REPEAT_SAMPLE = 1_000_000  # about so many events are searched for repeated ones; keeps memory flat

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


@dataclass(frozen=True)
class FileKind:
    """The kind of a workload's files: how they are found, checked and read."""

    suffixes: tuple[str, ...]  # of the files that are looked for in folders
    stamp: Callable[[str], Stamp]  # of trainables.data.stamps, or alike: one state of a file, refused unless whole
    reader: Callable[[], FileReader]  # with the settings of a search without flags
    trees: frozenset[str] = frozenset()  # a ROOT file holds one of them; none: any


@dataclass(frozen=True)
class Request:
    """What to ingest, and into what columns and parts."""

    name: str  # of the workload
    key: Mapping[str, Any]  # JSON values: with the files, all that the arrays depend on
    columns: Mapping[str, Column]
    split: Mapping[str, float]  # one of trainables.data.split
    skip_bad_files: bool
    stamp: Callable[[str], Stamp]  # of the files' kind


def ingest(files: tuple[str, ...], request: Request, reader: FileReader, cache_dir: Path) -> Cache:
    """Open or build the cache of these files.

    Parameters
    ----------
    files : tuple of str
        Of ``expand_files``.
    request : Request
    reader : FileReader
        Used only where the cache does not exist yet.
    cache_dir : Path

    Returns
    -------
    Cache
        Its parts are those of the split. Its ``meta`` holds what ``reader.finish`` returned, ``files`` (number
        read), ``skipped`` (messages) and ``repeated`` (events that occur more than once; an estimate above a million
        events).

    Raises
    ------
    DataError
        Anything is wrong with a file or with all of them together. Nothing is cached then.
    """
    stamps, absent = stamp_all(files, request.stamp, request.skip_bad_files)
    spec = CacheSpec(
        name=request.name,
        key={"files": list(stamps.values()), "absent": absent, **request.key},
        columns=request.columns,
        parts=tuple(request.split),
    )
    return open_or_build(cache_dir, spec, lambda writer: _build(tuple(stamps), absent, request, reader, writer))


def _build(
    files: tuple[str, ...], absent: list[str], request: Request, reader: FileReader, writer: CacheWriter
) -> dict[str, Any]:
    """Fill a new cache; return what to keep beside the arrays."""
    skipped = list(absent)
    entries = _count_entries(files, request, reader, skipped)
    writer.expect(sum(entries.values()))
    some_hashes = [np.empty(0, np.uint64)]
    sampled = min(1.0, REPEAT_SAMPLE / sum(entries.values()))
    whole = 0
    for file in entries:
        mark = writer.mark()
        try:
            hashes = _read(file, request.split, reader, writer, sampled)
        except UnreadableFile as problem:
            writer.rollback(mark)
            _skip(problem, request, skipped)
            continue
        reader.keep(file)
        some_hashes.append(hashes)
        whole += 1
    if whole == 0:
        raise nothing_left(skipped)
    meta = reader.finish()
    sorted_hashes = np.sort(np.concatenate(some_hashes))  # 50 times as fast as np.unique
    repeated = int((sorted_hashes[1:] == sorted_hashes[:-1]).sum())
    return meta | {"files": whole, "skipped": skipped, "repeated": round(repeated / sampled)}


def _count_entries(files: tuple[str, ...], request: Request, reader: FileReader, skipped: list[str]) -> dict[str, int]:
    """Count the events of each file that can be opened. Raises DataError where they are too few together."""
    entries = {}
    for file in files:
        try:
            entries[file] = reader.count_entries(file)
        except UnreadableFile as problem:
            _skip(problem, request, skipped)
    if not entries:
        raise nothing_left(skipped)
    if sum(entries.values()) < MIN_EVENTS:
        raise DataError(
            f"{', '.join(files)}: too few events: expected at least {MIN_EVENTS} in all, to train and to "
            f"validate; found {reader.too_few(entries)}. Add files, or simulate more events."
        )
    return entries


def _skip(problem: UnreadableFile, request: Request, skipped: list[str]) -> None:
    if not request.skip_bad_files:
        raise DataError(f"{problem} --skip-bad-files leaves it out.") from problem
    skipped.append(str(problem))


def _read(
    file: str, split: Mapping[str, float], reader: FileReader, writer: CacheWriter, sampled: float
) -> NDArray[np.uint64]:
    """Append one file; return the hashes that lie in a share ``sampled`` of their range."""
    some_hashes = [np.empty(0, np.uint64)]
    for rows in reader.read(file):
        event_hash_N = rows[HASH]
        for part, chosen_N in parts_of(event_hash_N, split).items():
            index = np.flatnonzero(chosen_N)  # quicker than the mask, for each of the columns
            writer.append(
                part, rows if len(index) == len(chosen_N) else {name: values[index] for name, values in rows.items()}
            )
        some_hashes.append(event_hash_N[positions(event_hash_N) < sampled])
    return np.concatenate(some_hashes)
