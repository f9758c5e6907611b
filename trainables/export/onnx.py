"""Export a network as an ONNX file, and refuse it where ONNX Runtime does not give what PyTorch gives."""

# N events, F columns, B batch

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from trainables.base.errors import DataError
from trainables.export.manifest import Exported

OPSET = 13  # what sPHENIX writes its own models with; ONNX Runtime 1.7 (2021) reads it
NEWEST_OPSET = 17  # of the runtimes that the experiments have
LIMIT = 1e-5  # largest relative difference
CHECKED_EVENTS = 10_000
BATCHES = (1, 7, 1000)  # the batch is no part of a graph: each size must give the same
BATCHES_OF_A_SIZE = 10  # so that the last size sees all events
STEADY_EVENTS = 200
STEADY, STEADY_SHARE = 1e-3, 0.01  # the last bit of an input may change so many predictions by more than this, relative


@dataclass(frozen=True)
class Graph:
    """A network, the names in its file, and the definition of a difference.

    A difference is ``|onnx - torch| / max(|torch|, floor)``. Both round to float32, whose relative step is 6e-8, but
    add the same terms in another order; so outputs that are small against the terms of their last sum cannot agree
    relative to themselves. ``floor`` is the size below which outputs do not matter: smaller ones are compared with it.
    """

    file: str
    network: nn.Module  # (N, F) float32 -> (N, ...) float32
    input: str
    columns: tuple[str, ...]
    output: str
    floor: float  # of the output's unit
    scaler: str | None = None  # file beside it, with which users standardise the inputs


def export_graph(graph: Graph, input_NF: NDArray[np.float32]) -> tuple[bytes, Exported]:
    """Export the network; return the file's content and its entry in the manifest.

    Parameters
    ----------
    graph : Graph
    input_NF : array (N, F) of float32
        Events on which both are compared; of more than 10,000 only so many, at equal distances.

    Raises
    ------
    DataError
        ONNX Runtime gives something else than PyTorch (the message names the event); the file needs a newer runtime;
        or predictions depend on the last bit of an input, which users compute in their own way.
    """
    input_NF = _evenly(input_NF, CHECKED_EVENTS)
    content = _traced(graph, input_NF[:2])
    opset = _opset(graph.file, content)
    largest_difference = _largest_difference(graph, content, input_NF)
    _check_steady(graph, _evenly(input_NF, STEADY_EVENTS))
    return content, Exported(
        input=graph.input,
        columns=graph.columns,
        scaler=graph.scaler,
        output=graph.output,
        opset=opset,
        events=len(input_NF),
        largest_difference=largest_difference,
        allowed_difference=LIMIT,
        floor=graph.floor,
    )


def _evenly(input_NF: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """Choose so many events at equal distances, the first and the last among them; all where there are fewer."""
    return input_NF[np.linspace(0, len(input_NF) - 1, min(len(input_NF), most)).astype(np.int64)]


def _check_steady(graph: Graph, input_NF: NDArray[np.float32]) -> None:
    with torch.no_grad():
        before = graph.network(torch.from_numpy(input_NF.copy())).numpy()
        for number, column in enumerate(graph.columns):
            moved_NF = input_NF.copy()
            value_N = moved_NF[:, number]
            # exact zeros are padding: a network may ask whether a value is 0
            moved_NF[:, number] = np.where(value_N == 0, value_N, np.nextafter(value_N, np.float32(np.inf)))
            change_N = _difference(graph, graph.network(torch.from_numpy(moved_NF)).numpy(), before).max(axis=1)
            share = float((change_N > STEADY).mean())
            if share > STEADY_SHARE:
                raise DataError(
                    f"{graph.file}: '{column}': its rounding to float32 alone changes {share:.0%} of the predictions "
                    f"by more than {STEADY:g} of themselves, by up to {change_N.max():.3g}. Something made of it "
                    "hardly varies in the training events and is standardised all the same: train again."
                )


def _traced(graph: Graph, example_NF: NDArray[np.float32]) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # the newer exporter writes no opset below 18
        warnings.filterwarnings("ignore", message="You are using the legacy TorchScript-based ONNX export")
        warnings.filterwarnings("ignore", message="The feature will be removed")
        # these come from torch's own checks of shapes, where torch itself would silence them
        warnings.filterwarnings("ignore", message="Converting a tensor to a Python", module=r"torch\.(?!jit)")
        torch.onnx.export(
            graph.network.eval(),
            (torch.from_numpy(example_NF.copy()),),
            stream,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            input_names=[graph.input],
            output_names=[graph.output],
            dynamic_axes={graph.input: {0: "N"}, graph.output: {0: "N"}},
        )
    model = onnx.load_from_string(stream.getvalue())
    onnx.helper.set_model_props(model, {"columns": ",".join(graph.columns), "scaler": graph.scaler or ""})
    return bytes(model.SerializeToString(deterministic=True))


def _opset(file: str, content: bytes) -> int:
    """Check a written file as a whole, and return its opset."""
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    opset = max(entry.version for entry in model.opset_import)
    foreign = [entry.domain for entry in model.opset_import if entry.domain not in ("", "ai.onnx")]
    if opset > NEWEST_OPSET or foreign:
        raise DataError(f"{file}: expected plain ONNX of opset {NEWEST_OPSET} at most, found {opset} {foreign}.")
    return int(opset)


def _largest_difference(graph: Graph, content: bytes, input_NF: NDArray[np.float32]) -> float:
    """Find the largest difference over events, outputs and batch sizes."""
    session = _session(content)
    with torch.no_grad():
        parts = [graph.network(part).numpy() for part in torch.split(torch.from_numpy(input_NF.copy()), BATCHES[-1])]
    expected = np.concatenate(parts)
    largest = 0.0
    for size in BATCHES:
        some_NF = input_NF[: size * BATCHES_OF_A_SIZE]
        batches = (some_NF[first : first + size] for first in range(0, len(some_NF), size))
        found = np.concatenate([session.run(None, {graph.input: batch})[0] for batch in batches])
        largest = max(largest, _compared(graph, found, expected[: len(found)], some_NF))
    return largest


def _session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _compared(
    graph: Graph, found: NDArray[np.float32], expected: NDArray[np.float32], input_NF: NDArray[np.float32]
) -> float:
    """Return the largest relative difference. Raises DataError where it is not allowed."""
    if found.shape != expected.shape or found.dtype != np.float32:
        raise DataError(f"{graph.file}: expected float32 {expected.shape}, found {found.dtype} {found.shape}.")
    difference_NX = _difference(graph, found, expected)
    event, place = np.unravel_index(np.argmax(difference_NX), difference_NX.shape)
    largest = float(difference_NX[event, place])
    if largest > LIMIT:
        values = ", ".join(f"{name} = {value:.9g}" for name, value in zip(graph.columns, input_NF[event], strict=True))
        raise DataError(
            f"{graph.file}: event {event} ({values}): ONNX Runtime gives {found[event].flat[place]:.9g}, PyTorch "
            f"{expected[event].flat[place]:.9g}: expected a relative difference of at most {LIMIT:g}, found "
            f"{largest:.3g}. The file would not be this model: promote another trial."
        )
    return largest


def _difference(graph: Graph, found: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return relative differences (N, X), with all outputs of an event in a row; infinite where there is no number."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(found.astype(np.float64) - expected) / np.maximum(np.abs(expected), graph.floor)
    return np.where(np.isfinite(difference), difference, np.inf).reshape(len(found), -1)
