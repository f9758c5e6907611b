"""The correction of high pT after the training: a module of the model, and its fit to training events."""

# N events, K bins of true pT

from __future__ import annotations

import torch
from torch import Tensor, nn

BIN_GEV = 0.2  # of true pT in the fit
MIN_BIN_COUNT = 20  # events of a bin that is fitted
PEAK = 0.2  # only events with |pred/truth - 1| below it are fitted


class PostCorrection(nn.Module):
    """``pred * (1 + offset + slope * (pred - start))`` from ``start`` GeV on, below it ``pred``.

    The three numbers are buffers, so that saved weights contain them. Offset and slope are 0 at first, which changes
    nothing. At ``start`` the prediction jumps by the relative offset.
    Source: ML4Reco, "Post-correction".
    """

    start: Tensor
    offset: Tensor
    slope: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("start", "offset", "slope"):
            self.register_buffer(name, torch.zeros(()))

    def set_to(self, start_gev: float, offset: float, slope_per_gev: float) -> None:
        """Set the three numbers."""
        self.start.fill_(start_gev)
        self.offset.fill_(offset)
        self.slope.fill_(slope_per_gev)

    @property
    def changes_nothing(self) -> bool:
        return not (self.offset.item() or self.slope.item())

    def forward(self, pred_N: Tensor) -> Tensor:
        factor_N = 1 + self.offset + self.slope * (pred_N - self.start)
        return torch.where(pred_N >= self.start, pred_N * factor_N, pred_N)


def fit_correction(pred_N: Tensor, truth_N: Tensor, start_gev: float) -> tuple[float, float]:
    """Fit offset and slope per GeV that remove the bias at high true pT; (0, 0) where too few events determine them.

    Bias is the median of pred/truth - 1 of events of one true pT, so the fit is at fixed truth: in bins of
    0.2 GeV of true pT the median prediction m of the events in the peak is compared to the median truth t, and
    ``m (1 + offset + slope (m - start)) / t = 1`` is solved by least squares, weighted by the bins' events,
    over the bins with m >= start. (A fit of truth against prediction would find nothing to correct: a trained
    model is right on average at a fixed *prediction*; at the end of the spectrum it is not at fixed truth.)
    One bin gives an offset alone. A slope below 0 is not allowed, because predictions would no longer rise.

    Parameters
    ----------
    pred_N, truth_N : Tensor
        Uncorrected predictions on training events and their truth, in GeV.
    """
    peak_N = ((pred_N / truth_N - 1).abs() < PEAK) & torch.isfinite(pred_N)
    pred_N, truth_N = pred_N[peak_N].double(), truth_N[peak_N].double()
    bin_N = (truth_N / BIN_GEV).long()
    rows = []
    for number in sorted(set(bin_N.tolist())):
        in_bin_N = bin_N == number
        pred_gev, truth_gev = pred_N[in_bin_N].median(), truth_N[in_bin_N].median()
        if int(in_bin_N.sum()) >= MIN_BIN_COUNT and pred_gev >= start_gev:
            rows.append(torch.stack((pred_gev, truth_gev, in_bin_N.sum().double())))
    return _weighted_line(torch.stack(rows), start_gev) if rows else (0.0, 0.0)


def _weighted_line(bin_K3: Tensor, start_gev: float) -> tuple[float, float]:
    """Solve least squares for (offset, slope) over bins of median prediction, median truth and number of events."""
    pred_K, truth_K, count_K = bin_K3.unbind(dim=1)
    weight_K = count_K.sqrt() * pred_K / truth_K
    wanted_K = weight_K * (truth_K / pred_K - 1)
    design_K2 = torch.stack((weight_K, weight_K * (pred_K - start_gev)), dim=1)
    if len(bin_K3) > 1:
        offset, slope = torch.linalg.lstsq(design_K2, wanted_K).solution.tolist()
        if slope >= 0:
            return offset, slope
    return float(wanted_K @ design_K2[:, 0] / design_K2[:, 0].square().sum()), 0.0
