"""Scores of a ZDC model on the holdout with bootstrap replicas: the metrics of validation and mse(E)."""

# R rows: the events as they are, then one replica each; K used energy bins, N events, n of one bin, B of a block,
# X crystals

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.base.training import TrainedModel
from trainables.evaluation.bootstrap import resampled
from trainables.evaluation.scores import Curve, Evaluation, fingerprint
from trainables.zdc.binning import Binning, check_binning
from trainables.zdc.data import ZDCData
from trainables.zdc.events import Events
from trainables.zdc.inference import build_mask
from trainables.zdc.metrics import CRYSTALS, MaskProb, brier_and_bce
from trainables.zdc.naive import fit_naive
from trainables.zdc.resident import ResidentEvents

CPU = torch.device("cpu")


def evaluate(
    mask_prob: MaskProb,
    holdout: Events,
    binning: Binning,
    replicas: int = 1000,
    seed: int = 0,
    device: torch.device = CPU,
) -> Evaluation:
    """Evaluate a model in one pass over the events, one energy bin after another.

    Events with energies outside of the binning are resampled among themselves; they are in no mse, but count in
    brier and bce.

    A replica fluctuates about the sample as the sample does about the truth. Its mse would therefore be higher than
    that of the events as they are, on average over all possible draws by exactly ``(brier - mse) / n`` in a bin of n
    events. This is subtracted, so that replicas lie about the value. Floor and excess of a replica follow from its
    mse and Brier score as in ``Scores``, and lie about their values too. Where mse is mostly chance, near the floor,
    replicas spread too far (1.2 to 1.5 times on simulated showers, more with fewer events in a bin), so the
    intervals are cautious. In differences of models that know the same the chance cancels, and with it most of this.

    Parameters
    ----------
    mask_prob : callable
        Raw conditions on ``device`` (B, 6) -> probabilities (B, 20, 20). One that is not finite makes the scores
        NaN.
    holdout : Events
        Takes 74 bytes an event on the device. Of the model's answers one block of events is held at a time.
    binning : Binning
    replicas, seed : int
        See ``resampled``.
    device : torch.device

    Raises
    ------
    DataError
        A region of the objective has no energy bin with enough events.
    """
    check_binning(binning, [holdout.energy_mev], "holdout")
    events = ResidentEvents(holdout, device)
    bin_N = binning.bin_of(events.condition_N6[:, 0])
    sums = []
    for number in range(len(binning.edges_mev)):
        of_bin = _Sums(replicas, device)
        of_bin.add_all(mask_prob, events, (bin_N == number).nonzero()[:, 0], seed, number)
        sums.append(of_bin.reduced())
    used_K = np.flatnonzero([one.events >= binning.min_bin_count for one in sums[:-1]])
    return Evaluation(
        events=len(events),
        holdout=fingerprint((holdout.condition_N6, holdout.mask_packed_N50)),
        objective_version=binning.objective_version,
        seed=seed,
        metrics=_metrics(sums, used_K, binning),
        curve=_curve([sums[number] for number in used_K], used_K, binning),
    )


def evaluate_model(
    model: TrainedModel,
    _branches: Mapping[str, TrainedModel],
    events: Events,
    data: ZDCData,
    replicas: int,
    device: torch.device,
) -> Evaluation:
    """Evaluate a trained model, in the form that its users get, in the bins of the data; see ``evaluate``."""
    return evaluate(build_mask(model).to(device), events, data.binning, replicas, device=device)


def naive_evaluations(data: ZDCData, holdout: Events, replicas: int = 1000, seed: int = 0) -> dict[str, Evaluation]:
    """Evaluate the naive predictors, fitted to the training events, on the holdout; by name. See ``evaluate``."""
    fitted = fit_naive(data.train, data.binning)
    return {name: evaluate(mask_prob, holdout, data.binning, replicas, seed) for name, mask_prob in fitted.items()}


@dataclass(frozen=True)
class _Bin:
    """Scores of one energy bin."""

    events: int
    mse_R: NDArray[np.float64]
    floor_R: NDArray[np.float64]
    brier_bce_R2: NDArray[np.float64]  # sums over the events


class _Sums:
    """Sums over the events of one energy bin, on the device, in float64 where they may cancel."""

    def __init__(self, replicas: int, device: torch.device) -> None:
        def zeros(columns: int) -> Tensor:
            return torch.zeros((1 + replicas, columns), dtype=torch.float64, device=device)

        self._replicas, self._device, self._events = replicas, device, 0
        self._miss_RX, self._brier_bce_R2 = zeros(CRYSTALS), zeros(2)

    @torch.no_grad()
    def add_all(self, mask_prob: MaskProb, events: ResidentEvents, index_n: Tensor, seed: int, number: int) -> None:
        """Add the events with these indices, which are those of bin ``number``."""
        self._events = len(index_n)
        for place, drawn_RB in resampled(len(index_n), self._replicas, seed, number):
            condition_B6, hit_BHW = events.batch(index_n[place])
            prob_BX, hit_BX = mask_prob(condition_B6).flatten(1).float(), hit_BHW.flatten(1)
            count_RB = torch.from_numpy(drawn_RB).to(self._device)
            self._miss_RX += count_RB.double() @ (prob_BX.double() - hit_BX)
            self._brier_bce_R2 += count_RB.double() @ brier_and_bce(prob_BX, hit_BX)

    def reduced(self) -> _Bin:
        events = max(self._events, 1)
        rest = max(events - 1, 1)
        mse_R = (self._miss_RX / events).square().mean(dim=1)
        brier_R = self._brier_bce_R2[:, 0] / events
        mse_R[1:] -= (brier_R[0] - mse_R[0]) / events
        floor_R = (brier_R - mse_R) / rest
        return _Bin(self._events, *(one.cpu().numpy() for one in (mse_R, floor_R, self._brier_bce_R2)))


def _metrics(sums: Sequence[_Bin], used_K: NDArray[np.int64], binning: Binning) -> dict[str, NDArray[np.float64]]:
    """Return the metrics of ``Scores.numbers`` without errors, each (R,)."""
    metrics: dict[str, NDArray[np.float64]] = {}
    for region, in_region in binning.in_region.items():
        of_region = [sums[number] for number in used_K if in_region[number]]
        mse_R, floor_R = (np.mean([getattr(one, name) for one in of_region], axis=0) for name in ("mse_R", "floor_R"))
        metrics |= {f"mse_{region}": mse_R, f"mse_{region}_floor": floor_R, f"mse_{region}_excess": mse_R - floor_R}
    brier_bce_R2 = np.sum([one.brier_bce_R2 for one in sums], axis=0) / sum(one.events for one in sums)
    metrics |= {"brier": brier_bce_R2[:, 0], "bce": brier_bce_R2[:, 1]}
    counts = {"bins_used": len(used_K), "bins_left_out": len(sums) - 1 - len(used_K)}
    return metrics | {name: np.full(len(brier_bce_R2), float(count)) for name, count in counts.items()}


def _curve(used: Sequence[_Bin], used_K: NDArray[np.int64], binning: Binning) -> Curve:
    return Curve(
        x="energy of the primary [GeV]",
        y="mse(E) of MASK against MC",
        scale="log",
        low_edge_K=binning.edges_mev[used_K] / 1000,
        high_edge_K=binning.edges_mev[used_K + 1] / 1000,
        events_K=np.array([one.events for one in used]),
        value_RK=np.stack([one.mse_R for one in used], axis=1),
    )
