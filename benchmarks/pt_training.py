"""Our pT training epoch against the usual Dataset and DataLoader loop, and our dropout against PyTorch's.

    python -m benchmarks.pt_training --batch-size 1024 --repeats 5
    python -m benchmarks.pt_training --batch-size 64 --width 64       where Python takes more time than the network

Prints Markdown. All ways of one table take turns, so that a busy machine disturbs them alike. Same events, same
network, same loss and penalties, same batch size. Where there is CUDA it is measured there.
"""

# N events, F features, B batch

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

import trainables.pt.model
from benchmarks.machine import begin_on
from benchmarks.training_step import print_table, time_in_turn
from trainables.pt.config import PtDphiConfig, PtEnergyConfig
from trainables.pt.data import PtData, PtDataSettings, load_data
from trainables.pt.loss import (
    boundary_inverse_dphi,
    boundary_penalty,
    grid_inverse_dphi,
    monotonic_penalty,
    relative_loss,
)
from trainables.pt.simulate import simulate_data
from trainables.pt.train import PtDphiTraining, PtEnergyTraining

Config = PtEnergyConfig | PtDphiConfig
Factor = Callable[[torch.Size, float, torch.Generator], Tensor]


class ElectronDataset(Dataset[tuple[Tensor, Tensor]]):
    """One event at a time, as data sets are usually written."""

    def __init__(self, feature_NF: Tensor, truth_N: Tensor) -> None:
        self.feature_NF, self.truth_N = feature_NF, truth_N

    def __len__(self) -> int:
        return len(self.truth_N)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.feature_NF[index], self.truth_N[index]


class UsualLoop:
    """What a script does: DataLoader, nn.Dropout, Adam, loss.item() at every step."""

    def __init__(self, config: Config, feature_NF: Tensor, truth_N: Tensor, device: torch.device, workers: int) -> None:
        self.config, self.device, self.epoch = config, device, 0
        dataset = ElectronDataset(feature_NF.cpu(), truth_N.cpu())
        self.loader = DataLoader(dataset, config.batch_size, shuffle=True, drop_last=True, num_workers=workers)
        sizes = [feature_NF.shape[1], *[config.width] * config.depth]
        layers: list[nn.Module] = []
        for size in sizes[:-1]:
            layers += [nn.Linear(size, config.width), nn.ReLU(), nn.Dropout(config.dropout)]
        self.network = nn.Sequential(*layers, nn.Linear(sizes[-1], 1), nn.Flatten(0)).to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), config.learning_rate)
        inverse = torch.cat((grid_inverse_dphi(), boundary_inverse_dphi())).to(device)
        self.probe = torch.stack((inverse, torch.zeros_like(inverse)), dim=1)
        self.angle_K = 1 / grid_inverse_dphi(device)

    def train_epoch(self) -> None:
        self.epoch += 1
        self.network.train()
        for batch in self.loader:
            feature_BF, truth_B = (part.to(self.device) for part in batch)
            loss = relative_loss(
                self.network(feature_BF), truth_B, self.config.peak_weight, self.config.peak_window
            ) + self._penalties(self.config)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            loss.item()

    def _penalties(self, config: Config) -> Tensor | float:
        if isinstance(config, PtEnergyConfig):
            return 0.0
        self.network.eval()
        pt = self.network(self.probe)
        self.network.train()
        monotonic = monotonic_penalty(pt[: len(self.angle_K)], self.angle_K)
        return config.lambda_mono * monotonic + config.lambda_boundary(self.epoch) * boundary_penalty(
            pt[len(self.angle_K) :]
        )


class BareLoop:
    """The least that a loop does on the same network: resident events, nn.Dropout, the main loss and fused Adam."""

    def __init__(self, usual: UsualLoop, feature_NF: Tensor, truth_N: Tensor) -> None:
        self.config, self.network = usual.config, usual.network
        self.feature_NF, self.truth_N = feature_NF, truth_N
        self.optimizer = torch.optim.Adam(self.network.parameters(), self.config.learning_rate, fused=True)

    def train_epoch(self) -> None:
        self.network.train()
        size, c = self.config.batch_size, self.config
        order_N = torch.randperm(len(self.truth_N), device=self.truth_N.device)
        for index_B in order_N.split(size)[: len(order_N) // size]:
            loss = relative_loss(
                self.network(self.feature_NF[index_B]), self.truth_N[index_B], c.peak_weight, c.peak_window
            )
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


def main(events: int = 0, batch_size: int = 1024, width: int = 256, repeats: int = 5, threads: int = 1) -> None:
    """Measure and print.

    Parameters
    ----------
    events : int
        Simulated events; 0: the carried sample.
    repeats : int
        Timed epochs of each way, after one that is not timed.
    threads : int
        Of PyTorch, on the CPU.
    """
    device, machine = begin_on(threads)
    print(machine)
    with tempfile.TemporaryDirectory() as cache:
        data = simulate_data(events) if events else load_data(PtDataSettings(), Path(cache))
        print(f"{len(data.train)} training events, batch {batch_size}, width {width}, {repeats} repeats\n")
        shared = {"batch_size": batch_size, "width": width}
        compare_loops(PtEnergyConfig(**shared), data, device, repeats)
        compare_loops(PtDphiConfig(**shared), data, device, repeats)
        compare_dropouts(PtEnergyConfig(**shared), data, device, repeats)


def compare_loops(config: Config, data: PtData, device: torch.device, repeats: int) -> None:
    """Whole training epochs."""
    ours = (
        PtEnergyTraining(config, data, device)
        if isinstance(config, PtEnergyConfig)
        else PtDphiTraining(config, data, device)
    )
    feature_NF = ours.train_NF
    if ours.network.standardised:
        feature_NF = (feature_NF - ours.network.mean) / ours.network.scale
    ways: dict[str, Callable[[], object]] = {"ours": ours.train_epoch}
    for workers in (0, 2):
        loop = UsualLoop(config, feature_NF, ours.truth_N, device, workers)
        ways[f"DataLoader, {workers} workers"] = loop.train_epoch
    bare = BareLoop(UsualLoop(config, feature_NF, ours.truth_N, device, 0), feature_NF, ours.truth_N)
    ways["bare loop, no penalties"] = bare.train_epoch
    title = f"training, {'pt-energy' if isinstance(config, PtEnergyConfig) else 'pt-dphi'}"
    print_table(title, time_in_turn(ways, repeats, device), len(data.train))


def bernoulli_factor(shape: torch.Size, dropout: float, random: torch.Generator) -> Tensor:
    """A float for each neuron, from a generator of one's own."""
    return torch.empty(shape, device=random.device).bernoulli_(1 - dropout, generator=random) / (1 - dropout)


def pytorch_factor(shape: torch.Size, dropout: float, random: torch.Generator) -> Tensor:
    """``functional.dropout``, which draws from the global random state."""
    return functional.dropout(torch.ones(shape, device=random.device), dropout)


def compare_dropouts(config: PtEnergyConfig, data: PtData, device: torch.device, repeats: int) -> None:
    """Our training epoch with other ways to draw the neurons that are dropped."""
    factors: dict[str, Factor] = {
        "bytes (ours)": trainables.pt.model.dropout_factor,
        "bernoulli, own generator": bernoulli_factor,
        "torch.nn.functional.dropout": pytorch_factor,
    }
    ways: dict[str, Callable[[], object]] = {
        name: partial(train_with, PtEnergyTraining(config, data, device), factor) for name, factor in factors.items()
    }
    ways["none at all"] = PtEnergyTraining(config.model_copy(update={"dropout": 0.0}), data, device).train_epoch
    print_table("dropout, pt-energy", time_in_turn(ways, repeats, device), len(data.train))


def train_with(training: PtEnergyTraining, factor: Factor) -> None:
    """One epoch in which ``factor`` draws the neurons."""
    with patch.object(trainables.pt.model, "dropout_factor", factor):
        training.train_epoch()


if __name__ == "__main__":
    tyro.cli(main)
