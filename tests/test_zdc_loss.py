"""Losses, fake hits and schedules of the ZDC model."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from trainables.zdc.loss import (
    adversarial_loss,
    discriminator_accuracy,
    discriminator_loss,
    regression_loss,
    sampled_hits,
)
from trainables.zdc.schedule import noise_strength, one_cycle_lr


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_at_strength_one_fake_hits_are_bernoulli_draws_of_the_mask(random: torch.Generator) -> None:
    prob = torch.linspace(0.01, 0.99, 400).view(1, 20, 20)
    draws = 20_000
    hits = sampled_hits(prob.logit().expand(draws, -1, -1), 1.0, random)
    assert set(hits.unique().tolist()) == {0.0, 1.0}
    sigma = (prob * (1 - prob) / draws).sqrt()
    pull = (hits.mean(dim=0) - prob) / sigma
    assert float(pull.abs().max()) < 4.5
    assert float(pull.square().mean()) == pytest.approx(1, abs=0.25)


def test_without_noise_the_most_probable_map_comes_out(random: torch.Generator) -> None:
    logit = torch.randn(4, 20, 20)
    assert torch.equal(sampled_hits(logit, 0.0, random), (logit > 0).float())


def test_less_noise_means_sharper_samples(random: torch.Generator) -> None:
    dark = torch.full((2000, 20, 20), 0.1).logit()
    weak, full = (float(sampled_hits(dark, strength, random).mean()) for strength in (0.7, 1.0))
    assert weak == pytest.approx(1 / (1 + 9 ** (1 / 0.7)), rel=0.02)
    assert full == pytest.approx(0.1, rel=0.02)


def test_gradient_passes_through_fake_hits_to_every_crystal(random: torch.Generator) -> None:
    logit = torch.zeros(2, 20, 20, requires_grad=True)
    sampled_hits(logit, 1.0, random).sum().backward()
    assert logit.grad is not None
    assert (logit.grad > 0).all()


def test_losses_are_log_2_where_nobody_knows_anything() -> None:
    unsure, hits = torch.zeros(8), torch.rand(8, 20, 20).round()
    assert float(regression_loss(torch.zeros(8, 20, 20), hits)) == pytest.approx(log(2))
    assert float(adversarial_loss(unsure)) == pytest.approx(log(2))
    assert float(discriminator_loss(unsure, unsure, 0.1)) == pytest.approx(log(2))


def test_smoothing_lowers_the_target_of_real_events_only() -> None:
    sure, fake = torch.full((4,), log(0.9 / 0.1)), torch.full((4,), -30.0)
    best = -(0.9 * log(0.9) + 0.1 * log(0.1)) / 2
    assert float(discriminator_loss(sure, fake, 0.1)) == pytest.approx(best)
    assert float(discriminator_loss(sure + 1, fake, 0.1)) > best
    assert float(discriminator_loss(sure + 1, fake, 0.0)) < float(discriminator_loss(sure, fake, 0.0))


def test_accuracy_counts_real_above_and_fake_below_zero() -> None:
    real, fake = torch.tensor([1.0, 2.0, -1.0, 3.0]), torch.tensor([-1.0, -2.0, 1.0, 1.0])
    assert float(discriminator_accuracy(real, fake)) == pytest.approx((3 / 4 + 2 / 4) / 2)


@pytest.mark.parametrize(("total", "pct_start"), [(100, 0.35), (1000, 0.8), (40, 0.5)])
def test_cycle_is_that_of_pytorch_where_its_peak_is_a_whole_update(total: int, pct_start: float) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    theirs = OneCycleLR(optimizer, max_lr=9e-4, total_steps=total, pct_start=pct_start, cycle_momentum=False)
    for update in range(total):
        assert one_cycle_lr(update, total, 9e-4, pct_start) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        if update < total - 1:
            theirs.step()


@pytest.mark.parametrize("pct_start", [0.05, 0.35, 0.5, 0.95])
@pytest.mark.parametrize("total", [1, 2, 3, 7, 1234])
def test_cycle_reaches_its_maximum_and_ends_at_its_lowest(total: int, pct_start: float) -> None:
    rates = [one_cycle_lr(update, total, 1e-3, pct_start) for update in range(total)]
    peak = rates.index(max(rates))
    assert max(rates) == 1e-3
    assert rates == sorted(rates[: peak + 1]) + sorted(rates[peak + 1 :], reverse=True)
    if total > 2:
        assert rates[-1] == pytest.approx(1e-3 / 25 / 1e4)
        assert abs(peak + 1 - pct_start * total) <= 1


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_noise_strength_begins_and_ends_as_told(shape: str) -> None:
    strengths = [noise_strength(epoch, 50, shape, 0.7, 1.0) for epoch in range(1, 51)]  # type: ignore[arg-type]
    assert strengths[0] == pytest.approx(0.7)
    assert strengths[-1] == pytest.approx(1.0)
    assert strengths == sorted(strengths)
    assert strengths[24] + strengths[25] == pytest.approx(1.7)


def test_constant_noise_stays_and_one_epoch_has_the_strength_of_the_first() -> None:
    assert {noise_strength(epoch, 9, "constant", 1.0, 0.2) for epoch in range(1, 10)} == {1.0}
    assert noise_strength(1, 1, "linear", 0.7, 1.0) == pytest.approx(0.7)
