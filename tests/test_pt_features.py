"""Feature sets hold what they say, in the order that a promoted model promises to its users."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.pt.features import FEATURE_NAMES, features
from trainables.pt.simulate import simulate_data


def test_the_sets_have_the_columns_of_their_names() -> None:
    events = simulate_data(300, 1).train
    assert tuple(FEATURE_NAMES) == ("energy", "dphi", "full")
    for name, width in zip(FEATURE_NAMES, (7, 2, 59), strict=True):
        values = features(name, events)
        assert values.shape == (len(events), width)
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
        assert len(FEATURE_NAMES[name]) == len(set(FEATURE_NAMES[name])) == width


@pytest.mark.parametrize("number", [0, 17])
def test_the_features_of_an_event_are_those_of_the_report(number: int) -> None:
    events = simulate_data(300, 1).train
    (x3, y3, z3), (x4, y4, z4) = events.hit_N53[number, 3:].tolist()
    (x, y, z, energy), centre = events.cluster_N24[number].tolist()
    one = {
        name: dict(zip(FEATURE_NAMES[name], features(name, events)[number].tolist(), strict=True))
        for name in FEATURE_NAMES
    }
    expected = {
        "r_inner_intt_cm": (x3**2 + y3**2) ** 0.5,
        "z_inner_intt_cm": z3,
        "r_outer_intt_cm": (x4**2 + y4**2) ** 0.5,
        "z_outer_intt_cm": z4,
        "r_inner_face_cm": (x**2 + y**2) ** 0.5,
        "z_inner_face_cm": z,
        "e_inner_face_gev": energy,
    }
    assert one["energy"] == pytest.approx(expected, rel=1e-6)
    assert list(one["energy"]) == list(expected)
    assert one["dphi"] == pytest.approx({"inverse_dphi": 1 / events.dphi_N[number], "zero": 0.0}, rel=1e-6)
    full = one["full"]
    hits = ("mvtx_0", "mvtx_1", "mvtx_2", "inner_intt", "outer_intt")
    assert [full[f"{axis}_{hit}_cm"] for hit in hits for axis in "xyz"] == events.hit_N53[number].ravel().tolist()
    assert [full[f"{axis}_inner_face_cm"] for axis in "xyz"] == [x, y, z]
    assert [*(full[f"{axis}_volume_centre_cm"] for axis in "xyz"), full["e_volume_centre_gev"]] == centre
    towers = [[*(full[f"{axis}_tower_{rank}_cm"] for axis in "xyz"), full[f"e_tower_{rank}_gev"]] for rank in range(9)]
    assert towers == events.tower_N94[number].tolist()


def test_features_are_a_copy_that_may_be_standardised_in_place() -> None:
    events = simulate_data(300, 1).train
    before = events.tower_N94.copy()
    features("full", events)[:] = 0
    assert np.array_equal(events.tower_N94, before)
