"""The ZDC model for inference: raw conditions in, hit probabilities out."""

# B batch, H row (ix), W column (iy); 6 conditions as in data.CONDITIONS

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from trainables.base.training import TrainedModel
from trainables.zdc.config import ZDCConfig
from trainables.zdc.model import Generator, load_generator

if TYPE_CHECKING:
    from trainables.export.package import Package


class Mask(nn.Module):
    """Map from raw conditions (B, 6) in GeV and rad to hit probabilities (B, 20, 20); deterministic.

    The logistic function is written out, because that of ONNX Runtime has an absolute error of 1e-7, which is 1 % of
    a small probability.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, condition_B6: Tensor) -> Tensor:
        mask_logit_BHW: Tensor = self.generator(condition_B6)
        return 1 / (1 + (-mask_logit_BHW).exp())


def load(package: Package) -> Mask:
    """Make the model of a package; raises as ``build_mask`` does."""
    return build_mask(package.model)


def build_mask(model: TrainedModel) -> Mask:
    """Build a trained model for inference on the CPU.

    Raises
    ------
    ValidationError
        Invalid hyperparameters.
    RuntimeError
        Weights of another architecture.
    """
    generator = load_generator(ZDCConfig(**model.hyperparameters), dict(model.weights))
    return Mask(generator).eval().requires_grad_(False)
