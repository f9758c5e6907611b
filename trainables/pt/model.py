"""The networks of the pT models: a multilayer perceptron, its standardised inputs and its dropout."""

# N events, F features, L hidden layers, W width

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trainables.base.training import TrainedModel
from trainables.pt.config import PtCombinedConfig, PtConfig, PtEnergyConfig, config_of
from trainables.pt.correction import PostCorrection

LOWEST = torch.iinfo(torch.int64).min
CHUNK = 16_384  # events of one pass without gradient
LEVELS = 256  # of a random byte: the share that is kept is a multiple of 1/256


class PtNetwork(nn.Module):
    """Features (N, F) -> pT (N,) in GeV: hidden layers of Linear, ReLU and dropout, then one Linear.

    A call gives the model's prediction without any randomness; only ``estimate`` with a generator is random. Valid
    inside the range of the training events.

    Parameters
    ----------
    inputs : int
        F.
    standardised : bool
        Inputs are shifted and scaled by the buffers ``mean`` and ``scale`` (F,), which are saved with the weights.
    corrected : bool
        High pT is corrected after the last layer, by the buffers of ``correction``.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: PtConfig, inputs: int, *, standardised: bool = False, corrected: bool = False) -> None:
        super().__init__()
        sizes = [inputs, *[config.width] * config.depth]
        self.hidden = nn.ModuleList(nn.Linear(size, config.width) for size in sizes[:-1])
        self.head = nn.Linear(sizes[-1], 1)
        self.dropout = config.dropout
        self.standardised = standardised
        if standardised:
            self.register_buffer("mean", torch.zeros(inputs))
            self.register_buffer("scale", torch.ones(inputs))
        self.correction = PostCorrection() if corrected else None

    def forward(self, feature_NF: Tensor) -> Tensor:
        pt_N = self.estimate(feature_NF)
        return pt_N if self.correction is None else self.correction(pt_N)

    def estimate(self, feature_NF: Tensor, random: torch.Generator | None = None) -> Tensor:
        """Estimate pT (N,) in GeV before any correction; with a generator neurons are dropped, as in training."""
        active_NW = (feature_NF - self.mean) / self.scale if self.standardised else feature_NF
        factor_LNW = None
        if random is not None and self.dropout:  # one draw for all layers
            shape = torch.Size((len(self.hidden), len(feature_NF), self.head.in_features))
            factor_LNW = dropout_factor(shape, self.dropout, random)
        for number, layer in enumerate(self.hidden):
            active_NW = functional.relu(layer(active_NW))
            if factor_LNW is not None:
                active_NW = active_NW * factor_LNW[number]
        pt_N: Tensor = self.head(active_NW).squeeze(1)
        return pt_N

    def fit_scaler(self, train_NF: NDArray[np.float32]) -> None:
        """Set each feature's mean and standard deviation over the training events; a constant one keeps scale 1.

        A feature is constant where it varies by its rounding alone, like the radius of clusters at one face: divided by
        that, predictions would depend on the last bit of an input.
        """
        std_F = train_NF.std(axis=0, dtype=np.float64)
        varies_F = std_F > 4 * np.finfo(np.float32).eps * np.abs(train_NF).max(axis=0)
        self.mean.copy_(torch.from_numpy(train_NF.mean(axis=0, dtype=np.float64)))
        self.scale.copy_(torch.from_numpy(np.where(varies_F, std_F, 1.0)))

    def start_at(self, truth_N: NDArray[np.float32]) -> None:
        """Start with nearly the same prediction for all events: the constant of least relative loss, in GeV.

        (ours) It is ``sum(1/truth) / sum(1/truth^2)``. A model that starts around 0 has no response at first, and
        a small learning rate would keep it there for epochs.
        """
        inverse_N = 1 / truth_N.astype(np.float64)
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            nn.init.constant_(self.head.bias, float(inverse_N.sum() / np.square(inverse_N).sum()))


def kept_levels(dropout: float) -> int:
    """Return of how many of the 256 values of a byte a neuron is kept, at least 1."""
    return min(max(round((1 - dropout) * LEVELS), 1), LEVELS)


def dropout_factor(shape: torch.Size, dropout: float, random: torch.Generator) -> Tensor:
    """Draw random factors of 0 and 1 / (kept share), float32: on average 1.

    ``torch.nn.functional.dropout`` draws a float for each neuron, takes half of an update's time on a CPU, and accepts
    no generator. Here one draw of 64 bits is eight bytes, and a neuron is kept where its byte is below ``kept``; so the
    kept share is the multiple of 1/256 nearest to ``1 - dropout`` (0.8 becomes 0.8008), and the factor belongs to this
    share.
    """
    kept = kept_levels(dropout)
    if kept == LEVELS:
        return torch.ones(shape, device=random.device)
    count = prod(shape)
    draws = torch.empty((count + 7) // 8, dtype=torch.int64, device=random.device)
    draws.random_(LOWEST, None, generator=random)  # without a lower bound the top bit would never be drawn
    return (draws.view(torch.uint8)[:count] < kept).view(shape) * (LEVELS / kept)


def build_network(config: PtConfig, inputs: int, seed: int) -> PtNetwork:
    """Build the network of a configuration on the CPU; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return PtNetwork(
            config,
            inputs,
            standardised=isinstance(config, PtEnergyConfig),
            corrected=isinstance(config, PtCombinedConfig),
        )


def load_network(config: PtConfig, weights: Mapping[str, Tensor]) -> PtNetwork:
    """Load the network of a run's ``weights()``, for inference on the CPU."""
    network = build_network(config, weights["hidden.0.weight"].shape[1], seed=0)
    network.load_state_dict(dict(weights))
    return network.eval().requires_grad_(False)


def network_of(model: TrainedModel) -> PtNetwork:
    """Load the network of a trained model, from features to pT (N,)."""
    return load_network(config_of(model), model.weights)


def in_chunks(model: Callable[[Tensor], Tensor], feature_NF: Tensor) -> Tensor:
    """Predict pT (N,) in GeV of many events without gradient; memory for the hidden layers does not grow with N."""
    with torch.no_grad():
        return torch.cat([model(chunk) for chunk in torch.split(feature_NF, CHUNK)])
