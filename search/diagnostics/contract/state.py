"""Laws of what a run hands out to be stored: its state and its weights."""

from __future__ import annotations

from typing import Any

import torch

from search.diagnostics.contract.law import LawBroken, law
from search.diagnostics.contract.subject import Subject, train
from search.diagnostics.contract.training import COUNTED, RUNS, SEEDED
from search.diagnostics.contract.values import copied, differences, flat, places
from trainables.base.training import Training

STORED, TAKEN_OVER, WEIGHTS = "a-state-can-be-stored", "a-state-is-taken-over", "weights-are-copies-on-the-cpu"
_PLAIN = (torch.Tensor, bool, int, float, str, bytes, type(None))


@law(
    "A state holds only tensors, numbers, texts, and lists and dicts of them, and comes back from a file as it was.",
    cause="an object of numpy, an enumeration or another class is in the state; a checkpoint is read without running "
    "code that it holds",
    remedy="store array.tolist() or torch.from_numpy(array), number.item(), and names in place of objects",
    after=(RUNS,),
)
def a_state_can_be_stored(subject: Subject) -> None:
    state = subject.trained(1).state()
    if not isinstance(state, dict):
        raise LawBroken(f"state() returns {type(state).__name__}, not a dict")
    for path, value in flat(state).items():
        if type(value) not in _PLAIN and not isinstance(value, torch.Tensor):
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise LawBroken(f"{places([path])} in the state is {kind}")
    if found := differences(state, subject.stored(state)):
        raise LawBroken(f"{places(found)} in the state comes back from a file as something else")


@law(
    "A state is a copy: it stays as it is while the run goes on.",
    cause="state() returns tensors or lists that go on changing, as network.state_dict() and optimizer.state_dict() do",
    remedy="return copies: copy.deepcopy(...) of everything that state() returns",
    after=(STORED,),
)
def a_state_is_a_copy(subject: Subject) -> None:
    training = subject.trained(1)
    _require_kept(training, training.state(), "a state that was")


@law(
    "weights() returns copies on the CPU: the best epoch's weights are kept while the run goes on.",
    cause="weights() returns views of the network's own tensors: state_dict(), detach() and, on a CPU, cpu() do",
    remedy="return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}",
    after=(RUNS,),
)
def weights_are_copies_on_the_cpu(subject: Subject) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training = train(subject.training(device=device), 1)
    weights: Any = training.weights()
    if not isinstance(weights, dict) or not weights:
        raise LawBroken(
            f"weights() returns {type(weights).__name__} of length {len(weights or ())}, not a dict of tensors"
        )
    for name, value in weights.items():
        if not isinstance(value, torch.Tensor):
            raise LawBroken(f"{name} in weights() is {type(value).__name__}, not a tensor")
        if value.device.type != "cpu":
            raise LawBroken(f"{name} in weights() is on {value.device}")
    _require_kept(training, weights, "weights that were")


def _require_kept(training: Training, handed_out: Any, what: str) -> None:
    """Require that another epoch changes nothing in what was handed out before it."""
    before = copied(handed_out)
    train(training, 1)
    if found := differences(before, handed_out):
        raise LawBroken(f"another epoch changed {places(found)} in {what} handed out before it")


@law(
    "A new run takes over a state: its epoch, its weights, and all that state() returns.",
    cause="load_state() leaves out a part of what state() returns",
    remedy="load in load_state() each part that state() returns: networks, optimizer, schedulers, generators, epoch",
    after=(STORED, SEEDED, COUNTED, WEIGHTS),
)
def a_state_is_taken_over(subject: Subject) -> None:
    donor = subject.trained(2)
    state, weights = subject.stored(donor.state()), donor.weights()
    heir = subject.training()
    heir.load_state(copied(state))
    if heir.epoch != donor.epoch:
        raise LawBroken(f"epoch is {heir.epoch} after load_state(), {donor.epoch} in the state")
    if found := differences(weights, heir.weights()):
        raise LawBroken(f"the weights {places(found)} are not those of the state")
    if found := differences(state, heir.state()):
        raise LawBroken(f"state() after load_state() differs in {places(found)}")
