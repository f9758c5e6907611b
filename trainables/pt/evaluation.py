"""Evaluate pT models on the holdout: the metrics of validation and the resolution curve, with bootstrap replicas."""

# R rows: the sample itself, then one replica each; K pT bins with enough events, N events, n of one bin

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.base.training import TrainedModel
from trainables.evaluation.bootstrap import resampled
from trainables.evaluation.scores import Curve, Evaluation, fingerprint
from trainables.pt.inference import predict
from trainables.pt.metrics import TAIL, PtBinning, check_binning, over_bins, residuals
from trainables.pt.naive import formula_predictions
from trainables.pt.shapes import Shapes, shapes_of_replicas

if TYPE_CHECKING:
    from trainables.pt.data import Events, PtData

VALUES_AT_ONCE = 1_000_000  # events of replicas whose shapes are found together


def evaluate(
    pred_N: NDArray[Any],
    holdout: Events,
    binning: PtBinning,
    replicas: int = 1000,
    seed: int = 0,
    extra: Mapping[str, float] | None = None,
) -> Evaluation:
    """Evaluate a model's predictions, one bin of true pT after another. Events outside of the bins count nowhere.

    ``bias`` is the largest of several noisy numbers: in replicas, which are noisier than the sample, it tends to be
    larger than in the sample itself. In differences between models most of that cancels.

    Parameters
    ----------
    pred_N : array
        pT in GeV of all events of the holdout. One that is not finite makes the scores NaN.
    holdout : Events
    binning : PtBinning
    replicas, seed : int
        See ``resampled``.
    extra : mapping of str to float, optional
        Metrics that do not depend on events, so that they are the same in all replicas.

    Raises
    ------
    DataError
        Too few pT bins have enough events.
    ValueError
        Another number of predictions than of events.
    """
    truth_N, pred_N = holdout.truth_N3[:, 0].astype(np.float64), np.asarray(pred_N, np.float64)
    if pred_N.shape != truth_N.shape:
        raise ValueError(f"expected one prediction for each of the {len(truth_N)} events, found {pred_N.shape}")
    check_binning(binning, truth_N, "holdout")
    residual_N, bin_N = residuals(pred_N, truth_N, binning), binning.bin_of(truth_N)
    bins = []
    for number in range(len(binning.edges_gev) - 1):
        value_n = residual_N[bin_N == number]
        drawn = [count_RB for _, count_RB in resampled(len(value_n), replicas, seed, number)]
        count_Rn = np.concatenate((np.empty((1 + replicas, 0), np.uint8), *drawn), axis=1)
        bins.append(_evaluate_bin(value_n, count_Rn, len(value_n) >= binning.min_bin_count))
    constants = {name: np.full(1 + replicas, value) for name, value in (extra or {}).items()}
    return Evaluation(
        events=len(truth_N),
        holdout=fingerprint(getattr(holdout, field.name) for field in fields(holdout)),
        objective_version=binning.objective_version,
        seed=seed,
        metrics=_metrics(bins) | constants,
        curve=_curve(bins, binning),
    )


def evaluate_model(
    model: TrainedModel,
    branches: Mapping[str, TrainedModel],
    events: Events,
    data: PtData,
    replicas: int,
    _device: torch.device,
) -> Evaluation:
    """Evaluate a trained model in the form that its users load, therefore on the CPU."""
    return evaluate(predict(model, branches, events, data.charge), events, data.binning, replicas)


def naive_evaluations(data: PtData, holdout: Events, replicas: int = 1000, seed: int = 0) -> dict[str, Evaluation]:
    """Evaluate both formulas, with C fitted to the training events, on the holdout; by name."""
    predictions = formula_predictions(data.train, holdout)
    return {name: evaluate(pred_N, holdout, data.binning, replicas, seed) for name, pred_N in predictions.items()}


@dataclass(frozen=True)
class _Bin:
    """Moments and shapes of a pT bin."""

    events: int
    moments_R3: NDArray[np.float64]  # means of r, of r squared, and of |r| > TAIL
    shapes: Shapes | None  # (R, 1); None: too few events

    def rms(self) -> NDArray[np.float64]:
        """Return the RMS about the mean."""
        return _rms(self.moments_R3[:, 0], self.moments_R3[:, 1])


def _evaluate_bin(value_n: NDArray[np.float64], count_Rn: NDArray[np.uint8], used: bool) -> _Bin:
    """Compute a bin from r of its events and how often each replica draws each event."""
    order_n = np.argsort(value_n)
    value_n, count_Rn = value_n[order_n], np.take(count_Rn, order_n, axis=1)
    tail_n = np.where(np.isnan(value_n), np.nan, np.abs(value_n) > TAIL)
    power_n3 = np.stack((value_n, value_n**2, tail_n), axis=1)
    moments_R3, shapes = [], []
    step = max(1, VALUES_AT_ONCE // max(len(value_n), 1))
    for first in range(0, len(count_Rn), step):
        count_rn = count_Rn[first : first + step]
        moments_R3.append(count_rn @ power_n3 / max(len(value_n), 1))
        if used:
            shapes.append(shapes_of_replicas(value_n, count_rn))
    return _Bin(len(value_n), np.concatenate(moments_R3), _joined(shapes, axis=0) if used else None)


def _joined(shapes: Sequence[Shapes], axis: int) -> Shapes:
    return Shapes(
        *(np.concatenate([getattr(one, field.name) for one in shapes], axis=axis) for field in fields(Shapes))
    )


def _metrics(bins: Sequence[_Bin]) -> dict[str, NDArray[np.float64]]:
    """Compute the metrics of ``Scores.numbers`` without errors, each (R,)."""
    used = [one for one in bins if one.shapes is not None]
    inside = sum(one.events for one in bins)
    mean_R, square_R, tail_R = np.sum([one.events * one.moments_R3 for one in bins], axis=0).T / inside
    std_KR = [one.rms() * np.sqrt(one.events / (one.events - 1)) for one in used]
    shapes = _joined([one.shapes for one in used if one.shapes is not None], axis=1)
    metrics = over_bins(shapes) | {
        "std": np.mean(std_KR, axis=0),
        "tail": tail_R,
        "mean": mean_R,
        "rms": _rms(mean_R, square_R),
    }
    counts = {"bins_used": len(used), "bins_left_out": len(bins) - len(used)}
    return metrics | {name: np.full(len(mean_R), float(count)) for name, count in counts.items()}


def _curve(bins: Sequence[_Bin], binning: PtBinning) -> Curve:
    used = {number: one.shapes.relative_width for number, one in enumerate(bins) if one.shapes is not None}
    used_K = np.array(list(used))
    return Curve(
        x="true $p_T$ [GeV]",
        y="resolution: half-width of central\n68 % of $r$, per response",
        scale="percent",
        low_edge_K=binning.edges_gev[used_K],
        high_edge_K=binning.edges_gev[used_K + 1],
        events_K=np.array([bins[number].events for number in used]),
        value_RK=np.concatenate(list(used.values()), axis=1),
    )


def _rms(mean_R: NDArray[np.float64], square_R: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(np.maximum(square_R - mean_R**2, 0))
