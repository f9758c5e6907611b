"""Naive scores come from sums over bits, and are those of scoring event by event."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from trainables.zdc import hit_sums
from trainables.zdc.binning import Binning
from trainables.zdc.events import Events
from trainables.zdc.hit_sums import sum_hits
from trainables.zdc.metrics import GROUPS, score_events
from trainables.zdc.naive import CONSTANT_MASK, MEAN_MASK_PER_BIN, fit_naive, naive_scores
from trainables.zdc.resident import ResidentEvents
from trainables.zdc.simulate import simulate_data

BINNINGS = {
    "wide bins": Binning(bin_width_mev=4000),
    "bins with few events and with none": Binning(bin_width_mev=10),
    "energies outside": Binning(bin_width_mev=2000, max_energy_mev=15_000, high_energy_mev=10_000),
}


@pytest.fixture(scope="module")
def parts() -> tuple[Events, Events]:
    data = simulate_data(3000, seed=3)
    return data.train, data.validation


@pytest.fixture(params=[7, 100_000])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read events in many chunks, or in one."""
    monkeypatch.setattr(hit_sums, "CHUNK", request.param)


@pytest.mark.parametrize("binning", BINNINGS.values(), ids=BINNINGS)
@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("groups", [1, 20])
def test_sums_are_those_of_a_loop_over_events(parts: tuple[Events, Events], binning: Binning, groups: int) -> None:
    events = parts[1]
    bin_N = binning.bin_of(torch.tensor(events.condition_N6[:, 0])).tolist()
    count = np.zeros((len(binning.edges_mev), groups))
    hits = np.zeros((*count.shape, 400))
    for number, packed in zip(bin_N, events.mask_packed_N50, strict=True):
        group = int(count[number].sum()) % groups
        count[number, group] += 1
        hits[number, group] += np.unpackbits(packed)
    sums = sum_hits(events, binning, groups)
    np.testing.assert_array_equal(sums.count_KG, count)
    np.testing.assert_array_equal(sums.hit_KGX, hits)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("binning", BINNINGS.values(), ids=BINNINGS)
def test_naive_scores_are_those_of_scoring_each_event(parts: tuple[Events, Events], binning: Binning) -> None:
    train, validation = parts
    resident = ResidentEvents(validation, torch.device("cpu"))
    quick = naive_scores(train, validation, binning)
    assert list(quick) == [CONSTANT_MASK, MEAN_MASK_PER_BIN]
    for name, mask_prob in fit_naive(train, binning).items():
        slow = score_events(mask_prob, resident, binning)
        for field in fields(slow):
            if field.name not in ("binning", "brier_bce_KG2"):
                ours, theirs = getattr(quick[name], field.name), getattr(slow, field.name)
                np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-5 if field.name == "mask_spread" else 1e-11)
        brier, bce = np.moveaxis(quick[name].brier_bce_KG2 - slow.brier_bce_KG2, 2, 0)
        np.testing.assert_allclose(brier, 0, atol=1e-12)
        np.testing.assert_allclose(bce, 0, atol=1e-6 * slow.brier_bce_KG2[..., 1].max())  # logarithms in float32 there
        assert quick[name].binning == binning


def test_a_crystal_that_is_always_or_never_hit_has_a_finite_score(parts: tuple[Events, Events]) -> None:
    full = replace(parts[0], mask_packed_N50=np.full_like(parts[0].mask_packed_N50, 255))
    none = replace(parts[1], mask_packed_N50=np.zeros_like(parts[1].mask_packed_N50))
    for train, validation in ((full, none), (none, full), (none, none)):
        for scores in naive_scores(train, validation, BINNINGS["wide bins"]).values():
            assert np.isfinite(list(scores.numbers().values())).all()
            assert scores.count_KG.shape[1] == GROUPS
