"""Predictions of a network for arrays of any length: in eval mode, without gradients, some events at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.base.named_arrays import float_type_of, to_tensor


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into eval mode, without gradients; afterwards each of its modules has the mode that it had."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def in_parts(
    forward: Callable[..., Any],
    network: nn.Module,
    arguments: tuple[tuple[Any, ...], Mapping[str, Any]],
    device: torch.device,
    events_at_once: int,
) -> Any:
    """Call ``forward`` with arrays as tensors of the network's precision, and join what it returns, as arrays."""
    positional, named = arguments
    arrays = {place: _array(value) for place, value in [*enumerate(positional), *named.items()]}
    events = max((len(array) for array in arrays.values()), default=0)
    float_type, outputs = float_type_of(network), []
    for first in range(0, max(events, 1), events_at_once):
        part = {  # copies, because a forward may work in place, and the caller's array may even be read-only memory
            place: to_tensor(array[first : first + events_at_once], str(place), float_type, device).clone()
            for place, array in arrays.items()
        }
        in_order = [part.pop(place) for place in range(len(positional))]
        outputs.append(_to_cpu(forward(*in_order, **{str(name): tensor for name, tensor in part.items()})))
    return _joined(outputs)


def _array(value: Any) -> Any:
    return value if isinstance(value, Tensor) else np.asarray(value)


def _to_cpu(output: Any) -> Any:
    """Bring what a network returned to the CPU, as arrays."""
    if isinstance(output, Tensor):
        tensor = output.detach()
        return (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).cpu().numpy()
    if isinstance(output, Mapping):
        return {name: _to_cpu(part) for name, part in output.items()}
    if isinstance(output, tuple | list):
        return tuple(_to_cpu(part) for part in output)
    raise TypeError(f"forward() returned a {type(output).__name__}: a tensor, or a tuple or dict of tensors, is needed")


def _joined(outputs: list[Any]) -> Any:
    """Join outputs of mini-batches, event after event."""
    first = outputs[0]
    if isinstance(first, dict):
        return {name: _joined([output[name] for output in outputs]) for name in first}
    if isinstance(first, tuple):
        return tuple(_joined([output[place] for output in outputs]) for place in range(len(first)))
    return np.concatenate(outputs)
