"""What a user may pass to a served model, as an array in the order of its columns; refuse what is no such input."""

# N events, C columns

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainables.base.errors import DataError

if TYPE_CHECKING:
    from trainables.export.manifest import Array

Inputs = pd.DataFrame | NDArray[Any] | Mapping[str, Any] | Sequence[Any]


def as_array(data: Inputs, names: Sequence[str]) -> NDArray[np.float32]:
    """Return raw values as (N, C) in the order of the columns.

    Parameters
    ----------
    data : DataFrame, array (N, C), mapping of column to values, list of mappings or of lists
        Named columns in any order, others ignored; without names, exactly C columns in their order.
    names : sequence of str
        Of the C columns.

    Raises
    ------
    DataError
        A column is missing, another number of columns, a value is no number.
    """
    if isinstance(data, Mapping) or (isinstance(data, list) and data and isinstance(data[0], Mapping)):
        data = _frame(data)
    if isinstance(data, pd.DataFrame) and not _unnamed(data):
        if missing := [name for name in names if name not in data.columns]:
            there = ", ".join(str(name) for name in data.columns)
            raise DataError(
                f"no column '{missing[0]}' ({len(missing)} missing): expected {', '.join(names)}; found {there}."
            )
        data = data[list(names)]
    expected = f"expected an array of events x {len(names)} columns ({', '.join(names)})"
    try:
        values = np.asarray(data)
    except ValueError as error:
        raise DataError(f"{expected}, found rows of unequal lengths.") from error
    if values.ndim != 2 or values.shape[1] != len(names):
        raise DataError(f"{expected}, found {values.shape}.")
    if np.iscomplexobj(values):
        raise DataError(f"expected numbers, found {values.dtype}.")
    try:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused as such
            return np.ascontiguousarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"expected numbers, found {values.dtype} ({error}).") from error


def as_arrays(data: Inputs, arrays: Sequence[Array]) -> list[NDArray[Any]]:
    """Return the arrays of a model that takes arrays, in their order, each (N, *shape) in its own type.

    Parameters
    ----------
    data : mapping of name to values, DataFrame of columns by name, list of mappings, or the values of a single array
    arrays : sequence of Array

    Raises
    ------
    DataError
        One is missing, of another shape or length, or holds no numbers or none that are finite.
    """
    names = ", ".join(array.name for array in arrays)
    if isinstance(data, list) and data and all(isinstance(event, Mapping) for event in data):
        data = pd.DataFrame(data)
    if isinstance(data, pd.DataFrame) and any(array.name in data.columns for array in arrays):
        data = {str(name): data[name].tolist() for name in data.columns}
    if isinstance(data, Mapping):
        if missing := [array.name for array in arrays if array.name not in data]:
            raise DataError(f"no array '{missing[0]}': expected {names}; found {', '.join(map(str, data)) or 'none'}.")
        values = [data[array.name] for array in arrays]
    elif len(arrays) == 1:
        values = [data]
    else:
        raise DataError(f"expected a mapping with the arrays {names}, found {type(data).__name__}.")
    found = [_one_array(value, array) for value, array in zip(values, arrays, strict=True)]
    if len({len(array) for array in found}) > 1:
        raise DataError(f"expected equally many events in {names}, found {', '.join(str(len(one)) for one in found)}.")
    return found


def _one_array(value: Any, array: Array) -> NDArray[Any]:
    expected = f"array '{array.name}': expected events of shape {array.shape} and type {array.type}"
    try:
        given, wanted = np.asarray(value), np.dtype(array.type)
        with np.errstate(invalid="ignore"):  # what is no such number is refused below
            made = np.ascontiguousarray(given.real if np.iscomplexobj(given) else given, dtype=wanted)
    except (TypeError, ValueError) as error:
        raise DataError(f"{expected} ({error}).") from error
    if np.iscomplexobj(given) or (wanted.kind in "iub" and not np.array_equal(made, given)):
        raise DataError(f"{expected}, found values that are none.")
    if made.shape[1:] != array.shape:
        raise DataError(f"{expected}, found shape {made.shape[1:]}.")
    if np.issubdtype(made.dtype, np.inexact) and not np.isfinite(made).all():
        event = int(np.argmax(~np.isfinite(made.reshape(len(made), -1)).all(axis=1)))
        raise DataError(f"event {event}: '{array.name}': expected finite numbers. Leave such events out.")
    return made


def _frame(data: Any) -> pd.DataFrame:
    """Make a DataFrame of columns, of records, or of one record."""
    if isinstance(data, Mapping) and all(np.ndim(values) == 0 for values in data.values()):
        data = [data]
    try:
        return pd.DataFrame(data)
    except ValueError as error:
        raise DataError(f"expected columns of equally many values ({error}).") from error


def _unnamed(data: pd.DataFrame) -> bool:
    """Return whether the columns have no names but their numbers, as those of an array."""
    return data.columns.equals(pd.RangeIndex(data.shape[1]))


def refusal(error: DataError) -> DataError:
    """Return the error in the form whose words MLflow's server passes on, where MLflow is loaded.

    The server replaces the words of any error that is not its own, and puts all data before those of its own.
    """
    mlflow = sys.modules.get("mlflow.exceptions")  # never imported here: a model is used without it, too
    if mlflow is None:
        return error

    class RefusedInputError(DataError, mlflow.MlflowException):  # type: ignore[name-defined,misc]
        """An error whose message is what it was made with."""

        message = property(lambda self: str(error), lambda self, value: None)

    made = RefusedInputError(str(error))
    mlflow.MlflowException.__init__(made, str(error), error_code=1000)  # INVALID_PARAMETER_VALUE: HTTP 400
    return made
