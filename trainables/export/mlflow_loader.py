"""Load a packaged model for MLflow: ``loader_module="trainables.export.mlflow_loader"``, ``data_path`` its package."""

# N events, C columns

from __future__ import annotations

import importlib.metadata
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from trainables.base.batches import on_device
from trainables.base.errors import DataError
from trainables.export.inputs import Inputs, as_array, as_arrays, refusal
from trainables.export.manifest import Array, Column
from trainables.export.package import Package, PackageError, read_package
from trainables.runtime.imports import import_word

log = logging.getLogger(__name__)
CPU = torch.device("cpu")
CHUNK = 4096  # events of one pass
MARGIN = 0.1  # of a column's range: what lies farther outside than this is worth a warning
SAMPLING: dict[str, Any] = {"sample": False, "seed": 0}  # parameters of probabilities, with their defaults
REQUIREMENTS = ("torch", "safetensors", "pydantic", "numpy", "pandas")  # of loading and predicting


class ExtrapolationWarning(UserWarning):
    """Inputs unlike any that the model has seen."""


@dataclass(frozen=True)
class Signature:
    """A model's inputs, output and parameters, to be written in MLflow's own types."""

    inputs: Mapping[str, str]  # column or array -> type
    output: str  # name
    output_type: str
    output_shape: tuple[int, ...]  # -1: events
    parameters: Mapping[str, Any]  # name -> default


class Served:
    """A loaded model; ``predict`` is what MLflow calls."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self.model = _load_model(package)

    def predict(self, data: Inputs, params: Mapping[str, Any] | None = None) -> NDArray[np.float32]:
        """Predict from raw values.

        Parameters
        ----------
        data : DataFrame, array (N, C), mapping of name to values, list of mappings or of lists
            The manifest's columns: by name in any order, others ignored; or without names in their order. Of a model
            that takes arrays: a mapping of their names; of a single one also the array itself.
        params : mapping, optional
            Of a model of probabilities: ``sample`` true draws hits of 0 and 1 from them, the same hits for the same
            ``seed`` and events.

        Returns
        -------
        array of float32
            (N, ...) in the shape and unit of the manifest's output.

        Raises
        ------
        DataError
            A column or parameter is missing or unknown, a value is not finite or impossible.
        """
        try:
            return self._predict(data, params)
        except DataError as error:
            raise refusal(error) from error

    def _predict(self, data: Inputs, params: Mapping[str, Any] | None) -> NDArray[np.float32]:
        wanted, manifest = self._parameters(params), self.package.manifest
        inputs = [on_device(array, CPU) for array in checked(data, manifest.inputs)]
        with torch.no_grad():
            chunks = zip(*(torch.split(tensor, CHUNK) for tensor in inputs), strict=True)
            parts = [np.asarray(self.model(*chunk), dtype=np.float32) for chunk in chunks]
        output = np.concatenate(parts).reshape(len(inputs[0]), *manifest.output.shape)
        _refuse_not_finite(output, manifest.output.undefined)
        if wanted["sample"]:
            random = np.random.Generator(np.random.PCG64(wanted["seed"]))
            output = (random.random(output.shape) < output).astype(np.float32)
        return output

    def _parameters(self, params: Mapping[str, Any] | None) -> dict[str, Any]:
        known = signature_of(self.package).parameters
        if unknown := sorted(set(params or {}) - set(known)):
            raise DataError(f"parameter '{unknown[0]}': expected {', '.join(known) or 'none'}.")
        values = SAMPLING | dict(params or {})
        if values["sample"] not in (True, False) or not isinstance(values["seed"], Integral) or values["seed"] < 0:
            raise DataError(f"expected sample to be true or false and seed to be 0, 1, 2 ..., found {values}.")
        return values


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> Served:
    """Load a package for ``mlflow.pyfunc.load_model``; ``model_config={"digest": ...}`` pins it.

    Raises
    ------
    PackageError
        The package is not as it was written.
    """
    return Served(read_package(Path(path), (model_config or {}).get("digest")))


def signature_of(package: Package) -> Signature:
    """Describe the model's inputs, output and parameters."""
    output = package.manifest.output
    return Signature(
        inputs={one.name: one.type if isinstance(one, Array) else "double" for one in package.manifest.inputs},
        output=output.name,
        output_type="float32",
        output_shape=(-1, *output.shape),
        parameters=SAMPLING if output.sampled else {},
    )


def input_example(package: Package) -> pd.DataFrame | dict[str, NDArray[Any]]:
    """Return a few events that the model was checked on."""
    inputs, events = package.manifest.inputs, package.manifest.example
    if isinstance(inputs[0], Array):
        columns = zip(inputs, zip(*events, strict=True), strict=True)
        return {one.name: np.array(values, dtype=getattr(one, "type", None)) for one, values in columns}
    # names as objects: MLflow compares them with a range, which pandas 3 deprecates for strings of its own
    names = pd.Index([column.name for column in inputs], dtype=object)
    return pd.DataFrame(list(events), columns=names, dtype=np.float64)


def requirements() -> list[str]:
    """List exact versions of what a served model needs besides this program itself, which no package index has."""
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in REQUIREMENTS]


def checked(data: Inputs, inputs: tuple[Column, ...] | tuple[Array, ...]) -> list[NDArray[Any]]:
    """Check raw values; return the columns as one array (N, C), or each array.

    Raises
    ------
    DataError
        A column or array is missing, a value is no number, not finite or impossible.
    """
    arrays = [one for one in inputs if isinstance(one, Array)]
    if arrays:
        return as_arrays(data, arrays)
    columns = [one for one in inputs if isinstance(one, Column)]
    input_NC = as_array(data, [column.name for column in columns])
    for number, column in enumerate(columns):
        _check_column(column, input_NC[:, number])
    return [input_NC]


def _check_column(column: Column, value_N: NDArray[np.float32]) -> None:
    least, unit = column.minimum, f" {column.unit}".rstrip()
    bad_N = ~np.isfinite(value_N) | (False if least is None else value_N < least)
    if bad_N.any():
        event = int(np.argmax(bad_N))
        expected = ("finite numbers" if least is None else f"{least:g} or more") + f", in{unit}" * bool(unit)
        raise DataError(
            f"event {event}: '{column.name}': expected {expected}, found {value_N[event]:g} "
            f"({int(bad_N.sum())} such events). Leave these events out."
        )
    margin = MARGIN * (column.highest - column.lowest)
    outside_N = (value_N < column.lowest - margin) | (value_N > column.highest + margin)
    if outside_N.any():
        event = int(np.argmax(outside_N))
        warnings.warn(
            f"'{column.name}': the model was checked on {column.lowest:g} ... {column.highest:g}{unit}; "
            f"{int(outside_N.sum())} of {len(value_N)} events lie outside, as event {event} with {value_N[event]:g}: "
            "their predictions are guesses",
            ExtrapolationWarning,
            stacklevel=5,
        )


def _refuse_not_finite(output: NDArray[np.float32], undefined: str) -> None:
    bad_N = ~np.isfinite(output).all(axis=tuple(range(1, output.ndim)))
    if bad_N.any():
        why, first = f": {undefined}" if undefined else ".", int(np.argmax(bad_N))
        raise DataError(f"event {first}: no prediction ({int(bad_N.sum())} such events){why} Leave these events out.")


def _load_model(package: Package) -> Callable[..., Any]:
    """Make the model with the function that the manifest names; nothing else is imported, and what is, is logged."""
    loader, workload = package.manifest.loader, package.manifest.model.workload
    log.info("model package %s: importing %s", package.folder, loader)
    try:
        model: Callable[..., Any] = import_word(loader)(package)
        return model
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise PackageError(
            f"{package.folder}: weights or hyperparameters do not fit the model '{workload}' of this program "
            f"({type(error).__name__}: {str(error).splitlines()[0]}). Use the version of hep-search that wrote it."
        ) from error
