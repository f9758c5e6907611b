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
GROUPS = 20  # of the events of each energy bin, the same each time, for the statistical errors
LEAST_GROUPS = 4  # with events, for an error of the excess
CHUNK = 1024  # events scored at once
SMALLEST_PROB = 1e-7  # limits the cross-entropy of a hit where the probability is 0
MaskProb = Callable[[Tensor], Tensor]  # a model: raw conditions (B, 6) -> probabilities (B, 20, 20)


@dataclass(frozen=True)
class MseCurve:
    """The table behind mse(E): one row for each bin with enough events."""

    low_edge_mev_K: NDArray[np.float64]
    high_edge_mev_K: NDArray[np.float64]
    events_K: NDArray[np.int64]
    mse_K: NDArray[np.float64]
    floor_K: NDArray[np.float64]  # of this model
    energy_only_K: NDArray[np.float64]  # MC's p (1 - p) / n: the floor of a mask of the energy alone
    error_K: NDArray[np.float64]  # 1 sigma, statistical, of mse and of the excess

    @property
    def excess(self) -> NDArray[np.float64]:
        """Return mse less its floor: the squared difference of MASK and MC without their fluctuation."""
        return self.mse_K - self.floor_K


@dataclass(frozen=True)
class Scores:
    """Scores of a model against Geant4 on a sample, from sums over its events.

    In each energy bin and crystal MC is the mean hit and MASK the mean probability;
    ``mse(bin) = mean over the 400 crystals of (MASK - MC)^2``. With ``d = mask - hit`` of an event and n events in
    the bin, MASK - MC is the mean of d. The expectation of its square is

        ``E[(mean d)^2] = delta^2 + var(d) / n``

    with delta the true difference, the expectation of d over events of this bin. So with v the sample variance of d:

    ``floor = mean over crystals of v / n``
        what mse is for delta = 0. It is a property of the model: one that knows an event's angles has a smaller
        var(d), and a lower floor, than a mask of the energy alone, whose floor is ``energy_only``, MC's own
        ``p (1 - p) / n`` in its unbiased estimate ``MC (1 - MC) / (n - 1)``.
    ``excess = mse - floor``
        the mean over all pairs of different events i, j, and over crystals, of ``d_i d_j``: unbiased for the mean
        of delta^2 for any n >= 2. It may be negative by chance.

    Over crystals v needs no sums of its own: with the mean Brier score B of the bin's events, which is the mean of
    d^2, the floor is ``(B - mse) / (n - 1)``.

    Errors of mse and excess are 1 sigma of a jackknife over groups of events with Efron and Stein's second-order
    correction, see ``_variance_of_pairs``; variances of bins add up, because bins share no events. Both have the same
    error, because the floor fluctuates much less than mse: mse by 1 % more than the excess in simulated bins of 150
    events, by 20 % in bins of 20. Errors of brier and bce, which are means over all events and crystals, inside and
    outside of the binning, are of a delete-one-group jackknife.
    Source: ZDC status report of 2025-08-07, "Development 2" and "3", for mse(E); the floor and its error are ours.
    """

    binning: Binning
    count_KG: NDArray[np.float64]  # the last row: events outside the binning
    hit_KX: NDArray[np.float64]  # sum of hits
    miss_KX: NDArray[np.float64]  # sum of d
    pair_KGG: NDArray[np.float64]  # product of two groups' sums of d, mean over crystals
    brier_bce_KG2: NDArray[np.float64]  # sums over the events; the last row as in count_KG
    mask_spread: float  # standard deviation of a crystal's probability over events, mean over crystals

    @cached_property
    def used(self) -> NDArray[np.bool_]:
        """Return which bins hold enough events."""
        used: NDArray[np.bool_] = self.count_KG[:-1].sum(axis=1) >= self.binning.min_bin_count
        return used

    @cached_property
    def curve(self) -> MseCurve:
        """Return mse, floors and error of each bin with enough events."""
        count_K1 = self.count_KG[:-1].sum(axis=1, keepdims=True)[self.used]
        mc_KX = self.hit_KX[self.used] / count_K1
        mse_K = np.square(self.miss_KX[self.used] / count_K1).mean(axis=1)
        brier_K = self.brier_bce_KG2[:-1, :, 0].sum(axis=1)[self.used] / count_K1[:, 0]
        return MseCurve(
            low_edge_mev_K=self.binning.edges_mev[:-1][self.used],
            high_edge_mev_K=self.binning.edges_mev[1:][self.used],
            events_K=count_K1[:, 0].astype(np.int64),
            mse_K=mse_K,
            floor_K=(brier_K - mse_K) / (count_K1[:, 0] - 1),
            energy_only_K=(mc_KX * (1 - mc_KX) / (count_K1 - 1)).mean(axis=1),
            error_K=np.sqrt(np.maximum(*self._variances)),
        )

    def numbers(self) -> dict[str, float]:
        """Return the metrics of a trial.

        mse of each region with its _floor, _excess, _error and _excess_error; brier and bce with their _error; the
        numbers of bins.
        """
        numbers: dict[str, float] = {}
        for region in REGIONS:
            bins_K = self.binning.in_region[region][self.used]
            mse, floor = self.curve.mse_K[bins_K].mean(), self.curve.floor_K[bins_K].mean()
            error = np.sqrt(self._variances[:, bins_K].sum(axis=1).max()) / bins_K.sum()
            numbers |= {f"mse_{region}": mse, f"mse_{region}_floor": floor, f"mse_{region}_excess": mse - floor}
            numbers |= {f"mse_{region}_error": error, f"mse_{region}_excess_error": error}
        sum_G2, events_G = self.brier_bce_KG2.sum(axis=0), self.count_KG.sum(axis=0)
        sum_2, events = sum_G2.sum(axis=0), events_G.sum()
        left_out_G2 = (sum_2 - sum_G2) / np.maximum(events - events_G, 1)[:, None]
        for name, total, error in zip(("brier", "bce"), sum_2, _jackknife_error(left_out_G2.T), strict=True):
            numbers |= {name: total / events, f"{name}_error": error}
        numbers |= {"bins_used": self.used.sum(), "bins_left_out": (~self.used).sum()}
        return {name: float(value) for name, value in numbers.items()}

    def maps(self, region: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return MC and MASK, each (20, 20), mean over the events in the used bins of a region."""
        bins_K = self.binning.in_region[region] & self.used
        count = self.count_KG[:-1][bins_K].sum()
        mc_X = self.hit_KX[bins_K].sum(axis=0) / count
        mask_X = mc_X + self.miss_KX[bins_K].sum(axis=0) / count
        return mc_X.reshape(20, 20), mask_X.reshape(20, 20)

    @cached_property
    def _variances(self) -> NDArray[np.float64]:
        """Return the variance of each used bin's excess, and the least that it can be, (2, K)."""
        count_KG = self.count_KG[:-1][self.used]
        variance_2K = _variance_of_pairs(self.pair_KGG[self.used], count_KG)
        few_K = (count_KG > 0).sum(axis=1) < LEAST_GROUPS  # two or three events: mse itself stands for its error
        mse_K = np.square(self.miss_KX[self.used] / count_KG.sum(axis=1, keepdims=True)).mean(axis=1)
        return np.where(few_K, np.square(mse_K), variance_2K)


class ScoreSums:
    """Sums for ``Scores``, accumulated on the device in one pass over the events, in float64."""

    def __init__(self, binning: Binning, device: torch.device) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self._binning = binning
        rows = len(binning.edges_mev)  # bins, and one for energies outside
        self._count_KG = zeros(rows, GROUPS)
        self._hit_KX, self._miss_KGX = zeros(rows, CRYSTALS), zeros(rows, GROUPS, CRYSTALS)
        self._prob_square_X, self._brier_bce_KG2 = zeros(CRYSTALS), zeros(rows, GROUPS, 2)

    def add(self, energy_gev_B: Tensor, mask_prob_BHW: Tensor, hit_BHW: Tensor) -> None:
        """Add events. Those of an energy bin go to the jackknife groups in turn."""
        bin_B = self._binning.bin_of(energy_gev_B)
        rank_BK = functional.one_hot(bin_B, len(self._count_KG)).cumsum(dim=0)
        earlier_B = self._count_KG.sum(dim=1)[bin_B].long() + rank_BK.gather(1, bin_B[:, None])[:, 0] - 1
        cell_B = bin_B * GROUPS + earlier_B % GROUPS
        prob_BX, hit_BX = mask_prob_BHW.flatten(1).float(), hit_BHW.flatten(1).float()
        self._count_KG.view(-1).index_add_(0, cell_B, torch.ones_like(cell_B, dtype=torch.float64))
        self._hit_KX.index_add_(0, bin_B, hit_BX.double())
        self._miss_KGX.view(-1, CRYSTALS).index_add_(0, cell_B, prob_BX.double() - hit_BX)
        self._brier_bce_KG2.view(-1, 2).index_add_(0, cell_B, brier_and_bce(prob_BX, hit_BX))
        self._prob_square_X += prob_BX.square().sum(dim=0, dtype=torch.float64)

    def scores(self) -> Scores:
        """Return the scores of the events added so far."""
        miss_KX = self._miss_KGX.sum(dim=1)
        events = self._count_KG.sum()
        mean_X = (miss_KX + self._hit_KX).sum(dim=0) / events
        variance_X = (self._prob_square_X / events - mean_X.square()).clamp(min=0)
        pair_KGG = self._miss_KGX[:-1] @ self._miss_KGX[:-1].transpose(1, 2) / CRYSTALS
        return Scores(
            binning=self._binning,
            count_KG=self._count_KG.cpu().numpy(),
            hit_KX=self._hit_KX[:-1].cpu().numpy(),
            miss_KX=miss_KX[:-1].cpu().numpy(),
            pair_KGG=pair_KGG.cpu().numpy(),
            brier_bce_KG2=self._brier_bce_KG2.cpu().numpy(),
            mask_spread=float(variance_X.sqrt().mean()),
        )


def brier_and_bce(prob_BX: Tensor, hit_BX: Tensor) -> Tensor:
    """Return Brier score and cross-entropy of each event, means over its crystals: (B, 2) of float64.

    Brier is exact to float64, because the floor of mse is a small difference of it.
    """
    brier_B = (prob_BX.double() - hit_BX).square().mean(dim=1)
    likelihood_BX = torch.where(hit_BX > 0.5, prob_BX, 1 - prob_BX).clamp(min=SMALLEST_PROB)
    return torch.stack((brier_B, -likelihood_BX.log().mean(dim=1).double()), dim=1)


def score_events(mask_prob: MaskProb, events: ResidentEvents, binning: Binning) -> Scores:
    """Score a model on these events."""
    sums = ScoreSums(binning, events.condition_N6.device)
    with torch.no_grad():
        for condition_B6, hit_BHW in events.in_order(CHUNK):
            sums.add(condition_B6[:, 0], mask_prob(condition_B6), hit_BHW)
    return sums.scores()


def _variance_of_pairs(pair_KGG: NDArray[np.float64], count_KG: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the variance of U, the mean of d_i d_j over events i, j of different groups, and a lower bound: (2, K).

    Let P_gh be the product of two groups' sums of d and N_gh = n_g n_h, both 0 for g = h; then U = sum P / sum N.
    Products P_gh P_kl of four different groups are independent factors, so their mean estimates (E U)^2 without
    bias, and U^2 less this mean estimates var(U). With P' = P - U N, whose sum is 0, that is

        ``var(U) = (4 sum_g (sum_h P'_gh)^2 - 2 sum_gh P'_gh^2) / sum over different g, h, k, l of N_gh N_kl``

    The first term is the delete-one-group jackknife. Alone it is twice too large where the true difference is 0,
    because U is then a degenerate U-statistic. The second term is the correction of B. Efron and C. Stein, Ann.
    Stat. 9 (1981) 586. Valid with events in at least ``LEAST_GROUPS`` groups, else NaN; unbiased for groups of equal
    size. The estimate may be negative by chance; the bound is half the variance for a difference of 0. The excess
    itself has pairs within groups too, which makes its variance smaller than that of U by at most 1 / (G - 1).

    Parameters
    ----------
    pair_KGG : array
        P, with any diagonal.
    count_KG : array
        Events of each group.
    """
    between_GG = 1 - np.eye(pair_KGG.shape[-1])
    weight_KGG = count_KG[:, :, None] * count_KG[:, None, :] * between_GG

    def total(value_KGG: NDArray[np.float64]) -> NDArray[np.float64]:
        value_K: NDArray[np.float64] = value_KGG.sum(axis=(1, 2))
        return value_K

    def rows(value_KGG: NDArray[np.float64]) -> NDArray[np.float64]:
        square_K: NDArray[np.float64] = np.square(value_KGG.sum(axis=2)).sum(axis=1)
        return square_K

    with np.errstate(invalid="ignore", divide="ignore"):
        mean_K = total(pair_KGG * between_GG) / total(weight_KGG)
        rest_KGG = pair_KGG * between_GG - mean_K[:, None, None] * weight_KGG
        square_K, weights_K = total(np.square(rest_KGG)), total(weight_KGG)
        disjoint_K = weights_K**2 - 4 * rows(weight_KGG) + 2 * total(np.square(weight_KGG))
        variance_K = (4 * rows(rest_KGG) - 2 * square_K) / disjoint_K
        return np.stack((variance_K, square_K / weights_K**2))


def _jackknife_error(left_out_G: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard error from the values with one group left out each, along the last axis."""
    spread_G = left_out_G - left_out_G.mean(axis=-1, keepdims=True)
    error: NDArray[np.float64] = np.sqrt((GROUPS - 1) / GROUPS * np.square(spread_G).sum(axis=-1))
    return error
