"""The two networks: a generator from six particle parameters to a hit map, and a discriminator of such maps."""

# B batch, C channel, H row (ix), W column (iy), h hidden_dim; 6 conditions as in events.CONDITIONS.
# Flattening H, W gives the crystal number 20 ix + iy.

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.zdc.config import ZDCConfig
from trainables.zdc.events import Events

SIDE = 20  # crystals along x and along y
GROUPS = 4  # of channels normalised together; the third argument of the report's LinearBlock
LEAK = 0.2  # ours: slope of LeakyReLU below zero, the usual one of convolutional GANs


class Normalisation(nn.Module):
    """Normalisation of raw physical inputs to numbers of order one; its constants are buffers of the model.

    Energy is mapped to [0, 1] by the smallest and the largest training energy, the other five are z-scored.
    Source: ZDC status report of 2025-08-07, "Development 1: Normalisation".
    """

    offset_6: Tensor
    scale_6: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offset_6", torch.zeros(6))
        self.register_buffer("scale_6", torch.ones(6))

    def fit(self, condition_N6: NDArray[np.float32]) -> None:
        """Compute the constants from training events, (N, 6) in GeV and rad; sums are in float64."""
        events = len(condition_N6)
        mean_6 = sum(part.sum(axis=0, dtype=np.float64) for part in _parts(condition_N6)) / events
        square_6 = sum(np.square(part - mean_6).sum(axis=0) for part in _parts(condition_N6)) / events
        std_6 = np.sqrt(square_6) + 1e-8
        lowest, highest = float(condition_N6[:, 0].min()), float(condition_N6[:, 0].max())
        mean_6[0], std_6[0] = lowest, highest + 1e-8 - lowest
        self.offset_6.copy_(torch.from_numpy(mean_6))
        self.scale_6.copy_(torch.from_numpy(std_6))

    def forward(self, condition_B6: Tensor) -> Tensor:
        return (condition_B6 - self.offset_6) / self.scale_6


class LinearBlock(nn.Sequential):
    """Linear -> GroupNorm -> LeakyReLU, (B, inputs) -> (B, outputs). Ours: the report shows no inside."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__(nn.Linear(inputs, outputs), nn.GroupNorm(groups, outputs), nn.LeakyReLU(LEAK, inplace=True))


class ConvBlock(nn.Sequential):
    """Convolution that keeps H, W -> GroupNorm -> LeakyReLU: Conv2dBlockH3W3 (kernel 3), Conv2dBlockH5W5 (5).

    Ours, because the report does not show its inside. GroupNorm costs a fifth of the time and halves the epochs to
    the same cross-entropy. Unlike BatchNorm it makes no event depend on the others of its batch.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        super().__init__(convolution, nn.GroupNorm(GROUPS, outputs), nn.LeakyReLU(LEAK, inplace=True))


class FiLM(nn.Module):
    """Feature-wise linear modulation: ``x * (1 + scale(cond)) + shift(cond)`` (arXiv:1709.07871)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Linear(channels, channels)
        self.shift = nn.Linear(channels, channels)

    def forward(self, x_BCHW: Tensor, cond_BC: Tensor) -> Tensor:
        scale_BC11 = self.scale(cond_BC).unsqueeze(-1).unsqueeze(-1)
        shift_BC11 = self.shift(cond_BC).unsqueeze(-1).unsqueeze(-1)
        modulated_BCHW: Tensor = x_BCHW * (1 + scale_BC11) + shift_BC11
        return modulated_BCHW


class Generator(nn.Module):
    """Raw conditions (B, 6) in GeV and rad -> one logit per crystal (B, 20, 20); its sigmoid is the MASK.

    The network of the ZDC status report of 2025-08-07, "Development 1: Pre-encoding". It holds no noise: the
    MASK of an event is always the same. Valid inside the range of the training events.

    Parameters
    ----------
    hidden_dim : int
        h of the listing, a multiple of 4.
    """

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        h = hidden_dim
        self.normalisation = Normalisation()
        self.param_encoder = nn.Sequential(nn.Linear(6, 2 * h), nn.ReLU(), nn.Linear(2 * h, 4 * h))
        self.encoder = nn.Sequential(
            LinearBlock(4 * h, 4 * h, GROUPS),
            LinearBlock(4 * h, 9 * h, GROUPS),
            nn.Unflatten(1, (h, 3, 3)),
            nn.ConvTranspose2d(h, h, kernel_size=3),  # 5x5
            ConvBlock(h, 2 * h, 3),
            ConvBlock(2 * h, 4 * h, 3),
            nn.PixelShuffle(2),  # h channels, 10x10
            ConvBlock(h, 2 * h, 5),
            ConvBlock(2 * h, 4 * h, 5),
            nn.PixelShuffle(2),  # h channels, 20x20
            ConvBlock(h, h, 5),
            ConvBlock(h, h, 5),
        )
        self.film_cond_linear = nn.Linear(4 * h, h)
        self.film = FiLM(h)
        self.head = nn.Conv2d(h, 1, kernel_size=1)  # ours: the listing ends before the output

    def start_at(self, hit_rate: float) -> None:
        """Initialise the head to a nearly flat MASK at the mean hit rate of the training sample, in (0, 1).

        Ours: otherwise the model spends its first epochs on learning that most crystals are dark.
        """
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            nn.init.constant_(self.head.get_parameter("bias"), np.log(hit_rate / (1 - hit_rate)))

    def forward(self, condition_B6: Tensor) -> Tensor:
        encoded_BC = self.param_encoder(self.normalisation(condition_B6))
        shower_BCHW = self.encoder(encoded_BC)
        modulated_BCHW = self.film(shower_BCHW, self.film_cond_linear(encoded_BC))
        mask_logit_BHW: Tensor = self.head(modulated_BCHW).squeeze(1)
        return mask_logit_BHW


class Discriminator(nn.Module):
    """Hits (B, 20, 20) of 0 and 1 with raw conditions (B, 6) -> one logit (B,): above zero means Geant4.

    Ours, because the report does not show it: strided convolutions, and a projection of the conditions onto the
    image's features (arXiv:1802.05637). Nothing is normalised over the batch, because real and fake share a pass.
    """

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        h = hidden_dim
        self.normalisation = Normalisation()
        self.image = nn.Sequential(
            nn.Conv2d(1, h, 4, stride=2, padding=1),  # 10x10
            nn.LeakyReLU(LEAK, inplace=True),
            nn.Conv2d(h, 2 * h, 4, stride=2, padding=1),  # 5x5
            nn.LeakyReLU(LEAK, inplace=True),
            nn.Flatten(),
            nn.Linear(50 * h, 4 * h),
            nn.LeakyReLU(LEAK, inplace=True),
        )
        self.condition = nn.Sequential(nn.Linear(6, 4 * h), nn.LeakyReLU(LEAK, inplace=True), nn.Linear(4 * h, 4 * h))
        self.head = nn.Linear(4 * h, 1)

    def forward(self, hit_BHW: Tensor, condition_B6: Tensor) -> Tensor:
        feature_BC = self.image(hit_BHW.unsqueeze(1))
        projection_B = (feature_BC * self.condition(self.normalisation(condition_B6))).mean(dim=1)
        logit_B: Tensor = self.head(feature_BC).squeeze(1) + projection_B
        return logit_B


def build_networks(config: ZDCConfig, train: Events, seed: int) -> tuple[Generator, Discriminator]:
    """Build both networks on the CPU, ready for their first update; the global random state does not change.

    The generator's weights are channels_last, which makes its updates 1.15 times faster on a CPU (bare
    convolutions 1.3 to 2 times). The discriminator's are not, because it has few channels and would be slower.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        generator, discriminator = Generator(config.hidden_dim), Discriminator(config.hidden_dim)
    if config.normalise:
        generator.normalisation.fit(train.condition_N6)
        discriminator.normalisation.load_state_dict(generator.normalisation.state_dict())
    hits = sum(int(np.bitwise_count(part).sum(dtype=np.int64)) for part in _parts(train.mask_packed_N50))
    generator.start_at(hit_rate=(hits + 0.5) / (len(train) * SIDE * SIDE + 1))
    for parameter in generator.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return generator, discriminator


def load_generator(config: ZDCConfig, weights: dict[str, Tensor]) -> Generator:
    """Build the generator from a run's ``weights()``, for inference on the CPU."""
    generator = Generator(config.hidden_dim)
    generator.load_state_dict(weights)
    return generator.eval()


def _parts(array: NDArray[Any], rows: int = 1_000_000) -> Iterator[NDArray[Any]]:
    """Yield slices of the array, so that temporaries stay small for any number of events."""
    return (array[first : first + rows] for first in range(0, len(array), rows))
