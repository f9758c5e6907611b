"""Laws of single hyperparameters: what is searched acts, and what is mutable acts from the moment it is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.diagnostics.contract import given
from search.diagnostics.contract.law import LawBroken, law
from search.diagnostics.contract.points import another
from search.diagnostics.contract.state import TAKEN_OVER
from search.diagnostics.contract.subject import Subject, train
from search.diagnostics.contract.training import SEEDED
from search.diagnostics.contract.values import differences, places, same
from trainables.base.errors import TrainingDiverged


@law(
    "Each searched hyperparameter changes what is built or how it trains.",
    cause="the hyperparameter is not read, or acts in another branch of the space only",
    remedy="use it, or take it out of suggest(); ask for it only in the branch in which it acts",
    after=(SEEDED, "weights-are-copies-on-the-cpu"),
    slow=True,
)
def what_is_searched_acts(subject: Subject) -> None:
    idle = []
    for name in dict.fromkeys(name for one in subject.drawn for name in one.ranges):
        one = subject.with_range(name)
        if one is None:  # asked for, and part of what other hyperparameters become
            continue
        value = another(one.point[name], one.ranges[name])
        try:
            weights = subject.trained(subject.epochs, {**one.point, name: value}).weights()
        except TrainingDiverged:
            continue  # that is an effect
        if same(weights, subject.trained_weights(one.point)):
            idle.append(f"{name} = {value!r} gives the same weights as {one.point[name]!r}")
    if idle:
        raise LawBroken("; ".join(idle))


@law(
    "A run that takes over a state keeps its own value of each mutable hyperparameter, and trains with it.",
    cause="load_state() restores the old value, as optimizer.load_state_dict() does with learning rates and weight "
    "decay, or the value was copied in __init__() and is part of the state",
    remedy="at the end of load_state() set what is mutable from self.config again: "
    'for group in optimizer.param_groups: group["lr"] = self.config.lr',
    after=(TAKEN_OVER,),
    slow=True,
)
def what_is_mutable_acts_within_a_run(subject: Subject) -> None:
    """Each is moved alone, because one that acts would hide another that does not."""
    idle = []
    for name in given.required(given.mutable(subject.workload), "mutable hyperparameters"):
        one = subject.with_range(name)
        if one is None:
            continue
        value = another(one.point[name], one.ranges[name])
        if not _acts(subject, one.point, name, value):
            idle.append(
                f"a change of {name} from {one.point[name]!r} to {value!r} changes nothing in the epochs after it"
            )
    if idle:
        raise LawBroken("; ".join(idle))


def _acts(subject: Subject, point: Mapping[str, Any], name: str, value: Any) -> bool:
    half = subject.epochs // 2
    donor = subject.trained(half, point)
    state = subject.stored(donor.state())
    weights = donor.weights()
    continued = train(donor, subject.epochs - half).weights()
    heir = subject.training({**point, name: value})
    heir.load_state(state)
    if getattr(heir.config, name) != value:
        raise LawBroken(f"after load_state() config.{name} is {getattr(heir.config, name)!r}, not its own {value!r}")
    if found := differences(weights, heir.weights()):
        raise LawBroken(f"with another {name} load_state() does not take over the weights {places(found)}")
    try:
        return not same(train(heir, subject.epochs - half).weights(), continued)
    except TrainingDiverged:
        return True
