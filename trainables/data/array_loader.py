"""Make the data of a search of arrays by name: split by the content of each event, sealed holdout, fingerprint."""

# N events; row i of every array is event i

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainables.base.errors import DataError
from trainables.data.files import DataSettings, expand_files
from trainables.data.split import MIN_EVENTS, SPLIT_NONE, SPLIT_VALIDATION, Split, hash_events, parts_of, split_of
from trainables.data.stamps import stamp_all, stamp_file

if TYPE_CHECKING:
    from trainables.contract import LoadArrays

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ArrayData:
    """Training and validation events of a trial as arrays by name; row i of every array is event i."""

    train: Mapping[str, NDArray[Any]]
    validation: Mapping[str, NDArray[Any]]
    fingerprint: str
    summary: tuple[str, ...]
    objective_version: str


@dataclass(frozen=True)
class ArrayHoldout:
    """Events that no trial sees, as arrays by name."""

    arrays: Mapping[str, NDArray[Any]]
    fingerprint: str

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))


@dataclass(frozen=True)
class _Part:
    """Events of one part, ordered by their hashes: any order of files gives the same arrays."""

    arrays: Arrays
    hash_N: NDArray[np.uint64]

    @property
    def events(self) -> int:
        return len(self.hash_N)


@dataclass(frozen=True)
class ArrayLoader:
    """Load the files of a search with a workload's own ``load``, and keep the holdout out of its trials' sight.

    Parameters
    ----------
    load : LoadArrays
    workload : str
        Its name, for messages.
    objective_version : str
        See ``trainables.contract.Data``.
    """

    load: LoadArrays
    workload: str
    objective_version: str = "1"

    def __call__(self, settings: DataSettings, cache_dir: Path) -> ArrayData:
        """Load train and validation events.

        Raises
        ------
        DataError
            No file is named, ``load`` fails or returns no such arrays, or there are too few events.
        """
        parts, files, skipped = self._parts(settings)
        train, validation, holdout = parts["train"], parts["validation"], parts["test"]
        for name, part in parts.items():
            if part.events == 0:
                total = sum(other.events for other in parts.values())
                raise DataError(f"too few events: of the {total} found, none falls into the {name} part. Add files.")
        _refuse_shared(train, validation, "in the validation files", "--validation")
        for seen in (train, validation):
            _refuse_shared(seen, holdout, "in the holdout", "--holdout")
        events = f"{train.events} train, {validation.events} validation, holdout {holdout.events}"
        return ArrayData(
            train=train.arrays,
            validation=validation.arrays,
            fingerprint=_fingerprint(train, validation),
            summary=(
                f"{sum(part.events for part in parts.values())} events in {files}: {events}",
                f"arrays {', '.join(_describe(name, array) for name, array in train.arrays.items())}",
                *_not_finite(train.arrays),
                *(f"skipped: {problem}" for problem in skipped),
            ),
            objective_version=self.objective_version,
        )

    def load_holdout(self, settings: DataSettings, cache_dir: Path) -> ArrayHoldout:
        """Load the events that no trial sees; only a promotion calls this. Raises as loading the others does."""
        holdout = self._parts(settings)[0]["test"]
        return ArrayHoldout(holdout.arrays, _fingerprint(holdout))

    def _parts(self, settings: DataSettings) -> tuple[dict[str, _Part], str, list[str]]:
        """Load the parts of all files; also describe the files in a word or two, and those that were left out."""
        if not settings.data:
            raise DataError(f"{self.workload} carries no sample of its own. Name files with --data.")
        split = split_of(0.0 if settings.validation else settings.validation_share, with_holdout=not settings.holdout)
        files, skipped = _whole(settings.data, settings)
        parts = self._split(files, split)
        for names, own in ((settings.validation, SPLIT_VALIDATION), (settings.holdout, SPLIT_NONE)):
            if names:
                more, bad = _whole(names, settings)
                parts |= self._split(more, own)
                skipped += bad
        return parts, "1 file" if len(files) == 1 else f"{len(files)} files", skipped

    def _split(self, files: tuple[str, ...], split: Split) -> dict[str, _Part]:
        arrays = self._arrays(files)
        hash_N = hash_events(list(arrays.values()))
        order_N = np.argsort(hash_N, kind="stable")
        hash_N = hash_N[order_N]
        parts = {}
        for name, mask_N in parts_of(hash_N, split).items():
            chosen = order_N[mask_N]
            parts[name] = _Part({key: np.ascontiguousarray(a[chosen]) for key, a in arrays.items()}, hash_N[mask_N])
        return parts

    def _arrays(self, files: tuple[str, ...]) -> Arrays:
        try:
            found = self.load(files)
        except DataError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise DataError(
                f"load of workload {self.workload} failed at {_where(error)}: {reason}. "
                f"It was given {len(files)} files, the first {files[0]}."
            ) from error
        return dict(_checked(found, self.workload))


def _whole(names: Sequence[str], settings: DataSettings) -> tuple[tuple[str, ...], list[str]]:
    """Return the files that are whole, and what is wrong with those that may be left out."""
    stamps, problems = stamp_all(expand_files(names), stamp_file, settings.skip_bad_files)
    return tuple(stamps), problems


def _where(error: BaseException) -> str:
    """Return the place in the user's code that raised: the first one below ours."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    return f"{Path(frames[0].filename).name}:{frames[0].lineno}" if frames else "its first line"


def _checked(found: Any, workload: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the arrays that ``load`` returned, each of fixed-width values, with as many rows as all others."""
    what = f"load of workload {workload}"
    if not isinstance(found, Mapping) or not found:
        raise DataError(f"{what}: expected arrays by name, as in {{'x': ..., 'y': ...}}; found {_kind(found)}.")
    arrays = {str(name): np.asarray(array) for name, array in found.items()}
    lengths = {name: len(array) if array.ndim else -1 for name, array in arrays.items()}
    if len(set(lengths.values())) > 1 or -1 in lengths.values():
        each = ", ".join(f"{name} {'is one number' if rows < 0 else rows}" for name, rows in lengths.items())
        raise DataError(f"{what}: expected one row an event in every array, found lengths {each}.")
    for name, array in arrays.items():
        if not (np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_):
            raise DataError(
                f"{what}: array {name!r} has values of type {array.dtype}, expected numbers. Encode text as numbers, "
                "pad lists to one length, and convert nullable columns with to_numpy('f4')."
            )
        yield name, array
    if (events := next(iter(lengths.values()))) < MIN_EVENTS:
        raise DataError(f"{what}: expected at least {MIN_EVENTS} events in all, found {events}. Add files.")


def _kind(found: Any) -> str:
    return "none" if isinstance(found, Mapping) else type(found).__name__


def _describe(name: str, array: NDArray[Any]) -> str:
    shape = "x".join(str(length) for length in array.shape[1:])
    return f"{name} ({shape + ' ' if shape else ''}{array.dtype})"


def _not_finite(arrays: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.inexact) and (count := int((~np.isfinite(array)).sum())):
            yield f"{count} values of {name} in the training events are not finite"


def _fingerprint(*parts: _Part) -> str:
    """Hash the content of events; they are in the order of their own hashes already."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(repr([(name, a.dtype.str, a.shape) for name, a in part.arrays.items()]).encode())
        digest.update(part.hash_N.tobytes())
    return digest.hexdigest()


def _refuse_shared(seen: _Part, other: _Part, where: str, flag: str) -> None:
    """Refuse events that files of their own share with the data; parts of the same files never share any."""
    shared = int(np.isin(seen.hash_N, other.hash_N).sum())
    if shared:
        raise DataError(
            f"{shared} events of the data are {where} too ({other.events} events). Name other files with {flag}, or "
            "none: then a part of the data is taken."
        )
