"""What users pass to a served model that takes arrays: every form of right values, none changed on its way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from trainables.base.errors import DataError
from trainables.export.inputs import as_array, as_arrays
from trainables.export.manifest import Array

SHAPES = Array(name="x", shape=(2,), type="float32")
TYPE = Array(name="kind", shape=(), type="int64")


@pytest.mark.parametrize(
    "data",
    [
        {"x": [[1, 2], [3, 4]], "kind": [3, 4]},
        {"kind": np.array([3.0, 4.0]), "x": np.array([[1, 2], [3, 4]], "f8"), "other": 5},
        pd.DataFrame({"x": [[1, 2], [3, 4]], "kind": [3, 4]}),
        [{"x": [1, 2], "kind": 3}, {"x": [3, 4], "kind": 4}],
    ],
    ids=["lists", "arrays", "frame", "records"],
)
def test_arrays_are_taken_in_every_form(data: Any) -> None:
    x_N2, kind_N = as_arrays(data, [SHAPES, TYPE])
    assert x_N2.tolist() == [[1, 2], [3, 4]]
    assert x_N2.dtype == np.float32
    assert kind_N.tolist() == [3, 4]
    assert kind_N.dtype == np.int64


@pytest.mark.parametrize("data", [[[1, 2]], np.ones((1, 2)), pd.DataFrame({"p": [1.0], "q": [2.0]}), {"x": [[1, 2]]}])
def test_a_single_array_needs_no_name(data: Any) -> None:
    assert as_arrays(data, [SHAPES])[0].shape == (1, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": [3.7]}, "array 'kind': expected events of shape .* and type int64, found values that are none"),
        ({"kind": [float("nan")]}, "found values that are none"),
        ({"x": [[1 + 1j, 2]]}, "found values that are none"),
        ({"x": [[1, float("inf")]]}, "event 0: 'x': expected finite numbers"),
        ({"x": [[1, 2, 3]]}, "found shape"),
        ({"x": [["a", "b"]]}, "could not convert"),
        ({"kind": [1, 2]}, "equally many events in x, kind, found 1, 2"),
    ],
)
def test_values_that_would_be_changed_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_arrays({"x": [[1, 2]], "kind": [3], **change}, [SHAPES, TYPE])


def test_a_missing_array_is_named() -> None:
    with pytest.raises(DataError, match="no array 'kind': expected x, kind; found x"):
        as_arrays({"x": [[1, 2]]}, [SHAPES, TYPE])


def test_columns_lose_no_imaginary_part() -> None:
    with pytest.raises(DataError, match="expected numbers, found complex128"):
        as_array(np.ones((2, 2), complex), ["a", "b"])
