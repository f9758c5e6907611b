"""What a user may pass as --data: every form expands to single files, and every mistake is named."""

from __future__ import annotations

import importlib.util
import os
import struct
from pathlib import Path

import fsspec
import pytest

from trainables.base.errors import DataError
from trainables.data.files import UnreadableFile, expand_files
from trainables.data.stamps import stamp_root_file

SAMPLE = Path(__file__).parents[1] / "trainables" / "zdc" / "sample" / "gamma_holdout_4k.edm4hep.root"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.root", "a.root", "deep/er/c.root", "notes.txt", "odd[1].root"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "all.list").write_text("# my files\na.root  # the first\n\ndeep/*/*.root\nroot://host//x.root\n")
    return tmp_path


def names(found: tuple[str, ...], base: Path) -> list[str]:
    return [str(Path(file).relative_to(base)) for file in found]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a.root"], ["a.root"]),
        (["b.root", "a.root", "./b.root"], ["a.root", "b.root"]),
        (["?.root"], ["a.root", "b.root"]),
        (["**/*.root"], ["a.root", "b.root", "deep/er/c.root", "odd[1].root"]),
        (["."], ["a.root", "b.root", "deep/er/c.root", "odd[1].root"]),
        (["deep*"], ["deep/er/c.root"]),
        (["odd[1].root"], ["odd[1].root"]),
        (["absent.root"], ["absent.root"]),  # found out when it is opened
    ],
)
def test_names_expand_to_sorted_absolute_files_each_once(
    tree: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], expected: list[str]
) -> None:
    monkeypatch.chdir(tree)
    assert names(expand_files(given), tree) == expected


def test_a_list_is_read_relative_to_itself(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    found = expand_files([str(tree / "all.list")])
    assert found == (str(tree / "a.root"), str(tree / "deep/er/c.root"), "root://host//x.root")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("*.rot", r"\*\.rot: no file matches"),
        ("empty", "no .*root.* file in this folder"),
        ("empty.list", "names no file"),
        ("absent.list", "cannot read this list"),
        ("https://host/x.root", "expected a local path or a root:// URL"),
    ],
)
def test_a_name_that_stands_for_nothing_is_refused(
    tree: Path, monkeypatch: pytest.MonkeyPatch, given: str, said: str
) -> None:
    monkeypatch.chdir(tree)
    (tree / "empty").mkdir()
    (tree / "empty.list").write_text("# nothing\n")
    with pytest.raises(DataError, match=said):
        expand_files([given])


def test_xrootd_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"pip install 'hep-search\[xrootd\]'"):
        expand_files(["root://host//x.root"])


def test_a_stamp_tells_content_apart_where_size_and_time_are_equal(tmp_path: Path) -> None:
    path = tmp_path / "x.root"
    content = bytearray(SAMPLE.read_bytes())
    stamps = []
    for place in (None, 200, len(content) // 17 * 5 + 7, len(content) - 9):
        if place is not None:
            content[place] ^= 0xFF
        path.write_bytes(content)
        os.utime(path, ns=(10**18, 10**18))
        stamps.append(str(stamp_root_file(str(path))))
    assert len(set(stamps)) == 4
    assert str(stamp_root_file(str(path))) == stamps[-1]


def test_a_remote_file_is_stamped_as_a_local_one_is() -> None:
    content = SAMPLE.read_bytes()
    fsspec.filesystem("memory").pipe("/stamped/x.root", content)
    remote, local = stamp_root_file("memory://stamped/x.root"), stamp_root_file(str(SAMPLE))
    assert (remote["size"], remote["sample"]) == (local["size"], local["sample"])
    with pytest.raises(UnreadableFile, match=r"memory://stamped/y\.root: cannot be read"):
        stamp_root_file("memory://stamped/y.root")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a ROOT file.*an empty file"),
        (b"PK\x03\x04 a zip archive, say", "not a ROOT file.*PK"),
        (SAMPLE.read_bytes()[:-1], "truncated.*730262 bytes, found 730261"),
        (SAMPLE.read_bytes()[:300], "truncated.*found 300"),
    ],
)
def test_what_is_not_a_whole_root_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "x.root"
    path.write_bytes(content)
    with pytest.raises(UnreadableFile, match=f"x.root: {said}"):
        stamp_root_file(str(path))


def never_closed(content: bytes) -> bytes:
    """The file as a ROOT job leaves it that saved itself and then died: no list of free segments yet."""
    version, end = struct.unpack(">i", content[4:8])[0], struct.unpack(">i", content[12:16])[0]
    assert version < 1_000_000
    return content[:12] + struct.pack(">iii", end, 0, 0) + content[24:]


def as_big_file(content: bytes) -> bytes:
    """The same header with positions of 8 bytes, as in files above 2 GB."""
    version, begin, end, free, *rest = struct.unpack(">iiiiiii", content[4:32])
    header = struct.pack(">iiqqiii", version + 1_000_000, begin, end, free, *rest)
    return content[:4] + header + content[4 + len(header) :]


def with_end(content: bytes, end: int) -> bytes:
    return content[:12] + struct.pack(">i", end) + content[16:]


WHOLE = SAMPLE.read_bytes()
SAVED_AT = len(WHOLE) // 2  # where a header that was written in the midst of a job says that the file ends


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (with_end(WHOLE, SAVED_AT), f"its header names {SAVED_AT} bytes, found {len(WHOLE)}"),
        (WHOLE + b"appended", f"its header names {len(WHOLE)} bytes, found {len(WHOLE) + 8}"),
        (WHOLE + bytes(1000), f"its header names {len(WHOLE)} bytes"),  # of a full disk, or of a cut transfer
        (as_big_file(WHOLE) + bytes(1000), f"its header names {len(WHOLE)} bytes"),
        (never_closed(WHOLE), "no list of free segments"),
        (never_closed(WHOLE) + bytes(2), "no list of free segments"),
    ],
    ids=["saved", "appended", "zeros", "big", "never-closed", "short-tail"],
)
def test_a_file_that_its_job_did_not_close_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "x.root"
    path.write_bytes(content)
    with pytest.raises(UnreadableFile, match=f"x.root: not closed: .*{said}.*its job was cut off.*hadd"):
        stamp_root_file(str(path))


def test_a_closed_file_may_end_with_a_deleted_record(tmp_path: Path) -> None:
    """ROOT writes the negative length of the free space there, which reaches to 2 GB."""
    path = tmp_path / "x.root"
    for content in (WHOLE, as_big_file(WHOLE)):
        path.write_bytes(content + struct.pack(">i", len(WHOLE) - 2_000_000_001) + bytes(300))
        assert stamp_root_file(str(path))["size"] == len(WHOLE) + 304
    for length in (-100, -1_000_000):  # another record follows; any negative number
        path.write_bytes(WHOLE + struct.pack(">i", length) + bytes(300))
        with pytest.raises(UnreadableFile, match="not closed"):
            stamp_root_file(str(path))


def test_an_absent_file_names_those_that_are_alike(tree: Path) -> None:
    (tree / "gamma_5GeV.root").touch()
    with pytest.raises(UnreadableFile, match=r"gamma_6GeV.root: .*No such file.*Nearest.*gamma_5GeV\.root"):
        stamp_root_file(str(tree / "gamma_6GeV.root"))
    with pytest.raises(UnreadableFile, match="Is a directory"):
        stamp_root_file(str(tree / "deep"))
