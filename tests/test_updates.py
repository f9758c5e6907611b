"""Updates: Adam bit for bit, and from the first number on that is not finite none reaches the weights."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from trainables.base.updates import Updates

RATES = [1e-2, 3e-3, 2e-2, 5e-3, 1e-2, 8e-3, 1e-3, 4e-3]


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        return nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 1))


def batch(number: int) -> Tensor:
    return torch.randn((16, 5), generator=torch.Generator().manual_seed(number))


def loss_of(model: nn.Module, number: int) -> Tensor:
    loss: Tensor = model(batch(number)).square().mean()
    return loss


def begin(model: nn.Module, **options: Any) -> Updates:
    return Updates(model, lambda update: RATES[update % len(RATES)], **options)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9)])
def test_updates_are_those_of_pytorchs_adamw_bit_for_bit(
    betas: tuple[float, float], weight_decay: float, clip_norm: float | None
) -> None:
    ours, theirs = network(), network()
    updates = begin(ours, betas=betas, weight_decay=weight_decay, clip_norm=clip_norm)
    optimizer = torch.optim.AdamW(theirs.parameters(), betas=betas, weight_decay=weight_decay, fused=True)
    for number, rate in enumerate(RATES):
        updates.make(loss_of(ours, number))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss_of(theirs, number).backward()  # type: ignore[no-untyped-call]
        if clip_norm:
            nn.utils.clip_grad_norm_(theirs.parameters(), clip_norm)
        optimizer.step()
        assert torch.equal(weights(ours), weights(theirs))
    assert not torch.equal(weights(ours), weights(network()))
    assert updates.first_bad() is None


def test_a_parameter_that_some_losses_do_not_depend_on_moves_as_in_pytorch() -> None:
    ours, theirs = network(), network()
    updates = begin(ours)
    optimizer = torch.optim.AdamW(theirs.parameters(), weight_decay=0.0, fused=True)
    for number, rate in enumerate(RATES):
        both = (loss_of(ours, number), loss_of(theirs, number))
        if number % 3 != 2:  # the last layer alone
            both = (ours[2](torch.ones(1, 9)).sum(), theirs[2](torch.ones(1, 9)).sum())
        updates.make(both[0])
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        both[1].backward()
        optimizer.step()
        assert torch.equal(weights(ours), weights(theirs)), number


@pytest.mark.parametrize("made", [0, 1, 4])
def test_a_resumed_run_continues_bit_for_bit(made: int) -> None:
    through, resumed = begin(network()), begin(network())
    for number in range(made):
        through.make(loss_of(through.network, number))
    for number in range(3):  # of a run that went another way
        resumed.make(loss_of(resumed.network, 50 + number))
    resumed.load_state(copy.deepcopy(through.state()))
    for number in range(made, len(RATES)):
        for updates in (through, resumed):
            updates.make(loss_of(updates.network, number))
        assert torch.equal(weights(through.network), weights(resumed.network))
    assert resumed.made == len(RATES)
    resumed.make(loss_of(resumed.network, 9) * torch.nan)
    evidence = resumed.first_bad()
    assert evidence
    assert evidence["update"] == len(RATES) + 1


class InfiniteGradient(torch.autograd.Function):
    """A finite number whose gradient is not."""

    @staticmethod
    def forward(_: Any, number: Tensor) -> Tensor:
        return number.clone()

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * torch.inf


BAD = {
    "a loss that is no number": lambda loss: loss * torch.nan,
    "an infinite loss": lambda loss: loss + torch.inf,
    "an infinite gradient": InfiniteGradient.apply,
    "gradients whose norm overflows": lambda loss: loss * 1e25,
}


@pytest.mark.parametrize("first", [0, 1, 5])
@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize("bad", BAD)
def test_from_the_first_bad_update_on_none_changes_anything(bad: str, clip_norm: float | None, first: int) -> None:
    updates = begin(network(), clip_norm=clip_norm)
    for number in range(first):
        updates.make(loss_of(updates.network, number))
    assert updates.first_bad() is None
    before = weights(updates.network).clone()
    updates.make(BAD[bad](loss_of(updates.network, first)))
    for number in range(4):
        updates.make(loss_of(updates.network, number))
        updates.make(loss_of(updates.network, number) * -torch.inf)
    assert torch.equal(weights(updates.network), before)
    steps = {float(state["step"]) for state in updates.state()["optimizer"]["state"].values()}
    assert steps <= {first}
    evidence = updates.first_bad()
    assert evidence
    assert evidence["update"] == first + 1
    loss, norm = torch.tensor(evidence["loss"]), torch.tensor(evidence["gradient_norm"])
    assert torch.isfinite(loss) == (bad not in ("a loss that is no number", "an infinite loss"))
    assert torch.isfinite(norm) == (bad == "an infinite loss")
    assert loss != -torch.inf, "the evidence is of a later update"


def test_whoever_counts_updates_sees_each_one() -> None:
    """The sizing of trials counts them by a hook of all optimizers."""
    network = torch.nn.Linear(3, 1)
    updates, seen = Updates(network, lambda number: 1e-2), []
    for _ in range(2):
        updates.make(network(torch.ones(4, 3)).square().mean())
    hook = register_optimizer_step_post_hook(lambda *_: seen.append(1))
    try:
        for _ in range(3):
            updates.make(network(torch.ones(4, 3)).square().mean())
    finally:
        hook.remove()
    updates.make(network(torch.ones(4, 3)).square().mean())
    assert len(seen) == 3
