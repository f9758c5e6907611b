"""Physics scores of generated ZDC showers: arrays in, floats out."""

# B batch, K energy bins (while summing one more, for energies outside), G jackknife groups, X crystals,
# H row (ix), W column (iy)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trainables.zdc.binning import REGIONS, Binning
from trainables.zdc.resident import ResidentEvents

CRYSTALS = 400
GROUPS = 10  # parts of the sample, the same each time, left out in turn for the statistical errors
CHUNK = 1024  # events scored at once
SMALLEST_PROB = 1e-7  # a hit where none was deemed possible costs -log of this, not infinity
MaskProb = Callable[[Tensor], Tensor]  # a model: raw conditions (B, 6) -> probabilities (B, 20, 20)


@dataclass(frozen=True)
class MseCurve:
    """The table behind mse(E): one row for each bin with enough events."""

    low_edge_mev_K: NDArray[np.float64]
    high_edge_mev_K: NDArray[np.float64]
    events_K: NDArray[np.int64]
    mse_K: NDArray[np.float64]
    floor_K: NDArray[np.float64]
    error_K: NDArray[np.float64]  # 1 sigma, statistical


@dataclass(frozen=True)
class Scores:
    """How a model compares with Geant4 on a sample, from sums over its events.

    In each energy bin and crystal MC is the mean hit and MASK the mean probability;
    ``mse(bin) = mean over the 400 crystals of (MASK - MC)^2``. With n events in the bin MC itself fluctuates
    by ``p (1 - p) / n``; the mean over crystals of its unbiased estimate ``MC (1 - MC) / (n - 1)`` is the
    floor. A mask that knows only an event's energy comes below it by chance alone. One that knows the angles
    too can, since its mean follows the events that happen to be in the bin: an excess below 0 is no mistake.

    Errors are 1 sigma of a delete-one-group jackknife over ten groups; at the floor, where mse is all chance,
    those of mse are up to 1.6 times too large. Events with energies outside the binning are in no bin, but
    count in brier and bce, which are means over all events and crystals.
    Source: ZDC status report of 2025-08-07, "Development 2" and "3".
    """

    binning: Binning
    count_KG: NDArray[np.float64]
    hit_KX: NDArray[np.float64]  # sum of hits
    prob_KX: NDArray[np.float64]  # sum of probabilities
    mse_KG: NDArray[np.float64]  # with group G left out
    brier_bce_G2: NDArray[np.float64]  # sums over the events of a group
    events_G: NDArray[np.float64]  # of any energy
    mask_spread: float  # standard deviation of a crystal's probability over events, mean over crystals

    @cached_property
    def used(self) -> NDArray[np.bool_]:
        """Return which bins hold enough events."""
        used: NDArray[np.bool_] = self.count_KG.sum(axis=1) >= self.binning.min_bin_count
        return used

    @cached_property
    def curve(self) -> MseCurve:
        """Return mse, floor and error of each bin with enough events."""
        count_K1 = self.count_KG.sum(axis=1, keepdims=True)[self.used]
        mc_KX, mask_KX = self.hit_KX[self.used] / count_K1, self.prob_KX[self.used] / count_K1
        return MseCurve(
            low_edge_mev_K=self.binning.edges_mev[:-1][self.used],
            high_edge_mev_K=self.binning.edges_mev[1:][self.used],
            events_K=count_K1[:, 0].astype(np.int64),
            mse_K=np.square(mask_KX - mc_KX).mean(axis=1),
            floor_K=(mc_KX * (1 - mc_KX) / (count_K1 - 1)).mean(axis=1),
            error_K=_jackknife_error(self.mse_KG[self.used]),
        )

    def numbers(self) -> dict[str, float]:
        """Return mse of each region with _floor, _excess and _error; brier and bce with _error; counts of bins."""
        numbers: dict[str, float] = {}
        for region in REGIONS:
            bins_K = self.binning.in_region[region][self.used]
            mse, floor = self.curve.mse_K[bins_K].mean(), self.curve.floor_K[bins_K].mean()
            error = _jackknife_error(self.mse_KG[self.used][bins_K].mean(axis=0))
            numbers |= {f"mse_{region}": mse, f"mse_{region}_floor": floor}
            numbers |= {f"mse_{region}_excess": mse - floor, f"mse_{region}_error": float(error)}
        sum_2, events = self.brier_bce_G2.sum(axis=0), self.events_G.sum()
        left_out_G2 = (sum_2 - self.brier_bce_G2) / np.maximum(events - self.events_G, 1)[:, None]
        for name, total, error in zip(("brier", "bce"), sum_2, _jackknife_error(left_out_G2.T), strict=True):
            numbers |= {name: total / events, f"{name}_error": error}
        numbers |= {"bins_used": self.used.sum(), "bins_left_out": (~self.used).sum()}
        return {name: float(value) for name, value in numbers.items()}

    def maps(self, region: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return MC and MASK, each (20, 20), mean over the events in the used bins of a region."""
        bins_K = self.binning.in_region[region] & self.used
        count = self.count_KG[bins_K].sum()
        mc_X, mask_X = self.hit_KX[bins_K].sum(axis=0) / count, self.prob_KX[bins_K].sum(axis=0) / count
        return mc_X.reshape(20, 20), mask_X.reshape(20, 20)


class ScoreSums:
    """Sums for ``Scores``, accumulated on the device in one pass over the events, in float64."""

    def __init__(self, binning: Binning, device: torch.device) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self._binning = binning
        rows = len(binning.edges_mev)  # bins, and one for energies outside
        self._count_KG = zeros(rows, GROUPS)
        self._prob_KGX, self._hit_KGX = zeros(rows, GROUPS, CRYSTALS), zeros(rows, GROUPS, CRYSTALS)
        self._prob_square_X, self._brier_bce_G2 = zeros(CRYSTALS), zeros(GROUPS, 2)

    def add(self, energy_gev_B: Tensor, mask_prob_BHW: Tensor, hit_BHW: Tensor) -> None:
        """Add events. Those of an energy bin go to the jackknife groups in turn."""
        bin_B = self._binning.bin_of(energy_gev_B)
        rank_BK = functional.one_hot(bin_B, len(self._count_KG)).cumsum(dim=0)
        earlier_B = self._count_KG.sum(dim=1)[bin_B].long() + rank_BK.gather(1, bin_B[:, None])[:, 0] - 1
        group_B = earlier_B % GROUPS
        cell_B = bin_B * GROUPS + group_B
        prob_BX, hit_BX = mask_prob_BHW.flatten(1).float(), hit_BHW.flatten(1).float()
        self._count_KG.view(-1).index_add_(0, cell_B, torch.ones_like(cell_B, dtype=torch.float64))
        self._prob_KGX.view(-1, CRYSTALS).index_add_(0, cell_B, prob_BX.double())
        self._hit_KGX.view(-1, CRYSTALS).index_add_(0, cell_B, hit_BX.double())
        self._prob_square_X += prob_BX.square().sum(dim=0, dtype=torch.float64)
        self._brier_bce_G2.index_add_(0, group_B, brier_and_bce(prob_BX, hit_BX).double())

    def scores(self) -> Scores:
        """Return the scores of the events added so far."""
        count_KG = self._count_KG[:-1]
        miss_KGX = (self._prob_KGX - self._hit_KGX)[:-1]
        rest_KG = (count_KG.sum(dim=1, keepdim=True) - count_KG).clamp(min=1)
        mse_KG = torch.empty_like(count_KG)
        for group in range(GROUPS):
            left_out_KX = miss_KGX.sum(dim=1) - miss_KGX[:, group]
            mse_KG[:, group] = (left_out_KX / rest_KG[:, group, None]).square().mean(dim=1)
        events_G = self._count_KG.sum(dim=0)
        mean_X = self._prob_KGX.sum(dim=(0, 1)) / events_G.sum()
        variance_X = (self._prob_square_X / events_G.sum() - mean_X.square()).clamp(min=0)
        return Scores(
            binning=self._binning,
            count_KG=count_KG.cpu().numpy(),
            hit_KX=self._hit_KGX[:-1].sum(dim=1).cpu().numpy(),
            prob_KX=self._prob_KGX[:-1].sum(dim=1).cpu().numpy(),
            mse_KG=mse_KG.cpu().numpy(),
            brier_bce_G2=self._brier_bce_G2.cpu().numpy(),
            events_G=events_G.cpu().numpy(),
            mask_spread=float(variance_X.sqrt().mean()),
        )


def brier_and_bce(prob_BX: Tensor, hit_BX: Tensor) -> Tensor:
    """Return Brier score and cross-entropy of each event, means over its crystals: (B, 2)."""
    brier_B = (prob_BX - hit_BX).square().mean(dim=1)
    said_BX = torch.where(hit_BX > 0.5, prob_BX, 1 - prob_BX).clamp(min=SMALLEST_PROB)
    return torch.stack((brier_B, -said_BX.log().mean(dim=1)), dim=1)


def score_events(mask_prob: MaskProb, events: ResidentEvents, binning: Binning) -> Scores:
    """Score a model on these events."""
    sums = ScoreSums(binning, events.condition_N6.device)
    with torch.no_grad():
        for condition_B6, hit_BHW in events.in_order(CHUNK):
            sums.add(condition_B6[:, 0], mask_prob(condition_B6), hit_BHW)
    return sums.scores()


def _jackknife_error(left_out_G: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard error from the values with one group left out each, along the last axis."""
    spread_G = left_out_G - left_out_G.mean(axis=-1, keepdims=True)
    error: NDArray[np.float64] = np.sqrt((GROUPS - 1) / GROUPS * np.square(spread_G).sum(axis=-1))
    return error
