"""Tables of learning curves: the format on disk, and the nearest tabulated point of a proposal."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# P point, D hyperparameter, S seed, E epoch
Floats = NDArray[np.float64]


class TableError(Exception):
    """A table cannot be used, and why."""


@dataclass(frozen=True)
class Parameter:
    """Range of one hyperparameter, and when it exists."""

    name: str
    kind: str  # float, int or choice
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    choices: tuple[Any, ...] = ()  # of a choice; a table holds the index
    when: tuple[str, tuple[Any, ...]] | None = None  # (a choice named before, its values for which this one exists)

    def suggest(self, trial: Any, point: Mapping[str, Any]) -> Any:
        """Ask an Optuna trial for a value; None where the hyperparameter does not exist."""
        if self.when and point.get(self.when[0]) not in self.when[1]:
            return None
        if self.kind == "choice":
            return trial.suggest_categorical(self.name, list(self.choices))
        if self.kind == "int":
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def number(self, value: Any) -> float:
        """Return a value as a table holds it."""
        return float(self.choices.index(value)) if self.kind == "choice" else float(value)

    def value(self, number: float) -> Any:
        """Return the value that a table's number stands for."""
        if self.kind == "choice":
            return self.choices[int(number)]
        return round(number) if self.kind == "int" else float(number)

    def scaled(self, number_P: Floats) -> Floats:
        """Map numbers of a range to [0, 1]; a choice keeps its index."""
        if self.kind == "choice":
            return number_P
        low, high, numbers_P = self.low, self.high, number_P
        if self.log:
            low, high, numbers_P = np.log(low), np.log(high), np.log(number_P)
        return (numbers_P - low) / (high - low)


@dataclass(frozen=True)
class Table:
    """Learning curves of one problem: points x seeds x epochs of a loss, of which the least is the best.

    ``loss`` is what a search sees, ``true`` (P, S) what it is judged by: the last epoch, on other events where the
    table has them. NaN from some epoch on: the training diverged there.
    """

    name: str
    family: str  # tables of one origin
    parameters: tuple[Parameter, ...]
    point_PD: Floats  # NaN: the hyperparameter does not exist in this point
    loss_PSE: Floats
    true_PS: Floats
    seconds_PS: Floats  # of one epoch
    progress_PE: Floats  # in percent: what rungs stand on
    presets: Mapping[str, int] = field(default_factory=dict)  # name -> row

    def __post_init__(self) -> None:
        points, epochs = len(self.point_PD), self.loss_PSE.shape[2]
        shapes = {"points": self.point_PD.shape, "seconds": self.seconds_PS.shape, "true": self.true_PS.shape}
        expected = {"points": (points, len(self.parameters))} | dict.fromkeys(
            ("seconds", "true"), self.loss_PSE.shape[:2]
        )
        if shapes != expected or self.progress_PE.shape != (points, epochs) or len(self.loss_PSE) != points:
            raise TableError(f"{self.name}: arrays do not fit together: {shapes}, loss {self.loss_PSE.shape}")
        if not np.isfinite(self.true_PS).all(axis=1).any():
            raise TableError(f"{self.name}: no point has a finite last value for all of its seeds")

    @property
    def epochs(self) -> int:
        return int(self.loss_PSE.shape[2])

    @property
    def seeds(self) -> int:
        return int(self.loss_PSE.shape[1])

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Suggest one point: the space of this table, as a search asks for it."""
        point: dict[str, Any] = {}
        for parameter in self.parameters:
            value = parameter.suggest(trial, point)
            if value is not None:
                point[parameter.name] = value
        return point

    def point(self, row: int) -> dict[str, Any]:
        """Return the hyperparameters of a row."""
        numbers = zip(self.parameters, self.point_PD[row], strict=True)
        return {parameter.name: parameter.value(number) for parameter, number in numbers if np.isfinite(number)}

    def nearest(self, point: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return rows, the nearest first: Euclidean in scaled ranges, 1 for another choice or a missing value.

        Presets may differ from the space in what is fixed, so a proposal never ends at one of them.
        """
        distance_P = np.zeros(len(self.point_PD))
        for parameter, scaled_P in zip(self.parameters, self._scaled_numbers.T, strict=True):
            value = point.get(parameter.name)
            if value is None:
                distance_P += np.isfinite(scaled_P)
            elif parameter.kind == "choice":
                distance_P += scaled_P != parameter.number(value)
            else:
                own = parameter.scaled(np.array([parameter.number(value)]))[0]
                distance_P += np.nan_to_num((scaled_P - own) ** 2, nan=1.0)
        distance_P[list(self.presets.values())] = np.inf
        return np.argsort(distance_P, kind="stable")[: len(distance_P) - len(self.presets)]

    @cached_property
    def _scaled_numbers(self) -> Floats:
        columns = [one.scaled(column_P) for one, column_P in zip(self.parameters, self.point_PD.T, strict=True)]
        return np.stack(columns, axis=1)


class CubeTrial:
    """An Optuna trial whose answers are the coordinates of one point of the unit cube."""

    def __init__(self, names: Sequence[str], coordinates: Floats) -> None:
        self._at = dict(zip(names, coordinates, strict=True))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        if log:
            return float(math.exp(math.log(low) + self._at[name] * math.log(high / low)))
        return float(low + self._at[name] * (high - low))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        if log:
            return min(int(math.exp(math.log(low) + self._at[name] * math.log((high + 1) / low))), high)
        return min(int(low + self._at[name] * (high - low + 1)), high)

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        return choices[min(int(self._at[name] * len(choices)), len(choices) - 1)]


def write(file: Path, about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a table; ``about`` holds family, parameters and presets, ``arrays`` are named as README.md says."""
    np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)


def read(file: Path) -> list[Table]:
    """Read the tables of a file, one for each of its losses."""
    if not file.is_file():
        raise TableError(
            f"{file}: there is no such file or folder; expected tables (.npz), see benchmarks/methods/README.md"
        )
    with np.load(file) as content:
        arrays = {name: content[name] for name in content.files}
    missing = {"about", "points", "seconds"} - arrays.keys()
    losses = [name.partition("/")[2] for name in arrays if name.startswith("loss/")]
    if missing or not losses:
        lacks = ", ".join(sorted(missing)) or "loss/NAME"
        raise TableError(f"{file}: expected arrays about, points, seconds and loss/NAME; found no {lacks}")
    about = json.loads(str(arrays["about"]))
    parameters = tuple(_parameter(one) for one in about["parameters"])
    return [_table(file, about, parameters, name, arrays) for name in losses]


def _table(
    file: Path, about: dict[str, Any], parameters: tuple[Parameter, ...], loss: str, arrays: dict[str, NDArray[Any]]
) -> Table:
    loss_PSE = arrays[f"loss/{loss}"].astype(np.float64)
    points, _, epochs = loss_PSE.shape
    evenly = np.tile(100.0 * np.arange(1, epochs + 1) / epochs, (points, 1))
    return Table(
        name=f"{file.stem}:{loss}",
        family=about["family"],
        parameters=parameters,
        point_PD=arrays["points"].astype(np.float64),
        loss_PSE=loss_PSE,
        true_PS=arrays.get(f"true/{loss}", loss_PSE[:, :, -1]).astype(np.float64),
        seconds_PS=arrays["seconds"].astype(np.float64),
        progress_PE=arrays.get("progress", evenly).astype(np.float64),
        presets=about.get("presets", {}),
    )


def _parameter(written: dict[str, Any]) -> Parameter:
    when = written.get("when")
    fields = {name: value for name, value in written.items() if name not in ("when", "choices")}
    return Parameter(
        **fields,
        choices=tuple(written.get("choices", ())),
        when=(when[0], tuple(when[1])) if when else None,
    )
