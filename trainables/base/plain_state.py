"""Copies of a state that no later update changes and that are read back without running any code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def plain_copy(value: Any, where: str = "state") -> Any:
    """Copy numbers, strings and tensors, and lists, tuples and dicts of them; tensors go to the CPU.

    Raises
    ------
    TypeError
        Something else is in it, which ``torch.load(weights_only=True)`` would refuse in the middle of a search.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.from_numpy(value.copy())
    if isinstance(value, Mapping):
        return {plain_copy(name, where): plain_copy(inner, f"{where}.{name}") for name, inner in value.items()}
    if isinstance(value, list | tuple):
        copies = [plain_copy(inner, f"{where}.{place}") for place, inner in enumerate(value)]
        return tuple(copies) if isinstance(value, tuple) else copies
    for plain in (bool, int, float, str):  # subclasses: enumerations, numbers of libraries
        if isinstance(value, plain):
            return plain(value)
    raise TypeError(
        f"{where} is a {type(value).__module__}.{type(value).__qualname__}, which a checkpoint cannot hold: it holds"
        " numbers, strings, tensors, and lists and dicts of them. Keep such an object out of the state and make it in"
        " build()"
    )


def cpu_copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy the tensors of a ``state_dict()``, which may hold other things too, to the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items() if isinstance(tensor, Tensor)}


def same_value(one: Any, other: Any) -> bool:
    """Decide whether two plain values are equal, tensors bit for bit; a list equals a tuple of the same things."""
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one.cpu(), other.cpu())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same_value, one, other))
    return bool(one == other)
