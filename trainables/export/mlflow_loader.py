"""Load a packaged model for MLflow: ``loader_module="trainables.export.mlflow_loader"``, ``data_path`` its package."""

# N events, C columns

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from trainables.base.batches import on_device
from trainables.base.errors import DataError
from trainables.export.inputs import Inputs, as_array, refusal
from trainables.export.manifest import Column
from trainables.export.package import Package, PackageError, read_package

if TYPE_CHECKING:
    from trainables.pt.selection import Charge

CPU = torch.device("cpu")
CHUNK = 4096  # events of one pass
MARGIN = 0.1  # of a column's range: what lies farther outside than this is worth a warning
SAMPLING: dict[str, Any] = {"sample": False, "seed": 0}  # parameters of a hit map, with their defaults
REQUIREMENTS = ("torch", "safetensors", "pydantic", "numpy", "pandas")  # of loading and predicting


class ExtrapolationWarning(UserWarning):
    """Inputs unlike any that the model has seen."""


@dataclass(frozen=True)
class Signature:
    """A model's inputs, output and parameters, to be written in MLflow's own types."""

    inputs: Mapping[str, str]  # column -> type
    output: str  # name
    output_type: str
    output_shape: tuple[int, ...]  # -1: events
    parameters: Mapping[str, Any]  # name -> default


class Served:
    """A loaded model; ``predict`` is what MLflow calls."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self.module = _module(package)

    def predict(self, data: Inputs, params: Mapping[str, Any] | None = None) -> NDArray[np.float32]:
        """Predict from raw physical values.

        Parameters
        ----------
        data : DataFrame, array (N, C), mapping of column to values, list of mappings or of lists
            The manifest's columns: by name in any order, others ignored; or without names in their order.
        params : mapping, optional
            Of a hit map: ``sample`` true draws hits of 0 and 1 from the probabilities, the same hits for the same
            ``seed`` and events.

        Returns
        -------
        array of float32
            zdc: hit probabilities, or hits, (N, 20, 20). pT in GeV (N,).

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
        wanted = self._parameters(params)
        input_NC = checked(data, self.package.manifest.inputs)
        with torch.no_grad():
            parts = [self.module(part).numpy() for part in torch.split(on_device(input_NC, CPU), CHUNK)]
        output = np.concatenate(parts).reshape(len(input_NC), *self.package.manifest.output.shape)
        _refuse_not_finite(output)
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
        inputs={column.name: "double" for column in package.manifest.inputs},
        output=output.name,
        output_type="float32",
        output_shape=(-1, *output.shape),
        parameters=SAMPLING if package.manifest.model.workload == "zdc" else {},
    )


def input_example(package: Package) -> pd.DataFrame:
    """Return a few events that the model was checked on."""
    # names as objects: MLflow compares them with a range, which pandas 3 deprecates for strings of its own
    columns = pd.Index([column.name for column in package.manifest.inputs], dtype=object)
    return pd.DataFrame(list(package.manifest.example), columns=columns, dtype=np.float64)


def requirements() -> list[str]:
    """List exact versions of what a served model needs besides this program itself, which no package index has."""
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in REQUIREMENTS]


def checked(data: Inputs, columns: tuple[Column, ...]) -> NDArray[np.float32]:
    """Check raw values; return them as (N, C) in the order of the columns.

    Raises
    ------
    DataError
        A column is missing, a value is no number, not finite or impossible.
    """
    input_NC = as_array(data, [column.name for column in columns])
    for number, column in enumerate(columns):
        _check_column(column, input_NC[:, number])
    return input_NC


def _check_column(column: Column, value_N: NDArray[np.float32]) -> None:
    energy = column.name.startswith(("e_", "energy_"))
    bad_N = ~np.isfinite(value_N) | (value_N < 0 if energy else False)
    if bad_N.any():
        event = int(np.argmax(bad_N))
        expected = "0 or more" if energy else "finite numbers"
        raise DataError(
            f"event {event}: '{column.name}': expected {expected}, in {column.unit}, found {value_N[event]:g} "
            f"({int(bad_N.sum())} such events). Leave these events out."
        )
    margin = MARGIN * (column.highest - column.lowest)
    outside_N = (value_N < column.lowest - margin) | (value_N > column.highest + margin)
    if outside_N.any():
        event = int(np.argmax(outside_N))
        warnings.warn(
            f"'{column.name}': the model was checked on {column.lowest:g} ... {column.highest:g} {column.unit}; "
            f"{int(outside_N.sum())} of {len(value_N)} events lie outside, as event {event} with {value_N[event]:g}: "
            "their predictions are guesses",
            ExtrapolationWarning,
            stacklevel=5,
        )


def _refuse_not_finite(output: NDArray[np.float32]) -> None:
    bad_N = ~np.isfinite(output).all(axis=tuple(range(1, output.ndim)))
    if bad_N.any():
        raise DataError(
            f"event {int(np.argmax(bad_N))}: no prediction ({int(bad_N.sum())} such events): are two of its points at "
            "the same place, or all on one line? Leave these events out."
        )


def _module(package: Package) -> nn.Module:
    """Build the network of a package."""
    workload = package.manifest.model.workload
    try:
        if workload == "zdc":
            from trainables.zdc.inference import build_mask

            return build_mask(package.model)
        from trainables.pt.inference import build_model

        return build_model(package.model, package.branches, cast("Charge", package.manifest.data["charge"]))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise PackageError(
            f"{package.folder}: weights or hyperparameters do not fit the model '{workload}' of this program "
            f"({type(error).__name__}: {str(error).splitlines()[0]}). Use the version of hep-search that wrote it."
        ) from error
