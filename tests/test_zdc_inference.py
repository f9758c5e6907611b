"""The ZDC model in use is the trained one, its ONNX file too; small probabilities are right relative to themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import packed
import pytest
import torch
from numpy.typing import NDArray

from trainables.export.onnx import Graph, export_graph
from trainables.export.package import Package
from trainables.zdc.config import ZDCConfig
from trainables.zdc.events import CONDITIONS
from trainables.zdc.inference import build_mask
from trainables.zdc.train import ZDCTraining

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return packed.pack("zdc", tmp_path_factory.mktemp("zdc") / "package")


def conditions() -> NDArray[np.float32]:
    """No energy, the largest, phi at both ends, and the validation events."""
    edges = [
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0.3, np.pi],
        [20, 0, 0, 20, 0, -np.pi],
        [20, -6, 0, 19, 0.3, np.pi],
        [20, -6, 0, 19, 0.3, -np.pi],
        [1e-4, 0, 0, 1e-4, 0, 0],
    ]
    return np.concatenate([np.array(edges, dtype=np.float32), packed.zdc_data().validation.condition_N6])


def onnx_mask(package: Package, condition_N6: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(package.folder / "zdc_mask.onnx", providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(["hit_probability"], {"condition": condition_N6})[0]
    return result


def test_the_mask_in_use_is_that_of_training() -> None:
    training = packed.training("zdc")
    assert isinstance(training, ZDCTraining)
    condition_N6 = torch.from_numpy(conditions())
    torch.testing.assert_close(build_mask(packed.model("zdc"))(condition_N6), training.mask_prob(condition_N6))


def test_a_packaged_mask_is_that_of_the_model(package: Package) -> None:
    condition_N6 = torch.from_numpy(conditions())
    packaged, direct = build_mask(package.model), build_mask(packed.model("zdc"))
    assert torch.equal(packaged(condition_N6), direct(condition_N6))
    assert not any(parameter.requires_grad for parameter in packaged.parameters())


def test_the_onnx_file_gives_what_pytorch_gives_also_at_the_edges(package: Package) -> None:
    expected = build_mask(package.model)(torch.from_numpy(conditions())).numpy()
    found = onnx_mask(package, conditions())
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-8)


def test_small_probabilities_are_right_relative_to_themselves() -> None:
    """Where ONNX Runtime's own logistic function is not."""
    mask = build_mask(packed.model("zdc"))
    with torch.no_grad():
        mask.generator.head.get_parameter("bias").sub_(9.0)
    condition_N6 = torch.from_numpy(conditions())
    content, _ = export_graph(Graph("small.onnx", mask, "x", CONDITIONS, "y", floor=0.1), condition_N6.numpy())
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": condition_N6.numpy()})[0]
    exact = mask.double()(condition_N6.double()).numpy()
    assert exact.max() < 1e-4
    np.testing.assert_allclose(found, exact, rtol=5e-5)


def test_extreme_logits_give_probabilities() -> None:
    mask = build_mask(packed.model("zdc"))
    for logit, expected in ((-200.0, 0.0), (200.0, 1.0)):
        mask.generator.head.get_parameter("bias").fill_(logit)
        mask.generator.head.get_parameter("weight").zero_()
        assert (mask(torch.from_numpy(conditions())) == expected).all()


def test_the_manifest_says_what_goes_in_and_out(package: Package) -> None:
    manifest = package.manifest
    assert tuple(column.name for column in manifest.inputs) == CONDITIONS
    assert [column.unit for column in manifest.inputs] == ["GeV"] * 4 + ["rad"] * 2
    assert manifest.output.shape == (20, 20)
    assert "above 1.5 MeV" in manifest.output.description
    assert manifest.data == {"hit_threshold_mev": 1.5}
    assert manifest.onnx["zdc_mask.onnx"].columns == CONDITIONS
    assert 0 < manifest.onnx["zdc_mask.onnx"].largest_difference <= 1e-5
    assert manifest.onnx["zdc_mask.onnx"].events == len(packed.zdc_data().validation)
    np.testing.assert_array_equal(np.float32(manifest.example), packed.zdc_data().validation.condition_N6[:3])


def test_the_energy_range_is_that_of_training(package: Package, tmp_path: Path) -> None:
    """Which a normalised model remembers; of the rest, and of a raw model, the holdout's is known."""
    train, validation = packed.zdc_data().train.condition_N6, packed.zdc_data().validation.condition_N6
    energy, *others = package.manifest.inputs
    assert energy.lowest == pytest.approx(train[:, 0].min(), rel=1e-6)
    assert energy.highest == pytest.approx(train[:, 0].max(), rel=1e-6)
    for number, column in enumerate(others, 1):
        assert (column.lowest, column.highest) == (validation[:, number].min(), validation[:, number].max())
    raw = packed.pack("zdc", tmp_path / "raw", normalise=False).manifest.inputs[0]
    assert (raw.lowest, raw.highest) == (validation[:, 0].min(), validation[:, 0].max())


def test_default_sizes_pack_too(tmp_path: Path) -> None:
    """Of a network as wide as the report's, not yet trained."""
    untrained = ZDCTraining(ZDCConfig(), packed.zdc_data(), packed.CPU)
    model = packed.TrainedModel("zdc", "none", untrained.config.model_dump(), untrained.weights())
    assert packed.pack_model(model, tmp_path / "wide").manifest.onnx["zdc_mask.onnx"].largest_difference < 1e-5
