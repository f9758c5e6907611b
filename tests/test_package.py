"""A package comes back as it was written or not at all; its ONNX files run by their written contract alone."""

from __future__ import annotations

import errno
import json
import re
import shutil
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import packed
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto

from trainables.base.errors import DataError
from trainables.export.onnx import Graph, export_graph
from trainables.export.package import MANIFEST, PackageError, read_package

pytestmark = pytest.mark.usefixtures("one_thread")

CPP_FILES = {
    "zdc": {"zdc_mask.onnx"},
    "pt-energy": {"model_MLEproj.onnx", "scaler_MLEproj.json", "pt_energy_raw.onnx"},
    "pt-dphi": {"model_MLEMD.onnx", "pt_dphi_raw.onnx"},
    "pt-combined": {
        *("model_MLEproj.onnx", "scaler_MLEproj.json", "model_MLEMD.onnx", "model_MLCombined.onnx"),
        "pt_combined_raw.onnx",
    },
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A package of each workload."""
    parent = tmp_path_factory.mktemp("packages")
    return {workload: packed.pack(workload, parent / workload).folder for workload in packed.WORKLOADS}


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Path:
    """One that a test may spoil."""
    shutil.copytree(folders["pt-combined"], tmp_path / "copy")
    return tmp_path / "copy"


# ---------------------------------------------------------------- written and read


@pytest.mark.parametrize("workload", packed.WORKLOADS)
def test_a_package_comes_back_as_it_was_written(folders: dict[str, Path], workload: str) -> None:
    package, model = read_package(folders[workload]), packed.model(workload)
    for found, written in [(package.model, model), *zip_by_name(package.branches, packed.branches(workload))]:
        assert (found.workload, found.run) == (written.workload, written.run)
        assert found.hyperparameters == dict(written.hyperparameters)
        assert set(found.weights) == set(written.weights)
        assert all(torch.equal(found.weights[name], written.weights[name]) for name in written.weights)
    assert package.manifest.about == packed.ABOUT
    assert package.digest == sha256((folders[workload] / MANIFEST).read_bytes()).hexdigest()
    assert {path.name for path in folders[workload].iterdir()} == CPP_FILES[workload] | {
        MANIFEST,
        "weights.safetensors",
    }


def zip_by_name(one: Any, other: Any) -> list[tuple[Any, Any]]:
    assert set(one) == set(other)
    return [(one[name], other[name]) for name in one]


def test_the_same_model_gives_the_same_files(folders: dict[str, Path], tmp_path: Path) -> None:
    again = packed.pack("pt-combined", tmp_path / "again")
    assert again.digest == read_package(folders["pt-combined"]).digest


def test_a_folder_with_files_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("chapter 1")
    with pytest.raises(DataError, match=r"found files\. Choose another"):
        packed.pack("pt-dphi", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    assert packed.pack("pt-dphi", tmp_path).folder == tmp_path


def test_what_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(path: Path, _content: bytes) -> int:
        if path.suffix == ".onnx":
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(path.name)

    monkeypatch.setattr(Path, "write_bytes", no_space)
    with pytest.raises(OSError, match="No space left"):
        packed.pack("pt-dphi", tmp_path / "package")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- changed


def test_one_changed_byte_of_any_file_is_found_and_named(folders: dict[str, Path], tmp_path: Path) -> None:
    for workload, folder in folders.items():
        digest = read_package(folder).digest
        for path in folder.iterdir():
            shutil.copytree(folder, tmp_path / workload)
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            (tmp_path / workload / path.name).write_bytes(content)
            with pytest.raises(PackageError, match=re.escape(path.name)):
                read_package(tmp_path / workload, digest)
            if path.name != MANIFEST:
                with pytest.raises(PackageError, match=re.escape(path.name) + ".*changed since it was written"):
                    read_package(tmp_path / workload)
            shutil.rmtree(tmp_path / workload)


def test_a_longer_or_shorter_file_is_found(copy: Path) -> None:
    path = copy / "weights.safetensors"
    content = path.read_bytes()
    for changed in (content + b"\0", content[:-1], b""):
        path.write_bytes(changed)
        with pytest.raises(PackageError, match="changed since it was written"):
            read_package(copy)


@pytest.mark.parametrize("name", [MANIFEST, "weights.safetensors", "model_MLEMD.onnx", "scaler_MLEproj.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(PackageError, match=re.escape(name) + ": expected a file of the model package, found none"):
        read_package(copy)


@pytest.mark.parametrize("name", ["conftest.py", "model.pkl", ".hidden", "sub"])
def test_a_file_that_nobody_wrote_is_refused(copy: Path, name: str) -> None:
    (copy / name).mkdir() if name == "sub" else (copy / name).write_text("import os")
    with pytest.raises(PackageError, match=re.escape(name) + ": this file is not in the manifest"):
        read_package(copy)


def test_a_link_is_refused(copy: Path, tmp_path: Path) -> None:
    (copy / "weights.safetensors").rename(tmp_path / "elsewhere")
    (copy / "weights.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PackageError, match="found a link or a folder"):
        read_package(copy)


def test_a_package_that_is_changed_with_its_manifest_is_found_by_its_digest(copy: Path) -> None:
    digest = read_package(copy).digest
    replace_file(copy, "model_MLEMD.onnx", (copy / "model_MLEproj.onnx").read_bytes())
    assert read_package(copy).digest != digest
    with pytest.raises(PackageError, match=rf"{MANIFEST}: expected SHA-256 {digest}, found"):
        read_package(copy, digest)


def test_weights_that_are_none_are_refused_and_never_unpickled(copy: Path, tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return (tmp_path / "harm").write_text, ("done",)

    torch.save(Harm(), tmp_path / "pickle")
    replace_file(copy, "weights.safetensors", (tmp_path / "pickle").read_bytes())
    with pytest.raises(PackageError, match=r"weights.safetensors: not a safetensors file"):
        read_package(copy)
    assert not (tmp_path / "harm").exists()


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """With a manifest that is right about it."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = {"sha256": sha256(content).hexdigest(), "bytes": len(content)}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def escaped(manifest: dict[str, Any], name: str) -> None:
    manifest["files"][name] = manifest["files"]["weights.safetensors"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=3), "expected format 2, found 3. Update hep-search"),
        (lambda m: m.pop("format"), "not the manifest of a model package"),
        (lambda m: m.update(execute="rm -rf"), "'execute': Extra inputs are not permitted"),
        (lambda m: escaped(m, "../../.bashrc"), "'files.*String should match pattern"),
        (lambda m: escaped(m, "/etc/passwd"), "'files.*String should match pattern"),
        (lambda m: escaped(m, ".."), "'files.*String should match pattern"),
        (lambda m: m["files"].pop("weights.safetensors"), "no checksum of weights.safetensors"),
        (lambda m: m["files"].pop("scaler_MLEproj.json"), "no checksum of scaler_MLEproj.json"),
        (lambda m: m["files"]["weights.safetensors"].update(sha256="0"), "files.*String should match pattern"),
        (lambda m: m["inputs"][0].pop("name"), "'inputs.*0.name': Field required"),
        (lambda m: m["inputs"][0].update(lowest=float("nan")), "'inputs.*0.lowest': Input should be a finite number"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(copy: Path, change: Any, message: str) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    change(manifest)
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(PackageError, match=message):
        read_package(copy)


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"[1, 2]", b"null", b"[" * 100_000])
def test_a_manifest_that_is_none_is_refused(copy: Path, text: bytes) -> None:
    (copy / MANIFEST).write_bytes(text)
    with pytest.raises(PackageError, match="not the manifest of a model package"):
        read_package(copy)


def test_no_folder_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="expected a file of the model package, found none"):
        read_package(tmp_path / "nowhere")


# ---------------------------------------------------------------- ONNX files, by their written contract alone


def run(path: Path, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """As C++ does: the only input and the only output, whatever their names."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    result: NDArray[np.float32] = session.run([given.name], {taken.name: values})[0]
    return result


def names_and_shapes(path: Path) -> list[tuple[str, str, list[Any]]]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [(each.name, each.type, each.shape) for each in (*session.get_inputs(), *session.get_outputs())]


X, PT = "tensor(float)", ("pt_hat", "tensor(float)", ["N", 1])


@pytest.mark.parametrize(
    ("workload", "file", "contract"),
    [
        (
            *("zdc", "zdc_mask.onnx"),
            [("condition", X, ["N", 6]), ("hit_probability", X, ["N", 20, 20])],
        ),
        ("pt-energy", "model_MLEproj.onnx", [("x", X, ["N", 7]), PT]),
        ("pt-energy", "pt_energy_raw.onnx", [("x", X, ["N", 10]), PT]),
        ("pt-dphi", "model_MLEMD.onnx", [("x", X, ["N", 2]), PT]),
        ("pt-dphi", "pt_dphi_raw.onnx", [("x", X, ["N", 6]), PT]),
        ("pt-combined", "model_MLEproj.onnx", [("x", X, ["N", 7]), PT]),
        ("pt-combined", "model_MLEMD.onnx", [("x", X, ["N", 2]), PT]),
        ("pt-combined", "model_MLCombined.onnx", [("x", X, ["N", 14]), PT]),
        ("pt-combined", "pt_combined_raw.onnx", [("x", X, ["N", 10]), PT]),
    ],
)
def test_names_types_and_shapes_are_those_of_the_contract(
    folders: dict[str, Path], workload: str, file: str, contract: list[Any]
) -> None:
    assert names_and_shapes(folders[workload] / file) == contract


def test_files_are_readable_for_old_runtimes(folders: dict[str, Path]) -> None:
    for path in (path for folder in folders.values() for path in folder.glob("*.onnx")):
        graph = onnx.load(path)
        assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 13)], path
        assert graph.ir_version <= 8, path
        # before 1.18 ONNX Runtime makes of these two a FusedGemm, which it has for float32 only
        real = {one.name: one.data_type for one in graph.graph.initializer}
        outputs = {node.output[0]: node for node in graph.graph.node}
        for relu in (node for node in graph.graph.node if node.op_type == "Relu"):
            gemm = outputs[relu.input[0]]
            assert real[gemm.input[1]] == TensorProto.FLOAT, path


def test_files_tell_nothing_of_where_they_were_made(folders: dict[str, Path]) -> None:
    for path in (path for folder in folders.values() for path in folder.iterdir()):
        for word in (str(Path(__file__).parents[1]), str(path.parent), str(Path.home())):
            assert word.encode() not in path.read_bytes(), path


def energy_features(events: int) -> NDArray[np.float32]:
    """Radius and z of two silicon clusters, radius, z and energy of a calorimeter cluster."""
    random = np.random.default_rng(1)
    energy = np.linspace(0, 16, events)  # from none to the largest
    rows = [random.uniform(7.2, 7.8, events), random.uniform(-10, 10, events), random.uniform(9.7, 10.3, events)]
    rows += [random.uniform(-13, 13, events), np.full(events, 93.5), random.uniform(-130, 130, events), energy]
    return np.stack(rows, axis=1).astype(np.float32)


def inverse_angles(events: int) -> NDArray[np.float32]:
    """Down to the smallest bending angle that is accepted, 0.01 rad."""
    return np.stack([np.linspace(1, 100, events), np.zeros(events)], axis=1).astype(np.float32)


def test_the_experiments_three_files_make_a_chain(folders: dict[str, Path]) -> None:
    """As SiCaloPt::PtCalculator uses them: the scaler where there is one, the third on what the two others say."""
    folder, events = folders["pt-combined"], 50
    scaler = json.loads((folder / "scaler_MLEproj.json").read_text())
    assert set(scaler) == {"mean", "scale", "n_features"}
    assert scaler["n_features"] == len(scaler["mean"]) == len(scaler["scale"]) == 7
    mean, scale = (np.array(scaler[key], dtype=np.float32) for key in ("mean", "scale"))
    assert (scale > 0).all()
    energy = energy_features(events)
    energy_pt = run(folder / "model_MLEproj.onnx", (energy - mean) / scale)
    angle = inverse_angles(events)
    angle_pt = run(folder / "model_MLEMD.onnx", angle)
    assert energy_pt.shape == angle_pt.shape == (events, 1)
    hot = np.floor(0.5 * (energy_pt + angle_pt)) == np.arange(10)
    inputs = np.concatenate([angle[:, :1], angle_pt, energy[:, 6:], energy_pt, hot], axis=1).astype(np.float32)
    pt = run(folder / "model_MLCombined.onnx", inputs)
    assert pt.shape == (events, 1)
    assert pt.dtype == np.float32
    assert np.isfinite(pt).all()
    for first, second in pairwise(range(events)):
        assert np.array_equal(run(folder / "model_MLCombined.onnx", inputs[first:second]), pt[first:second])


def test_the_chain_of_files_says_what_the_one_file_says(folders: dict[str, Path]) -> None:
    """From positions of the examples in the manifest."""
    folder = folders["pt-combined"]
    manifest = json.loads((folder / MANIFEST).read_text())
    raw = np.array(manifest["example"], dtype=np.float32)
    names = [column["name"] for column in manifest["inputs"]]
    value = {name: raw[:, number].astype(np.float64) for number, name in enumerate(names)}
    phi = [
        np.arctan2(value[f"y_{far}_cm"] - value[f"y_{near}_cm"], value[f"x_{far}_cm"] - value[f"x_{near}_cm"])
        for near, far in (("inner_intt", "outer_intt"), ("outer_intt", "inner_face"))
    ]
    angle = -manifest["data"]["charge"] * ((phi[1] - phi[0] + np.pi) % (2 * np.pi) - np.pi)
    scaler = json.loads((folder / "scaler_MLEproj.json").read_text())
    points = ("inner_intt", "outer_intt", "inner_face")
    radius = {p: np.hypot(value[f"x_{p}_cm"], value[f"y_{p}_cm"]) for p in points}
    places = [number for p in points for number in (radius[p], value[f"z_{p}_cm"])]
    energy = np.stack([*places, value["e_inner_face_gev"]], axis=1)
    energy_pt = run(folder / "model_MLEproj.onnx", ((energy - scaler["mean"]) / scaler["scale"]).astype(np.float32))
    angle_pt = run(folder / "model_MLEMD.onnx", np.stack([1 / angle, 0 * angle], axis=1).astype(np.float32))
    hot = np.floor(0.5 * (energy_pt + angle_pt)) == np.arange(10)
    inputs = np.concatenate([1 / angle[:, None], angle_pt, energy[:, 6:], energy_pt, hot], axis=1)
    by_files = run(folder / "model_MLCombined.onnx", inputs.astype(np.float32))
    np.testing.assert_allclose(by_files, run(folder / "pt_combined_raw.onnx", raw), rtol=1e-4)


def test_the_mask_holds_at_the_edges(folders: dict[str, Path]) -> None:
    """No energy and the largest, phi at both ends, one event alone and many."""
    path = folders["zdc"] / "zdc_mask.onnx"
    energy, theta = np.array([0, 0, 20, 20, 5, 5, 1e-3]), np.array([0, 0.3, 0, 0.3, 0.01, 0.3, 0.1])
    phi = np.array([0, np.pi, -np.pi, np.pi, -np.pi, 0, 1])
    momentum = [energy * np.sin(theta) * np.cos(phi), energy * np.sin(theta) * np.sin(phi), energy * np.cos(theta)]
    condition = np.stack([energy, *momentum, theta, phi], axis=1).astype(np.float32)
    mask = run(path, condition)
    assert mask.shape == (7, 20, 20)
    assert mask.dtype == np.float32
    assert np.isfinite(mask).all()
    assert ((mask >= 0) & (mask <= 1)).all()
    for event in range(7):
        np.testing.assert_allclose(run(path, condition[event : event + 1])[0], mask[event], rtol=1e-5, atol=1e-6)
    many = np.resize(condition, (10_000, 6))
    np.testing.assert_allclose(run(path, many)[7:14], mask, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- what does not agree is not written


class Sum(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(dim=1, keepdim=True)


@pytest.mark.parametrize(("there", "compared"), [(300, 300), (10_000, 10_000), (10_001, 10_000), (25_000, 10_000)])
def test_a_graph_says_how_far_it_is_from_pytorch(there: int, compared: int) -> None:
    events = np.random.default_rng(1).random((there, 3), dtype=np.float32)
    _, exported = export_graph(Graph("sum.onnx", Sum(), "x", ("a_cm", "b_cm", "c_cm"), "y", 0.1), events)
    assert exported.events == compared
    assert 0 <= exported.largest_difference <= 1e-6


class Wrong(torch.nn.Module):
    """Another thing when it is traced."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        right = x.sum(dim=1, keepdim=True)
        return torch.where(right > 50, right * 1.0001, right) if torch.jit.is_tracing() else right


def test_a_graph_that_differs_is_refused_with_the_event() -> None:
    events = np.array([[1, 2], [3, 4], [40, 12.5], [5, 6]], dtype=np.float32)
    with pytest.raises(DataError, match=r"wrong.onnx: event 2 \(a_cm = 40, b_cm = 12.5\): ONNX Runtime gives 52.5052"):
        export_graph(Graph("wrong.onnx", Wrong(), "x", ("a_cm", "b_cm"), "y", 0.1), events)


class Crowded(torch.nn.Module):
    """As BatchNorm in training."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(dim=1, keepdim=True) - 0.1 * x.mean()


def test_a_model_whose_events_depend_on_their_batch_is_refused() -> None:
    events = np.random.default_rng(1).uniform(1, 2, (100, 2)).astype(np.float32)
    with pytest.raises(DataError, match=r"f.onnx: event \d+ .*ONNX Runtime gives"):
        export_graph(Graph("f.onnx", Crowded(), "x", ("a_cm", "b_cm"), "y", 0.1), events)


class Infinite(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1 / x


def test_no_number_is_never_equal() -> None:
    with pytest.raises(DataError, match=r"event 1 .*PyTorch inf"):
        export_graph(Graph("f.onnx", Infinite(), "x", ("a_cm",), "y", 0.1), np.array([[1], [0]], dtype=np.float32))


class Nervous(torch.nn.Module):
    """As a network that divides by the spread of a constant."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, 1:] - 93.5) / 1e-6 + x[:, :1]


def test_a_model_that_hangs_on_the_rounding_of_an_input_is_refused() -> None:
    events = np.stack([np.linspace(1, 9, 100), np.full(100, 93.5)], axis=1).astype(np.float32)
    with pytest.raises(DataError, match="'r_inner_face_cm': its rounding to float32 alone changes 100% of the pred"):
        export_graph(Graph("f.onnx", Nervous(), "x", ("e_gev", "r_inner_face_cm"), "y", 0.1), events)
