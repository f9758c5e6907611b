"""The content of a package's ``model.json``: checksums of files, the model's inputs and outputs, the checks made."""

# N events, C columns

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

FORMAT = 2
WEIGHTS = "weights.safetensors"
UNITS = {"gev": "GeV", "rad": "rad", "cm": "cm"}  # by the end of a column's name

ENERGIES = ("e_", "energy_")  # how names of columns begin that cannot be negative

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=100)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Column(_Entry):
    """One number of an event, and the range of values on which the model was checked."""

    name: str
    unit: str = ""
    lowest: float
    highest: float
    minimum: float | None = None  # a smaller value is refused

    @classmethod
    def all_of(cls, names: Sequence[str], input_NC: NDArray[np.float32]) -> tuple[Column, ...]:
        """Describe the columns of these events, with their ranges."""
        lowest_C, highest_C = input_NC.min(axis=0).tolist(), input_NC.max(axis=0).tolist()
        return tuple(
            cls(
                name=name,
                unit=UNITS.get(name.rpartition("_")[2], ""),
                lowest=low,
                highest=high,
                minimum=0.0 if name.startswith(ENERGIES) else None,
            )
            for name, low, high in zip(names, lowest_C, highest_C, strict=True)
        )


class Array(_Entry):
    """An array of numbers for each event."""

    name: str
    unit: str = ""
    shape: tuple[int, ...]  # of one event
    type: str = "float32"  # NumPy's name


class Output(_Entry):
    """The model's output for one event."""

    name: str
    unit: str
    shape: tuple[int, ...]  # of one event
    description: str
    sampled: bool = False  # probabilities, of which users may draw hits of 0 and 1
    undefined: str = ""  # for people: why an event may have no prediction


class Exported(_Entry):
    """An ONNX file: its input and output, and how far ONNX Runtime was from PyTorch on how many events."""

    input: str  # float32, (N, columns)
    columns: tuple[str, ...]
    scaler: FileName | None = None  # JSON: inputs are ``(value - mean) / scale`` of it
    output: str  # float32, (N, ...)
    opset: int
    events: int
    largest_difference: float  # relative
    allowed_difference: float
    floor: float  # of the output's unit: smaller outputs are compared with this


class Stored(_Entry):
    """The checksum of a file."""

    sha256: Sha256
    bytes: int


class Source(_Entry):
    """The origin of weights."""

    workload: str
    run: str
    hyperparameters: dict[str, JsonValue]


class Description(_Entry):
    """A workload's description of its model."""

    loader: str  # MODULE:FUNCTION that makes a model of the package; all that is imported on loading
    inputs: tuple[Column, ...] | tuple[Array, ...]
    output: Output
    rules: tuple[str, ...]  # for people: what is refused, what only gives a warning, what names mean
    data: dict[str, JsonValue]  # settings of the data that the model assumes: charge, threshold
    onnx: dict[FileName, Exported]
    example: tuple[Any, ...]  # some events: numbers of the columns; of arrays one nested list each
    about: dict[str, JsonValue]  # search, trial, seed, commit, fingerprint, objective version ...


class Manifest(Description):
    """The whole of ``model.json``."""

    format: Literal[2]
    model: Source
    branches: dict[str, Source]
    files: dict[FileName, Stored]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        named = {WEIGHTS, *self.onnx, *(graph.scaler for graph in self.onnx.values() if graph.scaler)}
        if missing := sorted(named - set(self.files)):
            raise ValueError(f"no checksum of {', '.join(missing)}")
        return self
