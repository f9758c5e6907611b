"""A table gives the same arrays in every format; what cannot be right is named with file, column, expected, found."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tables
import uproot
from tables import FORMATS, WRITERS, table, write

from trainables.base.errors import DataError
from trainables.data import root_tables, table_file
from trainables.data.files import UnreadableFile
from trainables.data.stamps import stamp_file
from trainables.data.tables import open_table, read_table


def assert_equal(found: tables.Table, expected: tables.Table) -> None:
    assert sorted(found) == sorted(expected)  # a file of HDF5 sorts its datasets
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        np.testing.assert_array_equal(found[name], values)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_file, "CHUNK_BYTES", 600)
    monkeypatch.setattr(root_tables, "CHUNK_BYTES", 600)


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_arrays(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, table())
    assert_equal(read_table(path), table())
    chosen = read_table(path, ["photon", "shape"])
    assert list(chosen) == ["photon", "shape"]
    assert_equal(chosen, {name: table()[name] for name in chosen})


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_is_read_in_chunks(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, table())
    with open_table(str(path)) as opened:
        chunks = list(opened.chunks(["shape", "energy"]))
        assert opened.rows(["shape"]) == 200
    assert len(chunks) > 3
    assert_equal(read_table(path), table())


def test_files_of_a_folder_follow_one_another_by_name(tmp_path: Path) -> None:
    first, second = table(30, seed=1), table(40, seed=2)
    write(tmp_path / "part", "parquet", second, "b")
    write(tmp_path / "part", "parquet", first, "a")
    write(tmp_path / "part" / "_temporary", "parquet", first, "unfinished")  # of a job of Spark
    (tmp_path / "part" / "_SUCCESS").touch()
    found = read_table(tmp_path / "part")
    assert_equal(found, {name: np.concatenate([first[name], second[name]]) for name in first})


def test_what_pandas_and_arrow_write_is_read(tmp_path: Path) -> None:
    """Folders of parts by key, missing real numbers, tensors."""
    frame = pd.DataFrame({"x": [1.0, np.nan, 3.0], "run": [7, 8, 7], "gain": [0.5, 1.5, 0.5]})
    frame.to_parquet(tmp_path / "runs", partition_cols=["run", "gain"])
    found = read_table(tmp_path / "runs", ["x", "run", "gain"])
    assert found["run"].tolist() == [7, 7, 8]
    assert found["gain"].tolist() == [0.5, 0.5, 1.5]
    np.testing.assert_array_equal(found["x"], [1.0, 3.0, np.nan])
    assert list(read_table(tmp_path / "runs")) == ["x"]
    image = np.arange(12.0).reshape(3, 2, 2)
    pq.write_table(pa.table({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(image)}), tmp_path / "image.parquet")
    np.testing.assert_array_equal(read_table(tmp_path / "image.parquet")["image"], image)


def test_the_tree_or_group_can_be_named(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "x.root") as file:
        file.mktree("one", {"a": "f8"}).extend({"a": np.ones(3)})
        file.mktree("two", {"a": "f8"}).extend({"a": np.zeros(4)})
    assert read_table(tmp_path / "x.root", tree="two")["a"].tolist() == [0, 0, 0, 0]
    with pytest.raises(DataError, match=r"x\.root: holds several trees: one, two\. Name one"):
        read_table(tmp_path / "x.root")
    with pytest.raises(DataError, match=r"no such tree: expected 'three'; trees there: 'one', 'two'"):
        read_table(tmp_path / "x.root", tree="three")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["one/a"], file["two/a"] = np.ones(3), np.zeros(4)
    assert read_table(tmp_path / "x.h5", tree="two")["a"].tolist() == [0, 0, 0, 0]
    assert read_table(tmp_path / "x.h5", ["one/a"])["one/a"].tolist() == [1, 1, 1]
    with pytest.raises(
        DataError, match=r"x\.h5: expected one row an event in every column; found 3 rows in 'one/a', 4"
    ):
        read_table(tmp_path / "x.h5")
    with pytest.raises(DataError, match=r"x\.h5: no group or dataset 'three'; there are: one, two"):
        read_table(tmp_path / "x.h5", tree="three")


# ---------------------------------------------------------------- bad files


@pytest.mark.parametrize("kind", WRITERS)
def test_a_truncated_file_is_named_without_reading_it(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, table())
    content = path.read_bytes()
    for length in (len(content) - 1, len(content) // 2, 600):
        path.write_bytes(content[:length])
        with pytest.raises(UnreadableFile, match=rf"{path.name}: (truncated|not closed)"):
            stamp_file(str(path))
        with pytest.raises(UnreadableFile, match=rf"{path.name}: (truncated|not closed)"):
            read_table(path)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("content", "found"), [(b"", "an empty file"), (b"energy,layer\n1,2\n", "17 bytes.*b'energy,l'")]
)
def test_a_file_of_another_format_is_named(tmp_path: Path, kind: str, content: bytes, found: str) -> None:
    path = write(tmp_path, kind, table())
    path.write_bytes(content)
    with pytest.raises(
        UnreadableFile, match=rf"{path.name}: not an? .* file: expected it to begin with .*, found {found}"
    ):
        stamp_file(str(path))
    path.write_bytes(write(tmp_path, "npz" if kind != "npz" else "hdf5", table(), "other").read_bytes())
    with pytest.raises(UnreadableFile, match=rf"{path.name}: not an? .* found \d+ bytes .*, an? (zip|HDF5) file"):
        stamp_file(str(path))


def test_an_hdf5_file_that_is_open_for_writing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["a"] = np.zeros(5)
        file.flush()
        open_for_writing = path.read_bytes()
    stamp_file(str(path))
    path.write_bytes(open_for_writing)
    with pytest.raises(UnreadableFile, match=r"x\.h5: (not closed: it is still being written|truncated)"):
        stamp_file(str(path))


@pytest.mark.parametrize("kind", ["parquet", "hdf5", "npz", "tree"])
def test_damaged_content_is_named(tmp_path: Path, kind: str) -> None:
    columns = {"energy": np.random.default_rng(1).normal(size=20_000)}
    path = write(tmp_path, kind, columns)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = b"\xff" * 3000
    path.write_bytes(content)
    stamp_file(str(path))
    with pytest.raises(UnreadableFile, match=rf"{path.name}: cannot be read .*Copy it again"):
        read_table(path)


def test_a_suffix_that_says_nothing_is_refused_and_any_file_is_stamped(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("energy\n1\n")
    assert stamp_file(str(path))["size"] == 9
    with pytest.raises(DataError, match=r"x\.csv: expected a file that ends with \.root, .* or \.npz; found '\.csv'"):
        read_table(path)
    with pytest.raises(DataError, match=r"no \*\.root, \*\.parquet, \*\.h5, \*\.hdf5, \*\.npz file in this folder"):
        read_table(tmp_path)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_missing_column_is_named_with_those_that_are_alike(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, table())
    with pytest.raises(DataError, match=rf"{path.name}: no (column|array|branch) 'enregy'; nearest of 4: 'energy'"):
        read_table(path, ["enregy"])


TEXT = np.array(["a", "bc"] * 10, dtype=object)


@pytest.mark.parametrize(
    ("name", "writer", "said"),
    [
        ("x.parquet", lambda path: pq.write_table(pa.table({"a": TEXT}), path), "column 'a': .*found type string"),
        (
            "x.parquet",
            lambda path: pq.write_table(pa.table({"a": [1, 2, None]}), path),
            "row 2: .*'a': .*1 missing value",
        ),
        (
            "x.parquet",
            lambda path: pq.write_table(pa.table({"a": [[1], [1, 2]]}), path),
            "row 1: .*lists of 1 and of 2",
        ),
        (
            "x.parquet",
            lambda path: pq.write_table(pa.table({"a": [{"b": 1}]}), path),
            r"column 'a': .*found type struct<b: int64>",
        ),
        (
            "x.h5",
            lambda path: h5py.File(path, "w").create_dataset("a", data=TEXT).file.close(),
            "column 'a': .*found objects",
        ),
        ("x.npz", lambda path: np.savez(path, a=TEXT), "array 'a': .*found objects"),
        ("x.npz", lambda path: np.savez(path, a=TEXT.astype(str)), "array 'a': .*found text"),
        ("x.npz", lambda path: np.savez(path, a=np.ones(3, complex)), "array 'a': .*found type complex128"),
        ("x.npz", lambda path: np.savez(path, a=3.0), "array 'a': .*found a single value"),
        ("x.root", lambda path: write_branch(path, {"a": TEXT.tolist()}), "branch 'a': .*found text"),
        ("x.root", lambda path: write_branch(path, {"a": [[1.0], [1.0, 2.0]]}), "row 1: .*'a': .*lists of 1 and of 2"),
    ],
)
def test_what_is_not_numbers_of_one_shape_is_named(tmp_path: Path, name: str, writer: Any, said: str) -> None:
    writer(tmp_path / name)
    with pytest.raises(DataError, match=rf"{name}: {said}") as raised:
        read_table(tmp_path / name)
    assert "expected numbers, of one shape in all rows" in str(raised.value)
    assert not isinstance(raised.value, UnreadableFile)


def write_branch(path: Path, columns: dict[str, Any]) -> None:
    with uproot.recreate(path) as file:
        file.mkrntuple("events", {name: ak.Array(values) for name, values in columns.items()})


@pytest.mark.parametrize("kind", FORMATS)
def test_a_type_that_differs_from_the_files_before_is_named(tmp_path: Path, kind: str) -> None:
    write(tmp_path, kind, table(), "a")
    other = write(tmp_path, kind, {**table(), "energy": table()["layer"]}, "b")
    with pytest.raises(
        DataError, match=rf"{other.name}: .*'energy': expected float64 as in the files before it, found int32"
    ):
        read_table(tmp_path)
    write(tmp_path, kind, {**table(), "shape": table()["shape"][:, :2]}, "b")
    with pytest.raises(DataError, match=r"'shape': expected float32 of shape \(3,\) .*, found float32 of shape \(2,\)"):
        read_table(tmp_path)


def test_a_missing_h5py_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "hdf5", table())
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        DataError, match=r"x\.h5: reading HDF5 files needs h5py\. Run: pip install 'hep-search\[hdf5\]'"
    ):
        read_table(path)
