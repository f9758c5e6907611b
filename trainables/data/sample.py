"""The sample of a search: the caches of its data, validation events and holdout; refuse events in two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.base.errors import DataError
from trainables.data.cache import Cache
from trainables.data.file_reader import HASH
from trainables.data.files import DataSettings
from trainables.data.split import SPLIT_NONE, SPLIT_VALIDATION, VALIDATION_SHARE, Split, split_of

Ingest = Callable[[tuple[str, ...], Split], Cache]  # (names of files, split) -> their cache


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
    validation: Cache  # whose validation part trials are scored on: ``data``, or a cache of files of their own
    holdout: Cache | None  # of files of its own; None: the test part of ``data``

    @property
    def hidden(self) -> Cache:
        """The cache whose test part no trial sees."""
        return self.holdout or self.data

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the events that a trial sees."""
        if self.validation is self.data:
            return self.data.fingerprint(("train", "validation"))
        both = self.data.fingerprint(("train",)) + self.validation.fingerprint(("validation",))
        return hashlib.blake2b(both.encode(), digest_size=16).hexdigest()

    @property
    def events(self) -> int:
        """Number of events of all parts, without those of validation and holdout files."""
        return sum(self.data.rows(part) for part in self.data.spec.parts)

    @property
    def parts(self) -> list[tuple[Cache, str]]:
        """All parts, without those of holdout files."""
        own = [(self.validation, "validation")] if self.validation is not self.data else []
        return [(self.data, part) for part in self.data.spec.parts] + own


def open_sample(settings: DataSettings, carried: Carried | None, ingest: Ingest) -> Sample:
    """Open the caches of the user's files, or of the carried sample where none is named.

    Parameters
    ----------
    settings : DataSettings
    carried : Carried, optional
        Its holdout belongs to its sample, unless the user names another. None: the workload has none.
    ingest : callable
        Opens or builds the cache of files, whose names it receives as the user wrote them.

    Raises
    ------
    DataError
        What ``ingest`` raises; no file is named; a part without events; events that are in two of the caches.
    """
    data_files, holdout_files = settings.data, settings.holdout
    if not data_files:
        if carried is None:
            raise DataError("no file: this workload carries no sample of its own. Name files with --data.")
        data_files, holdout_files = (str(carried.sample),), holdout_files or (str(carried.holdout),)
    split = split_of(0.0 if settings.validation else settings.validation_share, with_holdout=not holdout_files)
    data = ingest(data_files, split)
    for part in split:
        if data.rows(part) == 0:
            total = sum(data.rows(name) for name in split)
            raise DataError(f"too few events: of the {total} found, none falls into the {part} part. Add files.")
    holdout = ingest(holdout_files, SPLIT_NONE) if holdout_files else None
    validation = ingest(settings.validation, SPLIT_VALIDATION) if settings.validation else None
    if validation is not None:
        _refuse_shared_events(data, validation, "validation")
    for seen in (data, validation):
        if seen is not None and holdout is not None:
            _refuse_shared_events(seen, holdout, "test")
    return Sample(data, validation or data, holdout)


def describe(sample: Sample, settings: DataSettings, carried: Carried | None = None) -> str:
    """Describe events, files and parts in one line."""
    origin = "" if settings.data or carried is None else f" of the carried sample ({carried.what})"
    kept_back = f"{sample.hidden.rows('test')} of other files" if sample.holdout else f"{sample.hidden.rows('test')}"
    read = sample.data.meta["files"]
    files = "1 file" if read == 1 else f"{read} files"
    other_files = " of other files" if settings.validation else ""
    return (
        f"{sample.events} events in {files}{origin}: {sample.data.rows('train')} train, "
        f"{sample.validation.rows('validation')} validation{other_files}, holdout {kept_back}"
    )


def describe_cache(sample: Sample, settings: DataSettings) -> str:
    """Name the cache of the data, and say where it is one more of the same files."""
    split = "--validation" if settings.validation else f"--validation-share {settings.validation_share:g}"
    default = not settings.validation and settings.validation_share == VALIDATION_SHARE
    return f"cache {sample.data.folder}" + ("" if default else f" (of its own for {split})")


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
    validation = None if sample.validation is sample.data else sample.validation
    for cache, origin in ((sample.data, ""), (validation, "validation: "), (sample.holdout, "holdout: ")):
        if cache is not None:
            lines += [f"{origin}{cache.meta[name]} {text}" for name, text in what.items() if cache.meta[name]]
            lines += [f"skipped: {problem}" for problem in cache.meta["skipped"]]
    return lines


_SHARED = {  # part that other files hold, what follows of shared events, and what to do
    "test": (
        "in the holdout",
        "so the holdout would not be unseen. Name other files with --holdout, or none: then a part of the data is "
        "kept back.",
    ),
    "validation": (
        "in the validation files",
        "so trials would be scored on events that they may train on. Name other files with --validation, or none: "
        "then a part of the data is taken, see --validation-share.",
    ),
}


def _refuse_shared_events(data: Cache, other: Cache, other_part: str) -> None:
    there = np.sort(np.asarray(other.column(other_part, HASH)))
    shared = 0
    for part in data.spec.parts:
        for block in data.blocks(part, HASH):
            index = np.minimum(np.searchsorted(there, block), len(there) - 1)
            shared += int((there[index] == block).sum())
    if shared:
        where, advice = _SHARED[other_part]
        raise DataError(f"{shared} events of the data are {where} too ({len(there)} events), {advice}")
