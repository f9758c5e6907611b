"""Read the files of any workload into a columnar cache: each file once, in chunks, split, or refused whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.base.errors import DataError
from trainables.data.cache import Cache, CacheSpec, open_or_build
from trainables.data.cache_writer import CacheWriter, Column
from trainables.data.file_reader import FileReader
from trainables.data.files import UnreadableFile
from trainables.data.root_trees import files_kept_open
from trainables.data.sources import Source, source_of
from trainables.data.split import MIN_EVENTS
from trainables.data.stamps import Stamp, nothing_left, stamp_all
from trainables.runtime.progress import ReadProgress, tell

HASH_COLUMN = Column("<u8")
REPEAT_SAMPLE = 1_000_000  # about so many events are searched for repeated ones; keeps memory flat


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
    return open_or_build(cache_dir, spec, lambda writer: _build(stamps, absent, request, reader, writer))


def _build(
    stamps: Mapping[str, Stamp], absent: list[str], request: Request, reader: FileReader, writer: CacheWriter
) -> dict[str, Any]:
    """Fill a new cache; return what to keep beside the arrays."""
    skipped, size = list(absent), sum(int(stamp["size"]) for stamp in stamps.values())
    with files_kept_open(), source_of(reader, request, size, writer.folder) as source:
        entries = _count_entries(tuple(stamps), request, reader, source, skipped)
        writer.expect(sum(entries.values()))
        sampled = min(1.0, REPEAT_SAMPLE / sum(entries.values()))
        source.expect(tuple(entries), sampled)
        some_hashes = [np.empty(0, np.uint64)]
        for number, file in enumerate(entries):
            mark = writer.mark()
            told = _Told(number, entries)
            try:
                hashes = source.append(file, writer, told.advance)
            except UnreadableFile as problem:
                writer.rollback(mark)
                _skip(problem, request, skipped)
                continue
            reader.keep(file)
            some_hashes.append(hashes)
    whole = len(some_hashes) - 1
    if whole == 0:
        raise nothing_left(skipped)
    meta = reader.finish()
    sorted_hashes = np.sort(np.concatenate(some_hashes))  # 50 times as fast as np.unique
    repeated = int((sorted_hashes[1:] == sorted_hashes[:-1]).sum())
    return meta | {"files": whole, "skipped": skipped, "repeated": round(repeated / sampled)}


class _Told:
    """Tells how far the reading is while one of the files is read."""

    def __init__(self, number: int, entries: Mapping[str, int]) -> None:
        self._number, self._files, self._events = number, len(entries), sum(entries.values())
        self._before = sum(list(entries.values())[:number])

    def advance(self, events: int) -> None:
        tell(ReadProgress(self._number, self._files, self._before + events, self._events))


def _count_entries(
    files: tuple[str, ...], request: Request, reader: FileReader, source: Source, skipped: list[str]
) -> dict[str, int]:
    """Count the events of each file that can be opened. Raises DataError where they are too few together."""
    entries = {}
    for file, count in source.count(files):
        try:
            entries[file] = count()
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
