"""ZDC files to arrays: both layouts say the same, parts are stable, what is odd is counted."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zdc_files import LAYOUTS, WIDE, Columns, both_layouts, flat_branches, load, rows_of, showers, write

import trainables.zdc.ingest
from trainables.base.errors import DataError
from trainables.data.split import SPLIT_NONE
from trainables.zdc.data import ZDCDataSettings, load_data, load_holdout
from trainables.zdc.energies import BinningSettings
from trainables.zdc.events import CONDITIONS
from trainables.zdc.ingest import Reading, ingest
from trainables.zdc.layouts import read_chunks
from trainables.zdc.simulate import Showers, write_file


@pytest.fixture(scope="module")
def good() -> dict[str, Columns]:
    return both_layouts()


# ---------------------------------------------------------------- both layouts say the same

FINITE = st.floats(-20, 20, width=32, allow_nan=False)
EVENT = st.tuples(
    st.tuples(FINITE, FINITE, st.floats(1, 20, width=32)),
    st.sampled_from([0.0, 0.93956542]),
    st.lists(st.tuples(st.integers(0, 399), st.floats(2**-20, 0.25, width=32)), max_size=8),  # repeated crystals too
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENT, min_size=20, max_size=40), threshold_mev=st.sampled_from([0.0, 3.1, 60.0]))
def test_random_events_written_in_both_layouts_come_back_equal(
    tmp_path_factory: pytest.TempPathFactory, events: list[Any], threshold_mev: float
) -> None:
    events = [*events, ((0.0, 0.0, 1.0), 0.0, [(0, 0.25)])]  # so that there is a hit above every threshold
    folder = tmp_path_factory.mktemp("property")
    batch = Showers(
        momentum_gev_N3=np.array([momentum for momentum, _, _ in events]),
        mass_gev_N=np.array([mass for _, mass, _ in events]),
        hit_event_H=np.repeat(np.arange(len(events)), [len(hits) for _, _, hits in events]),
        hit_crystal_H=np.array([crystal for _, _, hits in events for crystal, _ in hits], np.int64),
        hit_energy_gev_H=np.array([energy for _, _, hits in events for _, energy in hits]),
    )
    expected_mask = np.zeros((len(events), 400), np.uint8)
    for number, (_, _, hits) in enumerate(events):
        for crystal in {crystal for crystal, _ in hits}:
            total_mev = 1e3 * sum(energy for other, energy in hits if other == crystal)
            expected_mask[number, crystal] = total_mev > threshold_mev
    read = {}
    for layout in LAYOUTS:
        path = folder / f"{layout}.root"
        write_file(path, layout, [batch])  # type: ignore[arg-type]
        cache = ingest((str(path),), Reading("auto", threshold_mev, False, SPLIT_NONE), folder)
        condition, mask = cache.column("test", "condition"), cache.column("test", "mask_packed")
        assert np.array_equal(np.unpackbits(mask, axis=1), expected_mask)
        px, py, pz = condition[:, 1:4].T.astype(np.float64)
        assert np.array_equal(condition[:, 1:4], batch.momentum_gev_N3.astype(np.float32))
        np.testing.assert_allclose(condition[:, 0] ** 2, px**2 + py**2 + pz**2 + batch.mass_gev_N**2, rtol=1e-5)
        np.testing.assert_allclose(condition[:, 4], np.arctan2(np.hypot(px, py), pz), atol=1e-6)
        np.testing.assert_allclose(condition[:, 5], np.arctan2(py, px), atol=1e-6)
        read[layout] = cache
    assert read["mytree"].fingerprint(("test",)) == read["edm4hep"].fingerprint(("test",))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_chunks_of_any_size_hold_the_same_events(tmp_path: Path, good: dict[str, Columns], layout: str) -> None:
    path = write(tmp_path / "x.root", layout, good[layout])
    sizes: dict[int | None, list[list[float]]] = {}
    for size in (7, 400, None):
        chunks = list(read_chunks(path, layout, size))  # type: ignore[arg-type]
        assert [chunk.first_entry for chunk in chunks][:2] == ([0, 7] if size == 7 else [0])
        sizes[size] = ak.concatenate([chunk.fields["hit_energy"] for chunk in chunks]).to_list()
    assert sizes[7] == sizes[400] == sizes[None]


def podio_nested(columns: Columns) -> Columns:
    return {f"{name.partition('.')[0]}/{name}": values for name, values in columns.items()}


def reconstructed(columns: Columns) -> Columns:
    return {name.replace("ZDCHits", "ZDCRecHits"): values for name, values in columns.items()}


def float_momentum(columns: Columns) -> Columns:
    return {
        name: ak.values_astype(values, np.float32) if "momentum" in name else values for name, values in columns.items()
    }


def without_positions(columns: Columns) -> Columns:
    return {name: values for name, values in columns.items() if "position" not in name}


def with_secondaries(columns: Columns) -> Columns:
    changed = dict(columns)
    for name, values in columns.items():
        if name.startswith("MCParticles"):
            other = ak.zeros_like(values) if name.endswith("generatorStatus") else values * 3
            changed[name] = ak.concatenate([other, values, other], axis=1)
    return changed


@pytest.mark.parametrize("variant", [podio_nested, reconstructed, float_momentum, without_positions, with_secondaries])
def test_every_kind_of_edm4hep_file_gives_the_same_arrays(
    tmp_path: Path, good: dict[str, Columns], variant: Callable[[Columns], Columns]
) -> None:
    plain = load(tmp_path, write(tmp_path / "plain.root", "edm4hep", good["edm4hep"]))
    other = load(tmp_path, write(tmp_path / "other.root", "edm4hep", variant(good["edm4hep"])))
    assert other.fingerprint == plain.fingerprint


def test_separate_files_of_both_layouts_make_one_sample(tmp_path: Path) -> None:
    for seed, layout in enumerate(LAYOUTS):
        write(tmp_path / f"{layout}.root", layout, flat_branches(layout, showers(seed=seed)))
    data = load(tmp_path / "cache", str(tmp_path))
    assert "800 events in 2 files" in data.summary[0]


# ---------------------------------------------------------------- the carried sample


def test_the_carried_sample_loads_as_it_is_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_data(ZDCDataSettings(), tmp_path)
    assert len(data.train) + len(data.validation) == 16_000
    assert len(data.validation) == pytest.approx(3200, abs=150)
    assert data.binning.bin_width_mev == 1000
    assert data.train.condition_N6.dtype == np.float32
    assert data.train.condition_N6.shape == (len(data.train), len(CONDITIONS))
    assert data.train.mask_packed_N50.shape == (len(data.train), 50)
    assert np.unpackbits(data.train.mask_packed_N50).mean() == pytest.approx(0.054, abs=0.001)
    momentum = np.linalg.norm(data.train.condition_N6[:, 1:4], axis=1)
    np.testing.assert_allclose(data.train.condition_N6[:, 0], momentum, atol=1e-5)  # photons
    assert len(load_holdout(ZDCDataSettings(), tmp_path)) == 4000

    monkeypatch.setattr(trainables.zdc.ingest, "read_chunks", None)  # a second time nothing is read
    again = load_data(ZDCDataSettings(), tmp_path)
    assert again.fingerprint == data.fingerprint
    assert rows_of(again.train, again.validation) == rows_of(data.train, data.validation)


def test_the_layout_of_a_users_files_does_not_touch_the_carried_ones(tmp_path: Path) -> None:
    assert len(load_data(ZDCDataSettings(layout="mytree"), tmp_path).train) > 0


def test_small_samples_get_wider_bins_unless_the_user_says_a_width(tmp_path: Path) -> None:
    write_file(tmp_path / "x.root", "mytree", [showers(6000)])
    flags = {"data": (str(tmp_path / "x.root"),)}
    data = load_data(ZDCDataSettings(**flags), tmp_path)
    assert data.binning.bin_width_mev == 1000
    assert any("energy bins of 1000 MeV" in line and "100 MeV would hold 6" in line for line in data.summary)
    said = load_data(ZDCDataSettings(**flags, binning=BinningSettings(bin_width_mev=500)), tmp_path)
    assert said.binning.bin_width_mev == 500
    with pytest.raises(DataError, match=r"mse_low: none of its 50 energy bins .* widen --bin-width-mev"):
        load_data(ZDCDataSettings(**flags, binning=BinningSettings(bin_width_mev=100)), tmp_path)


def test_regions_that_make_no_sense_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="high_energy_mev"):
        BinningSettings(high_energy_mev=30_000)


# ---------------------------------------------------------------- parts and holdout


def test_added_reordered_and_repeated_files_leave_events_in_their_parts(tmp_path: Path) -> None:
    files = []
    for seed, name in enumerate("mab"):
        files.append(str(tmp_path / f"{name}.root"))
        write_file(Path(files[-1]), "mytree", [showers(seed=seed)])
    one = load(tmp_path / "cache", files[0])
    three = load(tmp_path / "cache", *files)
    assert rows_of(one.train) < rows_of(three.train)
    assert rows_of(one.validation) < rows_of(three.validation)
    again = load(tmp_path / "cache", files[2], files[0], files[1], files[0])
    assert again.fingerprint == three.fingerprint


def test_the_hit_threshold_moves_no_event(tmp_path: Path) -> None:
    write_file(tmp_path / "x.root", "mytree", [showers()])
    low = load(tmp_path, str(tmp_path / "x.root"))
    high = load(tmp_path, str(tmp_path / "x.root"), hit_threshold_mev=5.0)
    assert np.array_equal(low.train.condition_N6, high.train.condition_N6)
    assert low.fingerprint != high.fingerprint
    assert np.unpackbits(high.train.mask_packed_N50).sum() < np.unpackbits(low.train.mask_packed_N50).sum()


def test_without_holdout_files_a_part_of_the_data_is_kept_back(tmp_path: Path) -> None:
    write_file(tmp_path / "x.root", "mytree", [showers()])
    flags = ZDCDataSettings(data=(str(tmp_path / "x.root"),), binning=WIDE)
    data, holdout = load_data(flags, tmp_path), load_holdout(flags, tmp_path)
    assert 30 < len(holdout) < 90
    assert len(data.train) + len(data.validation) + len(holdout) == 400
    assert not rows_of(data.train, data.validation) & rows_of(holdout)
    assert not rows_of(data.train) & rows_of(data.validation)


def test_with_holdout_files_the_whole_data_is_used(tmp_path: Path) -> None:
    write_file(tmp_path / "x.root", "mytree", [showers()])
    write_file(tmp_path / "y.root", "edm4hep", [showers(seed=2)])
    flags = ZDCDataSettings(data=(str(tmp_path / "x.root"),), holdout=(str(tmp_path / "y.root"),), binning=WIDE)
    data = load_data(flags, tmp_path)
    assert len(data.train) + len(data.validation) == 400
    assert len(load_holdout(flags, tmp_path)) == 400
    alone = load(tmp_path, str(tmp_path / "x.root"))
    assert rows_of(alone.validation) == rows_of(data.validation)


def test_a_holdout_that_shares_events_with_the_data_is_refused(tmp_path: Path) -> None:
    both = [showers(seed=1), showers(30, seed=9)]
    write_file(tmp_path / "x.root", "mytree", both)
    write_file(tmp_path / "y.root", "edm4hep", [showers(seed=2), showers(30, seed=9)])
    flags = ZDCDataSettings(data=(str(tmp_path / "x.root"),), holdout=(str(tmp_path / "y.root"),), binning=WIDE)
    for load_part in (load_data, load_holdout):
        with pytest.raises(DataError, match="30 events of the data are in the holdout too"):
            load_part(flags, tmp_path)


def test_a_larger_validation_share_moves_events_from_training_and_leaves_the_holdout(tmp_path: Path) -> None:
    write_file(tmp_path / "x.root", "mytree", [showers()])
    flags = ZDCDataSettings(data=(str(tmp_path / "x.root"),), binning=WIDE)
    more = flags.model_copy(update={"validation_share": 0.5})
    data, larger = load_data(flags, tmp_path), load_data(more, tmp_path)
    assert rows_of(data.validation) < rows_of(larger.validation)
    assert rows_of(data.train, data.validation) == rows_of(larger.train, larger.validation)
    assert rows_of(load_holdout(flags, tmp_path)) == rows_of(load_holdout(more, tmp_path))
    assert len(larger.validation) == pytest.approx(200, abs=40)
    assert data.fingerprint != larger.fingerprint
    assert data.objective_version == larger.objective_version
    caches = [line for one in (data, larger) for line in one.summary if line.startswith("cache")]
    assert len(set(caches)) == 2
    assert "for --validation-share 0.5" in caches[1]


def test_validation_files_leave_the_whole_data_to_training(tmp_path: Path) -> None:
    write_file(tmp_path / "x.root", "mytree", [showers()])
    write_file(tmp_path / "v.root", "edm4hep", [showers(300, seed=2)])
    flags = ZDCDataSettings(data=(str(tmp_path / "x.root"),), binning=WIDE)
    own = flags.model_copy(update={"validation": (str(tmp_path / "v.root"),)})
    data, with_own = load_data(flags, tmp_path), load_data(own, tmp_path)
    assert rows_of(with_own.train) == rows_of(data.train, data.validation)
    assert len(with_own.validation) == 300
    assert rows_of(load_holdout(flags, tmp_path)) == rows_of(load_holdout(own, tmp_path))
    assert "300 validation of other files" in with_own.summary[0]
    assert any(line.endswith("(of its own for --validation)") for line in with_own.summary)
    write_file(tmp_path / "w.root", "edm4hep", [showers(300, seed=3)])
    other = load_data(own.model_copy(update={"validation": (str(tmp_path / "w.root"),)}), tmp_path)
    assert len({data.fingerprint, with_own.fingerprint, other.fingerprint}) == 3


@pytest.mark.parametrize("part", ["data", "holdout"])
def test_validation_files_that_share_events_with_others_are_refused(part: str, tmp_path: Path) -> None:
    shared = [showers(30, seed=9)]
    for number, name in enumerate(("data", "holdout")):
        write_file(tmp_path / f"{name}.root", "mytree", [showers(seed=number), *(shared if name == part else [])])
    write_file(tmp_path / "validation.root", "edm4hep", [showers(seed=5), *shared])
    files = {name: (str(tmp_path / f"{name}.root"),) for name in ("data", "holdout", "validation")}
    where = "validation files" if part == "data" else "holdout"
    with pytest.raises(DataError, match=f"30 events of the data are in the {where} too"):
        load_data(ZDCDataSettings(**files, binning=WIDE), tmp_path)


def test_validation_files_and_a_share_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="leave --validation-share out"):
        ZDCDataSettings(validation=("v.root",), validation_share=0.4)
    for share in (0.0, 0.9):
        with pytest.raises(ValueError, match="validation_share"):
            ZDCDataSettings(validation_share=share)


def test_narrow_bins_follow_the_validation_events(tmp_path: Path) -> None:
    write_file(tmp_path / "x.root", "mytree", [showers(2000)])
    chosen = BinningSettings()
    few, many = (
        load(tmp_path, str(tmp_path / "x.root"), binning=chosen, validation_share=share).binning for share in (0.1, 0.8)
    )
    assert few.bin_width_mev > many.bin_width_mev


def test_events_that_occur_twice_are_counted_and_stay_together(tmp_path: Path) -> None:
    write_file(tmp_path / "x.root", "mytree", [showers()])
    write_file(tmp_path / "y.root", "edm4hep", [showers()])
    data = load(tmp_path, str(tmp_path / "x.root"), str(tmp_path / "y.root"))
    assert any("400 events, about, occur more than once" in line for line in data.summary)
    assert not rows_of(data.train) & rows_of(data.validation)


# ---------------------------------------------------------------- what is odd is counted


def test_sentinels_are_left_out_and_counted(tmp_path: Path, good: dict[str, Columns]) -> None:
    for layout, name, zero in (("mytree", "ecal", 0.0), ("edm4hep", "EcalFarForwardZDCHits", 0.0)):
        columns = dict(good[layout])
        for field, values in columns.items():
            if field.startswith(name):
                sentinel = -100 if "cellID" in field else zero
                extra = ak.Array(np.full((400, 1), sentinel, np.int64))
                kind = np.int64 if "cellID" in field else np.float32
                columns[field] = ak.values_astype(ak.concatenate([values, extra], axis=1), kind)
        plain = load(tmp_path, write(tmp_path / f"{layout}.root", layout, good[layout]))
        with_sentinels = load(tmp_path, write(tmp_path / f"{layout}-s.root", layout, columns))
        assert with_sentinels.fingerprint == plain.fingerprint
        assert any(line.startswith("400 hits without a cell") for line in with_sentinels.summary)


def test_a_few_hits_outside_the_crystals_are_left_out_and_counted(tmp_path: Path, good: dict[str, Columns]) -> None:
    y = good["mytree"]["ecal_posY"]
    flat = ak.to_numpy(ak.flatten(y)).copy()
    flat[::200] = 5e3
    columns = {**good["mytree"], "ecal_posY": ak.unflatten(flat, ak.num(y))}
    data = load(tmp_path, write(tmp_path / "x.root", "mytree", columns))
    assert any(f"{len(flat[::200])} hits outside the crystals" in line for line in data.summary)


def test_energies_above_the_bins_are_counted(tmp_path: Path) -> None:
    write_file(tmp_path / "x.root", "mytree", [showers()])
    narrow = BinningSettings(bin_width_mev=2500, max_energy_mev=10_000, high_energy_mev=7500, min_bin_count=2)
    data = load(tmp_path, str(tmp_path / "x.root"), binning=narrow)
    assert any(re.match(r"\d+ of 400 events lie above the energy bins", line) for line in data.summary)


def test_low_energies_are_no_wrong_unit_where_the_bins_are_low_too(tmp_path: Path) -> None:
    batch = showers()
    slow = Showers(
        batch.momentum_gev_N3 / 1000,
        batch.mass_gev_N,
        batch.hit_event_H,
        batch.hit_crystal_H,
        batch.hit_energy_gev_H / 1000,
    )
    write_file(tmp_path / "x.root", "mytree", [slow])
    low = BinningSettings(bin_width_mev=5, max_energy_mev=20, low_energy_mev=5, high_energy_mev=15, min_bin_count=2)
    assert load(tmp_path, str(tmp_path / "x.root"), binning=low).binning.max_energy_mev == 20
    with pytest.raises(DataError, match=r"wrong unit suspected: .* in TeV"):
        load(tmp_path, str(tmp_path / "x.root"))


# ---------------------------------------------------------------- scale

MEASURE = """
import sys
from pathlib import Path
from trainables.zdc.data import ZDCDataSettings, load_data
from trainables.zdc.simulate import simulate_batches, write_file

def peak_mb():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e3

folder, events = Path(sys.argv[1]), int(sys.argv[2])
if sys.argv[3] == "write":
    write_file(folder / "x.root", "mytree", simulate_batches(events, 1))
else:
    data = load_data(ZDCDataSettings(data=(str(folder / "x.root"),)), folder)
    assert len(data.train) > 0.6 * events
print(peak_mb())
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_number_of_events(tmp_path: Path) -> None:
    peak_mb: dict[tuple[str, int], float] = {}
    for events in (60_000, 600_000):
        for step in ("write", "load"):
            command = [sys.executable, "-c", MEASURE, str(tmp_path), str(events), step]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
            peak_mb[step, events] = float(done.stdout)
    # 540,000 more events are 210 MB of hits, 40 MB of arrays
    assert peak_mb["load", 600_000] < peak_mb["load", 60_000] + 25, peak_mb
    assert peak_mb["write", 600_000] < peak_mb["write", 60_000] + 60, peak_mb
