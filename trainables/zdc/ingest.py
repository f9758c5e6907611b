"""ZDC files to the columnar cache: every file read once, in chunks, checked, split, or refused whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainables.cache import Cache, CacheSpec, open_or_build
from trainables.cache_writer import CacheWriter, Column
from trainables.errors import DataError
from trainables.files import UnreadableFile, stamp_root_file
from trainables.split import hash_events, parts_of, positions
from trainables.zdc import showers
from trainables.zdc.layouts import Chunk, Layout, count_entries, count_hits, detect_layout, read_chunks

READER_VERSION = 1  # raise it when the same files give other arrays or other counts than before
MIN_EVENTS = 20  # of a whole sample: fewer cannot be split into parts
REPEAT_SAMPLE = 1_000_000  # events, about, among which repeated ones are counted; keeps memory flat

COLUMNS = {
    "condition": Column("<f4", (6,)),
    "mask_packed": Column("|u1", (50,)),
    "event_hash": Column("<u8"),
}


@dataclass(frozen=True)
class Reading:
    """How files are read: with their content, all that the arrays depend on."""

    layout: Literal["auto", "mytree", "edm4hep"]
    hit_threshold_mev: float
    skip_bad_files: bool
    split: Mapping[str, float]  # one of trainables.split


def ingest(files: tuple[str, ...], reading: Reading, cache_dir: Path) -> Cache:
    """The cache of these files, opened or built.

    Parameters
    ----------
    files : tuple of str
        Of ``expand_files``.
    reading : Reading
    cache_dir : Path

    Returns
    -------
    Cache
        Columns ``COLUMNS``; parts those of ``reading.split``. Its ``meta`` holds the counts of ``FileTally``
        summed over files, ``files`` (number read), ``skipped`` (messages), ``without_hits`` (files) and
        ``repeated`` (events that are there more than once; an estimate above a million events).

    Raises
    ------
    DataError
        Anything is wrong with a file or with all of them together. Nothing is cached then.
    """
    stamps, absent = _stamps(files, reading.skip_bad_files)
    spec = CacheSpec(
        name="zdc",
        key={"reader": READER_VERSION, "files": list(stamps.values()), "absent": absent, **asdict(reading)},
        columns=COLUMNS,
        parts=tuple(reading.split),
    )
    return open_or_build(cache_dir, spec, lambda writer: _build(tuple(stamps), absent, reading, writer))


def _stamps(files: tuple[str, ...], skip_bad_files: bool) -> tuple[dict[str, dict[str, int | str]], list[str]]:
    """Stamps of the files that look readable, and what is wrong with the other ones."""
    stamps: dict[str, dict[str, int | str]] = {}
    problems: list[str] = []
    for file in files:
        try:
            stamps[file] = stamp_root_file(file)
        except UnreadableFile as problem:
            problems.append(str(problem))
    if problems and not skip_bad_files:
        more = f"\n... and {len(problems) - 10} more" if len(problems) > 10 else ""
        hint = f"\n{len(problems)} of {len(files)} files cannot be read; --skip-bad-files leaves them out."
        raise DataError("\n".join(problems[:10]) + more + (hint if len(files) > 1 else ""))
    if not stamps:
        raise _nothing_left(problems)
    return stamps, problems


def _nothing_left(problems: list[str]) -> DataError:
    return DataError("no readable file is left:\n" + "\n".join(problems[:10]))


def _build(files: tuple[str, ...], absent: list[str], reading: Reading, writer: CacheWriter) -> dict[str, Any]:
    """Fill a new cache; returns what to keep beside the arrays."""
    skipped = list(absent)
    entries = _count_entries(files, reading, skipped)
    if not entries:
        raise _nothing_left(skipped)
    expected = sum(entries.values())
    if expected < MIN_EVENTS:
        raise _too_few(files, entries, reading)
    writer.expect(expected)
    total = showers.FileTally()
    without_hits: list[str] = []
    some_hashes = [np.empty(0, np.uint64)]
    sampled = min(1.0, REPEAT_SAMPLE / expected)
    for file in entries:
        mark = writer.mark()
        try:
            tally, hashes = _read(file, reading, writer, sampled)
        except UnreadableFile as problem:
            writer.rollback(mark)
            _skip(problem, reading, skipped)
            continue
        total.add(tally)
        some_hashes.append(hashes)
        if tally.hits == 0:
            without_hits.append(file)
    if total.events == 0:
        raise _nothing_left(skipped)
    _check_sample(total, reading)
    repeated = sum(len(hashes) for hashes in some_hashes) - len(np.unique(np.concatenate(some_hashes)))
    counts = {name: value for name, value in asdict(total).items() if isinstance(value, int)}
    return counts | {
        "files": len(files) + len(absent) - len(skipped),
        "skipped": skipped,
        "without_hits": without_hits,
        "repeated": round(repeated / sampled),
    }


def _count_entries(files: tuple[str, ...], reading: Reading, skipped: list[str]) -> dict[str, int]:
    entries = {}
    for file in files:
        try:
            entries[file] = count_entries(file, _layout(file, reading))
        except UnreadableFile as problem:
            _skip(problem, reading, skipped)
    return entries


def _layout(file: str, reading: Reading) -> Layout:
    return detect_layout(file) if reading.layout == "auto" else reading.layout


def _skip(problem: UnreadableFile, reading: Reading, skipped: list[str]) -> None:
    if not reading.skip_bad_files:
        raise DataError(f"{problem} --skip-bad-files leaves it out.") from problem
    skipped.append(str(problem))


def _read(
    file: str, reading: Reading, writer: CacheWriter, sampled: float
) -> tuple[showers.FileTally, NDArray[np.uint64]]:
    """Append one file; its counts, and the hashes of a share ``sampled`` of all possible events."""
    tally = showers.FileTally()
    some_hashes = [np.empty(0, np.uint64)]
    for chunk in read_chunks(file, _layout(file, reading)):
        columns = _columns(chunk, reading.hit_threshold_mev, tally)
        event_hash_N = columns["event_hash"]
        for part, chosen_N in parts_of(event_hash_N, reading.split).items():
            writer.append(part, {name: rows[chosen_N] for name, rows in columns.items()})
        some_hashes.append(event_hash_N[positions(event_hash_N) < sampled])
    showers.check_file(file, tally)
    return tally, np.concatenate(some_hashes)


def _columns(chunk: Chunk, threshold_mev: float, tally: showers.FileTally) -> dict[str, NDArray[Any]]:
    condition_N6 = showers.conditions(chunk, tally).astype("<f4")
    sum_mev_N400 = showers.crystal_sums(showers.hits(chunk, tally), len(condition_N6))
    touched_N50 = showers.pack_mask(sum_mev_N400, 0.0)
    mask_N50 = touched_N50 if threshold_mev == 0 else showers.pack_mask(sum_mev_N400, threshold_mev)
    tally.hit_crystals += int(np.bitwise_count(mask_N50).sum())
    tally.largest_sum_mev = max(tally.largest_sum_mev, float(sum_mev_N400.max(initial=0.0)))
    # Without the threshold, so that an event stays in its part whatever the threshold is.
    event_hash_N = hash_events([condition_N6[:, 1:4], touched_N50]).astype("<u8")
    return {"condition": condition_N6, "mask_packed": mask_N50, "event_hash": event_hash_N}


def _too_few(files: tuple[str, ...], entries: Mapping[str, int], reading: Reading) -> DataError:
    hits = sum(count_hits(file, _layout(file, reading)) for file in entries)
    empty = ": the ZDC collection is empty" if entries and not hits else ""
    return DataError(
        f"{', '.join(files)}: too few events: expected at least {MIN_EVENTS} in all, to train and to "
        f"validate; found {sum(entries.values())} events with {hits} ZDC hits{empty}. Add files, or simulate "
        "more events."
    )


def _check_sample(total: showers.FileTally, reading: Reading) -> None:
    if total.hits == 0:
        raise DataError(
            f"no hits at all: the ZDC collection is empty in each of the {total.events} events. Was the ZDC "
            "part of the simulated detector, and did the particles point at it (25 mrad from the beam)?"
        )
    if total.hit_crystals == 0:
        raise DataError(
            f"no crystal is above the hit threshold of {reading.hit_threshold_mev:g} MeV; the largest "
            f"deposit found is {total.largest_sum_mev:.3g} MeV. Lower --hit-threshold-mev."
        )
