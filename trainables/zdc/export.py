"""Package a ZDC model for its users: weights, an ONNX graph checked on the holdout, and their description."""

# N events; 6 conditions as in events.CONDITIONS

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.base.training import TrainedModel
from trainables.export.manifest import Column, Description, Output
from trainables.export.onnx import LIMIT, Graph, export_graph
from trainables.export.package import Package, write_package
from trainables.zdc.data import ZDCDataSettings
from trainables.zdc.events import CONDITIONS, Events
from trainables.zdc.inference import Mask, build_mask
from trainables.zdc.model import SIDE

ONNX = "zdc_mask.onnx"
# Two evaluations of the convolutions in float32 differ by some 6e-6 in a logit, and more in a steeper network; so does
# a small probability, relative to itself. Ours: a crystal is hit or not, and the likelier of both has 1/2 or more;
# differences are relative to that, so that the limit of 1e-5 is five hits in a million events.
SMALL_PROBABILITY = 0.5
RULES = (
    "energy, momentum, polar angle and azimuth are those of the particle at its vertex, as in the simulation's files",
    "an energy below 0, and what is not finite, is refused; values outside of lowest ... highest are predicted with a "
    "warning, as the model has not seen their like",
    "crystals are numbered [ix][iy] from 0 to 19, along x and along y of the calorimeter",
    f"{ONNX}: on the holdout within {LIMIT:g} of PyTorch, relative to the probability or, where that is more, to "
    f"{SMALL_PROBABILITY:g}: relative to itself a small probability may differ by more",
)


def package(
    model: TrainedModel,
    branches: Mapping[str, TrainedModel],
    holdout: Events,
    settings: ZDCDataSettings,
    about: Mapping[str, Any],
    folder: Path,
) -> Package:
    """Write a model with its ONNX file of hit probabilities; there are no upstream models."""
    mask = build_mask(model)
    condition_N6 = np.asarray(holdout.condition_N6)
    graph = Graph(ONNX, mask, "condition", CONDITIONS, "hit_probability", SMALL_PROBABILITY)
    content, exported = export_graph(graph, condition_N6)
    description = Description(
        loader="trainables.zdc.inference:load",
        inputs=_columns(mask, condition_N6),
        output=Output(
            name="hit_probability",
            unit="1",
            shape=(SIDE, SIDE),
            description=f"of a summed deposit above {settings.hit_threshold_mev:g} MeV in crystal [ix][iy]",
            sampled=True,
        ),
        rules=RULES,
        data={"hit_threshold_mev": settings.hit_threshold_mev},
        onnx={ONNX: exported},
        example=tuple(tuple(row) for row in condition_N6[:3].tolist()),
        about=dict(about),
    )
    return write_package(folder, description, model, branches, {ONNX: content})


def _columns(mask: Mask, condition_N6: NDArray[np.float32]) -> tuple[Column, ...]:
    """Return the ranges of the holdout; for the energy that of the training events, where the model holds it."""
    energy, *others = Column.all_of(CONDITIONS, condition_N6)
    constants = mask.generator.normalisation
    if constants.scale_6[0] != 1:
        lowest = constants.offset_6[0].item()
        energy = energy.model_copy(update={"lowest": lowest, "highest": lowest + constants.scale_6[0].item()})
    return energy, *others
