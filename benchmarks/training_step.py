"""Our ZDC training epoch against the usual Dataset and DataLoader loop, same networks, losses and optimizer.

    python -m benchmarks.training_step --events 8000 --repeats 3

Prints Markdown. All ways of one table take turns, so that a busy machine disturbs them alike. The usual loop
makes a discriminator and a generator update from one batch, ours reads a batch for each. Where there is CUDA
it is measured there, and the throughput at hidden_dim 16, 32 and 64 follows, with and without bf16.
"""

# B batch, H row, W column

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import tyro
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.machine import begin_on
from trainables.zdc.config import ZDCConfig
from trainables.zdc.data import ZDCData
from trainables.zdc.events import Events
from trainables.zdc.loss import adversarial_loss, discriminator_loss, regression_loss, sampled_hits
from trainables.zdc.model import build_networks
from trainables.zdc.simulate import simulate_data
from trainables.zdc.train import BETAS, ZDCTraining


class ShowerDataset(Dataset[tuple[Tensor, Tensor]]):
    """One event at a time, as data sets are usually written."""

    def __init__(self, events: Events) -> None:
        self.events = events

    def __len__(self) -> int:
        return len(self.events)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        hits = np.unpackbits(self.events.mask_packed_N50[index]).reshape(20, 20)
        return torch.from_numpy(self.events.condition_N6[index]), torch.from_numpy(hits).float()


class UsualLoop:
    """What a script does: DataLoader, Adam, OneCycleLR, loss.item() at every step."""

    def __init__(
        self, config: ZDCConfig, data: ZDCData, device: torch.device, workers: int, plain: bool = False
    ) -> None:
        self.config, self.device, dataset = config, device, ShowerDataset(data.train)
        self.loader = DataLoader(dataset, config.batch_size, shuffle=True, drop_last=True, num_workers=workers)
        networks = [network.to(device) for network in build_networks(config, data.train, seed=0)]
        if plain:
            networks = [network.to(memory_format=torch.contiguous_format) for network in networks]
        self.generator, self.discriminator = networks
        steps = config.epochs * len(self.loader)
        self.optimizers, self.schedules = [], []
        for network, max_lr in zip(networks, (config.max_lr_gen, config.max_lr_dis), strict=True):
            optimizer = torch.optim.Adam(network.parameters(), betas=BETAS, fused=not plain)
            self.optimizers.append(optimizer)
            self.schedules.append(torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr, steps))
        self.noise = torch.Generator(device).manual_seed(0)

    def train_epoch(self) -> None:
        for batch in self.loader:
            condition_B6, hit_BHW = (part.to(self.device) for part in batch)
            if self.config.gan:
                fake_BHW = sampled_hits(self.generator(condition_B6).detach(), 1.0, self.noise)
                real_logit_B = self.discriminator(hit_BHW, condition_B6)
                fake_logit_B = self.discriminator(fake_BHW, condition_B6)
                self._step(1, discriminator_loss(real_logit_B, fake_logit_B, self.config.smoothing))
            mask_logit_BHW = self.generator(condition_B6)
            loss = regression_loss(mask_logit_BHW, hit_BHW)
            if self.config.gan:
                fake_BHW = sampled_hits(mask_logit_BHW, 1.0, self.noise)
                adversarial = adversarial_loss(self.discriminator(fake_BHW, condition_B6))
                loss = loss + self.config.adversarial_weight * adversarial
            self._step(0, loss)

    def _step(self, which: int, loss: Tensor) -> None:
        optimizer = self.optimizers[which]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], self.config.gradient_clip_norm)
        optimizer.step()
        self.schedules[which].step()
        loss.item()


def main(events: int = 8000, batch_size: int = 256, hidden_dim: int = 8, repeats: int = 3, threads: int = 1) -> None:
    """Measure and print.

    Parameters
    ----------
    events : int
        Simulated; four fifths train.
    repeats : int
        Timed epochs of each way, after one that is not timed.
    threads : int
        Of PyTorch, on the CPU.
    """
    device, machine = begin_on(threads)
    print(machine)
    print(f"{events} events, batch {batch_size}, hidden_dim {hidden_dim}, {repeats} repeats\n")
    data = simulate_data(events, 0)
    compare_data_paths(data, batch_size, repeats, device)
    for gan in (False, True):
        config = ZDCConfig(hidden_dim=hidden_dim, batch_size=batch_size, epochs=repeats + 1, gan=gan)
        compare_loops(config, data, device, repeats)
    if device.type == "cuda":
        measure_sizes(data, device, repeats)


def compare_data_paths(data: ZDCData, batch_size: int, repeats: int, device: torch.device) -> None:
    """Only reading the batches of an epoch, without any training."""
    config = ZDCConfig(hidden_dim=4, batch_size=batch_size)
    ours = ZDCTraining(config, data, device)

    def read_ours() -> None:
        ours.gen_batches.start_epoch()
        for _ in range(ours.gen_batches.batches):
            ours.train_events.batch(ours.gen_batches.draw())

    def read_usual(loop: UsualLoop) -> None:
        for condition_B6, hit_BHW in loop.loader:
            condition_B6.to(device), hit_BHW.to(device)

    ways: dict[str, Callable[[], object]] = {"ours": read_ours}
    for workers in (0, 2):
        loop = UsualLoop(config, data, device, workers)
        ways[f"DataLoader, {workers} workers"] = lambda loop=loop: read_usual(loop)
    print_table("reading alone", time_in_turn(ways, repeats, device), len(data.train))


def compare_loops(config: ZDCConfig, data: ZDCData, device: torch.device, repeats: int) -> None:
    """Whole training epochs."""
    ways: dict[str, Callable[[], object]] = {
        "ours": ZDCTraining(config, data, device).train_epoch,
        "DataLoader, 0 workers": UsualLoop(config, data, device, 0).train_epoch,
        "DataLoader, 2 workers": UsualLoop(config, data, device, 2).train_epoch,
        "DataLoader, 0 workers, PyTorch's default layout and Adam": UsualLoop(
            config, data, device, 0, True
        ).train_epoch,
    }
    title = "training, GAN 1:1" if config.gan else "training, regression only"
    print_table(title, time_in_turn(ways, repeats, device), len(data.train))


def measure_sizes(data: ZDCData, device: torch.device, repeats: int) -> None:
    """Throughput of our epochs by width and precision."""
    for hidden_dim in (16, 32, 64):
        for gan in (False, True):
            ways: dict[str, Callable[[], object]] = {}
            for precision in ("fp32", "bf16"):
                config = ZDCConfig(hidden_dim=hidden_dim, epochs=repeats + 1, gan=gan, precision=precision)
                ways[precision] = ZDCTraining(config, data, device).train_epoch
            title = f"hidden_dim {hidden_dim}, batch 1024, {'GAN 1:1' if gan else 'regression only'}"
            print_table(title, time_in_turn(ways, repeats, device), len(data.train))


def time_in_turn(ways: dict[str, Callable[[], object]], repeats: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each repeat of each way; the first round only warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, epoch in ways.items():
            started = time.perf_counter()
            epoch()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if repeat:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def print_table(title: str, seconds: dict[str, list[float]], events: int) -> None:
    """Median events per second, and the median over repeats of the time as a multiple of the first way's."""
    first = next(iter(seconds.values()))
    print(f"| {title} | events/s | time / first |\n|---|---|---|")
    for name, of_way in seconds.items():
        ratio = statistics.median(mine / base for mine, base in zip(of_way, first, strict=True))
        print(f"| {name} | {events / statistics.median(of_way):,.0f} | {ratio:.2f} |")
    print(flush=True)


if __name__ == "__main__":
    tyro.cli(main)
