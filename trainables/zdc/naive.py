"""Naive predictors: two masks that know nothing of a single event, the baselines of every leaderboard."""

# B batch, K energy bins (one more for energies outside), G jackknife groups, X crystals, H row, W column

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.zdc.binning import Binning
from trainables.zdc.events import Events
from trainables.zdc.hit_sums import HitSums, sum_hits
from trainables.zdc.metrics import CRYSTALS, GROUPS, SMALLEST_PROB, MaskProb, Scores

CONSTANT_MASK, MEAN_MASK_PER_BIN = "constant-mask", "mean-mask-per-bin"


def fit_naive(train: Events, binning: Binning) -> dict[str, MaskProb]:
    """Fit both predictors to training events. Their conditions must be on the CPU.

    ``constant-mask`` returns the mean hit map of all training events, ``mean-mask-per-bin`` that of the training
    events in the event's energy bin.

    Returns
    -------
    dict of name to callable
        Raw conditions (B, 6) -> probabilities (B, 20, 20).
    """
    mask_KHW = _mean_masks(train, binning)

    def constant(condition_B6: Tensor) -> Tensor:
        return mask_KHW[-1].expand(len(condition_B6), -1, -1)

    def per_bin(condition_B6: Tensor) -> Tensor:
        return mask_KHW[binning.bin_of(condition_B6[:, 0])]

    return {CONSTANT_MASK: constant, MEAN_MASK_PER_BIN: per_bin}


def naive_scores(train: Events, validation: Events, binning: Binning) -> dict[str, Scores]:
    """Score both predictors, fitted to the training events, on the validation events; by name.

    The scores are those of ``score_events``, but one sum over the bits of the events serves both.
    """
    mask_KX = _mean_masks(train, binning).flatten(1).numpy()
    sums = sum_hits(validation, binning, GROUPS)
    constant_KX = np.broadcast_to(mask_KX[-1], mask_KX.shape)
    masks = {CONSTANT_MASK: constant_KX, MEAN_MASK_PER_BIN: mask_KX}
    return {name: scores_of_bins(mask, sums, binning) for name, mask in masks.items()}


def scores_of_bins(prob_KX: NDArray[np.float32], sums: HitSums, binning: Binning) -> Scores:
    """Score a mask that depends on an event's energy bin alone; the last row is for energies outside of all bins.

    With p the probability of a crystal and h the number of hits among n events, their sums of d, d^2 and of the
    logarithms of the likelihoods are ``n p - h``, ``n p^2 - 2 p h + h`` and ``h log p + (n - h) log(1 - p)``.
    """
    count_KG, hit_KGX, p_KX = sums.count_KG, sums.hit_KGX, prob_KX.astype(np.float64)
    count_K = count_KG.sum(axis=1)
    miss_KGX = count_KG[:, :, None] * p_KX[:, None] - hit_KGX
    log_hit_KX, log_none_KX = (
        np.log(np.maximum(prob, SMALLEST_PROB, dtype=np.float64)) for prob in (prob_KX, 1 - prob_KX)
    )
    hits_KG = hit_KGX.sum(axis=2)
    square_KG = count_KG * np.square(p_KX).sum(axis=1)[:, None] - 2 * _per_group(hit_KGX, p_KX) + hits_KG
    entropy_KG = -(_per_group(hit_KGX, log_hit_KX - log_none_KX) + count_KG * log_none_KX.sum(axis=1)[:, None])
    mean_X = count_K @ p_KX / count_K.sum()
    variance_X = np.maximum(count_K @ np.square(p_KX - mean_X) / count_K.sum(), 0)
    return Scores(
        binning=binning,
        count_KG=count_KG,
        hit_KX=hit_KGX.sum(axis=1)[:-1],
        miss_KX=miss_KGX.sum(axis=1)[:-1],
        pair_KGG=miss_KGX[:-1] @ miss_KGX[:-1].transpose(0, 2, 1) / CRYSTALS,
        brier_bce_KG2=np.stack((square_KG, entropy_KG), axis=2) / CRYSTALS,
        mask_spread=float(np.sqrt(variance_X).mean()),
    )


def _per_group(value_KGX: NDArray[np.float64], weight_KX: NDArray[np.float64]) -> NDArray[np.float64]:
    return (value_KGX @ weight_KX[:, :, None])[:, :, 0]


def _mean_masks(train: Events, binning: Binning) -> Tensor:
    """Return the mean hit map of each energy bin, (K, 20, 20); the last is that of all events.

    Ours: each is drawn a little towards the wider one, because no crystal should have probability 0 only because
    the sample is small. All events get half a hit in one event more, a bin gets one average event more.
    """
    sums = sum_hits(train, binning)
    hits_KX, count_K1 = torch.from_numpy(sums.hit_KGX[:, 0]), torch.from_numpy(sums.count_KG)
    constant_X = (hits_KX.sum(dim=0) + 0.5) / (len(train) + 1)
    mask_KX = (hits_KX + constant_X) / (count_K1 + 1)
    mask_KX[-1] = constant_X
    return mask_KX.float().view(-1, 20, 20)
