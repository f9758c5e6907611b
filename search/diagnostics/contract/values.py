"""Compare nested states and weights bit for bit, and say where they differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

_MOST_PLACES = 3  # in one sentence


def flat(state: Any, path: str = "") -> dict[str, Any]:
    """Return a state as one dict of tensors and plain values, by path."""
    if isinstance(state, Mapping):
        return {key: value for name in state for key, value in flat(state[name], f"{path}/{name}").items()}
    if isinstance(state, list | tuple):
        return {key: value for i, item in enumerate(state) for key, value in flat(item, f"{path}/{i}").items()}
    return {path or "/": state}


def copied(state: Any) -> Any:
    """Copy a nested state with its tensors and arrays."""
    if isinstance(state, Mapping):
        return {name: copied(value) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return [copied(value) for value in state]
    return _copy(state)


def same(one: Any, other: Any) -> bool:
    """Compare bit for bit."""
    return not differences(one, other)


def differences(one: Any, other: Any) -> list[str]:
    """Return the paths whose values differ, or that only one of both has."""
    first, second = flat(one), flat(other)
    paths = dict.fromkeys([*first, *second])
    return [path for path in paths if path not in first or path not in second or not _equal(first[path], second[path])]


def places(paths: Iterable[str]) -> str:
    """List a few paths, and count the rest."""
    every = [path.removeprefix("/") or "itself" for path in paths]
    more = f" and {len(every) - _MOST_PLACES} more" if len(every) > _MOST_PLACES else ""
    return ", ".join(every[:_MOST_PLACES]) + more


def _copy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    return value.copy() if isinstance(value, np.ndarray) else value


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        one, other = one.detach().cpu(), other.detach().cpu()
        return one.dtype == other.dtype and one.shape == other.shape and _equal_elements(one, other)
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return bool(np.array_equal(one, other))
    return bool(one == other) or (one != one and other != other)  # not a number


def _equal_elements(one: torch.Tensor, other: torch.Tensor) -> bool:
    if torch.equal(one, other):
        return True
    return one.is_floating_point() and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
