"""The parametric electrons: reproducible, like those of Geant4 where tests need it, and readable again."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from pt_files import branches, load, rows_of

from trainables.pt.combined import CombinedData
from trainables.pt.data import SAMPLE, Events, PtData, PtDataSettings, load_data
from trainables.pt.electrons import electron_at, photon_at, shoot
from trainables.pt.metrics import PtBinning
from trainables.pt.naive import fit_c, naive_predictions, naive_predictors
from trainables.pt.selection import wrapped
from trainables.pt.simulate import (
    CHUNK_EVENTS,
    chunk_of,
    columns,
    simulate,
    simulate_batches,
    simulate_combined_data,
    simulate_data,
    write_file,
)

GEV_BINS = PtBinning()
EDGES_GEV = GEV_BINS.edges_gev


@pytest.fixture(scope="module")
def geant4(tmp_path_factory: pytest.TempPathFactory) -> PtData:
    return load_data(PtDataSettings(), tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def ours() -> PtData:
    return simulate_data(36_000, seed=3, binning=GEV_BINS)


@pytest.fixture(scope="module")
def raw() -> dict[str, Any]:
    """Every branch of the Geant4 sample, and of as many simulated events."""
    sample = uproot.open({str(SAMPLE): "tree"}).arrays(library="ak")
    made = columns(simulate(len(sample), np.random.default_rng(5)))
    return {"geant4": sample, "ours": ak.zip(made, depth_limit=1)}


def per_bin(data: PtData, value_of: Any) -> np.ndarray:
    """16, 50, 84 % quantiles of ``value_of(events)`` in each pT bin of 1 GeV, train and validation, (10, 3)."""
    pt = np.concatenate([part.truth_N3[:, 0] for part in (data.train, data.validation)])
    value = np.concatenate([value_of(part) for part in (data.train, data.validation)])
    bins = GEV_BINS.bin_of(pt)
    return np.array([np.percentile(value[bins == k], [16, 50, 84]) for k in range(10)])


def by_energy(events: Events) -> np.ndarray:
    """E sin(theta) / pT - 1."""
    x, y, z, energy = events.cluster_N24[:, 0].T
    return energy * np.hypot(x, y) / np.sqrt(x**2 + y**2 + z**2) / events.truth_N3[:, 0] - 1


def by_angle(events: Events) -> np.ndarray:
    """0.1927 / dphi / pT - 1."""
    return 0.1927 / events.dphi_N / events.truth_N3[:, 0] - 1


def half_width(quantiles: np.ndarray) -> np.ndarray:
    return (quantiles[:, 2] - quantiles[:, 0]) / 2


def shares(counts: Any, largest: int) -> np.ndarray:
    """Share of events with 0, 1, ... largest or more."""
    return np.bincount(np.minimum(np.asarray(counts), largest), minlength=largest + 1) / len(counts)


def test_the_same_seed_gives_the_same_events() -> None:
    one, same, other = simulate_data(300, 1), simulate_data(300, 1), simulate_data(300, 2)
    assert rows_of(one.train, one.validation) == rows_of(same.train, same.validation)
    assert not rows_of(one.train, one.validation) & rows_of(other.train, other.validation)
    assert one.fingerprint != other.fingerprint


def test_batches_differ_and_add_up() -> None:
    batches = list(simulate_batches(CHUNK_EVENTS + 7, 1))
    assert [len(batch) for batch in batches] == [CHUNK_EVENTS, 7]
    assert not np.array_equal(batches[0].truth_N3[:7], batches[1].truth_N3)


def test_a_batch_does_not_depend_on_what_comes_after() -> None:
    long, short = list(simulate_batches(2 * CHUNK_EVENTS, 1)), list(simulate_batches(CHUNK_EVENTS, 1))
    assert np.array_equal(long[0].truth_N3, short[0].truth_N3)
    assert np.array_equal(long[0].hit_H3, short[0].hit_H3)
    assert np.array_equal(long[0].clusters.phi_C, short[0].clusters.phi_C)
    assert np.array_equal(long[0].towers.energy_T, short[0].towers.energy_T)


def test_data_for_tests_looks_like_loaded_data(ours: PtData, geant4: PtData) -> None:
    for part in ("train", "validation"):
        made, read = vars(getattr(ours, part)), vars(getattr(geant4, part))
        assert {name: (values.dtype, values.shape[1:]) for name, values in made.items()} == {
            name: (values.dtype, values.shape[1:]) for name, values in read.items()
        }
    accepted = len(ours.train) + len(ours.validation)
    assert accepted == ours.cut_flow.accepted("strict")
    assert ours.cut_flow.events == 36_000
    assert len(ours.validation) == pytest.approx(0.2 * accepted, rel=0.05)
    assert not rows_of(ours.train) & rows_of(ours.validation)
    assert ours.objective_version == geant4.objective_version


def test_few_events_fill_their_bins() -> None:
    for seed in range(5):
        data = simulate_data(250, seed)
        assert (data.binning.count(data.validation.truth_N3[:, 0]) > 0).all()
        assert np.isfinite(naive_predictors(data)["C/dphi"]["resolution"])


def test_the_formulas_stand_in_for_the_branches() -> None:
    data = simulate_combined_data(1000, 1)
    assert isinstance(data, CombinedData)
    expected = naive_predictions(data)
    np.testing.assert_allclose(data.validation_branch_N2[:, 0], expected["E sin(theta)"], rtol=1e-6)
    np.testing.assert_allclose(data.validation_branch_N2[:, 1], expected["C/dphi"], rtol=1e-6)
    np.testing.assert_allclose(data.train_branch_N2[:, 1] * data.train.dphi_N, fit_c(data.train), rtol=1e-6)
    assert len(data.train_branch_N2) == len(data.train)
    assert data.fingerprint != simulate_data(1000, 1).fingerprint


def test_clusters_and_towers_are_as_many_as_in_geant4(raw: dict[str, Any]) -> None:
    found = {}
    for name, events in raw.items():
        layer = events["trk_layer"]
        found[name] = np.concatenate(
            [
                *(shares(ak.sum((layer >= low) & (layer <= low + 1), axis=1), 3) for low in (3, 5)),
                *(shares(ak.sum(layer == number, axis=1), 2) for number in (0, 1, 2)),
                shares(ak.num(events["caloClus_X"]), 2),
            ]
        )
    np.testing.assert_allclose(found["ours"], found["geant4"], atol=0.015)
    silicon, towers = (
        [np.mean(np.minimum(ak.num(events[name]), 12)) for events in raw.values()] for name in ("trk_X", "tower_X")
    )
    assert silicon[1] == pytest.approx(silicon[0], rel=0.03)
    assert towers[1] == pytest.approx(towers[0], rel=0.05)


def test_the_highest_towers_hold_as_much_as_in_geant4(ours: PtData, geant4: PtData) -> None:
    made, expected = (
        (data.train.tower_N94[:, :, 3] / data.train.cluster_N24[:, :1, 3]).mean(axis=0) for data in (ours, geant4)
    )
    np.testing.assert_allclose(made, expected, rtol=0.25)
    assert made.sum() == pytest.approx(expected.sum(), rel=0.03)


def test_the_selections_accept_as_many_as_in_geant4(ours: PtData, geant4: PtData) -> None:
    for selection in ("strict", "loose"):
        made, expected = (data.cut_flow.efficiency(selection, EDGES_GEV).efficiency_B for data in (ours, geant4))
        np.testing.assert_allclose(made, expected, atol=0.05)
        assert made.mean() == pytest.approx(expected.mean(), abs=0.02)


def test_electrons_bend_as_in_geant4(ours: PtData, geant4: PtData) -> None:
    assert fit_c(ours.train) == pytest.approx(fit_c(geant4.train), rel=0.005)
    made, expected = per_bin(ours, by_angle), per_bin(geant4, by_angle)
    np.testing.assert_allclose(made[:, 1], expected[:, 1], atol=0.03)
    np.testing.assert_allclose(half_width(made), half_width(expected), rtol=0.2)


def test_the_energy_is_that_of_geant4(ours: PtData, geant4: PtData) -> None:
    made, expected = per_bin(ours, by_energy), per_bin(geant4, by_energy)
    np.testing.assert_allclose(made[:, 1], expected[:, 1], atol=0.03)
    np.testing.assert_allclose(half_width(made), half_width(expected), rtol=0.15)


def test_the_cluster_lies_beside_the_true_point_as_in_geant4(ours: PtData, geant4: PtData) -> None:
    made, expected = (per_bin(data, lambda events: events.surface_dphi_N) for data in (ours, geant4))
    np.testing.assert_allclose(made[:, 1], expected[:, 1], atol=5e-4, rtol=0.2)
    np.testing.assert_allclose(half_width(made), half_width(expected), rtol=0.2)


def test_bremsstrahlung_leaves_tails_as_in_geant4(ours: PtData, geant4: PtData) -> None:
    tails = [
        [np.mean(value_of(data.train)[data.train.truth_N3[:, 0] < 4] < -0.25) for value_of in (by_energy, by_angle)]
        for data in (ours, geant4)
    ]
    np.testing.assert_allclose(tails[0], tails[1], rtol=0.3)


def test_an_electron_flies_on_a_circle_that_only_a_photon_tightens() -> None:
    tracks = shoot(500, np.random.default_rng(1))
    still = replace(tracks, kick_rphi_NK=0 * tracks.kick_rphi_NK, kick_z_NK=0 * tracks.kick_z_NK)
    radius = np.array([2.0, 20.0, 60.0, 93.5])
    whole = electron_at(radius, replace(still, lost_N=np.zeros(500)))
    helix = (tracks.pt_N / 0.00299792458 / 1.4)[:, None]
    np.testing.assert_allclose(whole.phi, np.arcsin(radius / (2 * helix)), rtol=1e-9)
    np.testing.assert_allclose(whole.incidence, whole.phi, rtol=1e-9)
    np.testing.assert_allclose(whole.z, 2 * helix * whole.phi * np.sinh(tracks.eta_N)[:, None], rtol=1e-9)
    half = replace(still, lost_N=np.full(500, 0.5), photon_cm_N=np.full(500, 20.0))
    bent, photon = electron_at(radius, half), photon_at(93.5, half)
    np.testing.assert_allclose(bent.phi[:, :2], whole.phi[:, :2], rtol=1e-9)
    there = np.isfinite(bent.phi[:, 3])
    assert 0.9 < there.mean() < 1  # the softest do not reach the calorimeter
    assert (bent.phi[there, 3] > whole.phi[there, 3]).all()
    assert (photon.phi < whole.phi[:, 3]).all()
    start, turn = 20 * np.exp(1j * whole.phi[:, 1]), 2 * whole.phi[:, 1]
    centre = start + 0.5j * helix[:, 0] * np.exp(1j * turn)  # half the energy: half the radius
    end = 93.5 * np.exp(1j * bent.phi[there, 3])
    np.testing.assert_allclose(np.abs(end - centre[there]), 0.5 * helix[there, 0], rtol=1e-9)
    straight = (93.5 * np.exp(1j * photon.phi) - start) * np.exp(-1j * turn)
    np.testing.assert_allclose(straight.imag, 0, atol=1e-9)


def test_positrons_bend_to_the_other_side() -> None:
    for charge in (-1, 1):
        batch = simulate(2000, np.random.default_rng(1), charge)
        made = columns(batch)
        first, last = (made["trk_Y"][:, 0], made["trk_X"][:, 0]), (made["caloClus_innr_Y"], made["caloClus_innr_X"])
        single = np.asarray(ak.num(last[0])) == 1
        turn = wrapped(
            np.arctan2(*(np.asarray(axis[single][:, 0]) for axis in last))
            - np.arctan2(*(np.asarray(axis[single]) for axis in first))
        )
        assert np.mean(-charge * turn > 0) > 0.9
        assert set(np.asarray(ak.flatten(made["PrimaryG4P_PID"]))) == {-11 * charge}


def test_a_file_has_the_branches_of_the_sample(tmp_path: Path) -> None:
    expected = uproot.open({str(SAMPLE): "tree"}).typenames()
    for doubles in (False, True):
        write_file(tmp_path / "x.root", simulate_batches(50, 1), doubles)
        types = uproot.open({str(tmp_path / "x.root"): "tree"}).typenames()
        double = {name: "double[]" for name, kind in expected.items() if kind == "float[]" and "PrimaryG4P" not in name}
        assert types == expected | (double if doubles else {})
        assert list(types) == list(expected)


@pytest.mark.parametrize("charge", [-1, 1])
@pytest.mark.parametrize("doubles", [False, True])
def test_a_file_holds_the_events_of_memory(tmp_path: Path, charge: Any, doubles: bool) -> None:
    path = tmp_path / "x.root"
    assert write_file(path, simulate_batches(1200, 4, charge), doubles) == 1200
    write_file(tmp_path / "other.root", simulate_batches(200, 99, charge))
    read = load(tmp_path, str(path), holdout=(str(tmp_path / "other.root"),), charge=charge)
    assert read.cut_flow.events == 1200
    if charge == -1:
        data = simulate_data(1200, seed=4)
        assert rows_of(read.train) == rows_of(data.train)
        assert rows_of(read.validation) == rows_of(data.validation)
        assert read.cut_flow.to_json() == data.cut_flow.to_json()
    assert len(read.train) > 500


def test_batches_in_a_file_follow_each_other(tmp_path: Path) -> None:
    batches = [simulate(30, np.random.default_rng(seed)) for seed in (1, 2)]
    assert write_file(tmp_path / "x.root", batches) == 60
    read = uproot.open({str(tmp_path / "x.root"): "tree"}).arrays(library="ak")
    for name, values in chunk_of(batches[1]).fields.items():
        assert ak.array_equal(ak.Array(values), read[name][30:], check_parameters=False, dtype_exact=False), name


def test_real_numbers_are_those_of_float32_in_either_type() -> None:
    single, double = branches(50), branches(50, doubles=True)
    for name, values in single.items():
        assert ak.array_equal(ak.Array(values), ak.Array(double[name]), dtype_exact=False), name


def test_the_command_line_writes_a_file(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "trainables.pt.simulate", str(tmp_path / "x.root")]
    flags = ["--events", "123", "--charge", "1", "--seed", "5"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, check=True, timeout=60)
    assert "x.root: 123 events, charge +1" in done.stdout
    tree = uproot.open({str(tmp_path / "x.root"): "tree"})
    assert tree.num_entries == 123
    assert ak.all(tree["PrimaryG4P_PID"].array() == -11)
