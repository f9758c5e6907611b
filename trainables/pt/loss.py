"""The losses of the pT models: the relative loss, and the two physics penalties of pt-dphi."""

# B batch, K angles of the grid, P = 9 points of the boundary table

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

TINY_GEV = 1e-6  # of the report: prevents division by zero
GRID_ANGLES = 64
GRID_INVERSE_DPHI = (0.5, 200.0)  # 1/rad: the ends of the boundary table, far outside of the data
BOUNDARY_INVERSE_DPHI = (0.5, 1.0, 2.0, 10.0, 15.0, 25.0, 50.0, 100.0, 200.0)  # 1/rad
BOUNDARY_PT_GEV = (0.0961, 0.1922, 0.3844, 1.922, 2.883, 4.805, 9.61, 19.22, 38.44)  # 0.1922 GeV rad / angle


def relative_loss(pred_B: Tensor, truth_B: Tensor, peak_weight: float, peak_window: float) -> Tensor:
    """Average ``w r^2`` with ``r = (truth - pred) / (truth + 1e-6)``.

    ``w`` is ``peak_weight`` where |r| < ``peak_window``, else 1. It lowers the influence of outliers, is a step of r
    and has no gradient of its own. Predictions and truth in GeV, truth positive. Source: ML4Reco, "Train_model1".
    """
    r_B = (truth_B - pred_B) / (truth_B + TINY_GEV)
    weight_B = torch.where(r_B.abs() < peak_window, peak_weight, 1.0)
    return (weight_B * r_B.square()).mean()


def monotonic_penalty(pt_K: Tensor, angle_K: Tensor) -> Tensor:
    """Sum the rises of pT, in GeV, along growing angles: 0 where pT never rises with the angle.

    ``sum relu(pT[k+1] - pT[k])`` of the predictions sorted by angle. (ours) The report takes the angles of the batch,
    so that the penalty grows with the batch size; here they are a fixed grid (``grid_inverse_dphi``), so that it is
    the same for every batch and acts outside of the data too.
    """
    return rises(pt_K[torch.argsort(angle_K, stable=True)])


def rises(pt_K: Tensor) -> Tensor:
    """Sum the rises of pT, in GeV, from each prediction to the next."""
    return pt_K.diff().relu().sum()


def boundary_deviation(pt_P: Tensor) -> Tensor:
    """Return relative deviations (P,) of predictions at the angles of the boundary table from its pT."""
    target_P = _boundary_pt(pt_P.dtype, pt_P.device)
    return (target_P - pt_P) / target_P


@cache
def _boundary_pt(dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # whoever asks first, a training may keep it
        return torch.tensor(BOUNDARY_PT_GEV, dtype=dtype, device=device)


def boundary_penalty(pt_P: Tensor) -> Tensor:
    """Average the squared relative deviation from the boundary table (ours: the report does not show its form)."""
    return boundary_deviation(pt_P).square().mean()


def grid_inverse_dphi(device: torch.device | None = None) -> Tensor:
    """Make the fixed grid (K,) of 1/angle in 1/rad, evenly spaced in its logarithm."""
    low, high = GRID_INVERSE_DPHI
    return torch.logspace(0, 1, GRID_ANGLES, base=high / low, dtype=torch.float64, device=device).mul(low).float()


def boundary_inverse_dphi(device: torch.device | None = None) -> Tensor:
    """Return 1/angle (P,) in 1/rad of the boundary table."""
    return torch.tensor(BOUNDARY_INVERSE_DPHI, device=device)
