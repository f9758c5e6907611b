"""Evaluate and package models that are trained on arrays by name, for workloads that give no functions of their own."""

# N events

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainables.base.errors import DataError

if TYPE_CHECKING:
    import torch

    from trainables.base.objectives import Mode
    from trainables.base.training import TrainedModel
    from trainables.contract import Models
    from trainables.data.array_loader import ArrayHoldout
    from trainables.evaluation.scores import Evaluation
    from trainables.export.manifest import Array, Exported
    from trainables.export.package import Package

LOADER = "trainables.export.array_model:load"
EXAMPLE_EVENTS = 3
NEEDED = ("from_weights", "score", "predict")  # of a training, as ``TorchTraining`` has them

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class ArrayModels:
    """What a promotion does with the models of one workload.

    Parameters
    ----------
    training, config : types
        The workload's. The training has ``from_weights(config, weights, device)``, ``score`` and ``predict``.
    word : str
        By which the workload is found where the model is used.
    objective : str
    onnx : bool
        Whether the package holds an ONNX file as well, which takes what ``predict`` takes: one array.
    mode : Mode
        Direction of the objective.
    """

    training: Any
    config: Any
    word: str
    objective: str
    onnx: bool = False
    mode: Mode = "min"

    def evaluate(
        self, model: TrainedModel, _upstream: Models, events: Any, data: Any, replicas: int, device: torch.device
    ) -> Evaluation:
        """Score a model on arrays, or on a holdout of them, as its trials were scored on the validation events."""
        from trainables.evaluation.resampled import evaluate_arrays

        built = self._built(model, device)

        def score(arrays: Arrays) -> Mapping[str, float]:
            return built.score(**_accepted(built.score, arrays))  # type: ignore[no-any-return]

        arrays = getattr(events, "arrays", events)
        found = evaluate_arrays(score, arrays, self.objective, data.objective_version, replicas)
        return replace(found, curve=replace(found.curve, mode=self.mode))

    def package(
        self,
        model: TrainedModel,
        upstream: Models,
        holdout: ArrayHoldout,
        _settings: Any,
        about: Mapping[str, Any],
        folder: Path,
    ) -> Package:
        """Write weights, description, and an ONNX file where it is asked for.

        Raises
        ------
        DataError
            ``score`` gives ``predict`` something else than the arrays; or what ``export_graph`` raises.
        """
        import torch

        from trainables.export.array_model import code_digest
        from trainables.export.manifest import Description, Output
        from trainables.export.package import write_package

        built = self._built(model, torch.device("cpu"))
        inputs = _inputs_of(built, holdout.arrays)
        example = {one.name: holdout.arrays[one.name][:EXAMPLE_EVENTS] for one in inputs}
        prediction = built.predict(*example.values())
        if not isinstance(prediction, np.ndarray):
            raise DataError("predict returns several arrays: a promotion needs a package function of its own then.")
        contents, exported = self._onnx(built, inputs, holdout.arrays) if self.onnx else ({}, {})
        description = Description(
            loader=LOADER,
            inputs=inputs,
            output=Output(
                name="prediction", unit="", shape=prediction.shape[1:], description=f"of {self.training.__name__}"
            ),
            rules=(f"made by predict() of {self.training.__name__}, which {self.word} names",),
            data={"word": self.word, "code": code_digest(self.training)},
            onnx=exported,
            example=tuple(zip(*(array.tolist() for array in example.values()), strict=True)),
            about=dict(about),
        )
        return write_package(folder, description, model, upstream, contents)

    def _built(self, model: TrainedModel, device: torch.device) -> Any:
        return self.training.from_weights(self.config(**model.hyperparameters), model.weights, device)

    def _onnx(
        self, built: Any, inputs: tuple[Array, ...], arrays: Arrays
    ) -> tuple[dict[str, bytes], dict[str, Exported]]:
        from trainables.export.onnx import Graph, export_graph

        if len(inputs) != 1 or len(inputs[0].shape) != 1:
            given = ", ".join(f"{one.name} {one.shape}" for one in inputs)
            raise DataError(
                f"ONNX: expected a network of one array of shape (columns,), found {given}. Package it by hand."
            )
        one = inputs[0]
        columns = tuple(f"{one.name}_{number}" for number in range(math.prod(one.shape)))
        graph = Graph("model.onnx", built.network, one.name, columns, "prediction", floor=1.0)
        content, exported = export_graph(graph, np.asarray(arrays[one.name], dtype=np.float32))
        return {graph.file: content}, {graph.file: exported}


def _accepted(score: Any, arrays: Arrays) -> Arrays:
    """Return those arrays that a score takes by their names; all where it takes any."""
    from trainables.base.named_arrays import accepted_names

    return {name: arrays[name] for name in accepted_names(score, arrays)}


def _inputs_of(built: Any, arrays: Arrays) -> tuple[Array, ...]:
    """Find which arrays are the model's inputs: those that ``score`` gives to ``predict``.

    Raises
    ------
    DataError
        It gives something else, or never calls ``predict``.
    """
    from trainables.export.manifest import Array

    named = getattr(built, "inputs", None) or _given_to_predict(built, arrays)
    return tuple(Array(name=name, shape=arrays[name].shape[1:], type=arrays[name].dtype.name) for name in named)


def _given_to_predict(built: Any, arrays: Arrays) -> list[str]:
    predict, names = built.predict, list[str]()

    def recording(*inputs: Any, **named: Any) -> Any:
        known = [[name for name, array in arrays.items() if array is given] for given in (*inputs, *named.values())]
        if not names and all(known):
            names.extend(found[0] for found in known)
        return predict(*inputs, **named)

    built.predict = recording
    try:
        built.score(**_accepted(built.score, arrays))
    finally:
        del built.predict
    if not names:
        what = type(built).__name__
        raise DataError(
            f"{what}.score gives predict something else than the arrays that load returned, so that nobody can say "
            f"what its users have to give. Name the arrays: inputs = ({next(iter(arrays))!r},) in class {what}."
        )
    return names
