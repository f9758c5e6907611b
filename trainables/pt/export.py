"""Package a pT model for its users: weights, the ONNX files of the experiment's own code, one of the whole chain."""

# N events, C raw columns, F features

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.base.training import TrainedModel
from trainables.export.manifest import Column, Description, Exported, Output
from trainables.export.onnx import LIMIT, Graph, export_graph
from trainables.export.package import Package, write_package
from trainables.pt.combined import BRANCHES, combined_inputs
from trainables.pt.config import config_of
from trainables.pt.data import Events, PtDataSettings
from trainables.pt.features import FEATURE_NAMES, feature_set, features
from trainables.pt.inference import FromFeatures, build_model, predict, raw_inputs
from trainables.pt.model import PtNetwork, network_of
from trainables.pt.selection import Charge

# As sPHENIX's SiCaloPt::PtCalculator is configured to load them (PtCalculatorConfig: mlEproj, mlEMD, mlCombined).
FILES = {"pt-energy": "model_MLEproj.onnx", "pt-dphi": "model_MLEMD.onnx", "pt-combined": "model_MLCombined.onnx"}
SCALER = "scaler_MLEproj.json"
INPUT, OUTPUT = "x", "pt_hat"
SMALL_GEV = 0.1  # (ours) no electron of less reaches the calorimeter, so smaller pT are compared with this
COMBINED_COLUMNS = (
    *("inverse_dphi", "pt_of_dphi_model_gev", "e_inner_face_gev", "pt_of_energy_model_gev"),
    *(f"mean_pt_from_{low}_to_{low + 1}_gev" for low in range(10)),
)
RULES = (
    "x, y, z are of the clusters in the inner and outer INTT layers and of the EMCal cluster at the inner face of the "
    "calorimeter, with the vertex at the origin; e is that cluster's energy",
    "the bending angle is positive for the charge that the model is made for; the model was trained on angles above "
    "0.01 rad only",
    "an energy below 0, and what is not finite, is refused; values outside of lowest ... highest are predicted with a "
    "warning, as the model has not seen their like",
    f"{SCALER}: its model takes (value - mean) / scale; all other files take values as they are",
    "inverse_dphi is 1 / bending angle, in 1/rad; mean_pt_from_1_to_2_gev is 1 where the mean of both models' pT lies "
    "there, else 0",
    f"ONNX files: on the holdout within {LIMIT:g} of PyTorch, relative to pT or, if that is more, to {SMALL_GEV:g} GeV",
)
UNDEFINED = "are two of its points at the same place, or all on one line?"
FULL_RULES = (
    "mvtx_0 ... 2: the cluster of each layer nearest to the line through the INTT clusters, zeros where there is none; "
    "volume_centre: the EMCal cluster there; tower_0 ... 8: the towers with most energy, highest first, else zeros",
)


class _Plain(nn.Module):
    """A network in the form of the experiment's own: features (N, F) -> pT (N, 1), float32 throughout."""

    def __init__(self, network: PtNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, feature_NF: Tensor) -> Tensor:
        pt_N: Tensor = self.network(feature_NF)
        return pt_N.unsqueeze(1)


def package(
    model: TrainedModel,
    branches: Mapping[str, TrainedModel],
    holdout: Events,
    settings: PtDataSettings,
    about: Mapping[str, Any],
    folder: Path,
) -> Package:
    """Write a model of any of the three workloads; the files of both branches are part of pt-combined's package."""
    built = build_model(model, branches, settings.charge)
    raw_NC = raw_inputs(built.raw.columns, holdout)
    files, onnx = _experiment_files(model, branches, holdout, settings.charge)
    graph = Graph(f"{model.workload.replace('-', '_')}_raw.onnx", built, INPUT, built.raw.columns, OUTPUT, SMALL_GEV)
    files[graph.file], onnx[graph.file] = export_graph(graph, raw_NC)
    description = Description(
        loader="trainables.pt.inference:load",
        inputs=Column.all_of(built.raw.columns, raw_NC),
        output=Output(name="pt_gev", unit="GeV", shape=(), description="transverse momentum", undefined=UNDEFINED),
        rules=RULES + FULL_RULES * ("x_mvtx_0_cm" in built.raw.columns),
        data={"charge": settings.charge, "selection": settings.selection},
        onnx=onnx,
        example=tuple(tuple(row) for row in raw_NC[:3].tolist()),
        about=dict(about),
    )
    return write_package(folder, description, model, branches, files)


def _experiment_files(
    model: TrainedModel, branches: Mapping[str, TrainedModel], holdout: Events, charge: Charge
) -> tuple[dict[str, bytes], dict[str, Exported]]:
    """Make content and manifest entry of each file of the experiment's code, those of branches included."""
    files: dict[str, bytes] = {}
    records: dict[str, Exported] = {}
    for each in (*branches.values(), model):
        network = deepcopy(network_of(each))
        columns, input_NF = _network_inputs(each, branches, holdout, charge)
        scaler = None
        if network.standardised:
            mean_F, scale_F = network.mean, network.scale
            input_NF = ((torch.from_numpy(input_NF) - mean_F) / scale_F).numpy()
            numbers = {"mean": mean_F.tolist(), "scale": scale_F.tolist(), "n_features": len(columns)}
            scaler, files[SCALER] = SCALER, json.dumps(numbers, indent=1, allow_nan=False).encode()
            network.standardised = False
        file = FILES[each.workload]
        exact = FromFeatures(network) if network.correction is not None else _Plain(network)
        graph = Graph(file, exact, INPUT, columns, OUTPUT, SMALL_GEV, scaler)
        files[file], records[file] = export_graph(graph, input_NF)
    return files, records


def _network_inputs(
    model: TrainedModel, branches: Mapping[str, TrainedModel], events: Events, charge: Charge
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Return names and values (N, F) of a network's inputs, not standardised."""
    if model.workload == "pt-combined":
        branch_pt = [predict(branches[name], {}, events, charge) for name in BRANCHES]
        return COMBINED_COLUMNS, combined_inputs(events, np.stack(branch_pt, axis=1).astype(np.float32))
    name = feature_set(config_of(model))
    return FEATURE_NAMES[name], features(name, events)
