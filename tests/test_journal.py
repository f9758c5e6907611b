"""Laws of the event log: what is in it comes back, an entry is whole or not there, and a torn end costs only itself."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow.fs import LocalFileSystem
from recorded import record

from search.storage.event_log import TRIAL_EVENTS, EventLog, read_entries, record_as_json, repair, replay
from search.storage.location import StoragePath
from search.storage.trial_record import TrialRecord

numbers = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(max_size=8)
changes = st.fixed_dictionaries(
    {},
    optional={
        "epoch": st.integers(0, 5),
        "metrics": st.dictionaries(words, numbers, max_size=3),
        "best": st.dictionaries(st.sampled_from(["epoch", "value"]), numbers),
        "hyperparameters": st.dictionaries(words, numbers | words | st.booleans() | st.none(), max_size=3),
        "outcome": st.sampled_from([None, "complete", "interrupted", "failed"]),
        "reason": words,
        "attempts": st.integers(1, 3),
        "seconds": numbers,
        "ended": st.none() | numbers,
        "checkpoint": st.none() | st.just(StoragePath(LocalFileSystem(), "/a/checkpoint")),
    },
)
steps = st.tuples(st.sampled_from(TRIAL_EVENTS), st.integers(0, 3), changes)


def written(path: Path, history: list[tuple[str, int, dict[str, Any]]]) -> list[dict[int, dict[str, Any]]]:
    """What each trial's record was after each entry."""
    log, records, states = EventLog(path), {}, []
    for at_ms, (event, number, changed) in enumerate(history):
        trial = records.setdefault(number, record(number))
        vars(trial).update(deepcopy(changed))
        log.append_trial(event, at_ms, trial)
        states.append(plain(records))
    return states


def plain(records: dict[int, TrialRecord]) -> dict[int, dict[str, Any]]:
    return {number: record_as_json(trial) for number, trial in records.items()}


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=12))
def test_what_has_changed_replays_to_the_records_that_were(history: list[tuple[str, int, dict[str, Any]]]) -> None:
    """After each entry, not only after the last."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal")
        states = written(path, history)
        entries = list(read_entries(path)) if history else []
        assert [entry.at_ms for entry in entries] == list(range(len(history)))
        assert [plain(replay(entries[: place + 1])) for place in range(len(entries))] == states


@settings(max_examples=40, deadline=None)
@given(st.lists(steps, min_size=1, max_size=6), st.lists(steps, max_size=4), st.data())
def test_wherever_a_journal_is_cut_off_it_goes_on_after_the_last_whole_entry(
    before: list[Any], after: list[Any], data: st.DataObject
) -> None:
    """As a killed process, a full disk or a lost power leaves it; and what is cut off is kept."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal")
        states = written(path, before)
        whole = path.read_bytes()
        place = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:place])
        ends = [0, *(entry.end for entry in _entries(whole, Path(folder, "copy")))]
        kept = max(end for end in ends if end <= place)
        log = EventLog(path)
        assert path.read_bytes() == whole[:kept]
        assert log.entry_count == ends.index(kept)
        damaged = path.with_name("journal.damaged")
        assert (damaged.read_bytes() if damaged.exists() else b"") == whole[kept:place]
        assert plain(replay(read_entries(path))) == (states[log.entry_count - 1] if log.entry_count else {})
        _goes_on(path, after)


def _entries(whole: bytes, path: Path) -> list[Any]:
    path.write_bytes(whole)
    return list(read_entries(path))


def _goes_on(path: Path, after: list[tuple[str, int, dict[str, Any]]]) -> None:
    """What is appended to a log that was repaired replays as well."""
    log, records = EventLog(path), replay(read_entries(path))
    for event, number, changed in after:
        trial = records.setdefault(number, record(number))
        vars(trial).update(deepcopy(changed))
        log.append_trial(event, 99, trial)
    assert plain(replay(read_entries(path))) == plain(records)


@pytest.mark.parametrize(
    "garbage",
    [
        b"{",
        b'{"event": "epo',
        b"\0" * 5_000,
        b"not json at all\n",
        b"\xff\xfe\n\x00\n",
        b'{"a": 1',
        b"x\ny\nz\n",
        b"\n",
    ],
)
def test_garbage_at_the_end_is_cut_off_and_kept(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b'{"a": 1}\n' + garbage)
    repair(path)
    repair(path)
    assert path.read_bytes() == b'{"a": 1}\n'
    assert (tmp_path / "journal.damaged").read_bytes() == garbage


def test_a_journal_of_garbage_alone_is_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"\0" * 10_000)
    log = EventLog(path)
    assert (log.entry_count, list(read_entries(path))) == (0, [])
    log.append("search_resumed", 1)
    assert [entry.event for entry in read_entries(path)] == ["search_resumed"]


def test_a_whole_journal_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    EventLog(path).append("search_resumed", 1)
    EventLog(path)
    assert [file.name for file in tmp_path.iterdir()] == ["journal"]
    repair(tmp_path / "none")  # nor is one that is not there


def test_an_entry_longer_than_a_block_of_the_reader_is_whole(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "journal")
    for word in ("a", "b"):
        log.append("files", 1, parcel=word * 10_000)
    with log.path.open("ab") as file:
        file.write(b"c" * 9_000)
    repair(log.path)
    assert [entry.content["parcel"][0] for entry in read_entries(log.path)] == ["a", "b"]


def test_a_journal_that_grows_is_read_on_from_where_it_ended(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "journal")
    assert list(read_entries(log.path)) == []
    log.append("first", 1)
    (first,) = read_entries(log.path)
    with log.path.open("ab") as file:
        file.write(b'{"event": "half')
    assert list(read_entries(log.path, first.end)) == []
    with log.path.open("ab") as file:
        file.write(b'", "at_ms": 2}\n')
    assert [entry.event for entry in read_entries(log.path, first.end)] == ["half"]


def test_only_what_has_changed_is_written(tmp_path: Path) -> None:
    """A trial of many hyperparameters would else write them all with each epoch."""
    log, trial = EventLog(tmp_path / "journal"), record()
    log.append_trial("trial_started", 1, trial)
    trial.epoch, trial.metrics = 1, {"loss": 0.5}
    log.append_trial("epoch_ended", 2, trial)
    log.append_trial("epoch_ended", 3, trial)  # equal numbers are numbers all the same
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    epoch = {"event": "epoch_ended", "number": 0, "epoch": 1, "metrics": {"loss": 0.5}}
    assert lines[1:] == [{**epoch, "at_ms": 2}, {**epoch, "at_ms": 3}]


def test_a_record_that_lives_on_changes_nothing_that_was_written(tmp_path: Path) -> None:
    log, trial = EventLog(tmp_path / "journal"), record()
    trial.metrics = {"loss": 0.5}
    log.append_trial("epoch_ended", 1, trial)
    trial.metrics["loss"] = 9.0
    log.append_trial("epoch_ended", 2, trial)
    assert [entry.content["metrics"]["loss"] for entry in read_entries(log.path)] == [0.5, 9.0]


def test_a_process_that_is_killed_while_it_writes_leaves_whole_entries(tmp_path: Path) -> None:
    """All that it reported, up to the one at which it died."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom search.storage.event_log import EventLog\n"
        "log = EventLog(Path(sys.argv[1]))\n"
        "for n in range(10**9):\n    log.append('files', n, parcel='x' * 3000)\n    print(n, flush=True)"
    )
    path = tmp_path / "journal"
    writer = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    reported = [int(writer.stdout.readline()) for _ in range(200)]
    writer.kill()
    reported += [int(line) for line in writer.communicate()[0].splitlines() if line]
    log = EventLog(path)
    assert [entry.at_ms for entry in read_entries(path)] == list(range(log.entry_count))
    assert log.entry_count in (len(reported), len(reported) + 1)
