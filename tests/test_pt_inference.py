"""The pT models in use are the trained ones: from raw positions, for any azimuth and charge, also as ONNX."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import packed
import pytest
import torch
from numpy.typing import NDArray

from trainables.base.errors import DataError
from trainables.base.training import TrainedModel
from trainables.export.package import Package
from trainables.pt.combined import combined_inputs
from trainables.pt.data import Events
from trainables.pt.features import FEATURE_NAMES, features
from trainables.pt.inference import (
    FromAngle,
    FromBoth,
    FromFeatures,
    arctangent,
    build_model,
    network_of,
    predict,
    raw_inputs,
)
from trainables.pt.selection import Charge, bending_angle
from trainables.pt.train import PtTraining

pytestmark = pytest.mark.usefixtures("one_thread")

PT_WORKLOADS = ("pt-energy", "pt-dphi", "pt-combined")
ANGLE_COLUMNS = (
    *("x_inner_intt_cm", "y_inner_intt_cm", "x_outer_intt_cm", "y_outer_intt_cm"),
    *("x_inner_face_cm", "y_inner_face_cm"),
)


@pytest.fixture(scope="module")
def events() -> Events:
    return packed.pt_data().validation


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Package]:
    parent = tmp_path_factory.mktemp("packages")
    made = {name: packed.pack(name, parent / name) for name in PT_WORKLOADS}
    return made | {f"{name} full": packed.pack(name, parent / f"{name}-full", features="full") for name in PT_FULL}


PT_FULL = ("pt-energy", "pt-combined")


def raw_onnx(package: Package, raw_NC: NDArray[np.float32]) -> NDArray[np.float32]:
    (path,) = package.folder.glob("*_raw.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(["pt_hat"], {"x": raw_NC})[0][:, 0]
    return result


def in_use(package: Package, events: Events) -> NDArray[np.float64]:
    return predict(package.model, package.branches, events, -1)


# ---------------------------------------------------------------- the same numbers as in training


@pytest.mark.parametrize("features", ["energy", "full"])
@pytest.mark.parametrize("workload", PT_WORKLOADS)
def test_predictions_in_use_are_those_of_training(workload: str, features: str, events: Events) -> None:
    """Of the best network of a run, whose scores are in the leaderboard."""
    changes = {} if workload == "pt-dphi" else {"features": features}
    training = packed.training(workload, **changes)
    assert isinstance(training, PtTraining)
    with torch.no_grad():
        expected = training.network(training.validation_NF).numpy()
    found = predict(packed.model(workload, **changes), packed.branches(workload, **changes), events, -1)
    assert found.dtype == np.float64
    away = not_at_a_jump(workload, events, expected)
    assert away.mean() > 0.97
    np.testing.assert_allclose(found[away], expected[away], rtol=2e-5)


def not_at_a_jump(workload: str, events: Events, pt: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where float32 and float64 may not fall on different sides."""
    if workload != "pt-combined":
        return np.ones(len(pt), dtype=bool)
    mean = np.mean([predict(packed.model(name), {}, events, -1) for name in ("pt-energy", "pt-dphi")], axis=0)
    return (np.abs(mean - np.round(mean)) > 1e-4) & (np.abs(pt - 5.0) > 1e-4)


def test_the_correction_and_all_bins_are_met(events: Events) -> None:
    """Or else the test above would say little."""
    branch_pt = np.stack([predict(packed.model(name), {}, events, -1) for name in ("pt-energy", "pt-dphi")], axis=1)
    inputs = combined_inputs(events, branch_pt.astype(np.float32))
    assert (inputs[:, 4:].sum(axis=0) > 0).sum() >= 9
    pt = predict(packed.model("pt-combined"), packed.branches("pt-combined"), events, -1)
    assert 0.2 < (pt > 5).mean() < 0.8


def test_a_corrected_prediction_is_what_the_formula_says(events: Events) -> None:
    network = network_of(packed.model("pt-combined"))
    inputs = torch.from_numpy(combined_inputs(events, np.full((len(events), 2), 4.5, dtype=np.float32)))
    plain = network.estimate(inputs).double()
    expected = torch.where(plain >= 5, plain * (1.02 + 0.08 * (plain - 5)), plain)
    away = (plain - 5).abs() > 1e-4
    torch.testing.assert_close(FromFeatures(network).pt(inputs)[away], expected[away], rtol=1e-5, atol=1e-6)


def test_radii_are_those_of_training_to_the_last_bit(events: Events) -> None:
    """A scaler of a radius that hardly varies would make the last bit matter."""
    place = {name: number for number, name in enumerate(FEATURE_NAMES["full"])}
    raw_NC = torch.from_numpy(raw_inputs(FEATURE_NAMES["full"], events))
    for number, point in ((0, "inner_intt"), (2, "outer_intt"), (4, "inner_face")):
        x_N, y_N = (raw_NC[:, place[f"{axis}_{point}_cm"]].double() for axis in "xy")
        np.testing.assert_array_equal((x_N * x_N + y_N * y_N).sqrt().float(), features("energy", events)[:, number])


@pytest.mark.parametrize("kind", [*PT_WORKLOADS, "pt-energy full", "pt-combined full"])
def test_packages_hold_the_same_model_in_both_forms(packages: dict[str, Package], kind: str, events: Events) -> None:
    package = packages[kind]
    columns = tuple(column.name for column in package.manifest.inputs)
    assert len(columns) == {"pt-dphi": 6}.get(kind, 59 if "full" in kind else 10)
    changes = {"features": "full"} if "full" in kind else {}
    workload = kind.partition(" ")[0]
    np.testing.assert_array_equal(
        in_use(package, events),
        predict(packed.model(workload, **changes), packed.branches(workload, **changes), events, -1),
    )
    by_onnx = raw_onnx(package, raw_inputs(columns, events))
    np.testing.assert_allclose(by_onnx, in_use(package, events), rtol=1e-6)
    for exported in package.manifest.onnx.values():
        assert exported.largest_difference <= 1e-5
        assert exported.events == len(events)


def test_a_missing_branch_is_named() -> None:
    with pytest.raises(DataError, match="no model of pt-dphi"):
        build_model(packed.model("pt-combined"), {"pt-energy": packed.model("pt-energy")}, -1)


# ---------------------------------------------------------------- the bending angle


def angle_model(charge: Charge = -1) -> FromAngle:
    built = build_model(packed.model("pt-dphi"), {}, charge)
    assert isinstance(built, FromAngle)
    return built


def angles(points: NDArray[np.float64], charge: Charge = -1) -> NDArray[np.float64]:
    """Of inner, outer and face: (N, 3, 2)."""
    raw_NC = torch.from_numpy(points.reshape(-1, 6).astype(np.float32))
    return 1 / angle_model(charge).inverse_angle(raw_NC).double().numpy()


def defined(points: NDArray[np.float64], charge: Charge = -1) -> NDArray[np.float64]:
    """By the definition, of what float32 makes of the points."""
    deep = np.pad(points.astype(np.float32).astype(np.float64), ((0, 0), (0, 0), (0, 1)))
    return bending_angle(deep[:, 0], deep[:, 1], deep[:, 2], charge)


def turned(points: NDArray[np.float64], phi: float) -> NDArray[np.float64]:
    cosine, sine = np.cos(phi), np.sin(phi)
    return points @ np.array([[cosine, sine], [-sine, cosine]])


def bent(angle: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Points whose directions differ by this angle, the first of them along x: (N, 3, 2)."""
    angle = np.atleast_1d(angle)
    inner, outer = np.tile([7.5, 0.0], (len(angle), 1)), np.tile([10.0, 0.0], (len(angle), 1))
    face = outer + 84 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.stack([inner, outer, face], axis=1)


def test_the_angle_of_events_is_that_of_the_selection(events: Events) -> None:
    """Which knew the positions in float64: float32 moves a direction between silicon clusters by up to 4e-7 rad."""
    found = 1 / angle_model().inverse_angle(torch.from_numpy(raw_inputs(ANGLE_COLUMNS, events))).numpy()
    np.testing.assert_allclose(found, events.dphi_N, rtol=3e-7, atol=6e-7)


@pytest.mark.parametrize("charge", [-1, 1])
def test_the_angle_is_that_of_the_definition_in_all_quadrants(charge: Charge) -> None:
    points = np.random.default_rng(1).uniform(-100, 100, (20_000, 3, 2))
    expected = defined(points, charge)
    assert ((np.abs(expected) > 2) & (np.abs(expected) < 3.1)).mean() > 0.2
    np.testing.assert_allclose(angles(points, charge), expected, rtol=1.2e-7)


@pytest.mark.parametrize("phi", [np.pi, -np.pi, np.pi - 0.02, -np.pi + 0.02, 0.0, np.pi / 2, -np.pi / 2, 1.0])
def test_azimuths_wrap(phi: float) -> None:
    """Directions on both sides of phi = +-pi, and exactly there."""
    wanted = np.array([-3.0, -1.6, -0.5, -0.01, 0.01, 0.03, 0.5, 1.5, 1.6, 3.0])
    points = turned(bent(wanted), phi)
    np.testing.assert_allclose(angles(points), wanted, rtol=1e-6, atol=6e-7)
    np.testing.assert_allclose(angles(points), defined(points), rtol=1.2e-7)
    np.testing.assert_array_equal(angles(points, 1), -angles(points))


def test_an_arctangent_is_that_of_numpy() -> None:
    tangent = np.concatenate([np.geomspace(1e-12, 1e12, 10_000), -np.geomspace(1e-12, 1e12, 10_000), [0.0]])
    np.testing.assert_allclose(arctangent(torch.from_numpy(tangent)), np.arctan(tangent), rtol=2e-15)


def test_small_angles_are_precise_relative_to_themselves() -> None:
    small = np.geomspace(1e-3, 1, 1000)
    for phi in (0.3, 3.1, -2.0):
        points = turned(bent(small), phi)
        np.testing.assert_allclose(angles(points), defined(points), rtol=1.2e-7)


@pytest.mark.parametrize("kind", ["pt-dphi", "pt-combined"])
def test_predictions_hold_at_the_edges(packages: dict[str, Package], kind: str) -> None:
    """phi = +-pi, the smallest accepted angle, no energy and the largest: PyTorch and ONNX agree, one by one too."""
    package = packages[kind]
    columns = [column.name for column in package.manifest.inputs]
    rows = []
    for phi in (np.pi, -np.pi, 0.0, np.nextafter(np.pi, 0)):
        for angle in (0.01, 0.1, 1.2):
            for energy in (0.0, 16.0):
                (point,) = turned(bent(angle), phi)
                value = dict(zip(ANGLE_COLUMNS, point.ravel(), strict=True)) | {"e_inner_face_gev": energy}
                rows.append([value.get(name, 1.0) for name in columns])
    raw_NC = np.array(rows, dtype=np.float32)
    with torch.no_grad():
        expected = build_model(package.model, package.branches, -1)(torch.from_numpy(raw_NC)).numpy()[:, 0]
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(raw_onnx(package, raw_NC), expected, rtol=1e-6)
    one_by_one = [raw_onnx(package, raw_NC[event : event + 1])[0] for event in range(len(raw_NC))]
    np.testing.assert_allclose(one_by_one, expected, rtol=1e-6)
    np.testing.assert_allclose(
        raw_onnx(package, np.resize(raw_NC, (10_000, len(columns))))[: len(rows)], expected, 1e-6
    )
    assert raw_onnx(package, raw_NC[:0]).shape == (0,)


def test_a_turned_event_keeps_its_pt(packages: dict[str, Package], events: Events) -> None:
    raw_NC = raw_inputs(ANGLE_COLUMNS, events)
    before = raw_onnx(packages["pt-dphi"], raw_NC)
    for phi in (1.0, np.pi, -2.5):
        points = turned(raw_NC.reshape(-1, 3, 2).astype(np.float64), phi).reshape(-1, 6).astype(np.float32)
        np.testing.assert_allclose(raw_onnx(packages["pt-dphi"], points), before, rtol=3e-4)


def test_positrons_are_electrons_in_a_mirror(events: Events) -> None:
    mirrored = replace(
        events,
        hit_N53=events.hit_N53 * np.float32([1, -1, 1]),
        cluster_N24=events.cluster_N24 * np.float32([1, -1, 1, 1]),
    )
    for workload in ("pt-dphi", "pt-combined"):
        model, branches = packed.model(workload), packed.branches(workload)
        np.testing.assert_allclose(
            predict(model, branches, mirrored, 1), predict(model, branches, events, -1), rtol=1e-6
        )


# ---------------------------------------------------------------- bins and jumps


@pytest.mark.parametrize(
    ("energy_pt", "dphi_pt", "hot"),
    [(0.0, 0.0, 0), (0.5, 1.5, 1), (0.5, 1.5 - 1e-9, 0), (9.0, 10.999999, 9), (10.0, 10.0, None), (-1.0, 0.5, None)],
)
def test_one_hot_bins_are_closed_below_and_open_above(energy_pt: float, dphi_pt: float, hot: int | None) -> None:
    built = build_model(packed.model("pt-combined"), packed.branches("pt-combined"), -1)
    assert isinstance(built, FromBoth)
    for branch, pt in ((built.energy, energy_pt), (built.angle, dphi_pt)):
        branch.network.network.head.weight.zero_()
        branch.network.network.head.bias.fill_(pt)
    # a network that hands the number of its bin through: hidden layers of ones and zeros
    last = built.network.network
    for number, layer in enumerate((*last.hidden, last.head)):
        layer.weight.zero_()
        layer.bias.zero_()
        if number == 0:
            layer.weight[0, 4:] = torch.arange(1, 11)
        else:
            layer.weight[0, 0] = 1.0
    assert last.correction is not None
    last.correction.set_to(100.0, 0.0, 0.0)
    raw_NC = torch.from_numpy(raw_inputs(built.raw.columns, packed.pt_data().validation))[:3]
    assert built.pt(raw_NC).tolist() == [0 if hot is None else hot + 1] * 3


def test_both_evaluations_agree_on_which_side_of_a_jump_an_event_lies(tmp_path: Path, events: Events) -> None:
    """A correction of 50 % that starts at the prediction of an event: rounding in float32 would decide."""
    model = packed.model("pt-combined")
    uncorrected = dict(model.weights) | {"correction.offset": torch.tensor(0.0), "correction.slope": torch.tensor(0.0)}
    plain = TrainedModel(model.workload, model.run, model.hyperparameters, uncorrected)
    for number, start in enumerate(np.sort(predict(plain, packed.branches("pt-combined"), events, -1))[::60]):
        weights = uncorrected | {"correction.offset": torch.tensor(0.5), "correction.start": torch.tensor(float(start))}
        jumping = TrainedModel(model.workload, model.run, model.hyperparameters, weights)
        made = packed.pack_model(jumping, tmp_path / str(number))
        assert made.manifest.onnx["pt_combined_raw.onnx"].largest_difference < 1e-6


# ---------------------------------------------------------------- the manifest


def test_the_manifest_says_what_goes_in_and_out(packages: dict[str, Package]) -> None:
    manifest = packages["pt-combined"].manifest
    assert [column.name for column in manifest.inputs] == [
        *("x_inner_intt_cm", "y_inner_intt_cm", "z_inner_intt_cm", "x_outer_intt_cm", "y_outer_intt_cm"),
        *("z_outer_intt_cm", "x_inner_face_cm", "y_inner_face_cm", "z_inner_face_cm", "e_inner_face_gev"),
    ]
    assert [column.unit for column in manifest.inputs] == ["cm"] * 9 + ["GeV"]
    assert tuple(column.name for column in packages["pt-dphi"].manifest.inputs) == ANGLE_COLUMNS
    assert (manifest.output.name, manifest.output.unit, manifest.output.shape) == ("pt_gev", "GeV", ())
    assert manifest.data == {"charge": -1, "selection": "strict"}
    assert manifest.onnx["model_MLEproj.onnx"].columns == FEATURE_NAMES["energy"]
    assert manifest.onnx["model_MLEMD.onnx"].columns == FEATURE_NAMES["dphi"]
    assert manifest.onnx["model_MLCombined.onnx"].columns[:4] == (
        *("inverse_dphi", "pt_of_dphi_model_gev"),
        *("e_inner_face_gev", "pt_of_energy_model_gev"),
    )
    assert [file for file, exported in manifest.onnx.items() if exported.scaler] == ["model_MLEproj.onnx"]


def test_a_scaler_is_that_of_training(packages: dict[str, Package]) -> None:
    import json

    weights = packed.model("pt-energy").weights
    for kind in ("pt-energy", "pt-combined"):
        scaler = json.loads((packages[kind].folder / "scaler_MLEproj.json").read_text())
        assert np.float32(scaler["mean"]).tolist() == weights["mean"].tolist()
        assert np.float32(scaler["scale"]).tolist() == weights["scale"].tolist()
