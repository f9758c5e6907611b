"""Two predictors that have learnt nothing of a single event: the measure below which no trial may fall."""

# B batch, K energy bins (one more for energies outside), X crystals, H row, W column

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainables.zdc.metrics import CHUNK, CRYSTALS, Binning, MaskProb, Scores, score_events
from trainables.zdc.resident import ResidentEvents

if TYPE_CHECKING:
    from trainables.zdc.data import ZDCData

CONSTANT_MASK, MEAN_MASK_PER_BIN = "constant-mask", "mean-mask-per-bin"


def fit_naive(data: ZDCData) -> dict[str, MaskProb]:
    """What is fitted to the training events, by name; for conditions on the CPU.

    ``constant-mask`` says of every event the mean hit map of all training events, ``mean-mask-per-bin`` that
    of the training events in the event's energy bin.
    """
    binning = data.binning
    mask_KHW = _mean_masks(ResidentEvents(data.train, torch.device("cpu")), binning)

    def constant(condition_B6: Tensor) -> Tensor:
        return mask_KHW[-1].expand(len(condition_B6), -1, -1)

    def per_bin(condition_B6: Tensor) -> Tensor:
        return mask_KHW[binning.bin_of(condition_B6[:, 0])]

    return {CONSTANT_MASK: constant, MEAN_MASK_PER_BIN: per_bin}


def naive_scores(data: ZDCData) -> dict[str, Scores]:
    """Scores of both on the validation events, by name."""
    validation = ResidentEvents(data.validation, torch.device("cpu"))
    return {name: score_events(mask_prob, validation, data.binning) for name, mask_prob in fit_naive(data).items()}


def naive_predictors(data: ZDCData) -> dict[str, dict[str, float]]:
    """The numbers of ``data.naive``, under the names of a trial's own metrics."""
    return {name: scores.numbers() for name, scores in data.naive.items()}


def _mean_masks(train: ResidentEvents, binning: Binning) -> Tensor:
    """Mean hit map of each energy bin, (K, 20, 20); the last is that of all events.

    Ours: each is drawn a little towards the wider one (all events get half a hit in one event more, a bin
    gets one average event more), so that no crystal is called impossible because the sample is small.
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
