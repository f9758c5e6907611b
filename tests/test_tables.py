"""A table gives the same arrays in every format; what cannot be right is named with file, column, expected, found."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import awkward as ak
import fsspec
import h5py
import numpy as np
import optuna
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tables
import torch
import uproot
from tables import FORMATS, WRITERS, table, write

from search.workload import Workload, not_given
from trainables.base.errors import DataError
from trainables.base.training import Training, TrainingConfig
from trainables.data import root_trees, table_file
from trainables.data.array_loader import ArrayData
from trainables.data.files import DataSettings, UnreadableFile
from trainables.data.stamps import stamp_file
from trainables.data.table_loader import TableLoader
from trainables.data.tables import open_table, read_table


def assert_equal(found: tables.Table, expected: tables.Table) -> None:
    assert sorted(found) == sorted(expected)  # a file of HDF5 sorts its datasets
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        np.testing.assert_array_equal(found[name], values)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_file, "CHUNK_BYTES", 600)
    monkeypatch.setattr(root_trees, "CHUNK_BYTES", 600)


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


@pytest.mark.parametrize("kind", ["parquet", "hdf5", "newest-hdf5", "npz"])
def test_a_remote_file_is_read_as_a_local_one_is(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, table())
    remote = f"memory://tables/{path.name}?token=x.y"
    fsspec.filesystem("memory").pipe(f"/tables/{path.name}?token=x.y", path.read_bytes())
    assert stamp_file(remote)["sample"] == stamp_file(str(path))["sample"]
    with open_table(remote) as opened:
        (rows,) = opened.chunks(opened.choose(None))
    assert_equal(rows, table())


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


# ---------------------------------------------------------------- through the cache


class FitConfig(TrainingConfig):
    """Hyperparameters of a straight line."""

    lr: float = 0.1


class FitTraining(Training):
    """Fits a straight line to the energy by gradient descent."""

    def __init__(self, config: FitConfig, data: ArrayData, device: torch.device) -> None:
        self.config: FitConfig = config
        self.data, self.epoch, self.slope = data, 0, np.zeros(3)

    def train_epoch(self) -> dict[str, float]:
        self.epoch += 1
        shape_N3, energy_N = self.data.train["shape"], self.data.train["energy"]
        self.slope -= self.config.lr * shape_N3.T @ (shape_N3 @ self.slope - energy_N) / len(energy_N)
        return {}

    def validate(self) -> dict[str, float]:
        return {
            "loss": float(((self.data.validation["shape"] @ self.slope - self.data.validation["energy"]) ** 2).mean())
        }

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "slope": self.slope.copy()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.epoch, self.slope = state["epoch"], state["slope"].copy()

    def weights(self) -> dict[str, torch.Tensor]:
        return {"slope": torch.tensor(self.slope)}

    def write_report(self, folder: Path) -> None:
        pass


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    return {"lr": trial.suggest_float("lr", 0.01, 0.5)}


LOADER = TableLoader(columns=("shape", "energy", "layer", "photon"))
LINE = Workload(
    name="line", training=FitTraining, config=FitConfig, suggest=suggest, objectives={"loss": "min"},
    load_data=LOADER, files=LOADER.files,
)  # fmt: skip


def loaded(cache: Path, *files: Path, loader: TableLoader = LOADER, **flags: Any) -> ArrayData:
    return loader(DataSettings(**{"data": tuple(str(file) for file in files), **flags}), cache)


def rows_of(*parts: Any) -> set[tuple[bytes, ...]]:
    return {
        row for part in parts for row in zip(*([v.tobytes() for v in values] for values in part.values()), strict=True)
    }


@pytest.mark.parametrize("kind", WRITERS)
def test_parts_are_the_same_in_every_format_and_hold_every_event_once(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, table())
    data = loaded(tmp_path / "cache", path)
    holdout = LOADER.load_holdout(DataSettings(data=(str(path),)), tmp_path / "cache")
    parts = (data.train, data.validation, holdout.arrays)
    assert rows_of(*parts) == rows_of(table())
    assert sum(len(part["energy"]) for part in parts) == 200
    reference = loaded(tmp_path / "cache", write(tmp_path / "reference", "parquet", table()))
    assert data.fingerprint == reference.fingerprint
    assert data.summary[0].startswith("200 events in 1 file: ")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_can_be_left_out_and_a_wrong_one_never(tmp_path: Path, kind: str) -> None:
    whole = write(tmp_path, kind, table(), "a")
    alone = loaded(tmp_path / "cache", whole)
    cut = write(tmp_path, kind, table(seed=2), "b")
    cut.write_bytes(cut.read_bytes()[:-50])
    with pytest.raises(DataError, match=rf"{cut.name}: (truncated|not closed).*\n1 of 2 files .*--skip-bad-files"):
        loaded(tmp_path / "cache", tmp_path)
    rest = loaded(tmp_path / "cache", tmp_path, skip_bad_files=True)
    assert rest.fingerprint == alone.fingerprint
    assert any(line.startswith(f"skipped: {cut}: ") for line in rest.summary)
    for name, wrong in (("layer", table()["energy"]), ("enregy", table()["energy"])):
        columns = {**table(), name: wrong}
        write(tmp_path, kind, columns if name == "layer" else {k: v for k, v in columns.items() if k != "energy"}, "b")
        with pytest.raises(DataError, match=rf"{cut.name}: .*'{'layer' if name == 'layer' else 'energy'}'"):
            loaded(tmp_path / "cache", tmp_path, skip_bad_files=True)


def test_a_damaged_file_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    whole = write(tmp_path, "npz", table(), "a")
    alone = loaded(tmp_path / "cache", whole)
    damaged = tmp_path / "b.npz"
    np.savez(damaged, **table(5000, seed=2))
    content = bytearray(damaged.read_bytes())
    content[len(content) * 3 // 4] ^= 0xFF
    damaged.write_bytes(content)
    with pytest.raises(
        DataError, match=r"b\.npz: cannot be read in its array .*Bad CRC.*--skip-bad-files leaves it out"
    ):
        loaded(tmp_path / "cache", tmp_path)
    assert loaded(tmp_path / "cache", tmp_path, skip_bad_files=True).fingerprint == alone.fingerprint


def test_an_event_is_known_by_its_identity(tmp_path: Path) -> None:
    """Equal energies lie in one part, whatever the other columns are."""
    columns = table()
    columns["energy"] = np.repeat(columns["energy"][:100], 2)
    loader = TableLoader(columns=("shape", "energy"), identity=("energy",))
    data = loaded(tmp_path / "cache", write(tmp_path, "parquet", columns), loader=loader)
    energies = set(data.train["energy"]), set(data.validation["energy"])
    assert not energies[0] & energies[1]
    assert all(np.unique(part["energy"], return_counts=True)[1].tolist() == [2] * len(set(part["energy"]))
               for part in (data.train, data.validation))  # fmt: skip
    with pytest.raises(ValueError, match=r"identity names \['enregy'\]"):
        TableLoader(columns=("energy",), identity=("enregy",))


def test_holdout_and_validation_files_hold_other_events_of_the_same_types(tmp_path: Path) -> None:
    data, other = write(tmp_path, "parquet", table()), write(tmp_path, "npz", table(50, seed=2), "other")
    found = loaded(tmp_path / "cache", data, validation=(str(other),))
    assert rows_of(found.validation) == rows_of(table(50, seed=2))
    with pytest.raises(DataError, match=r"\d+ events of the data are in the holdout too"):
        loaded(tmp_path / "cache", data, holdout=(str(data),))
    wrong = write(tmp_path, "hdf5", {**table(50, seed=3), "layer": table(50)["energy"]}, "wrong")
    with pytest.raises(DataError, match=r"wrong\.h5: column 'layer': expected int32 as in the files before it"):
        loaded(tmp_path / "cache", data, holdout=(str(wrong),))


def test_what_is_odd_is_said(tmp_path: Path) -> None:
    columns = table()
    columns["energy"][:3] = np.nan
    assert "3 values are not finite numbers" in loaded(tmp_path / "cache", write(tmp_path, "hdf5", columns)).summary
    with pytest.raises(DataError, match=r"carries no sample of its own. Name files with --data"):
        loaded(tmp_path / "cache")
    with pytest.raises(DataError, match=r"too few events: expected at least 20 .* found 10 rows"):
        loaded(tmp_path / "cache", write(tmp_path / "few", "npz", table(10)))


def test_a_training_on_a_table_learns_and_sees_no_holdout(tmp_path: Path) -> None:
    columns = table(500)
    columns["energy"] = columns["shape"] @ np.array([1.0, -2.0, 0.5])
    data = loaded(tmp_path / "cache", write(tmp_path, "parquet", columns))
    training = LINE.training(FitConfig(epochs=50), data, torch.device("cpu"))
    before = training.validate()["loss"]
    for _ in range(50):
        training.train_epoch()
    assert training.validate()["loss"] < before / 1000
    assert len(data.train["energy"]) + len(data.validation["energy"]) < 500


# ---------------------------------------------------------------- the load of a workload, into memory

IN_MEMORY = replace(LINE, load_data=not_given, load=partial(read_table, columns=LOADER.columns), files=None)


@pytest.mark.parametrize("kind", WRITERS)
def test_read_table_as_the_load_of_a_workload_gives_the_parts_of_the_cache(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, table())
    data = IN_MEMORY.load_data(DataSettings(data=(str(path),)), tmp_path)
    streamed = loaded(tmp_path / "cache", path)
    assert rows_of(data.train) == rows_of(streamed.train)
    assert rows_of(data.validation) == rows_of(streamed.validation)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_load_of_a_workload_gets_whole_files_alone(tmp_path: Path, kind: str) -> None:
    alone = IN_MEMORY.load_data(DataSettings(data=(str(write(tmp_path, kind, table(), "a")),)), tmp_path)
    cut = write(tmp_path, kind, table(seed=2), "b")
    cut.write_bytes(cut.read_bytes()[:-50])
    with pytest.raises(DataError, match=rf"{cut.name}: (truncated|not closed).*\n1 of 2 files .*--skip-bad-files"):
        IN_MEMORY.load_data(DataSettings(data=(str(tmp_path),)), tmp_path)
    rest = IN_MEMORY.load_data(DataSettings(data=(str(tmp_path),), skip_bad_files=True), tmp_path)
    assert rest.fingerprint == alone.fingerprint
    assert any(line.startswith(f"skipped: {cut}: ") for line in rest.summary)
