"""Shapes of one event of each array: known from data, kept with the weights of a model that was built by them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

SHAPE = "_shape."  # before the name of an array, in weights


class Shapes(dict[str, tuple[int, ...]]):
    """Array -> shape of one event."""

    def __missing__(self, name: str) -> tuple[int, ...]:
        raise KeyError(f"there is no array {name!r}: there are {', '.join(self) or 'none'}")

    def as_tensors(self) -> dict[str, Tensor]:
        """Return what stands for the shapes among weights."""
        return {f"{SHAPE}{name}": torch.tensor(shape, dtype=torch.int64) for name, shape in self.items()}


class WithoutData:
    """Stands for the data of a model that is made from weights: it knows the shapes that the model is built by."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        sizes = {name.removeprefix(SHAPE): one for name, one in weights.items() if name.startswith(SHAPE)}
        self.shapes = Shapes({name: tuple(int(length) for length in size) for name, size in sizes.items()})


def shapes_of(data: Any) -> Shapes:
    """Return the shapes of the training arrays; none where the data are no arrays by name."""
    if isinstance(data, WithoutData):
        return data.shapes
    arrays = getattr(data, "train", None)
    return Shapes({name: tuple(one.shape[1:]) for name, one in arrays.items()} if isinstance(arrays, Mapping) else {})


def without_shapes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights alone."""
    return {name: one for name, one in weights.items() if not name.startswith(SHAPE)}
