"""Losses of the two networks, and the noisy sample of hits that the discriminator judges."""

# B batch, H row, W column; hits are 0 or 1

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def regression_loss(mask_logit_BHW: Tensor, hit_BHW: Tensor) -> Tensor:
    """Return the binary cross-entropy of the MASK against Geant4's hits: mean over crystals and events, in nats."""
    return functional.binary_cross_entropy_with_logits(mask_logit_BHW, hit_BHW)


def sampled_hits(mask_logit_BHW: Tensor, noise_strength: float, random: torch.Generator) -> Tensor:
    """Draw fake hits of 0 and 1 from the MASK, through which the gradient reaches the MASK.

    Ours: the report multiplies "the noisy level of the Generated samples" by 0.7 to 1.0 and does not show
    where the noise enters. Here a crystal is hit where ``mask_logit + noise_strength * L > 0`` with L of the
    standard logistic distribution. At strength 1 this is exactly a Bernoulli draw of each crystal's
    probability, so the fake hits have Geant4's own form; at 0 it is the most probable map. Backward it is
    the sigmoid of the noisy logit (straight-through estimator, arXiv:1308.3432; binary concrete,
    arXiv:1611.00712).
    """
    uniform_BHW = torch.rand(mask_logit_BHW.shape, generator=random, device=mask_logit_BHW.device)
    logistic_BHW = torch.logit(uniform_BHW, eps=1e-7)
    noisy_logit_BHW = mask_logit_BHW + noise_strength * logistic_BHW
    soft_hit_BHW = noisy_logit_BHW.sigmoid()
    hard_hit_BHW = (noisy_logit_BHW > 0).to(soft_hit_BHW.dtype)
    return hard_hit_BHW + (soft_hit_BHW - soft_hit_BHW.detach())


def adversarial_loss(fake_logit_B: Tensor) -> Tensor:
    """Return the non-saturating loss of the generator, ``-log D(fake)`` (arXiv:1406.2661): log 2 for chance."""
    return functional.softplus(-fake_logit_B).mean()


def discriminator_loss(real_logit_B: Tensor, fake_logit_B: Tensor, smoothing: float) -> Tensor:
    """Return the binary cross-entropy, target ``1 - smoothing`` for Geant4 and 0 for fakes; log 2 for chance.

    One-sided label smoothing (arXiv:1606.03498): only the real target is lowered.
    """
    target_B = torch.full_like(real_logit_B, 1 - smoothing)
    real_loss = functional.binary_cross_entropy_with_logits(real_logit_B, target_B)
    return (real_loss + functional.softplus(fake_logit_B).mean()) / 2


def discriminator_accuracy(real_logit_B: Tensor, fake_logit_B: Tensor) -> Tensor:
    """Return the share of events, real and fake, on the right side of zero; 0.5 for chance."""
    return ((real_logit_B > 0).float().mean() + (fake_logit_B <= 0).float().mean()) / 2
