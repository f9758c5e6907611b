"""The quick ways of the pT ingest give what the plain ones give: the order of towers, the carried caches."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from trainables.data.split import SPLIT_THREE
from trainables.pt.content import Points
from trainables.pt.cutflow import SELECTIONS, Selection
from trainables.pt.data import SAMPLE
from trainables.pt.ingest import COLUMNS, Reading, ingest
from trainables.pt.towers import TOWERS, highest_towers

EVENTS = 500
ANGLES = ("dphi", "surface_dphi")  # their last bits may differ by machine
CARRIED = {  # of the carried sample, by selection: a hash of its cache without angles, and of what stands beside it
    "strict": "a4a0cc28471fa18b",
    "loose": "1c4f8fa2469b6c0c",
}
ENERGIES = {
    "some equal": lambda rng, size: np.round(rng.exponential(1.0, size), 1),
    "of both signs": lambda rng, size: np.round(rng.normal(size=size), 1),
    "zeros of both signs": lambda rng, size: rng.choice([-0.0, 0.0, 1e-300, -1e-300], size),
    "that differ in the last bits": lambda rng, size: 1.0 + rng.integers(0, 4, size) * np.finfo(np.float64).eps,
    "float32": lambda rng, size: rng.exponential(1.0, size).astype(np.float32),
    "integers": lambda rng, size: rng.integers(0, 5, size).astype(np.uint8),
}


@pytest.mark.parametrize("energies", ENERGIES)
@pytest.mark.parametrize("most", [0, 12, 70_000], ids=lambda most: f"up to {most} towers")
def test_the_highest_towers_are_those_of_a_sort_of_each_event(energies: str, most: int) -> None:
    rng = np.random.default_rng(3)
    count = rng.integers(0, most + 1, EVENTS if most < 1000 else 3)
    event = np.repeat(np.arange(len(count)), count)
    axes = tuple(rng.normal(size=len(event)) for _ in "xyz")
    energy = ENERGIES[energies](rng, len(event))  # type: ignore[no-untyped-call]
    accepted = rng.random(len(count)) < 0.7
    accepted[:2] = True
    found = highest_towers(Points(event, axes, energy, np.zeros(len(event))), accepted)
    assert len(found) == accepted.sum()
    for tower_94, number in zip(found, np.flatnonzero(accepted), strict=True):
        own = np.flatnonzero(event == number)
        highest = own[np.argsort(-energy[own].astype(np.float64), kind="stable")][:TOWERS]
        expected = np.stack([values[highest].astype(np.float32) for values in (*axes, energy)], axis=1)
        np.testing.assert_array_equal(tower_94[: len(highest)], expected)
        assert not tower_94[len(highest) :].any()


@pytest.mark.parametrize("selection", SELECTIONS)
def test_the_cache_of_the_carried_sample_stays_the_same_byte_for_byte(selection: Selection, tmp_path: Path) -> None:
    """Another content would need another ``READER_VERSION``; results of earlier searches could not be compared."""
    cache = ingest((str(SAMPLE),), Reading(selection, -1, False, SPLIT_THREE), tmp_path)
    digest = hashlib.sha256(json.dumps(cache.meta, sort_keys=True).encode())
    for part in SPLIT_THREE:
        for column in COLUMNS:
            if column not in ANGLES:
                digest.update(cache.column(part, column).tobytes())
    assert digest.hexdigest()[:16] == CARRIED[selection]
