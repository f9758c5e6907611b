"""Random state of one run: seeds that depend on nothing but what they are for, and generators given back as found."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch

PURPOSES = ("build", "train", "order", "validate", "predict", "report")


def seed_of(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return the seed (32 bits) of one purpose in one epoch, so that no epoch depends on what was drawn before it."""
    return int(np.random.SeedSequence((seed, PURPOSES.index(purpose), epoch)).generate_state(1)[0])


@contextmanager
def own_random(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators (Python, NumPy, torch, the device's) inside, and leave the caller's as they were.

    What a model draws inside, whether by dropout, ``random``, ``numpy.random`` or the workers of a DataLoader, is a
    function of the seed alone.
    """
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - that is what a user's code may draw from
    accelerators = [] if device.type == "cpu" else [_index_of(device)]
    with torch.random.fork_rng(devices=accelerators, device_type="cuda" if device.type == "cpu" else device.type):
        try:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.default_generator.manual_seed(seed)
            if accelerators:  # torch.manual_seed would seed those of all devices, which are not forked
                module = torch.get_device_module(device)
                with module.device(accelerators[0]) if hasattr(module, "device") else nullcontext():
                    module.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002


def _index_of(device: torch.device) -> int:
    if device.index is not None:
        return device.index
    module = torch.get_device_module(device)
    return int(module.current_device()) if hasattr(module, "current_device") else 0
