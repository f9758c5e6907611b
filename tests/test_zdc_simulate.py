"""The parametric showers: reproducible, like those of Geant4 where tests need it, and readable again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import uproot
from zdc_files import load, rows_of

from trainables.zdc.data import ZDCData, ZDCDataSettings, load_data
from trainables.zdc.events import Events
from trainables.zdc.simulate import CHUNK_EVENTS, simulate_batches, simulate_data, write_file


@pytest.fixture(scope="module")
def geant4(tmp_path_factory: pytest.TempPathFactory) -> ZDCData:
    return load_data(ZDCDataSettings(), tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def ours() -> ZDCData:
    return simulate_data(16_000, seed=3)


def hits(events: Events) -> np.ndarray:
    return np.unpackbits(events.mask_packed_N50, axis=1)


def test_the_same_seed_gives_the_same_events() -> None:
    one, same, other = simulate_data(300, 1), simulate_data(300, 1), simulate_data(300, 2)
    assert rows_of(one.train, one.validation) == rows_of(same.train, same.validation)
    assert not rows_of(one.train, one.validation) & rows_of(other.train, other.validation)
    assert one.fingerprint != other.fingerprint


def test_batches_differ_and_add_up() -> None:
    events = CHUNK_EVENTS + 7
    batches = list(simulate_batches(events, 1))
    assert [len(batch) for batch in batches] == [CHUNK_EVENTS, 7]
    assert not np.array_equal(batches[0].momentum_gev_N3[:7], batches[1].momentum_gev_N3)


def test_data_for_tests_looks_like_loaded_data(ours: ZDCData, geant4: ZDCData) -> None:
    for part in ("train", "validation"):
        made, read = getattr(ours, part), getattr(geant4, part)
        assert made.condition_N6.dtype == read.condition_N6.dtype
        assert made.mask_packed_N50.dtype == read.mask_packed_N50.dtype
        assert made.condition_N6.shape[1:] == read.condition_N6.shape[1:]
        assert made.mask_packed_N50.shape[1:] == read.mask_packed_N50.shape[1:]
    assert len(ours.validation) == pytest.approx(3200, abs=200)
    assert not rows_of(ours.train) & rows_of(ours.validation)


def test_the_gun_shoots_as_in_the_geant4_sample(ours: ZDCData, geant4: ZDCData) -> None:
    quantiles = [5, 25, 50, 75, 95]
    for column in range(6):
        made = np.percentile(ours.train.condition_N6[:, column], quantiles)
        expected = np.percentile(geant4.train.condition_N6[:, column], quantiles)
        width = geant4.train.condition_N6[:, column].std()
        np.testing.assert_allclose(made, expected, atol=0.08 * width)


def test_hit_counts_grow_with_energy_as_in_geant4(ours: ZDCData, geant4: ZDCData) -> None:
    means = []
    for sample in (ours, geant4):
        energy = sample.train.condition_N6[:, 0]
        count = hits(sample.train).sum(axis=1)
        edges = [0.0, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0]
        bins = np.digitize(energy, edges) - 1
        means.append(np.bincount(bins, count) / np.bincount(bins))
    np.testing.assert_allclose(means[0], means[1], rtol=0.08)
    assert (np.diff(means[0]) > 0).all()
    empty = [(hits(sample.train).sum(axis=1) == 0).mean() for sample in (ours, geant4)]
    assert empty[0] == pytest.approx(empty[1], abs=0.01)


def test_the_mean_map_is_that_of_geant4(ours: ZDCData, geant4: ZDCData) -> None:
    difference = hits(ours.train).mean(axis=0) - hits(geant4.train).mean(axis=0)
    assert np.sqrt((difference**2).mean()) < 0.015
    assert np.abs(difference).max() < 0.08


def test_a_file_of_either_layout_holds_the_events_of_memory(tmp_path: Path) -> None:
    data = simulate_data(500, seed=4)
    for layout in ("mytree", "edm4hep"):
        assert write_file(tmp_path / f"{layout}.root", layout, simulate_batches(500, 4)) == 500
        read = load(tmp_path, str(tmp_path / f"{layout}.root"))
        kept_back = rows_of(data.train) - rows_of(read.train)
        assert rows_of(read.train) < rows_of(data.train)
        assert rows_of(read.validation) == rows_of(data.validation)
        assert 40 < len(kept_back) < 120  # the holdout


def test_the_command_line_writes_a_file(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "trainables.zdc.simulate", str(tmp_path / "x.root")]
    flags = ["--events", "123", "--layout", "edm4hep", "--seed", "5"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, check=True, timeout=60)
    assert "x.root: 123 events, layout edm4hep" in done.stdout
    assert uproot.open({str(tmp_path / "x.root"): None})["events"].num_entries == 123
