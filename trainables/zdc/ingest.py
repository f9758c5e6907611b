"""Ingest of ZDC files into the cache: conditions and hit masks of every event, and counts of oddities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from trainables.base.errors import DataError
from trainables.data.cache import Cache
from trainables.data.cache_writer import Column
from trainables.data.file_reader import HASH, Rows
from trainables.data.ingest import HASH_COLUMN, FileKind, Request
from trainables.data.ingest import ingest as ingest_files
from trainables.data.range_reader import RangeReader
from trainables.data.root_ntuples import Range
from trainables.data.split import SPLIT_NONE, hash_events
from trainables.data.stamps import stamp_root_file
from trainables.zdc import showers
from trainables.zdc.layouts import TREES, Chunk, Layout, count_entries, count_hits, detect_layout, ranges, read_chunks

READER_VERSION = 1  # raise it when the same files give other arrays or other counts than before

COLUMNS = {
    "condition": Column("<f4", (6,)),
    "mask_packed": Column("|u1", (50,)),
    HASH: HASH_COLUMN,
}


@dataclass(frozen=True)
class Reading:
    """How files are read. Together with their content it determines the arrays."""

    layout: Literal["auto", "mytree", "edm4hep"]
    hit_threshold_mev: float
    skip_bad_files: bool
    split: Mapping[str, float]  # one of trainables.data.split


def ingest(files: tuple[str, ...], reading: Reading, cache_dir: Path) -> Cache:
    """Open or build the cache of these files, as ``trainables.data.ingest.ingest`` does.

    It holds ``COLUMNS``. Its ``meta`` holds besides the counts of ``FileTally`` summed over files, and ``without_hits``
    (files).
    """
    key = {"reader": READER_VERSION, **asdict(reading)}
    request = Request("zdc", key, COLUMNS, reading.split, reading.skip_bad_files, FILES.stamp)
    return ingest_files(files, request, ZDCReader(reading), cache_dir)


class ZDCReader(RangeReader[showers.FileTally]):
    """Reader of ZDC files that counts oddities."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(showers.FileTally)
        self._reading = reading
        self._total = showers.FileTally()
        self._without_hits: list[str] = []

    def count_entries(self, file: str) -> int:
        return count_entries(file, self._layout(file))

    def ranges(self, file: str) -> list[Range]:
        return ranges(file, self._layout(file))

    def read_range(self, file: str, part: Range | None) -> Iterator[Rows]:
        for chunk in read_chunks(file, self._layout(file), part=part):
            yield _rows(chunk, self._reading.hit_threshold_mev, self.counts)

    def check(self, file: str) -> None:
        showers.check_file(file, self.counts)

    def keep(self, file: str) -> None:
        self._total.add(self.counts)
        if self.counts.hits == 0:
            self._without_hits.append(file)

    def finish(self) -> dict[str, Any]:
        _check_sample(self._total, self._reading)
        counts = {name: value for name, value in asdict(self._total).items() if isinstance(value, int)}
        return counts | {"without_hits": self._without_hits}

    def too_few(self, entries: Mapping[str, int]) -> str:
        hits = sum(count_hits(file, self._layout(file)) for file in entries)
        empty = "" if hits else ": the ZDC collection is empty"
        return f"{sum(entries.values())} events with {hits} ZDC hits{empty}"

    def _layout(self, file: str) -> Layout:
        return detect_layout(file) if self._reading.layout == "auto" else self._reading.layout


def _rows(chunk: Chunk, threshold_mev: float, tally: showers.FileTally) -> Rows:
    condition_N6 = showers.conditions(chunk, tally).astype("<f4")
    touched_N50, mask_N50 = showers.hit_maps(showers.hits(chunk, tally), len(condition_N6), threshold_mev, tally)
    # Without the threshold, so that an event stays in its part at any threshold.
    event_hash_N = hash_events([condition_N6[:, 1:4], touched_N50]).astype("<u8")
    return {"condition": condition_N6, "mask_packed": mask_N50, HASH: event_hash_N}


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


FILES = FileKind(
    suffixes=(".root",),
    stamp=stamp_root_file,
    reader=lambda: ZDCReader(Reading("auto", 0.0, True, SPLIT_NONE)),
    trees=frozenset(TREES.values()),
)
