"""Losses and penalties of the pT models: pencil values, gradients, and a size that no batch changes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trainables.pt.config import PtDphiConfig
from trainables.pt.correction import PostCorrection, fit_correction
from trainables.pt.loss import (
    BOUNDARY_INVERSE_DPHI,
    BOUNDARY_PT_GEV,
    boundary_deviation,
    boundary_inverse_dphi,
    boundary_penalty,
    grid_inverse_dphi,
    monotonic_penalty,
    relative_loss,
    rises,
)


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ---------------------------------------------------------------- the main loss


def test_main_loss_weighs_the_peak_three_times() -> None:
    truth, pred = double(2.0, 4.0, 10.0), double(1.8, 2.0, 13.0)  # r = 0.1, 0.5, -0.3
    assert float(relative_loss(pred, truth, 3.0, 0.2)) == pytest.approx((3 * 0.01 + 0.25 + 0.09) / 3, rel=1e-5)
    assert float(relative_loss(pred, truth, 3.0, 0.4)) == pytest.approx((3 * 0.01 + 0.25 + 3 * 0.09) / 3, rel=1e-5)
    assert float(relative_loss(pred, truth, 1.0, 0.2)) == pytest.approx((0.01 + 0.25 + 0.09) / 3, rel=1e-5)


def test_the_window_is_open_at_its_end() -> None:
    """|r| < window: at the window itself an event is outside of the peak."""
    truth = double(1.0)
    edge = 0.25 / (1 + 1e-6)
    assert float(relative_loss(double(0.75), truth, 3.0, edge)) == pytest.approx(edge**2)
    assert float(relative_loss(double(0.75), truth, 3.0, edge * 1.001)) == pytest.approx(3 * edge**2)


def test_main_loss_is_finite_at_zero_momentum_and_zero_at_the_truth() -> None:
    assert math.isfinite(float(relative_loss(double(1e-3), double(0.0), 3.0, 0.2)))
    assert float(relative_loss(double(3.0, 7.0), double(3.0, 7.0), 3.0, 0.2)) == 0


def test_main_loss_has_the_gradient_of_its_value(random: torch.Generator) -> None:
    truth = torch.rand(20, dtype=torch.float64, generator=random) * 9 + 0.5
    pred = (truth * (0.5 + torch.rand(20, dtype=torch.float64, generator=random))).requires_grad_()
    assert torch.autograd.gradcheck(lambda pred: relative_loss(pred, truth, 3.0, 0.2), (pred,))


# ---------------------------------------------------------------- the penalties


def test_monotonic_penalty_is_the_total_rise_with_the_angle() -> None:
    angle = double(0.1, 0.2, 0.4, 0.8)
    assert float(monotonic_penalty(double(9, 5, 3, 1), angle)) == 0
    assert float(monotonic_penalty(double(3, 5, 4, 6), angle)) == pytest.approx(2 + 2)
    assert float(monotonic_penalty(double(1, 1, 1, 1), angle)) == 0


def test_monotonic_penalty_does_not_ask_for_sorted_angles(random: torch.Generator) -> None:
    angle, pt = torch.rand(30, generator=random), torch.randn(30, generator=random)
    shuffled = torch.randperm(30, generator=random)
    assert torch.equal(monotonic_penalty(pt, angle), monotonic_penalty(pt[shuffled], angle[shuffled]))


def test_monotonic_penalty_has_the_gradient_of_its_value(random: torch.Generator) -> None:
    angle = torch.rand(12, dtype=torch.float64, generator=random)
    pt = torch.randn(12, dtype=torch.float64, generator=random, requires_grad=True)
    assert float(monotonic_penalty(pt, angle).detach()) > 0
    assert torch.autograd.gradcheck(lambda pt: monotonic_penalty(pt, angle), (pt,))


def test_the_rises_of_the_grid_backwards_are_its_monotonic_penalty(random: torch.Generator) -> None:
    inverse = grid_inverse_dphi()
    pt = torch.randn(len(inverse), generator=random, requires_grad=True)
    gradients = []
    for penalty in (monotonic_penalty(pt, 1 / inverse), rises(pt.flip(0))):
        gradients.append((penalty.detach(), *torch.autograd.grad(penalty, pt)))
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    assert float(gradients[0][0]) > 0


def test_the_boundary_table_serves_a_training_after_inference() -> None:
    with torch.inference_mode():
        boundary_penalty(torch.ones(9, dtype=torch.float16))
    pt = torch.ones(9, dtype=torch.float16, requires_grad=True)
    boundary_penalty(pt).backward()  # type: ignore[no-untyped-call]
    assert pt.grad is not None


def test_the_grid_covers_the_boundary_table_evenly_in_the_logarithm() -> None:
    inverse = grid_inverse_dphi().double()
    assert (float(inverse[0]), float(inverse[-1])) == pytest.approx((BOUNDARY_INVERSE_DPHI[0], 200.0))
    ratio = inverse[1:] / inverse[:-1]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 400 ** (1 / 63)), rtol=1e-5, atol=0)


def test_boundary_penalty_is_the_mean_squared_relative_deviation() -> None:
    target = double(*BOUNDARY_PT_GEV)
    assert float(boundary_penalty(target)) == 0
    assert float(boundary_penalty(1.1 * target)) == pytest.approx(0.01)
    one_off = target.clone()
    one_off[3] *= 0.4
    assert float(boundary_penalty(one_off)) == pytest.approx(0.36 / 9)
    assert boundary_deviation(one_off)[3] == pytest.approx(0.6)


def test_the_boundary_table_is_that_of_the_report() -> None:
    torch.testing.assert_close(0.1922 * boundary_inverse_dphi(), torch.tensor(BOUNDARY_PT_GEV), rtol=1e-3, atol=0)
    assert boundary_inverse_dphi().tolist() == [0.5, 1, 2, 10, 15, 25, 50, 100, 200]


def test_boundary_penalty_has_the_gradient_of_its_value(random: torch.Generator) -> None:
    pt = torch.randn(9, dtype=torch.float64, generator=random, requires_grad=True)
    assert torch.autograd.gradcheck(boundary_penalty, (pt,))


def test_weight_of_the_boundary_penalty_grows_up_to_its_cap() -> None:
    config = PtDphiConfig()
    assert [config.lambda_boundary(epoch) for epoch in (1, 10, 40, 500)] == pytest.approx([0.005, 0.05, 0.2, 0.2])
    assert PtDphiConfig(boundary=False).lambda_boundary(500) == 0


# ---------------------------------------------------------------- the correction


def correction(start: float, offset: float, slope: float) -> PostCorrection:
    module = PostCorrection()
    module.set_to(start, offset, slope)
    return module


def test_the_correction_of_the_report() -> None:
    pred = torch.tensor([0.5, 8.7999, 8.8, 9.3, 10.8])
    factor = torch.tensor([1, 1, 1.02, 1.06, 1.18])
    torch.testing.assert_close(correction(8.8, 0.02, 0.08)(pred), pred * factor)


def test_a_correction_that_was_never_set_changes_nothing() -> None:
    pred = torch.linspace(-1, 20, 50)
    assert torch.equal(PostCorrection()(pred), pred)


def test_fitted_correction_takes_the_bias_off_at_fixed_truth(random: torch.Generator) -> None:
    """Predictions compressed as those of a trained model at the end of the spectrum; outliers do not count."""
    truth = 7 + 3 * torch.rand(20_000, generator=random)
    squeezed = torch.where(truth > 8.5, 8.5 + 0.6 * (truth - 8.5), truth)
    pred = squeezed * (1 + 0.01 * torch.randn(20_000, generator=random))
    pred[::20] *= 0.3
    offset, slope = fit_correction(pred, truth, 8.8)
    corrected = correction(8.8, offset, slope)(pred)
    for low in (9.2, 9.4, 9.6, 9.8):
        in_bin = (truth >= low) & (truth < low + 0.2)
        assert float((pred / truth)[in_bin].median()) < 0.985
        assert float((corrected / truth)[in_bin].median()) == pytest.approx(1, abs=0.004)


def test_a_model_without_bias_gets_no_correction(random: torch.Generator) -> None:
    truth = 7 + 3 * torch.rand(20_000, generator=random)
    pred = truth * (1 + 0.01 * torch.randn(20_000, generator=random))
    assert fit_correction(pred, truth, 8.8) == pytest.approx((0, 0), abs=0.003)


@pytest.mark.parametrize("pred", [torch.full((500,), 5.0), torch.full((500,), torch.nan), torch.empty(0)])
def test_where_nothing_is_predicted_high_nothing_is_fitted(pred: Tensor) -> None:
    assert fit_correction(pred, torch.linspace(7, 10, len(pred)), 8.8) == (0, 0)


def test_a_fitted_correction_never_bends_down(random: torch.Generator) -> None:
    truth = 7 + 3 * torch.rand(20_000, generator=random)
    pred = 8.8 + 1.3 * (truth - 8.8)
    offset, slope = fit_correction(pred, truth, 8.8)
    assert slope == 0
    assert offset < 0
