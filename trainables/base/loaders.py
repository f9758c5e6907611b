"""DataLoaders that a user gives: seeded for one epoch, and their batches brought to the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch


def seed_loader(loader: Any, seed: int, epoch: int) -> None:
    """Seed every generator that a loader or its samplers hold, so that what an epoch draws depends on no earlier one.

    Loaders without one draw from the global generator, as do the workers for their own seeds.
    """
    if getattr(loader, "persistent_workers", False):
        loader._iterator = None  # workers that outlive an epoch would draw on from where it left them
    sampler = getattr(loader, "sampler", None)
    batch_sampler = getattr(loader, "batch_sampler", None)
    for place, part in enumerate((loader, sampler, batch_sampler, getattr(batch_sampler, "sampler", None))):
        generator = getattr(part, "generator", None)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed + place)
        if callable(set_epoch := getattr(part, "set_epoch", None)):
            set_epoch(epoch)


def batches_on(loader: Any, device: torch.device) -> Iterator[Any]:
    """Yield the batches of a loader on the device."""
    for batch in loader:
        yield moved(batch, device)


def moved(batch: Any, device: torch.device) -> Any:
    """Move the tensors of a batch, in dicts, lists and tuples too, and whatever else has ``to(device)``."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=batch.is_pinned() if device.type == "cuda" else False)
    if callable(getattr(batch, "to", None)):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: moved(part, device) for name, part in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(moved(part, device) for part in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(moved(part, device) for part in batch)
    return batch
