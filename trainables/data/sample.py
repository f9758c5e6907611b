"""The sample of a search and its holdout: open the caches of both, and refuse events that are in both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.base.errors import DataError
from trainables.data.cache import Cache
from trainables.data.files import DataSettings
from trainables.data.ingest import HASH
from trainables.data.split import SPLIT_NONE, SPLIT_THREE, SPLIT_TWO

Ingest = Callable[[tuple[str, ...], Mapping[str, float]], Cache]  # (names of files, split) -> their cache


@dataclass(frozen=True)
class Carried:
    """The sample that comes with a workload, for users without files."""

    sample: Path
    holdout: Path
    what: str  # for the summary: "Geant4 photons"


@dataclass(frozen=True)
class Sample:
    """The caches of one search."""

    data: Cache
    holdout: Cache | None  # of files of its own; None: the test part of ``data``

    @property
    def hidden(self) -> Cache:
        """The cache whose test part no trial sees."""
        return self.holdout or self.data

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the events that a trial sees."""
        return self.data.fingerprint(("train", "validation"))

    @property
    def events(self) -> int:
        """Number of events of all parts, without those of holdout files."""
        return sum(self.data.rows(part) for part in self.data.spec.parts)


def open_sample(settings: DataSettings, carried: Carried, ingest: Ingest) -> Sample:
    """Open the caches of the user's files, or of the carried sample where none is named.

    Parameters
    ----------
    settings : DataSettings
    carried : Carried
        Its holdout belongs to its sample, unless the user names another.
    ingest : callable
        Opens or builds the cache of files, whose names it receives as the user wrote them.

    Raises
    ------
    DataError
        What ``ingest`` raises; a part without events; events that are in the holdout too.
    """
    holdout_files = settings.holdout if settings.holdout or settings.data else (str(carried.holdout),)
    split = SPLIT_TWO if holdout_files else SPLIT_THREE
    data = ingest(settings.data or (str(carried.sample),), split)
    for part in split:
        if data.rows(part) == 0:
            total = sum(data.rows(name) for name in split)
            raise DataError(f"too few events: of the {total} found, none falls into the {part} part. Add files.")
    holdout = ingest(holdout_files, SPLIT_NONE) if holdout_files else None
    if holdout is not None:
        _refuse_shared_events(data, holdout)
    return Sample(data, holdout)


def describe(sample: Sample, settings: DataSettings, carried: Carried) -> str:
    """Describe events, files and parts in one line."""
    origin = "" if settings.data else f" of the carried sample ({carried.what})"
    kept_back = f"{sample.hidden.rows('test')} of other files" if sample.holdout else f"{sample.hidden.rows('test')}"
    read = sample.data.meta["files"]
    files = "1 file" if read == 1 else f"{read} files"
    return (
        f"{sample.events} events in {files}{origin}: {sample.data.rows('train')} train, "
        f"{sample.data.rows('validation')} validation, holdout {kept_back}"
    )


def describe_oddities(sample: Sample, counted: Mapping[str, str]) -> list[str]:
    """List what is odd in either cache, one line each.

    Parameters
    ----------
    sample : Sample
    counted : mapping of str to str
        The numbers in ``meta`` that get a line where they are not 0, and what they count.
    """
    what = {**counted, "repeated": "events, about, occur more than once"}
    lines = []
    for cache, origin in ((sample.data, ""), (sample.holdout, "holdout: ")):
        if cache is not None:
            lines += [f"{origin}{cache.meta[name]} {text}" for name, text in what.items() if cache.meta[name]]
            lines += [f"skipped: {problem}" for problem in cache.meta["skipped"]]
    return lines


def _refuse_shared_events(data: Cache, holdout: Cache) -> None:
    hidden = np.sort(np.asarray(holdout.column("test", HASH)))
    shared = 0
    for part in data.spec.parts:
        for block in data.blocks(part, HASH):
            index = np.minimum(np.searchsorted(hidden, block), len(hidden) - 1)
            shared += int((hidden[index] == block).sum())
    if shared:
        raise DataError(
            f"{shared} events of the data are in the holdout too ({len(hidden)} events), so the holdout "
            "would not be unseen. Name other files with --holdout, or none: then a part of the data is kept "
            "back."
        )
