"""Arrays by name: any order of files gives the same parts, no event is in two of them, and bad arrays are named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.base.errors import DataError
from trainables.data.array_loader import ArrayLoader
from trainables.data.files import DataSettings


def write(folder: Path, name: str, events: int = 300, seed: int = 0) -> Path:
    random = np.random.default_rng(seed)
    file = folder / f"{name}.npz"
    np.savez(file, x=random.normal(size=(events, 3)).astype("f4"), y=random.integers(0, 2, events))
    return file


def load(files: tuple[str, ...]) -> dict[str, Any]:
    opened = [np.load(file) for file in files]
    return {name: np.concatenate([one[name] for one in opened]) for name in ("x", "y")}


LOADER = ArrayLoader(load, "jets")


def rows(arrays: Mapping[str, Any]) -> set[bytes]:
    return {row.tobytes() for row in arrays["x"]}


def test_the_order_of_files_changes_nothing(tmp_path: Path) -> None:
    one, other = write(tmp_path, "one", seed=1), write(tmp_path, "other", seed=2)
    here = LOADER(DataSettings(data=(str(one), str(other))), tmp_path)
    one.rename(tmp_path / "z.npz")  # files are read in the order of their names
    there = LOADER(DataSettings(data=(str(tmp_path / "z.npz"), str(other))), tmp_path)
    assert here.fingerprint == there.fingerprint
    for part in ("train", "validation"):
        for name in ("x", "y"):
            assert np.array_equal(getattr(here, part)[name], getattr(there, part)[name])


def test_rows_of_all_arrays_stay_together(tmp_path: Path) -> None:
    def counted(files: tuple[str, ...]) -> dict[str, Any]:
        x = load(files)["x"]
        return {"x": x, "copy": x[:, 0] * 2}

    data = ArrayLoader(counted, "jets")(DataSettings(data=(str(write(tmp_path, "one")),)), tmp_path)
    assert np.array_equal(data.train["x"][:, 0] * 2, data.train["copy"])


def test_the_parts_are_disjoint_and_complete(tmp_path: Path) -> None:
    settings = DataSettings(data=(str(write(tmp_path, "one", 1000)),))
    data, holdout = LOADER(settings, tmp_path), LOADER.load_holdout(settings, tmp_path)
    parts = [rows(data.train), rows(data.validation), rows(holdout.arrays)]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 1000
    assert [round(len(part) / 1000, 1) for part in parts] == [0.6, 0.2, 0.2] or len(holdout) in range(110, 190)
    assert holdout.fingerprint not in data.fingerprint


def test_a_changed_value_changes_the_fingerprint(tmp_path: Path) -> None:
    one, other = write(tmp_path, "one", seed=1), write(tmp_path, "two", seed=2)
    assert (
        LOADER(DataSettings(data=(str(one),)), tmp_path).fingerprint
        != LOADER(DataSettings(data=(str(other),)), tmp_path).fingerprint
    )


@pytest.mark.parametrize("flag", ["holdout", "validation"])
def test_files_of_their_own_share_no_event_with_the_data(flag: str, tmp_path: Path) -> None:
    data, own = write(tmp_path, "data", seed=1), write(tmp_path, "own", seed=2)
    LOADER(DataSettings(data=(str(data),), **{flag: (str(own),)}), tmp_path)
    with pytest.raises(DataError, match=rf"events of the data are in the {flag}.* too .*--{flag}"):
        LOADER(DataSettings(data=(str(data),), **{flag: (str(data),)}), tmp_path)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([1, 2], "expected arrays by name.*found list"),
        ({}, "expected arrays by name.*found none"),
        ({"x": np.zeros(30), "y": np.zeros(29)}, "one row an event in every array, found lengths x 30, y 29"),
        ({"x": np.zeros(30), "y": 1.0}, "y is one number"),
        ({"x": np.array(["a"] * 30)}, "array 'x' has values of type <U1, expected numbers"),
        ({"x": np.array([None] * 30)}, "array 'x' has values of type object"),
        ({"x": np.zeros(5)}, "at least 20 events in all, found 5"),
    ],
)
def test_arrays_that_cannot_be_right_are_named(found: Any, message: str, tmp_path: Path) -> None:
    settings = DataSettings(data=(str(write(tmp_path, "one")),))
    with pytest.raises(DataError, match=message):
        ArrayLoader(lambda files: found, "jets")(settings, tmp_path)


def test_an_error_of_the_users_own_code_names_its_line(tmp_path: Path) -> None:
    def broken(files: tuple[str, ...]) -> dict[str, Any]:
        return {"x": np.load(files[0])["momentum"]}

    settings = DataSettings(data=(str(write(tmp_path, "one")),))
    with pytest.raises(DataError, match=r"load of workload jets failed at test_array_loader.py:\d+: KeyE.*momentum"):
        ArrayLoader(broken, "jets")(settings, tmp_path)


def test_no_files_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"jets carries no sample of its own\. Name files with --data"):
        LOADER(DataSettings(), tmp_path)


def test_what_is_not_finite_is_said(tmp_path: Path) -> None:
    def holes(files: tuple[str, ...]) -> dict[str, Any]:
        arrays = load(files)
        arrays["x"][:, 0] = np.nan
        return arrays

    data = ArrayLoader(holes, "jets")(DataSettings(data=(str(write(tmp_path, "one")),)), tmp_path)
    assert any(f"{len(data.train['x'])} values of x in the training events are not finite" in s for s in data.summary)
