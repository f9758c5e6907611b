"""The analytic formulas: exact on ideal helices, fitted to training events only; the report's own figures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from trainables.pt.cutflow import CutFlow
from trainables.pt.data import Events, PtData
from trainables.pt.metrics import OBJECTIVES, PtBinning
from trainables.pt.naive import (
    ANGLE_FORMULA,
    ENERGY_FORMULA,
    REFERENCE,
    compares_with_reference,
    fit_c,
    naive_predictors,
    naive_scores,
    reference_columns,
    reference_numbers,
)
from trainables.pt.selection import bending_angle

FIELD_GEV_PER_CM = 0.3e-2 * 1.4  # pT = 0.3 B R
INNER_CM, OUTER_CM = 7.455, 9.97  # middles of the INTT's double layers
CALORIMETER_CM = 98.98  # some 5 cm, the depth of a shower, behind the inner face of the EMCal


def on_helix(pt_N: NDArray[np.float64], phi_N: NDArray[np.float64], radius_cm: float) -> NDArray[np.float64]:
    """Where electrons from the origin cross a cylinder, (N, 3)."""
    turned_N = phi_N + np.arcsin(radius_cm / (2 * pt_N / FIELD_GEV_PER_CM))
    return np.stack((radius_cm * np.cos(turned_N), radius_cm * np.sin(turned_N), np.zeros_like(pt_N)), axis=1)


def ideal_events(events: int, seed: int, energy_scale: float = 1.0, calorimeter_cm: float = CALORIMETER_CM) -> Events:
    """Electrons without any smearing, whose clusters hold ``energy_scale`` of their energy."""
    random = np.random.default_rng(seed)
    pt_N, phi_N, eta_N = random.uniform(0.5, 10, events), random.uniform(-3, 3, events), random.uniform(-1, 1, events)
    inner_N3, outer_N3, face_N3 = (on_helix(pt_N, phi_N, radius) for radius in (INNER_CM, OUTER_CM, calorimeter_cm))
    cluster_N4 = np.append(face_N3, energy_scale * (pt_N * np.cosh(eta_N))[:, None], axis=1)
    cluster_N4[:, 2] = calorimeter_cm * np.sinh(eta_N)
    single = np.float32
    return Events(
        hit_N53=np.zeros((events, 5, 3), single),
        cluster_N24=np.stack((cluster_N4, cluster_N4), axis=1).astype(single),
        tower_N94=np.zeros((events, 9, 4), single),
        dphi_N=bending_angle(inner_N3, outer_N3, face_N3, -1).astype(single),
        truth_N3=np.stack((pt_N, eta_N, phi_N), axis=1).astype(single),
        surface_dphi_N=np.zeros(events, single),
    )


def make_data(train: Events, validation: Events) -> PtData:
    return PtData(train, validation, PtBinning(), CutFlow(), "strict", -1, "made by hand", ())


def test_c_of_ideal_helices_is_that_of_the_report() -> None:
    assert fit_c(ideal_events(2000, 1)) == pytest.approx(0.1922, rel=0.002)


@pytest.mark.parametrize("calorimeter_cm", [93.5, 110.0])
def test_c_is_half_the_distance_from_silicon_to_calorimeter_times_the_field(calorimeter_cm: float) -> None:
    c = fit_c(ideal_events(2000, 1, calorimeter_cm=calorimeter_cm))
    assert c == pytest.approx((calorimeter_cm - INNER_CM) / 2 * FIELD_GEV_PER_CM, rel=0.002)


def test_formulas_are_exact_for_ideal_electrons() -> None:
    scores = naive_scores(make_data(ideal_events(2000, 1), ideal_events(1000, 2)))
    assert list(scores) == [ANGLE_FORMULA, ENERGY_FORMULA]
    assert np.abs(scores[ENERGY_FORMULA].pred_N / scores[ENERGY_FORMULA].truth_N - 1).max() < 1e-6
    above_1_gev = scores[ANGLE_FORMULA].truth_N > 1  # the angle is 1/pT up to its third power
    ratio_N = scores[ANGLE_FORMULA].pred_N / scores[ANGLE_FORMULA].truth_N
    assert np.abs(ratio_N[above_1_gev] - 1).max() < 0.01


def test_c_is_fitted_to_training_events_only() -> None:
    train, validation = ideal_events(500, 1), ideal_events(500, 2)
    tripled = replace(validation, dphi_N=3 * validation.dphi_N)
    data, other = make_data(train, validation), make_data(train, tripled)
    predicted, shrunk = naive_scores(data)[ANGLE_FORMULA].pred_N, naive_scores(other)[ANGLE_FORMULA].pred_N
    np.testing.assert_allclose(shrunk, predicted / 3, rtol=1e-6)
    assert naive_predictors(other)[ANGLE_FORMULA]["bias"] == pytest.approx(2 / 3, abs=0.01)


def test_formulas_are_scored_on_validation_events_only() -> None:
    train, validation = ideal_events(500, 1, energy_scale=0.2), ideal_events(500, 2, energy_scale=0.9)
    numbers = naive_predictors(make_data(train, validation))[ENERGY_FORMULA]
    assert numbers["bias"] == pytest.approx(0.1, abs=1e-5)
    assert set(OBJECTIVES) < set(numbers)
    scores = naive_scores(make_data(train, validation))[ENERGY_FORMULA]
    np.testing.assert_array_equal(scores.truth_N, validation.truth_N3[:, 0])


def test_the_reference_table_gives_the_numbers_of_a_leaderboard() -> None:
    numbers = reference_numbers()
    assert numbers["half_width"] == pytest.approx(0.0796)
    # 5.7/.998 + 6.4/.995 + 6.6/.992 + 7.2/.997 + 8/.998 + 9.2/1.003 + 10.1/1.005 + 9.8 + 9/.981 + 7.6/.952 in %
    assert numbers["resolution"] == pytest.approx(0.080214, abs=1e-6)
    assert numbers["core_sigma"] == pytest.approx(0.071370, abs=1e-6)
    assert numbers["bias_median"] == 0.048
    assert numbers["tail"] == pytest.approx(0.0465)
    assert (numbers["mean"], numbers["rms"]) == (-0.003, 0.098)
    assert REFERENCE.events == 312_157


def test_the_reference_compares_only_with_its_own_bins_and_selection() -> None:
    assert compares_with_reference(PtBinning(), "strict")
    assert compares_with_reference(PtBinning(min_bin_count=50), "strict")
    assert not compares_with_reference(PtBinning(), "loose")
    for binning in (PtBinning(bin_width_gev=2), PtBinning(max_pt_gev=9), PtBinning(bin_width_gev=0.5, max_pt_gev=5)):
        assert not compares_with_reference(binning, "strict")


def test_the_reference_stands_in_the_bins_that_are_used() -> None:
    used = np.arange(10) != 4
    columns = reference_columns(used)
    assert all(len(value) == 9 for value in columns.values())
    assert columns["resolution"][4] == pytest.approx(0.092 / 1.003)
