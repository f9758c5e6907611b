"""Arrays by name, one row an event: on the device, in mini-batches of a fresh order, as a function's keywords."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.base.batches import BatchStream, on_device
from trainables.base.errors import DataError


def float_type_of(network: nn.Module) -> torch.dtype:
    """Return the precision of a network's weights, which floating-point arrays take on their way to it."""
    return next((one.dtype for one in network.parameters() if one.is_floating_point()), torch.get_default_dtype())


def is_numeric(array: NDArray[Any]) -> bool:
    """Decide whether an array can become a tensor."""
    return array.dtype.kind in "biuf"


def to_tensor(array: Any, name: str, float_type: torch.dtype, device: torch.device) -> Tensor:
    """Make a tensor on the device of an array, of floating-point numbers in this precision.

    Raises
    ------
    DataError
        The array is not of numbers: strings, objects, dates.
    """
    if isinstance(array, Tensor):
        tensor = array.to(device)
    else:
        array = np.asarray(array)
        if not is_numeric(array):
            raise DataError(
                f"array {name!r} is of type {array.dtype}, and only numbers can become a tensor: leave it out of the"
                " arguments of loss(), or turn it into numbers in load()"
            )
        tensor = on_device(array.astype(array.dtype.newbyteorder("="), copy=False), device)
    return tensor.to(float_type) if tensor.is_floating_point() else tensor


def check_arrays(arrays: Mapping[str, NDArray[Any]], part: str) -> int:
    """Return the number of events.

    Raises
    ------
    DataError
        There is no array or no event, or arrays differ in their number of events.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if not lengths or 0 in lengths.values():
        raise DataError(f"the {part} arrays hold no event: {lengths or 'there is no array'}")
    if len(set(lengths.values())) > 1:
        raise DataError(f"the {part} arrays differ in their number of events (one row an event): {lengths}")
    return next(iter(lengths.values()))


def accepted_names(function: Callable[..., Any], names: Iterable[str]) -> list[str]:
    """Return which of the names a function takes as keywords; all, where it has ``**`` parameters.

    Raises
    ------
    TypeError
        The function requires a name that is not among them.
    """
    known = list(names)
    parameters = inspect.signature(function).parameters.values()
    if takes_all(function):
        return known
    for one in parameters:
        if one.default is one.empty and one.kind is not one.VAR_POSITIONAL and one.name not in known:
            near = difflib.get_close_matches(one.name, known, 1)
            raise TypeError(
                f"{getattr(function, '__qualname__', function)}() asks for {one.name!r}, and the arrays are"
                f" {', '.join(known) or 'none'}" + (f": did you mean {near[0]!r}?" if near else "")
            )
    return [one.name for one in parameters if one.name in known]


def takes_all(function: Callable[..., Any]) -> bool:
    """Decide whether a function takes any keyword."""
    return any(one.kind is one.VAR_KEYWORD for one in inspect.signature(function).parameters.values())


class EpochBatches:
    """Mini-batches of arrays that stay on the device: whole ones in a fresh random order, which the seed determines."""

    def __init__(self, tensors: Mapping[str, Tensor], batch_size: int) -> None:
        self._tensors = dict(tensors)
        self._events = len(next(iter(self._tensors.values())))
        self._batch_size = batch_size
        self._device = next(iter(self._tensors.values())).device

    def of_epoch(self, seed: int) -> Iterator[dict[str, Tensor]]:
        stream = BatchStream(self._events, self._batch_size, seed, self._device)
        for _ in range(stream.batches):
            index_B = stream.draw()
            yield {name: tensor.index_select(0, index_B) for name, tensor in self._tensors.items()}
