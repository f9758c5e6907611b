"""The columnar cache: written once, whole or not at all, whoever writes, and never believed when damaged."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest

from trainables.base.errors import DataError
from trainables.data import cache, cache_writer
from trainables.data.cache import Cache, CacheSpec, open_or_build
from trainables.data.cache_writer import CacheWriter, Column

COLUMNS = {"x": Column("<f4", (3,)), "bits": Column("|u1", (5,)), "hash": Column("<u8")}
PARTS = ("train", "test", "empty")
ROWS = 1000


def spec(**key: Any) -> CacheSpec:
    return CacheSpec("demo", {"version": 1, **key}, COLUMNS, PARTS)


def rows(start: int, stop: int) -> dict[str, np.ndarray]:
    number = np.arange(start, stop)
    return {
        "x": np.stack([number, -number, number / 7], axis=1).astype("<f4"),
        "bits": (number[:, None] * np.arange(5) % 256).astype("|u1"),
        "hash": number.astype("<u8"),
    }


def fill(writer: CacheWriter, chunk: int = 64) -> dict[str, Any]:
    writer.expect(ROWS + 10)
    for start in range(0, ROWS, chunk):
        writer.append("train", rows(start, min(start + chunk, ROWS)))
    writer.append("test", rows(0, 10))
    return {"note": "kept"}


def refuse(_: CacheWriter) -> dict[str, Any]:
    raise AssertionError("the cache was there already")


def assert_whole(built: Cache) -> None:
    for name, expected in rows(0, ROWS).items():
        assert np.array_equal(built.column("train", name), expected)
        assert np.array_equal(np.concatenate(list(built.blocks("train", name))), expected)
    assert built.rows("test") == 10
    assert built.column("empty", "x").shape == (0, 3)
    assert built.meta == {"note": "kept"}


def test_what_was_appended_in_chunks_comes_back_as_read_only_maps(tmp_path: Path) -> None:
    built = open_or_build(tmp_path / "new" / "folder", spec(), fill)
    assert_whole(built)
    column = built.column("train", "x")
    assert isinstance(column, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        column[0] = 0


def test_it_is_built_once_for_each_key(tmp_path: Path) -> None:
    first = open_or_build(tmp_path, spec(), fill)
    assert_whole(open_or_build(tmp_path, spec(), refuse))
    other = open_or_build(tmp_path, spec(threshold=0.5), fill)
    assert other.folder != first.folder
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == sorted(
        [first.folder.name, other.folder.name]
    )


def test_the_fingerprint_is_of_the_content_alone(tmp_path: Path) -> None:
    one = open_or_build(tmp_path, spec(), fill)
    same = open_or_build(tmp_path, spec(name="b"), lambda writer: fill(writer, chunk=333))
    other = open_or_build(tmp_path, spec(name="c"), lambda writer: {**fill(writer), **more(writer)})
    assert one.fingerprint(PARTS) == same.fingerprint(PARTS) != other.fingerprint(PARTS)
    assert one.fingerprint(("train",)) == other.fingerprint(("train",)) != one.fingerprint(("test",))


def more(writer: CacheWriter) -> dict[str, Any]:
    writer.append("test", rows(5, 6))
    return {}


def flip_a_bit(folder: Path) -> None:
    path = folder / "train.bits"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut_short(folder: Path) -> None:
    os.truncate(folder / "test.x", 11)


def lose_a_column(folder: Path) -> None:
    (folder / "train.hash").unlink()


def lose_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def garble_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"format": 1, "parts"')


def empty_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "parts": {}, "meta": {}}))


@pytest.mark.parametrize(
    "damage",
    [flip_a_bit, cut_short, lose_a_column, lose_the_manifest, garble_the_manifest, empty_the_manifest],
)
def test_a_damaged_cache_is_made_again(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    damage(open_or_build(tmp_path, spec(), fill).folder)
    assert_whole(open_or_build(tmp_path, spec(), fill))
    assert_whole(open_or_build(tmp_path, spec(), refuse))
    assert not list(tmp_path.glob("*.tmp-*"))


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail(writer: CacheWriter) -> dict[str, Any]:
        fill(writer)
        raise DataError("file 7 is bad")

    with pytest.raises(DataError, match="file 7 is bad"):
        open_or_build(tmp_path, spec(), fail)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    assert_whole(open_or_build(tmp_path, spec(), fill))


def test_a_rollback_forgets_rows_and_checksums(tmp_path: Path) -> None:
    def with_detour(writer: CacheWriter) -> dict[str, Any]:
        writer.append("train", rows(0, 500))
        mark = writer.mark()
        writer.append("train", rows(7, 99))
        writer.append("empty", rows(7, 99))
        writer.rollback(mark)
        writer.append("train", rows(500, ROWS))
        writer.append("test", rows(0, 10))
        return {"note": "kept"}

    detour = open_or_build(tmp_path, spec(), with_detour)
    assert_whole(detour)
    assert detour.fingerprint(PARTS) == open_or_build(tmp_path, spec(name="b"), fill).fingerprint(PARTS)


def test_columns_of_another_type_or_length_are_a_fault(tmp_path: Path) -> None:
    chunk = rows(0, 4)
    for wrong in ({**chunk, "x": chunk["x"].astype("<f8")}, {**chunk, "hash": chunk["hash"][:2]}):
        with pytest.raises(TypeError, match="expected"):
            open_or_build(tmp_path, spec(), lambda writer, wrong=wrong: writer.append("train", wrong))  # type: ignore[misc]


def test_folders_of_dead_writers_are_removed_and_of_living_ones_kept(tmp_path: Path) -> None:
    host = socket.gethostname()
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    folders = {
        "dead": tmp_path / f"demo-1.tmp-{host}-{int(dead.stdout)}-aa",
        "alive": tmp_path / f"demo-1.tmp-{host}-{os.getpid()}-aa",
        "elsewhere": tmp_path / "demo-1.tmp-other-host-1-aa",
        "forgotten": tmp_path / "demo-2.tmp-other-host-1-aa",
    }
    for folder in folders.values():
        folder.mkdir()
        (folder / "train.x").touch()
    old = time.time() - 2 * cache.STALE_S
    os.utime(folders["forgotten"] / "train.x", (old, old))
    os.utime(folders["forgotten"], (old, old))
    open_or_build(tmp_path, spec(), fill)
    assert {name for name, folder in folders.items() if folder.exists()} == {"alive", "elsewhere"}


BUILDER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_cache import assert_whole, fill, spec
from trainables.data.cache import open_or_build
import filelock

if sys.argv[3] == "no lock":
    def acquire(*args, **kwargs):
        raise OSError(37, "No locks available")
    filelock.FileLock.acquire = acquire

def slowly(writer):
    meta = fill(writer)
    (Path(sys.argv[1]) / f"built-{time.time_ns()}").touch()
    time.sleep(1.0)
    return meta

built = open_or_build(Path(sys.argv[1]), spec(), slowly)
assert_whole(built)
print(built.fingerprint(("train", "test")))
"""


@pytest.mark.parametrize(("lock", "builds"), [("lock", 1), ("no lock", 2)])
def test_two_processes_at_once_get_the_same_cache(tmp_path: Path, lock: str, builds: int) -> None:
    command = [sys.executable, "-c", BUILDER, str(tmp_path), str(Path(__file__).parent), lock]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] != ""
    assert len(list(tmp_path.glob("built-*"))) == builds
    assert not list(tmp_path.glob("*.tmp-*"))
    assert_whole(open_or_build(tmp_path, spec(), refuse))


def test_it_is_right_where_the_file_system_has_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def acquire(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    assert_whole(open_or_build(tmp_path, spec(), fill))


def test_a_disk_too_small_is_found_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_writer.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 9}))
    with pytest.raises(DataError, match=r"disk is full: the cache of 1010 events needs 2\.53e-05 GB, found 9e-09"):
        open_or_build(tmp_path, spec(), fill)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_disk_that_fills_up_meanwhile_is_named(tmp_path: Path) -> None:
    def fills_up(writer: CacheWriter) -> dict[str, Any]:
        fill(writer)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match=r"the disk is full: .* needs .* GB"):
        open_or_build(tmp_path, spec(), fills_up)
    assert not list(tmp_path.glob("*.tmp-*"))


def test_a_cache_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write the cache there"):
        open_or_build(tmp_path / "file", spec(), fill)
