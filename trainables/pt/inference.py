"""The pT models in the form that users load: raw positions and energies in, GeV out, with the whole chain inside."""

# N events, C raw columns, F features; cm, GeV, rad

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.base.training import TrainedModel
from trainables.pt.combined import BRANCHES, PT_BINS, require_branches
from trainables.pt.config import config_of
from trainables.pt.data import Events
from trainables.pt.features import FEATURE_NAMES, feature_set, features
from trainables.pt.model import PtNetwork, in_chunks, network_of
from trainables.pt.selection import Charge

if TYPE_CHECKING:
    from trainables.export.package import Package

INNER, OUTER, FACE = "inner_intt", "outer_intt", "inner_face"
CLUSTER_ENERGY = "e_inner_face_gev"
ANGLE_COLUMNS = tuple(f"{axis}_{point}_cm" for point in (INNER, OUTER, FACE) for axis in "xy")
ENERGY_COLUMNS = (*(f"{axis}_{point}_cm" for point in (INNER, OUTER, FACE) for axis in "xyz"), CLUSTER_ENERGY)
HALVINGS, TERMS = 4, 9  # of the arctangent
FULL_COLUMNS = FEATURE_NAMES["full"]


class Raw:
    """Access to raw columns by name."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.columns = columns
        self._index = {name: index for index, name in enumerate(columns)}

    def column(self, raw_NC: Tensor, name: str) -> Tensor:
        """Return one column, (N,)."""
        return raw_NC[:, self._index[name]]

    def point(self, raw_NC: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """Return x and y of a point, each (N,) in float64, because differences of float32 positions are exact there."""
        x_N, y_N = (self.column(raw_NC, f"{axis}_{name}_cm").double() for axis in "xy")
        return x_N, y_N


class PtModule(nn.Module):
    """The base of all pT models for inference: float32 in and out, float64 inside.

    One-hot bins and the start of the correction make pT jump: with float32 inside, the rounding of each runtime would
    decide on which side an event lies.
    """

    @abstractmethod
    def pt(self, input_NX: Tensor) -> Tensor:
        """Compute pT (N,) in GeV and float64."""

    def forward(self, input_NX: Tensor) -> Tensor:
        return self.pt(input_NX).float().unsqueeze(1)


class FromFeatures(PtModule):
    """The network alone: features (N, F) -> pT (N, 1).

    It computes the same as ``PtNetwork``, in operations that every ONNX Runtime has for float64: before 1.18 it cannot
    load a Gemm followed by Relu.
    """

    zero: Tensor

    def __init__(self, network: PtNetwork) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).double()
        self.register_buffer("zero", torch.zeros((), dtype=torch.float64))

    def pt(self, feature_NF: Tensor) -> Tensor:
        network, active_NW = self.network, feature_NF.double()
        if network.standardised:
            active_NW = (active_NW - network.mean) / network.scale
        for layer in network.hidden:
            active_NW = torch.maximum(layer(active_NW), self.zero)
        pt_N: Tensor = network.head(active_NW).squeeze(1)
        if (correction := network.correction) is not None:
            high_N = (pt_N >= correction.start).double()
            pt_N = pt_N * (1 + high_N * (correction.offset + correction.slope * (pt_N - correction.start)))
        return pt_N


class FromEnergy(PtModule):
    """pt-energy from raw columns: (N, C) -> pT (N, 1)."""

    def __init__(self, raw: Raw, network: PtNetwork, full: bool) -> None:
        super().__init__()
        self.raw, self.full, self.network = raw, full, FromFeatures(network)

    def pt(self, raw_NC: Tensor) -> Tensor:
        # features are rounded to float32 as in training: also a radius that varies by its rounding alone
        column = self.raw.column
        if self.full:
            return self.network.pt(torch.stack([column(raw_NC, name) for name in FULL_COLUMNS], dim=1))
        feature = []
        for point in (INNER, OUTER, FACE):
            x_N, y_N = self.raw.point(raw_NC, point)
            feature += [(x_N * x_N + y_N * y_N).sqrt().float(), column(raw_NC, f"z_{point}_cm")]
        return self.network.pt(torch.stack([*feature, column(raw_NC, CLUSTER_ENERGY)], dim=1))


class FromAngle(PtModule):
    """pt-dphi from raw columns: (N, C) -> pT (N, 1)."""

    def __init__(self, raw: Raw, network: PtNetwork, charge: Charge) -> None:
        super().__init__()
        self.raw, self.charge, self.network = raw, charge, FromFeatures(network)

    def inverse_angle(self, raw_NC: Tensor) -> Tensor:
        """Compute 1/dphi (N,) in float32 and 1/rad, of the angle that ``selection.bending_angle`` defines.

        The angle between two directions a and b is ``2 atan(a x b / (|a| |b| + a . b))``: no difference of azimuths
        has to be wrapped, and a small angle is as precise, relative to itself, as a large one. Not defined where the
        second direction is exactly the opposite of the first.
        """
        (x_1, y_1), (x_2, y_2), (x_3, y_3) = (self.raw.point(raw_NC, point) for point in (INNER, OUTER, FACE))
        ax, ay, bx, by = x_2 - x_1, y_2 - y_1, x_3 - x_2, y_3 - y_2
        size_N = ((ax * ax + ay * ay) * (bx * bx + by * by)).sqrt()
        angle_N = 2 * arctangent((ax * by - ay * bx) / (size_N + ax * bx + ay * by))
        dphi_N = (-self.charge * angle_N).float()  # the precision of Events
        return (1 / dphi_N.double()).float()

    def pt(self, raw_NC: Tensor) -> Tensor:
        inverse_N = self.inverse_angle(raw_NC)
        return self.network.pt(torch.stack((inverse_N, torch.zeros_like(inverse_N)), dim=1))


class FromBoth(PtModule):
    """pt-combined from raw columns, both branches and the correction inside: (N, C) -> pT (N, 1)."""

    lower_edge_K: Tensor

    def __init__(self, energy: FromEnergy, angle: FromAngle, network: PtNetwork) -> None:
        super().__init__()
        self.energy, self.angle, self.network = energy, angle, FromFeatures(network)
        self.raw = energy.raw
        self.register_buffer("lower_edge_K", torch.arange(PT_BINS, dtype=torch.float64))

    def pt(self, raw_NC: Tensor) -> Tensor:
        energy_pt_N, angle_pt_N = self.energy.pt(raw_NC), self.angle.pt(raw_NC)
        inverse_N = self.angle.inverse_angle(raw_NC).double()
        energy_N = self.raw.column(raw_NC, CLUSTER_ENERGY).double()
        first_N4 = torch.stack((inverse_N, angle_pt_N, energy_N, energy_pt_N), dim=1)
        estimate_N1 = (0.5 * (energy_pt_N + angle_pt_N)).unsqueeze(1)
        hot_NK = (estimate_N1 >= self.lower_edge_K) & (estimate_N1 < self.lower_edge_K + 1)
        return self.network.pt(torch.cat((first_N4, hot_NK.double()), dim=1))


def arctangent(tangent_N: Tensor) -> Tensor:
    """Compute the arctangent of float64 numbers to a relative 1e-15, because ONNX Runtime has it for float32 only.

    The angle is halved four times by ``tan(a/2) = tan(a) / (1 + sqrt(1 + tan(a)^2))``; that of a tangent below 0.1 is
    its Taylor series.
    """
    for _ in range(HALVINGS):
        tangent_N = tangent_N / (1 + (1 + tangent_N * tangent_N).sqrt())
    square_N = tangent_N * tangent_N
    series_N = torch.zeros_like(square_N)
    for order in reversed(range(TERMS)):
        series_N = 1 / (2 * order + 1) - square_N * series_N
    angle_N: Tensor = 2**HALVINGS * tangent_N * series_N
    return angle_N


RawModel = FromEnergy | FromAngle | FromBoth


def load(package: Package) -> RawModel:
    """Make the model of a package; raises as ``build_model`` does."""
    return build_model(package.model, package.branches, cast("Charge", package.manifest.data["charge"]))


def build_model(model: TrainedModel, branches: Mapping[str, TrainedModel], charge: Charge) -> RawModel:
    """Build a trained model of any of the three workloads for the CPU: (N, C) float32 -> pT (N, 1) in GeV.

    Its ``raw.columns`` names the columns. Valid for events of the selection it was trained on.

    Parameters
    ----------
    model : TrainedModel
    branches : mapping of workload to TrainedModel
        Of pt-combined: its two; else empty.
    charge : -1 or 1
        Of the particles: the sign of the bending angle.

    Raises
    ------
    DataError
        A branch is missing.
    """
    if model.workload == "pt-energy":
        built: RawModel = _from_energy(model)
    elif model.workload == "pt-dphi":
        built = FromAngle(Raw(ANGLE_COLUMNS), network_of(model), charge)
    else:
        require_branches(branches)
        energy, angle = (branches[name] for name in BRANCHES)
        from_energy = _from_energy(energy)
        from_angle = FromAngle(from_energy.raw, network_of(angle), charge)
        built = FromBoth(from_energy, from_angle, network_of(model))
    return built.eval().requires_grad_(False)


def _from_energy(model: TrainedModel) -> FromEnergy:
    full = feature_set(config_of(model)) == "full"
    return FromEnergy(Raw(FULL_COLUMNS if full else ENERGY_COLUMNS), network_of(model), full)


def raw_inputs(columns: tuple[str, ...], events: Events) -> NDArray[np.float32]:
    """Return raw columns (N, C) of accepted events."""
    return features("full", events)[:, [FULL_COLUMNS.index(name) for name in columns]]


def predict(
    model: TrainedModel, branches: Mapping[str, TrainedModel], events: Events, charge: Charge
) -> NDArray[np.float64]:
    """Predict pT (N,) in GeV of accepted events with the very model that users load. Raises as ``build_model`` does."""
    built = build_model(model, branches, charge)
    raw_NC = torch.from_numpy(raw_inputs(built.raw.columns, events))
    return in_chunks(built.pt, raw_NC).numpy()
