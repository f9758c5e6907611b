"""The journal of a search: what happened is appended to one file first, and can be read back after any death."""

# One JSON object a line: its event, when it happened (ms since 1970), and what belongs to it.

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pyarrow.fs import FileSystem, LocalFileSystem

from search.storage.disk import append
from search.storage.location import StoragePath
from search.storage.trial_record import TrialRecord

TRIAL_EVENTS = (
    "trial_started",
    "trial_resumed",
    "trial_retried",
    "epoch_ended",
    "checkpoint_saved",
    "trial_ended",
)


@dataclass(frozen=True)
class Entry:
    """One line of a journal."""

    event: str
    at_ms: int
    content: Mapping[str, Any]  # of a trial's event: its number, and what has changed in its record
    end: int  # byte of the file at which the line ends


class Journal:
    """Appends entries, each whole or not at all; the last one of a process that was killed may be cut off."""

    def __init__(self, path: Path) -> None:
        self.path = path
        mend(path)
        self._told: dict[int, dict[str, Any]] = {}  # last state of each trial in the journal
        self.entries = 0
        for entry in read(path):
            self.entries += 1
            if entry.event in TRIAL_EVENTS:
                self._told.setdefault(entry.content["number"], {}).update(entry.content)

    def append(self, event: str, at_ms: int, **content: Any) -> None:
        """Write one entry; waits while the disk is full."""
        line = json.dumps({"event": event, "at_ms": at_ms, **content}, separators=(",", ":")) + "\n"
        # a process that is killed loses nothing; a machine that loses power must not forget what the study is told next
        append(self.path, line.encode(), sync=event == "trial_ended")
        self.entries += 1

    def append_trial(self, event: str, at_ms: int, trial: TrialRecord) -> None:
        """Write what has changed in a trial's record."""
        now, before = as_json(trial), self._told.get(trial.number, {})
        always = ("epoch", "metrics") if event == "epoch_ended" else ()
        changed = {
            name: value for name, value in now.items() if name in always or name not in before or before[name] != value
        }
        self._told[trial.number] = now
        self.append(event, at_ms, **(changed | {"number": trial.number}))

    def close(self) -> None:
        """Everything reaches the disk itself."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())


def read(path: Path, start: int = 0) -> Iterator[Entry]:
    """Entries from byte ``start`` on, as far as whole lines go; a file that grows may be read on from the last end."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        end = start
        for line in file:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            content = json.loads(line)
            yield Entry(content.pop("event"), content.pop("at_ms"), content, end)


def records_of(entries: Iterable[Entry], files: FileSystem | None = None) -> dict[int, TrialRecord]:
    """Every trial as the last entry about it left it, with its checkpoint in that file system; None: a local one."""
    records: dict[int, TrialRecord] = {}
    for entry in entries:
        if entry.event in TRIAL_EVENTS:
            apply(records, entry, files)
    return records


def apply(records: dict[int, TrialRecord], entry: Entry, files: FileSystem | None = None) -> TrialRecord:
    """Bring the record of an entry's trial up to that entry."""
    number, changed = entry.content["number"], _from_json(entry.content, files)
    if number in records:
        vars(records[number]).update(changed)
    else:
        records[number] = TrialRecord(**changed)
    return records[number]


def as_json(trial: TrialRecord) -> dict[str, Any]:
    """A record as plain values; copies, since records change."""
    values = {field.name: getattr(trial, field.name) for field in fields(trial)}
    values["checkpoint"] = trial.checkpoint.path if trial.checkpoint else None
    copied: dict[str, Any] = json.loads(json.dumps(values))
    return copied


def _from_json(values: Mapping[str, Any], files: FileSystem | None) -> dict[str, Any]:
    changed = dict(values)
    if changed.get("checkpoint"):
        changed["checkpoint"] = StoragePath(files or LocalFileSystem(), changed["checkpoint"])
    return changed


def mend(path: Path) -> None:
    """Cut off a last line of JSON lines that is not whole, as a killed process or a full disk leaves it.

    Appending after it would make one unreadable line of two. What is cut off is kept in ``<name>.damaged``.
    """
    if not path.exists():
        return
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        good = size
        while good and not _ends_whole(file, good):
            good = _start_of_last_line(file, good)
        if good < size:
            file.seek(good)
            with path.with_name(path.name + ".damaged").open("ab") as damaged:
                damaged.write(file.read())
            file.truncate(good)


def _ends_whole(file: Any, end: int) -> bool:
    start = _start_of_last_line(file, end)
    file.seek(start)
    line = file.read(end - start)
    if not line.endswith(b"\n"):
        return False
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _start_of_last_line(file: Any, end: int) -> int:
    """Where the line begins that ends at byte ``end``."""
    block, start = b"", end
    while start > 0:
        step = min(4096, start)
        start -= step
        file.seek(start)
        block = file.read(step) + block
        place = block[: len(block) - 1].rfind(b"\n")
        if place >= 0:
            return int(start + place + 1)
    return 0
