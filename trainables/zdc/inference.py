"""The ZDC model as its users have it: raw conditions in, hit probabilities out."""

# B batch, H row (ix), W column (iy); 6 conditions as in data.CONDITIONS

from __future__ import annotations

from torch import Tensor, nn

from trainables.base.training import TrainedModel
from trainables.zdc.config import ZDCConfig
from trainables.zdc.model import Generator, load_generator


class Mask(nn.Module):
    """Raw conditions (B, 6) in GeV and rad -> probability of a hit (B, 20, 20). Nothing in it is random.

    The logistic function is written out: that of ONNX Runtime is good to 1e-7, but small probabilities are then wrong
    by 1 % of themselves.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, condition_B6: Tensor) -> Tensor:
        mask_logit_BHW: Tensor = self.generator(condition_B6)
        return 1 / (1 + (-mask_logit_BHW).exp())


def build_mask(model: TrainedModel) -> Mask:
    """A trained model for inference on the CPU.

    Raises
    ------
    ValidationError
        Hyperparameters that no configuration has.
    RuntimeError
        Weights of another architecture.
    """
    generator = load_generator(ZDCConfig(**model.hyperparameters), dict(model.weights))
    return Mask(generator).eval().requires_grad_(False)
