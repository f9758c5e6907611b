"""Rates of optimizers over a resume: what the configuration sets follows this run's, what training made is kept."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from trainables.base.plain_state import plain_copy, same_value

Options = list[dict[str, Any]]  # of each group of parameters: lr, betas, weight_decay ...


def options_of(optimizer: Optimizer) -> Options:
    """Return copies of what is set for each group of parameters."""
    return [
        {name: copy.deepcopy(value) for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
    ]


def optimizer_state(optimizer: Optimizer, built: Options) -> dict[str, Any]:
    """Return momenta and steps of an optimizer, its options now, and those it was built with."""
    parts = {"momenta": optimizer.state_dict()["state"], "options": options_of(optimizer), "built": built}
    copied: dict[str, Any] = plain_copy(parts, "optimizer")
    return copied


def load_optimizer_state(optimizer: Optimizer, state: Mapping[str, Any], built: Options) -> None:
    """Take momenta and steps over into an optimizer that was built anew, and whose schedulers are in position.

    An option (lr, betas, weight_decay ...) keeps its present value: what this run's configuration and schedule give.
    Only what training itself changed, by no schedule, is taken over: a rate that the user's code lowered, a counter
    that the optimizer keeps there. Where the configuration gives that option another value than before, the
    configuration counts.
    """
    groups = optimizer.state_dict()["param_groups"]
    if len(groups) != len(state["options"]):
        raise ValueError(f"the state is of an optimizer with {len(state['options'])} groups, this has {len(groups)}")
    present = options_of(optimizer)
    optimizer.load_state_dict({"state": state["momenta"], "param_groups": groups})
    settle(optimizer, Settings(fresh=built, present=present, built=state["built"], saved=state["options"]))


@dataclass(frozen=True)
class Settings:
    """Options of one optimizer: of this run as built and with its schedules in position, and of the run before."""

    fresh: Options  # of this run's configuration
    present: Options  # the same, after its schedulers
    built: Options  # of the configuration of the run before
    saved: Options  # of that run when its state was taken


def settle(optimizer: Optimizer, settings: Settings) -> None:
    """Set each option to what the configuration and schedule give; else to what training had made of it."""
    s = settings
    for group, *four in zip(optimizer.param_groups, s.fresh, s.present, s.built, s.saved, strict=True):
        fresh, present, built, saved = four
        for name in present.keys() | saved.keys():
            configured = name in fresh and not (name in built and same_value(fresh[name], built[name]))
            scheduled = name in fresh and not same_value(present[name], fresh[name])
            ours = name not in saved or configured or scheduled or same_value(present.get(name), saved[name])
            group[name] = copy.deepcopy(present[name] if ours else saved[name])


class Position:
    """Where a scheduler is: how often it was stepped and, where a metric drives it, with which values.

    A scheduler of a resumed run is built from this run's configuration and stepped as often again. So a schedule of
    another rate, or of another shape, goes on from the same place.
    """

    def __init__(self, scheduler: LRScheduler) -> None:
        self.scheduler = scheduler
        self.steps = 0
        self.values: list[float] = []

    @property
    def needs_metric(self) -> bool:
        return isinstance(self.scheduler, ReduceLROnPlateau)

    def step(self, value: float | None = None) -> None:
        """Step the scheduler once; ``value`` is what ``ReduceLROnPlateau`` watches."""
        self.steps += 1
        if isinstance(self.scheduler, ReduceLROnPlateau):
            assert value is not None
            self.values.append(value)
            self.scheduler.step(value)
        else:
            self.scheduler.step()

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps, "values": list(self.values)}

    def replay(self, state: Mapping[str, Any]) -> None:
        """Bring a scheduler that was just built to a position."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step\\(\\)` before")
            for step in range(state["steps"]):
                self.step(state["values"][step] if self.needs_metric else None)


def rates_of(optimizers: Mapping[str, Optimizer]) -> dict[str, float]:
    """Return the present learning rate of each optimizer: ``lr``, or ``lr_NAME`` of several; of its first group."""
    names = ["lr"] if len(optimizers) == 1 else [f"lr_{name}" for name in optimizers]
    return {name: float(one.param_groups[0]["lr"]) for name, one in zip(names, optimizers.values(), strict=True)}


def outside_of_networks(optimizer: Optimizer, parameters: Sequence[Any]) -> int:
    """Count the parameters of an optimizer that belong to no network: they would be lost in a checkpoint."""
    known = {id(parameter) for parameter in parameters}
    return sum(id(parameter) not in known for group in optimizer.param_groups for parameter in group["params"])
