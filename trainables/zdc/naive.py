"""Naive predictors: two masks that know nothing of a single event, the baselines of every leaderboard."""

# B batch, K energy bins (one more for energies outside), X crystals, H row, W column

from __future__ import annotations

import torch
from torch import Tensor

from trainables.zdc.binning import Binning
from trainables.zdc.events import Events
from trainables.zdc.metrics import CHUNK, CRYSTALS, MaskProb, Scores, score_events
from trainables.zdc.resident import ResidentEvents

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
    mask_KHW = _mean_masks(ResidentEvents(train, torch.device("cpu")), binning)

    def constant(condition_B6: Tensor) -> Tensor:
        return mask_KHW[-1].expand(len(condition_B6), -1, -1)

    def per_bin(condition_B6: Tensor) -> Tensor:
        return mask_KHW[binning.bin_of(condition_B6[:, 0])]

    return {CONSTANT_MASK: constant, MEAN_MASK_PER_BIN: per_bin}


def naive_scores(train: Events, validation: Events, binning: Binning) -> dict[str, Scores]:
    """Score both predictors, fitted to the training events, on the validation events; by name."""
    resident = ResidentEvents(validation, torch.device("cpu"))
    return {name: score_events(mask_prob, resident, binning) for name, mask_prob in fit_naive(train, binning).items()}


def _mean_masks(train: ResidentEvents, binning: Binning) -> Tensor:
    """Return the mean hit map of each energy bin, (K, 20, 20); the last is that of all events.

    Ours: each is drawn a little towards the wider one, because no crystal should have probability 0 only because
    the sample is small. All events get half a hit in one event more, a bin gets one average event more.
    """
    rows = len(binning.edges_mev)
    hits_KX = torch.zeros(rows, CRYSTALS, dtype=torch.float64)
    count_K1 = torch.zeros(rows, 1, dtype=torch.float64)
    for condition_B6, hit_BHW in train.in_order(CHUNK):
        bin_B = binning.bin_of(condition_B6[:, 0])
        hits_KX.index_add_(0, bin_B, hit_BHW.flatten(1).double())
        count_K1.index_add_(0, bin_B, torch.ones(len(bin_B), 1, dtype=torch.float64))
    constant_X = (hits_KX.sum(dim=0) + 0.5) / (len(train) + 1)
    mask_KX = (hits_KX + constant_X) / (count_K1 + 1)
    mask_KX[-1] = constant_X
    return mask_KX.float().view(rows, 20, 20)
