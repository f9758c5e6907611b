"""Measure training on a device: events per second of an update by width, batch and precision, memory, and an epoch."""

# B batch, H row, W column

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from trainables.zdc.config import ZDCConfig
from trainables.zdc.data import ZDCData
from trainables.zdc.events import Events
from trainables.zdc.loss import regression_loss
from trainables.zdc.model import build_networks
from trainables.zdc.simulate import simulate_data
from trainables.zdc.train import BETAS, ZDCTraining

SIZES = tuple((width, batch) for width in (16, 32, 64) for batch in (1024, 4096))  # hidden_dim, events an update
REPORT_EVENTS = 250_000  # of the report's sample
WARM_UPDATES = 3
MODES = ("fp32", "bf16", "graph")  # graph: updates in fp32 as one CUDA graph


@cache
def photons(events: int) -> ZDCData:
    """Return simulated events, of which ``events`` train; beyond 20,000 the same come again."""
    data = simulate_data(int(min(events, 20_000) * 1.25) + 10, 0)
    rows = np.resize(np.arange(len(data.train)), events)
    return replace(data, train=Events(data.train.condition_N6[rows], data.train.mask_packed_N50[rows]))


def update_rate(
    data: ZDCData, device: torch.device, width: int, batch: int, gan: bool, mode: str, seconds: float
) -> dict[str, Any]:
    """Measure events per second of the generator's updates, with those of the discriminator where there is one."""
    if mode == "graph":
        update = _graphed_update(data, device, width, batch)
    else:
        update = _update(data, device, width, batch, gan, "bf16" if mode == "bf16" else "fp32")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(WARM_UPDATES):
        update()
    _wait(device)
    started, made = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        update()
        made += 1
        if made % 10 == 0:
            _wait(device)
    _wait(device)
    rate = made * batch / (time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    return {"events_per_s": round(rate), "peak_mib": peak and round(peak)}


def epoch_seconds(data: ZDCData, device: torch.device, precision: Literal["fp32", "bf16"]) -> dict[str, Any]:
    """Time an epoch of the report's network, GAN 1:1, batch 1,024, and its validation, after one that warms up."""
    training = ZDCTraining(ZDCConfig(epochs=2, precision=precision), data, device)
    seconds = {}
    for _ in range(2):
        for name, part in (("train", training.train_epoch), ("validate", training.validate)):
            started = time.perf_counter()
            part()
            _wait(device)
            seconds[f"{name}_s"] = round(time.perf_counter() - started, 3)
    return {"events": len(data.train)} | seconds


def _update(
    data: ZDCData, device: torch.device, width: int, batch: int, gan: bool, precision: Literal["fp32", "bf16"]
) -> Callable[[], None]:
    config = ZDCConfig(epochs=2, hidden_dim=width, batch_size=batch, gan=gan, precision=precision)
    training = ZDCTraining(config, data, device)
    batches = (training.gen_batches, training.dis_batches)
    left = 0

    def update() -> None:
        nonlocal left
        if left == 0:
            for each in batches:
                each.start_epoch()
            left = training.iterations
        left -= 1
        if gan:
            training._update_discriminator(1.0)
        training._update_generator(1.0)

    return update


def _graphed_update(data: ZDCData, device: torch.device, width: int, batch: int) -> Callable[[], None]:
    """Capture one update of the regression as a CUDA graph: what is left when Python and launches cost nothing."""
    config = ZDCConfig(hidden_dim=width, batch_size=batch, gan=False)
    generator = build_networks(config, data.train, 0)[0].to(device)
    optimizer = torch.optim.Adam(generator.parameters(), 1e-4, BETAS, fused=True, capturable=True)
    condition_B6 = torch.from_numpy(np.asarray(data.train.condition_N6[:batch])).to(device)
    hits = np.unpackbits(np.asarray(data.train.mask_packed_N50[:batch]), axis=1)
    hit_BHW = torch.from_numpy(hits).float().view(batch, 20, 20).to(device)

    def update() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss: Tensor = regression_loss(generator(condition_B6), hit_BHW)
        torch.autograd.backward(loss)
        optimizer.step()

    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):  # a capture wants its kernels chosen and its moments made before
        for _ in range(WARM_UPDATES):
            update()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        update()
    return graph.replay


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
