"""Read pT files into the cache: the accepted events, their hits, clusters and towers, and the cut flow."""

# N events of one chunk, A accepted ones, H towers, 9 towers, 5 hits

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.base.errors import DataError
from trainables.data.cache import Cache
from trainables.data.cache_writer import Column
from trainables.data.file_reader import HASH, Rows
from trainables.data.ingest import HASH_COLUMN, FileKind, Request
from trainables.data.ingest import ingest as ingest_files
from trainables.data.range_reader import RangeReader
from trainables.data.root_ntuples import Range
from trainables.data.split import MIN_EVENTS, SPLIT_NONE, hash_events, parts_of
from trainables.data.stamps import stamp_root_file
from trainables.pt.content import Content, content_of
from trainables.pt.cutflow import CutFlow, Selection
from trainables.pt.layouts import TREE, count_entries, ranges, read_chunks
from trainables.pt.selection import SMALLEST_DPHI_RAD, Charge, Choice, select_by_each, wrapped
from trainables.pt.towers import TOWERS, highest_towers

READER_VERSION = 1  # raise it when the same files give other arrays or other counts than before

EVENT_COLUMNS = {  # in the order of trainables.pt.data.Events
    "hit": Column("<f4", (5, 3)),
    "cluster": Column("<f4", (2, 4)),
    "tower": Column("<f4", (TOWERS, 4)),
    "dphi": Column("<f4"),
    "truth": Column("<f4", (3,)),
    "surface_dphi": Column("<f4"),
}
COLUMNS = EVENT_COLUMNS | {HASH: HASH_COLUMN}


@dataclass(frozen=True)
class Reading:
    """Settings of the reader: the arrays depend on them and on the files' content alone."""

    selection: Selection
    charge: Charge
    skip_bad_files: bool
    split: Mapping[str, float]  # one of trainables.data.split


def ingest(files: tuple[str, ...], reading: Reading, cache_dir: Path) -> Cache:
    """Open or build the cache of these files, as ``trainables.data.ingest.ingest`` does.

    It holds ``COLUMNS`` of the accepted events. Its ``meta`` holds besides ``events`` (generated), ``accepted``,
    ``opposite`` (events that fail the last cut alone and would pass it with the other charge) and ``cut_flow``, of
    train and validation.
    """
    key = {"reader": READER_VERSION, **asdict(reading)}
    request = Request("pt", key, COLUMNS, reading.split, reading.skip_bad_files, FILES.stamp)
    return ingest_files(files, request, PtReader(reading), cache_dir)


@dataclass
class Tally:
    """Counts of one file, or of all."""

    seen: CutFlow = field(default_factory=CutFlow)  # of train and validation
    hidden: CutFlow = field(default_factory=CutFlow)  # of test
    opposite: int = 0
    accepted: int = 0
    inner_radius_cm: float = 0.0  # sums over the accepted events
    face_radius_cm: float = 0.0
    cluster_gev: float = 0.0
    particle_gev: float = 0.0

    @property
    def events(self) -> int:
        return self.seen.events + self.hidden.events

    def add(self, other: Tally) -> None:
        """Add the counts of another file, or of a later range of the same."""
        self.seen.add(other.seen)
        self.hidden.add(other.hidden)
        for name in ("opposite", "accepted", "inner_radius_cm", "face_radius_cm", "cluster_gev", "particle_gev"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


class PtReader(RangeReader[Tally]):
    """The reader of pT files, which counts what the cuts remove."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(Tally)
        self._reading = reading
        self._total = Tally()

    def count_entries(self, file: str) -> int:
        return count_entries(file)

    def ranges(self, file: str) -> list[Range]:
        return ranges(file)

    def read_range(self, file: str, part: Range | None) -> Iterator[Rows]:
        for chunk in read_chunks(file, part=part):
            yield self._rows(content_of(chunk))

    def check(self, file: str) -> None:
        _check_units(file, self.counts)

    def keep(self, file: str) -> None:
        self._total.add(self.counts)

    def finish(self) -> dict[str, Any]:
        total, selection = self._total, self._reading.selection
        _check_sample(total, self._reading)
        return {
            "events": total.events,
            "accepted": total.accepted,
            "opposite": total.opposite,
            "cut_flow": total.seen.to_json(),
            "selection": selection,
        }

    def too_few(self, entries: Mapping[str, int]) -> str:
        return f"{sum(entries.values())} events"

    def _rows(self, content: Content) -> Rows:
        reading, tally = self._reading, self.counts
        choices = select_by_each(content, reading.charge)
        event_hash_N = event_hashes(content)
        hidden_N = parts_of(event_hash_N, reading.split).get("test", np.zeros(len(content), bool))
        for flow, counted_N in ((tally.seen, ~hidden_N), (tally.hidden, hidden_N)):
            left = {selection: choice.left_CN[:, counted_N] for selection, choice in choices.items()}
            flow.count(content.truth_N3[counted_N, 0], left)
        choice = choices[reading.selection]
        rows = accepted_rows(content, choice)
        tally.opposite += int((choice.dphi_N < -SMALLEST_DPHI_RAD).sum())
        tally.accepted += len(rows["dphi"])
        tally.inner_radius_cm += float(np.hypot(*rows["hit"][:, 3, :2].T).sum())
        tally.face_radius_cm += float(np.hypot(*rows["cluster"][:, 0, :2].T).sum())
        tally.cluster_gev += float(rows["cluster"][:, 0, 3].sum())
        tally.particle_gev += float((rows["truth"][:, 0] * np.cosh(rows["truth"][:, 1])).sum())
        return rows | {HASH: event_hash_N[choice.accepted_N]}


def accepted_rows(content: Content, choice: Choice) -> Rows:
    """Collect ``EVENT_COLUMNS`` of the accepted events; ``trainables.pt.data.Events`` explains them.

    Parameters
    ----------
    content : Content
    choice : Choice
        Of ``select``.
    """
    event_A = np.flatnonzero(choice.accepted_N)
    hits = [*choice.mvtx_N3.T, choice.inner_N, choice.outer_N]
    face_A4, centre_A4 = content.inner_face.at(choice.face_N[event_A]), content.clusters.at(choice.centre_N[event_A])
    return {
        "hit": _singles([content.tracker.at(hit_N[event_A])[:, :3] for hit_N in hits]),
        "cluster": _singles([face_A4, centre_A4]),
        "tower": highest_towers(content.towers, choice.accepted_N),
        "dphi": choice.dphi_N[event_A].astype("<f4"),
        "truth": content.truth_N3[event_A].astype("<f4"),
        "surface_dphi": _surface_dphi(content, event_A, face_A4).astype("<f4"),
    }


def _singles(columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
    """Stack columns beside each other, as float32."""
    return np.stack(columns, axis=1, dtype="<f4", casting="same_kind")


def event_hashes(content: Content) -> NDArray[np.uint64]:
    """Hash each event by its first primary and its clusters in the silicon, independent of the settings."""
    tracker = content.tracker
    clusters_N = np.bincount(tracker.event_H, minlength=len(content))
    first_N = np.where(clusters_N > 0, np.cumsum(clusters_N) - clusters_N, -1)
    numbers = [np.nan_to_num(content.truth_N3), tracker.at(first_N)[:, :3]]
    counts = [content.primaries_N, clusters_N]
    hashed = [values.astype("<f4") for values in numbers] + [values.astype("<i4") for values in counts]
    return hash_events(hashed).astype("<u8")


def _surface_dphi(content: Content, event_A: NDArray[np.int64], face_A4: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the azimuth where the primary met the EMCal minus the inner-face cluster's; NaN: not one known point."""
    surface = content.surface
    one_A = np.bincount(surface.event_H, minlength=len(content))[event_A] == 1
    index_N = np.full(len(content), -1)
    index_N[surface.event_H] = np.arange(len(surface.event_H))
    hit_A4 = surface.at(np.where(one_A, index_N[event_A], -1))
    dphi_A = wrapped(np.arctan2(hit_A4[:, 1], hit_A4[:, 0]) - np.arctan2(face_A4[:, 1], face_A4[:, 0]))
    return np.where(one_A, dphi_A, np.nan)


def _check_units(file: str, tally: Tally) -> None:
    """Raise DataError where the accepted events of a file are of another detector, or in other units."""
    if tally.accepted == 0:
        return
    inner_cm, face_cm = tally.inner_radius_cm / tally.accepted, tally.face_radius_cm / tally.accepted
    if not 2 < inner_cm < 30 or not 30 < face_cm < 300:
        raise DataError(
            f"{file}: the inner INTT clusters lie {inner_cm:.3g} from the beam on average, the inner-face clusters "
            f"{face_cm:.3g}; expected about 7.4 and 93.5 cm. Are the positions in mm? Write them in cm."
        )
    if not 1 / 30 < tally.cluster_gev / tally.particle_gev < 30:
        raise DataError(
            f"{file}: the clusters of the accepted events hold {tally.cluster_gev:.4g} GeV, of primaries with "
            f"{tally.particle_gev:.4g} GeV in all. Expected both in GeV: is one of them in MeV?"
        )


def _check_sample(total: Tally, reading: Reading) -> None:
    """Raise DataError where too few events are accepted, or where the particles have the other charge."""
    if total.opposite > 2 * total.accepted:
        raise DataError(
            f"{total.opposite} events bend to the other side, {total.accepted} to that of charge {reading.charge}. "
            f"Are they {'positrons' if reading.charge < 0 else 'electrons'}? Pass --charge {-reading.charge}."
        )
    if total.accepted < MIN_EVENTS:
        flow = CutFlow()
        flow.add(total.seen)
        flow.add(total.hidden)
        raise DataError(
            f"too few events pass the selection '{reading.selection}': expected at least {MIN_EVENTS}, found "
            f"{total.accepted}. What each cut leaves:\n  " + "\n  ".join(flow.table(reading.selection)) + "\n"
            "Add files, or see which cut does not fit them."
        )


FILES = FileKind(
    suffixes=(".root",),
    stamp=stamp_root_file,
    reader=lambda: PtReader(Reading("strict", -1, True, SPLIT_NONE)),
    trees=frozenset({TREE}),
)
