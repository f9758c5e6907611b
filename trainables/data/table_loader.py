"""Load large tables for a search through the columnar cache: split by content, sealed holdout, nothing in memory."""

# N rows of one chunk; row i of each column is event i

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from trainables.data.array_loader import ArrayData, ArrayHoldout
from trainables.data.cache import Cache
from trainables.data.cache_writer import Column
from trainables.data.file_reader import HASH, FileReader, Rows
from trainables.data.files import DataSettings, expand_files
from trainables.data.ingest import HASH_COLUMN, FileKind, Request, ingest
from trainables.data.sample import Sample, describe, describe_cache, describe_oddities, open_sample
from trainables.data.split import Split, hash_events
from trainables.data.stamps import stamp_file
from trainables.data.table_headers import SUFFIXES
from trainables.data.tables import no_rows, open_table, read_rows, table_types

READER_VERSION = 1  # raise it when the same files give other arrays than before


@dataclass(frozen=True, kw_only=True)
class TableLoader:
    """A ready-made ``load_data`` for tables that need not fit into memory: Parquet, HDF5, .npz, flat ROOT trees.

    Parameters
    ----------
    columns : tuple of str
        What is read of each file: numbers, of one shape in all rows.
    identity : tuple of str
        The columns that identify an event: equal ones are one event, which lies in one part. Empty: all of ``columns``.
    tree : str
        The tree of ROOT files, or the group of HDF5 files; empty: the only tree, the whole file.
    objective_version : str
        Change it where the meaning of a score changes.
    """

    columns: tuple[str, ...]
    identity: tuple[str, ...] = ()
    tree: str = ""
    objective_version: str = "1"

    def __post_init__(self) -> None:
        if not self.columns or (strange := set(self.identity) - set(self.columns)):
            found = f"identity names {sorted(strange)}" if self.columns else "none"
            raise ValueError(f"expected at least one column, and an identity among the columns; found {found}")

    @property
    def files(self) -> FileKind:
        """The kind of the files, for ``Workload.files``: checked before a search."""
        return FileKind(suffixes=SUFFIXES, stamp=stamp_file, reader=lambda: _TableReader(self, None))

    def __call__(self, settings: DataSettings, cache_dir: Path) -> ArrayData:
        """Load train and validation events, as read-only maps of the cache.

        Raises
        ------
        DataError
            As ``trainables.contract.LoadData`` says.
        """
        sample = self._sample(settings, cache_dir)
        return ArrayData(
            train=self._arrays(sample.data, "train"),
            validation=self._arrays(sample.validation, "validation"),
            fingerprint=sample.fingerprint,
            summary=(
                describe(sample, settings),
                describe_cache(sample, settings),
                *describe_oddities(sample, {"not_finite": "values are not finite numbers"}),
            ),
            objective_version=self.objective_version,
        )

    def load_holdout(self, settings: DataSettings, cache_dir: Path) -> ArrayHoldout:
        """Load the events that no trial sees; only a promotion calls this."""
        hidden = self._sample(settings, cache_dir).hidden
        return ArrayHoldout(self._arrays(hidden, "test"), hidden.fingerprint(("test",)))

    def _sample(self, settings: DataSettings, cache_dir: Path) -> Sample:
        types = table_types(expand_files(settings.data, SUFFIXES), self.columns, self.tree) if settings.data else {}

        def cache_of(names: tuple[str, ...], split: Split) -> Cache:
            files = expand_files(names, SUFFIXES)
            request = Request(
                name="table",
                key={"reader": READER_VERSION, "identity": self.identity, "tree": self.tree, "split": dict(split)},
                columns={_stored(name): column for name, column in types.items()} | {HASH: HASH_COLUMN},
                split=split,
                skip_bad_files=settings.skip_bad_files,
                stamp=stamp_file,
            )
            return ingest(files, request, _TableReader(self, types), cache_dir)

        return open_sample(settings, None, cache_of)

    def _arrays(self, cache: Cache, part: str) -> dict[str, NDArray[Any]]:
        return {name: np.asarray(cache.column(part, _stored(name))) for name in self.columns}


def _stored(name: str) -> str:
    """Return the name of a column in the cache, where it is a part of a file's name."""
    return "column-" + quote(name, safe="")


class _TableReader(FileReader):
    """Reader of tables that counts values which are no finite numbers."""

    def __init__(self, loader: TableLoader, types: Mapping[str, Column] | None) -> None:
        self._loader, self._types = loader, types  # types None: those of the file that is read first
        self._in_file = 0
        self._not_finite = 0

    def count_entries(self, file: str) -> int:
        with open_table(file, self._loader.tree) as table:
            rows = table.rows(table.choose(self._loader.columns))
        if rows == 0:
            raise no_rows(file)
        return rows

    def read(self, file: str) -> Iterator[Rows]:
        self._in_file = 0
        types = self._types or table_types([file], self._loader.columns, self._loader.tree)
        for rows in read_rows(file, types, self._loader.tree):
            event_hash_N = hash_events([rows[name] for name in self._loader.identity or self._loader.columns])
            self._in_file += sum(int((~np.isfinite(values)).sum()) for values in rows.values())
            yield {_stored(name): values for name, values in rows.items()} | {HASH: event_hash_N.astype("<u8")}

    def keep(self, file: str) -> None:
        self._not_finite += self._in_file

    def finish(self) -> dict[str, Any]:
        return {"not_finite": self._not_finite}

    def too_few(self, entries: Mapping[str, int]) -> str:
        return f"{sum(entries.values())} rows"
