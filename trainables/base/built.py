"""What a user's ``build()`` returns, as networks, optimizers and schedulers by name, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from trainables.base.rates import Options, Position, options_of, outside_of_networks

RETURNS = "build() returns (network, optimizer) or (network, optimizer, scheduler); several of each as dicts by name"


@dataclass(frozen=True)
class Built:
    """Networks on the device, with what changes them."""

    network: nn.Module  # of several: a ModuleDict of them
    optimizers: dict[str, Optimizer]
    options: dict[str, Options]  # of each optimizer, before any step
    positions: list[Position]  # of the schedulers


def take(returned: Any, device: torch.device) -> Built:
    """Check what ``build()`` returned and bring it to the device.

    Raises
    ------
    TypeError
        It is not of the form that ``RETURNS`` describes.
    ValueError
        An optimizer has parameters that belong to no network.
    """
    if not isinstance(returned, tuple | list) or len(returned) not in (2, 3):
        raise TypeError(f"{RETURNS}; it returned {_type_name(returned)}")
    networks, optimizers, schedulers = (*returned, None)[:3]
    network = nn.ModuleDict(networks) if isinstance(networks, Mapping) else networks
    if not isinstance(network, nn.Module):
        raise TypeError(f"{RETURNS}; the first is {_type_name(networks)}, not a torch.nn.Module")
    by_name = _by_name(optimizers, "optimizer")
    for name, optimizer in by_name.items():
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{RETURNS}; {name} is {_type_name(optimizer)}, not a torch.optim.Optimizer")
        if outside := outside_of_networks(optimizer, list(network.parameters())):
            raise ValueError(
                f"{outside} parameters of {name} belong to no network that build() returned, so they would be in no"
                " checkpoint: make them parameters of a network, or return their network too"
            )
    network.to(device)
    for optimizer in by_name.values():
        optimizer.load_state_dict(optimizer.state_dict())  # some hold state from the start: to the device with it
    positions = [Position(_scheduler(one)) for one in _by_name(schedulers, "scheduler").values()]
    return Built(network, by_name, {name: options_of(one) for name, one in by_name.items()}, positions)


def _by_name(given: Any, what: str) -> dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, list | tuple):
        return {f"{what}_{number}": one for number, one in enumerate(given)}
    return {what: given}


def _scheduler(given: Any) -> Any:
    if not isinstance(given, LRScheduler):  # ReduceLROnPlateau is one too
        raise TypeError(f"{RETURNS}; a scheduler is {_type_name(given)}, not of torch.optim.lr_scheduler")
    return given


def _type_name(value: Any) -> str:
    inside = f" of {len(value)}" if isinstance(value, tuple | list) else ""
    return f"a {type(value).__name__}{inside}"
