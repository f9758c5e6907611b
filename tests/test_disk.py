"""Laws of a full disk: nothing is half written, a write waits and continues, and the user reads why."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from finished import run_search
from optuna.samplers import RandomSampler
from test_trainable import Direct, trainable
from tiny import make_tiny

import trainables.runtime.disk_space as room
from search.reporting.console import SafeConsole
from search.reporting.summary import ConsoleReporter
from search.storage.disk import (
    DiskSpaceGuard,
    append,
    checkpoint_patience,
    files_line,
    has_space,
    is_disk_full,
    on_network_file_system,
    stop_waiting_when,
    wait_for_space,
    write_atomically,
)
from search.tuning.study import open_study
from trainables.runtime.disk_space import (
    DiskFullError,
    Patience,
    can_write,
    free_bytes,
    is_full,
    megabytes,
    retry,
    size_of,
)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MB."""
    yield from mounted(tmp_path, "6m")


def mounted(place: Path, size: str) -> Iterator[Path]:
    folder = place / "small"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"mounting a tmpfs is not allowed here: {mount.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "POLL_S", 0.05)


def fill(folder: Path, leave: int = 0) -> Path:
    """Write until nothing is left, or so much."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while free_bytes(folder) > leave:
            file.write(b"\0" * 4096)
    return ballast


def freed_soon(ballast: Path, seconds: float = 0.5) -> threading.Thread:
    thread = threading.Timer(seconds, ballast.unlink)
    thread.start()
    return thread


# ---------------------------------------------------------------- recognising


def test_a_full_disk_is_recognised_in_each_form(small: Path) -> None:
    def write() -> None:
        (small / "a").write_bytes(b"\0" * 10_000_000)

    def save_to_path() -> None:
        torch.save({"a": torch.zeros(3_000_000)}, small / "b")

    def save_to_file() -> None:
        with (small / "c").open("wb") as file:
            torch.save({"a": torch.zeros(3_000_000)}, file)

    for way in (write, save_to_path, save_to_file):
        with pytest.raises((OSError, RuntimeError)) as caught:
            way()
        assert is_full(caught.value), way
        assert is_disk_full(caught.value)


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no"), RuntimeError("cuda"), ValueError(), DiskFullError("x")])
def test_other_errors_are_not_taken_for_a_full_disk(error: Exception) -> None:
    assert not is_full(error)


def test_a_quota_is_a_full_disk_too() -> None:
    assert is_full(OSError(errno.EDQUOT, "Disk quota exceeded"))


def test_room_is_what_can_be_written(small: Path) -> None:
    assert has_space(small, 5_000_000)
    assert can_write(small, 5_000_000)
    fill(small)
    assert not has_space(small)
    assert not can_write(small, 4096)
    assert has_space(small / "not" / "yet" / "there", 0)


# ---------------------------------------------------------------- waiting


def test_a_wait_says_what_is_missing_and_ends(small: Path) -> None:
    lines: list[str] = []
    freed_soon(fill(small))
    wait_for_space(small, 1_000_000, lines.append)
    assert has_space(small)
    assert lines[0].startswith(f"disk full: {small} has 0 bytes free, 1 MB are needed: waiting, nothing is lost")
    assert lines[-1] == f"disk of {small} has room again: continuing"
    assert len(lines) == 2


def test_waiting_ends_when_the_search_is_to_end(small: Path) -> None:
    fill(small)
    asked = iter([False, False, True])
    with stop_waiting_when(lambda: next(asked)), pytest.raises(DiskFullError, match="no space was freed"):
        wait_for_space(small, 4096, lambda line: None)


def test_patience_ends(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it is until the next look at the disk."""
    monkeypatch.setattr(room, "POLL_S", 60.0)
    fill(small)
    with pytest.raises(DiskFullError, match="no space was freed in 0 s"):
        room.wait_for_room(small, 4096, lambda line: None, leave=room.after(0.1))


def test_what_fails_for_another_reason_is_undone_and_not_tried_again() -> None:
    undone: list[bool] = []
    with pytest.raises(ZeroDivisionError):
        retry(lambda: 1 / 0, lambda: undone.append(True), dict, lambda line: None)
    assert undone == [True]


# ---------------------------------------------------------------- state files


def test_a_state_file_holds_the_old_text_or_the_new(small: Path) -> None:
    file = small / "state.json"
    write_atomically(file, "old")
    freed_soon(ballast := fill(small))
    write_atomically(file, "new" * 10_000, lambda line: None)
    assert not ballast.exists()
    assert file.read_text() == "new" * 10_000
    assert [path.name for path in small.iterdir()] == ["state.json"]


def test_a_device_is_written_to_and_a_link_stays_one(tmp_path: Path) -> None:
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file"
    os.mkfifo(pipe)
    link.symlink_to(file)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, "text")
    assert os.read(reader, 10) == b"text"
    os.close(reader)
    assert pipe.is_fifo()
    for text in ("first", "second"):
        write_atomically(link, text)
        assert file.read_text() == text
    assert link.is_symlink()
    write_atomically(Path("/dev/null"), "nothing")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("disk", ["full", "gone"])
def test_a_file_for_others_that_cannot_be_written_costs_a_line_and_no_time(small: Path, disk: str) -> None:
    fill(small)
    printed = io.StringIO()
    file = (small if disk == "full" else small / "gone") / "asked.json"
    ConsoleReporter(SafeConsole(printed, width=200)).write_json(file, "x" * 100_000)
    assert f"warning  --json {file} not written" in printed.getvalue()
    assert not file.exists()


def test_a_write_that_cannot_wait_leaves_the_old_state_file(small: Path) -> None:
    file = small / "state.json"
    write_atomically(file, "old")
    fill(small)
    with stop_waiting_when(lambda: True), pytest.raises(DiskFullError):
        write_atomically(file, "new" * 10_000, lambda line: None)
    assert file.read_text() == "old"
    assert sorted(path.name for path in small.iterdir()) == ["ballast", "state.json"]


def test_nothing_is_appended_by_half(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the free room was named wrongly: the write itself fails, and what it added is taken away."""
    file = small / "lines"
    append(file, b"first\n")
    ballast = fill(small, leave=20_000)
    named = room.free_bytes
    monkeypatch.setattr(room, "free_bytes", lambda folder: 10**9)
    sizes: list[int] = []
    freed = freed_soon(ballast)

    def can_write(folder: Path, size: int) -> bool:
        sizes.append(file.stat().st_size)
        return named(folder) > size

    monkeypatch.setattr(room, "can_write", can_write)
    append(file, b"x" * 50_000 + b"\n", lambda line: None)
    freed.join()
    assert set(sizes) == {6}
    assert file.read_bytes() == b"first\n" + b"x" * 50_000 + b"\n"


def test_optunas_journal_waits_and_stays_whole(small: Path) -> None:
    study = open_study(small, "a-study", ["min"], RandomSampler(seed=1))
    trial = study.ask()
    freed_soon(fill(small))
    trial.set_user_attr("long", "x" * 20_000)
    study.tell(trial, 1.0)
    lines = (small / "optuna.journal").read_bytes().splitlines()
    assert all(json.loads(line) for line in lines)
    (again,) = open_study(small, "a-study", ["min"], RandomSampler(seed=1)).get_trials()
    assert (again.value, len(again.user_attrs["long"])) == (1.0, 20_000)
    assert sorted(path.name for path in small.iterdir()) == ["optuna.journal"]


# ---------------------------------------------------------------- size


def test_size_counts_each_file_once_however_many_names_it_has(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"1" * 3_000)
    os.link(tmp_path / "a" / "one", tmp_path / "a" / "b" / "also")
    (tmp_path / "a" / "b" / "two").write_bytes(b"2" * 500)
    assert size_of(tmp_path / "a") == 3_500
    assert size_of(tmp_path / "none") == 0
    assert files_line(tmp_path / "a") == f"files    {tmp_path / 'a'} (3.5 kB)"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1_234, "1.23 kB"), (32 * 2**20, "33.6 MB"), (1.2e9, "1.2 GB")],
)
def test_sizes_are_written_as_people_read_them(size: int, text: str) -> None:
    assert megabytes(size) == text


def test_patience_is_set_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checkpoint_patience() == Patience()
    monkeypatch.setenv("SEARCH_DISK_RESERVE_MB", "0.5")
    monkeypatch.setenv("SEARCH_DISK_WAIT_S", "7")
    assert checkpoint_patience() == Patience(reserve_bytes=2**19, limit_s=7)


# ---------------------------------------------------------------- network file systems


MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/vdb /home/local ext4 rw 0 0
lustre@tcp:/scratch /scratch lustre rw 0 0
/dev/vdc /scratch2 xfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "network"),
    [
        ("/var/x", False),
        ("/home/me/results", True),
        ("/home/local/results", False),
        ("/scratch/me", True),
        ("/scratch2/me", False),
        ("/homes/me", False),
    ],
)
def test_network_file_systems_are_known_by_their_mounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, network: bool
) -> None:
    """Pitfall 35."""
    (tmp_path / "mounts").write_text(MOUNTS)
    mounts = tmp_path / "mounts"
    monkeypatch.setattr("search.storage.disk.Path", lambda name: mounts if name == "/proc/mounts" else Path(name))
    assert on_network_file_system(Path(folder)) is network


def test_this_machines_own_mounts_can_be_read(tmp_path: Path) -> None:
    assert on_network_file_system(tmp_path) in (True, False)


# ---------------------------------------------------------------- between the steps of a search


def test_the_search_is_held_while_it_could_not_write_its_own_state(small: Path) -> None:
    lines: list[str] = []
    guard = DiskSpaceGuard(small, lines.append, lambda: 1_000_000)
    guard(lambda: False)
    assert "trials wait" in lines.pop(0)  # 6 MB are less than the reserve
    freed_soon(fill(small))
    time.sleep(0.1)
    started = time.monotonic()
    guard(lambda: False)
    assert time.monotonic() - started > 0.2
    assert "the search waits, nothing is lost" in lines[0]


def test_a_search_that_is_to_end_is_not_held(small: Path) -> None:
    fill(small)
    DiskSpaceGuard(small, lambda line: None)(lambda: True)


# ---------------------------------------------------------------- checkpoints


def test_a_broken_checkpoint_is_not_gone_on_from_but_the_one_before_it_is(tmp_path: Path) -> None:
    one = trainable()
    for number in range(2):
        one.step()
        (tmp_path / f"checkpoint_00000{number}").mkdir()
        one.save_checkpoint(str(tmp_path / f"checkpoint_00000{number}"))
    state = tmp_path / "checkpoint_000001" / "state.pt"
    state.write_bytes(state.read_bytes()[:100])
    again = Direct({"hyperparameters": {"epochs": 3, "x": 0.1}, "continue_from": str(state.parent)})
    assert again.step()["epoch"] == 2
    none = Direct(
        {"hyperparameters": {"epochs": 3, "x": 0.1}, "continue_from": str(tmp_path / "gone" / "checkpoint_1")}
    )
    assert none.step()["epoch"] == 1


@pytest.fixture
def middling(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB."""
    yield from mounted(tmp_path, "24m")


def fill_for_a_while(storage: Path, name: str, seconds: float) -> threading.Thread:
    """As soon as a trial of the search has written some checkpoints."""

    def work() -> None:
        while not list(storage.glob(f"searches/{name}/0*/checkpoint_00000[3-9]/state.pt")):
            time.sleep(0.02)
        ballast = fill(storage)
        time.sleep(seconds)
        ballast.unlink()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_search_on_a_full_disk_waits_and_goes_on(middling: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCH_DISK_RESERVE_MB", "2")
    thread = fill_for_a_while(middling, "paused", 8)
    done = run_search(
        make_tiny(), middling, "paused", "--trials", "2", "--epochs", "20", "--scheduler", "none",
        "--set", "epoch_seconds=0.1",
    )  # fmt: skip
    thread.join()
    assert done.code == 0, done.text
    assert done.seconds > 8
    assert "disk full" in done.text
    assert "nothing is lost" in done.text
    assert done.board["outcomes"] == {"complete": 2}
    for label, run in done.children.items():
        assert [step for step, _ in done.curve(label, "loss")] == list(range(1, 21))
        assert run.data.tags["attempts"] == "1", "a trial failed of it"
    assert {trial.state.name for trial in done.study.get_trials()} == {"COMPLETE"}
    for state in done.folder.glob("*/checkpoint_*/state.pt"):
        torch.load(state, weights_only=True)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_checkpoint_that_waited_in_vain_fails_with_a_clear_reason(
    middling: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room enough for the search's own state, but not for what checkpoints must leave."""
    monkeypatch.setenv("SEARCH_DISK_RESERVE_MB", "1000")
    monkeypatch.setenv("SEARCH_DISK_WAIT_S", "1")
    done = run_search(
        make_tiny(), middling, "in-vain", "--trials", "1", "--epochs", "2", "--scheduler", "none", "--retries", "0"
    )
    (row,) = (row for row in done.rows.values() if row["kind"] == "trial")
    assert row["outcome"] == "failed"
    assert "DiskFullError: disk full: " in row["reason"]
    assert "no space was freed in 1 s" in row["reason"]
    assert list(done.folder.glob("*/checkpoint_*")) == []
