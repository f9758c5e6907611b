"""Append what happens in a search to its event log before anything else, and read the log after any death."""

# Each line is one JSON object: the event, its time (ms since 1970), and its content.

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

from pyarrow.fs import FileSystem, LocalFileSystem

from search.storage.disk import append
from search.storage.location import StoragePath
from search.storage.trial_record import TrialListener, TrialRecord

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
    """One line of an event log."""

    event: str
    at_ms: int  # since 1970
    content: Mapping[str, Any]  # of a trial's event: its number, and what has changed in its record
    end: int  # byte of the file at which the line ends


class EventLog(TrialListener):
    """Append-only log of one search; each entry is written whole or not at all.

    A process that is killed may leave its last entry cut off; opening the log again repairs it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        repair(path)
        self._logged: dict[int, dict[str, Any]] = {}  # last state of each trial in the log
        self.entry_count = 0
        for entry in read_entries(path):
            self.entry_count += 1
            if entry.event in TRIAL_EVENTS:
                self._logged.setdefault(entry.content["number"], {}).update(entry.content)

    def append(self, event: str, at_ms: int, **content: Any) -> None:
        """Write one entry; wait while the disk is full."""
        line = json.dumps({"event": event, "at_ms": at_ms, **content}, separators=(",", ":")) + "\n"
        # A killed process loses nothing. A power loss must not lose the end of a trial, because the study records it
        # next and would then be ahead of the log.
        append(self.path, line.encode(), sync=event == "trial_ended")
        self.entry_count += 1

    def append_trial(self, event: str, at_ms: int, trial: TrialRecord) -> None:
        """Write what has changed in the record of a trial since its last entry."""
        now, before = record_as_json(trial), self._logged.get(trial.number, {})
        always = ("epoch", "metrics") if event == "epoch_ended" else ()
        changed = {
            name: value for name, value in now.items() if name in always or name not in before or before[name] != value
        }
        self._logged[trial.number] = now
        self.append(event, at_ms, **(changed | {"number": trial.number}))

    # --- events of trials: the log is the first listener, because what it has not written has not happened

    def trial_started(self, trial: TrialRecord) -> None:
        self.append_trial("trial_started", now_ms(), trial)

    def trial_resumed(self, trial: TrialRecord) -> None:
        self.append_trial("trial_resumed", now_ms(), trial)

    def trial_retried(self, trial: TrialRecord) -> None:
        self.append_trial("trial_retried", now_ms(), trial)

    def epoch_ended(self, trial: TrialRecord) -> None:
        self.append_trial("epoch_ended", now_ms(), trial)

    def checkpoint_saved(self, trial: TrialRecord) -> None:
        self.append_trial("checkpoint_saved", now_ms(), trial)

    def trial_ended(self, trial: TrialRecord) -> None:
        self.append_trial("trial_ended", now_ms(), trial)

    def sync(self) -> None:
        """Force everything that was written to the disk itself."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())


def read_entries(path: Path, start: int = 0) -> Iterator[Entry]:
    """Yield the whole lines from byte ``start`` on; pass the last entry's ``end`` to continue in a growing log."""
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


def replay(entries: Iterable[Entry], files: FileSystem | None = None) -> dict[int, TrialRecord]:
    """Rebuild the record of every trial, by number.

    Parameters
    ----------
    files : FileSystem, optional
        File system of the checkpoints; None: that of this machine.
    """
    records: dict[int, TrialRecord] = {}
    for entry in entries:
        if entry.event in TRIAL_EVENTS:
            apply_entry(records, entry, files)
    return records


def apply_entry(records: dict[int, TrialRecord], entry: Entry, files: FileSystem | None = None) -> TrialRecord:
    """Update the record of an entry's trial, or create it, and return it."""
    number, changed = entry.content["number"], _from_json(entry.content, files)
    if number in records:
        vars(records[number]).update(changed)
    else:
        records[number] = TrialRecord(**changed)
    return records[number]


def record_as_json(trial: TrialRecord) -> dict[str, Any]:
    """Copy a record into plain values, because the record itself changes later."""
    values = {field.name: getattr(trial, field.name) for field in fields(trial)}
    values["checkpoint"] = trial.checkpoint.path if trial.checkpoint else None
    copied: dict[str, Any] = json.loads(json.dumps(values))
    return copied


def _from_json(values: Mapping[str, Any], files: FileSystem | None) -> dict[str, Any]:
    changed = dict(values)
    if changed.get("checkpoint"):
        changed["checkpoint"] = StoragePath(files or LocalFileSystem(), changed["checkpoint"])
    return changed


def repair(path: Path) -> None:
    """Cut off an incomplete last line of a JSON-lines file, as a killed process or a full disk leaves it.

    Otherwise the next entry would continue that line, and neither could be read. The part that is cut off is kept in
    ``<name>.damaged``.
    """
    if not path.exists():
        return
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        good = size
        while good and not _ends_with_whole_line(file, good):
            good = _start_of_last_line(file, good)
        if good < size:
            file.seek(good)
            with path.with_name(path.name + ".damaged").open("ab") as damaged:
                damaged.write(file.read())
            file.truncate(good)


def _ends_with_whole_line(file: BinaryIO, end: int) -> bool:
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


def _start_of_last_line(file: BinaryIO, end: int) -> int:
    """Find the first byte of the line that ends at byte ``end``."""
    block, start = b"", end
    while start > 0:
        step = min(4096, start)
        start -= step
        file.seek(start)
        block = file.read(step) + block
        newline = block[: len(block) - 1].rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
    return 0


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
