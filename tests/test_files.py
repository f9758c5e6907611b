"""What a user may pass as --data: every form expands to single files, and every mistake is named."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import fsspec
import pytest

from trainables.base.errors import DataError
from trainables.data.files import UnreadableFile, expand_files, stamp_root_file

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
        ("empty", "no .*root file in this folder"),
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


def test_an_absent_file_names_those_that_are_alike(tree: Path) -> None:
    (tree / "gamma_5GeV.root").touch()
    with pytest.raises(UnreadableFile, match=r"gamma_6GeV.root: .*No such file.*Nearest.*gamma_5GeV\.root"):
        stamp_root_file(str(tree / "gamma_6GeV.root"))
    with pytest.raises(UnreadableFile, match="Is a directory"):
        stamp_root_file(str(tree / "deep"))
