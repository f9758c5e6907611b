"""pT files to arrays: every kind of file says the same, parts are stable, the cut flow is of what trials see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
from pt_files import WIDE, Columns, branches, event, joined, load, of_events, rows_of, write

import trainables.pt.ingest
from trainables.base.errors import DataError
from trainables.data.split import SPLIT_NONE, SPLIT_THREE, parts_of
from trainables.pt.content import content_of
from trainables.pt.cutflow import SELECTIONS
from trainables.pt.data import Events, PtDataSettings, load_data, load_holdout
from trainables.pt.ingest import Reading, accepted_rows, event_hashes, ingest
from trainables.pt.layouts import read_chunks
from trainables.pt.metrics import PtBinning
from trainables.pt.selection import select


@pytest.fixture(scope="module")
def good() -> Columns:
    return branches(400)


def truths(*parts: Events) -> set[bytes]:
    """Which events these are, whatever was chosen of them."""
    return {truth.tobytes() for part in parts for truth in part.truth_N3}


# ---------------------------------------------------------------- the carried sample


def test_the_carried_sample_loads_as_it_is_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_data(PtDataSettings(), tmp_path)
    assert len(data.train) + len(data.validation) == data.cut_flow.accepted("strict") == 12_323
    assert data.cut_flow.events == 18_000
    assert len(data.validation) == pytest.approx(0.2 * 12_323, abs=150)
    shapes = {name: (values.dtype, values.shape) for name, values in vars(data.train).items()}
    events = len(data.train)
    assert shapes == {
        "hit_N53": (np.float32, (events, 5, 3)),
        "cluster_N24": (np.float32, (events, 2, 4)),
        "tower_N94": (np.float32, (events, 9, 4)),
        "dphi_N": (np.float32, (events,)),
        "truth_N3": (np.float32, (events, 3)),
        "surface_dphi_N": (np.float32, (events,)),
    }
    assert data.objective_version == "pt-1 bins=1 range=0-10 min=20 selection=strict"
    assert len(load_holdout(PtDataSettings(), tmp_path)) == 4119

    monkeypatch.setattr(trainables.pt.ingest, "read_chunks", None)  # a second time nothing is read
    again = load_data(PtDataSettings(), tmp_path)
    assert again.fingerprint == data.fingerprint
    assert again.cut_flow.to_json() == data.cut_flow.to_json()
    assert rows_of(again.train, again.validation) == rows_of(data.train, data.validation)


def test_the_arrays_of_the_carried_sample_lie_where_the_detector_is(tmp_path: Path) -> None:
    train = load_data(PtDataSettings(), tmp_path).train
    radius_N5 = np.hypot(train.hit_N53[..., 0], train.hit_N53[..., 1])
    for layer, radii in enumerate([(2.52,), (3.34,), (4.15,), (7.18, 7.73), (9.68, 10.26)]):
        assert np.abs(radius_N5[:, layer, None] - radii).min(axis=1).max() < 0.1
    radius_N2 = np.hypot(train.cluster_N24[..., 0], train.cluster_N24[..., 1])
    np.testing.assert_allclose(radius_N2, np.broadcast_to([93.5, 103.5], radius_N2.shape), rtol=1e-5)
    assert (np.diff(train.tower_N94[..., 3], axis=1) <= 0).all()
    assert (train.dphi_N > 0.01).all()
    product = np.median(train.truth_N3[:, 0] * train.dphi_N)
    assert product == pytest.approx(0.1922, rel=0.05)  # pT = 0.1922 / dphi, as in the report
    assert np.median(np.abs(train.surface_dphi_N)) < 0.01


def test_the_summary_tells_the_cut_flow(tmp_path: Path) -> None:
    lines = load_data(PtDataSettings(), tmp_path).summary
    assert lines[0].startswith("12323 events in 1 file of the carried sample (Geant4 electrons")
    assert lines[1].startswith("selection strict accepts 68.5% of the events of train and validation; loose would")
    table = [line for line in lines if line.startswith("  ")]
    assert len(table) == 8
    assert "one EMCal cluster" in "\n".join(table)
    assert "10 of 10 pT bins of 1 GeV in use" in lines
    assert len(lines) < 15


def test_events_above_the_bins_and_bins_with_few_events_are_told(tmp_path: Path, good: Columns) -> None:
    path = write(tmp_path / "x.root", good)
    lines = load(tmp_path, path, binning=PtBinning(bin_width_gev=2.5, max_pt_gev=5, min_bin_count=10)).summary
    assert any("validation events lie above the pT bins, in no score" in line for line in lines)
    few = load(tmp_path, path, binning=PtBinning(bin_width_gev=8.0, max_pt_gev=10.0, min_bin_count=25)).summary
    assert any(line.startswith("1 of 2 pT bins of 8 GeV in use; 1 hold fewer than 25") for line in few)


# ---------------------------------------------------------------- kinds of files


def test_floats_and_doubles_are_the_same_sample(tmp_path: Path, good: Columns) -> None:
    plain = load(tmp_path, write(tmp_path / "float.root", good))
    doubles = load(tmp_path, write(tmp_path / "double.root", branches(400, doubles=True)))
    wide = {name: ak.values_astype(values, np.float64) for name, values in good.items() if "_" in name}
    whole = load(tmp_path, write(tmp_path / "all.root", wide))
    assert plain.fingerprint == doubles.fingerprint == whole.fingerprint


def test_without_systems_every_tower_belongs_to_the_emcal(tmp_path: Path, good: Columns) -> None:
    plain = load(tmp_path, write(tmp_path / "x.root", good))
    less = {name: values for name, values in good.items() if name != "tower_system"}
    assert load(tmp_path, write(tmp_path / "y.root", less)).fingerprint == plain.fingerprint
    hadronic = {**good, "tower_system": good["tower_system"] + np.int32(1)}
    without = load(tmp_path, write(tmp_path / "z.root", hadronic))
    assert not without.train.tower_N94.any()
    assert np.array_equal(without.train.hit_N53, plain.train.hit_N53)


def test_chunks_of_any_size_hold_the_same_events(tmp_path: Path, good: Columns) -> None:
    path = write(tmp_path / "x.root", good)
    made = {}
    for size in (7, 400, None):
        chunks = list(read_chunks(path, size))
        assert [chunk.first_entry for chunk in chunks][:2] == ([0, 7] if size == 7 else [0])
        rows = [accepted_rows(content, select(content, "loose", -1)) for content in map(content_of, chunks)]
        made[size] = {name: np.concatenate([row[name] for row in rows]).tobytes() for name in rows[0]}
    assert made[7] == made[400] == made[None]


def test_a_chunk_may_hold_nothing_at_all(tmp_path: Path) -> None:
    bare = event(**{name: [] for name in event()})
    path = write(tmp_path / "x.root", of_events([bare] * 3 + [event()] * 30))
    cache = ingest((path,), Reading("strict", -1, False, SPLIT_NONE), tmp_path)
    assert cache.rows("test") == 30
    (content,) = [content_of(chunk) for chunk in read_chunks(write(tmp_path / "y.root", of_events([bare] * 3)))]
    for selection in SELECTIONS:
        assert not select(content, selection, -1).left_CN.any()


def test_loose_events_without_a_mvtx_layer_have_zeros_there(tmp_path: Path) -> None:
    lists = event()
    bare = {name: values[1:] if name.startswith("trk_") else values for name, values in lists.items()}
    path = write(tmp_path / "x.root", of_events([bare, lists] * 15))
    cache = ingest((path,), Reading("loose", -1, False, SPLIT_NONE), tmp_path)
    hit = np.asarray(cache.column("test", "hit"))
    assert not hit[::2, 0].any()
    assert hit[1::2, 0].all()
    assert np.array_equal(hit[::2, 1:], hit[1::2, 1:])


def test_the_surface_angle_is_unknown_unless_there_is_one_point(tmp_path: Path) -> None:
    one = event()
    none = {name: [] if name.startswith("CEMC") else values for name, values in one.items()}
    two = {name: values * 2 if name.startswith("CEMC") else values for name, values in one.items()}
    path = write(tmp_path / "x.root", of_events([none, one, two] * 10))
    cache = ingest((path,), Reading("strict", -1, False, SPLIT_NONE), tmp_path)
    surface = cache.column("test", "surface_dphi")
    assert np.isnan(surface).tolist() == [True, False, True] * 10
    expected = np.arctan2(one["CEMC_Pr_Hit_y"][0], one["CEMC_Pr_Hit_x"][0]) - 0.0405
    assert surface[1] == pytest.approx(expected, abs=1e-6)


def test_positrons_with_their_charge_are_a_sample_like_electrons(tmp_path: Path, good: Columns) -> None:
    mirrored = {name: -values if name.endswith(("_Y", "_y", "_Phi")) else values for name, values in good.items()}
    electrons, positrons = (
        ingest((write(tmp_path / "x.root", columns),), Reading("strict", charge, False, SPLIT_NONE), tmp_path)
        for columns, charge in ((good, -1), (mirrored, 1))  # type: ignore[arg-type]
    )
    assert np.array_equal(electrons.column("test", "dphi"), positrons.column("test", "dphi"))
    assert electrons.meta["opposite"] == positrons.meta["opposite"]
    mirror = np.array([1, -1, 1], np.float32)
    assert np.array_equal(electrons.column("test", "hit") * mirror, positrons.column("test", "hit"))


# ---------------------------------------------------------------- parts and holdout


def test_added_reordered_and_repeated_files_leave_events_in_their_parts(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.root", branches(400, seed)) for seed, name in enumerate("mab")]
    one = load(tmp_path / "cache", files[0])
    three = load(tmp_path / "cache", *files)
    assert rows_of(one.train) < rows_of(three.train)
    assert rows_of(one.validation) < rows_of(three.validation)
    again = load(tmp_path / "cache", files[2], files[0], files[1], files[0])
    assert again.fingerprint == three.fingerprint


def test_no_setting_moves_an_event_to_another_part(tmp_path: Path) -> None:
    both = joined(branches(400, 1), branches(400, 2, charge=1))
    path = write(tmp_path / "x.root", both)
    settings = [{"selection": selection, "charge": charge} for selection in SELECTIONS for charge in (-1, 1)]
    loaded = [load(tmp_path, path, **flags) for flags in settings]
    held = [load_holdout(PtDataSettings(data=(path,), binning=WIDE, **flags), tmp_path) for flags in settings]
    parts = ([data.train for data in loaded], [data.validation for data in loaded], held)
    for number, part in enumerate(parts):
        for other in parts[number + 1 :]:
            assert not truths(*part) & truths(*other)
    assert len(truths(loaded[0].train) & truths(loaded[2].train)) > 100  # strict and loose share most events
    assert len({data.fingerprint for data in loaded}) == len(settings)


def test_every_setting_that_changes_the_arrays_has_a_cache_of_its_own(tmp_path: Path) -> None:
    both = joined(branches(400, 1), branches(400, 2, charge=1))
    path = write(tmp_path / "x.root", both)
    other = write(tmp_path / "y.root", branches(100, 3))

    def caches(**flags: object) -> int:
        load(tmp_path / "cache", path, **flags)
        return len(list((tmp_path / "cache").glob("pt-*/manifest.json")))

    assert caches() == 1
    assert caches(selection="loose") == 2
    assert caches(charge=1) == 3
    assert caches(holdout=(other,)) == 5  # another split, and the holdout
    assert caches() == caches(binning=PtBinning(bin_width_gev=2.5, min_bin_count=10)) == 5
    Path(path).write_bytes(Path(other).read_bytes())
    assert caches() == 6


def test_without_holdout_files_a_part_of_the_data_is_kept_back(tmp_path: Path, good: Columns) -> None:
    flags = PtDataSettings(data=(write(tmp_path / "x.root", good),), binning=WIDE)
    data, holdout = load_data(flags, tmp_path), load_holdout(flags, tmp_path)
    whole = ingest(flags.data, Reading("strict", -1, False, SPLIT_NONE), tmp_path)
    assert len(data.train) + len(data.validation) + len(holdout) == whole.rows("test")
    assert len(holdout) > 15
    assert not rows_of(data.train, data.validation) & rows_of(holdout)
    assert not rows_of(data.train) & rows_of(data.validation)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_the_cut_flow_knows_nothing_of_the_holdout(tmp_path: Path, good: Columns, selection: str) -> None:
    path = write(tmp_path / "x.root", good)
    data = load(tmp_path, path, selection=selection)
    (content,) = map(content_of, read_chunks(path))
    seen = ~parts_of(event_hashes(content), SPLIT_THREE)["test"]
    assert data.cut_flow.events == seen.sum() < 400
    assert data.cut_flow.accepted(selection) == len(data.train) + len(data.validation)
    for name in SELECTIONS:  # both are counted, whichever was chosen
        left = select(content, name, -1).left_CN[:, seen]
        assert list(data.cut_flow.totals(name).values()) == left.sum(axis=1).tolist()
    holdout = ingest((path,), Reading(selection, -1, False, SPLIT_NONE), tmp_path)  # type: ignore[arg-type]
    assert holdout.meta["cut_flow"]["events"] == 0


def test_with_holdout_files_the_whole_data_is_used(tmp_path: Path, good: Columns) -> None:
    files = write(tmp_path / "x.root", good), write(tmp_path / "y.root", branches(100, seed=2))
    flags = PtDataSettings(data=files[:1], holdout=files[1:], binning=WIDE)
    data = load_data(flags, tmp_path)
    assert data.cut_flow.events == 400
    assert len(data.train) + len(data.validation) == data.cut_flow.accepted("strict")
    assert 50 < len(load_holdout(flags, tmp_path)) < 100
    assert rows_of(load(tmp_path, files[0]).validation) == rows_of(data.validation)


def test_validation_events_may_be_a_larger_share_or_come_from_other_files(tmp_path: Path, good: Columns) -> None:
    files = write(tmp_path / "x.root", good), write(tmp_path / "v.root", branches(200, seed=2))
    flags = PtDataSettings(data=files[:1], binning=WIDE)
    more, own = (flags.model_copy(update=update) for update in ({"validation_share": 0.5}, {"validation": files[1:]}))
    data, larger, with_own = (load_data(one, tmp_path) for one in (flags, more, own))
    assert rows_of(data.validation) < rows_of(larger.validation)
    assert rows_of(data.train, data.validation) == rows_of(larger.train, larger.validation) == rows_of(with_own.train)
    assert len({rows.tobytes() for rows in (load_holdout(one, tmp_path).truth_N3 for one in (flags, more, own))}) == 1
    assert len({one.fingerprint for one in (data, larger, with_own)}) == 3
    assert f"{len(with_own.validation)} validation of other files" in with_own.summary[0]
    with pytest.raises(DataError, match="are in the validation files too"):
        load_data(flags.model_copy(update={"validation": files[:1]}), tmp_path)


def test_a_holdout_that_shares_events_with_the_data_is_refused(tmp_path: Path, good: Columns) -> None:
    shared = branches(60, seed=9)
    first = write(tmp_path / "x.root", joined(good, shared))
    second = write(tmp_path / "y.root", joined(branches(100, seed=2), shared))
    flags = PtDataSettings(data=(first,), holdout=(second,), binning=WIDE)
    for load_part in (load_data, load_holdout):
        with pytest.raises(DataError, match=r"[345]\d events of the data are in the holdout too"):
            load_part(flags, tmp_path)


def test_events_that_occur_twice_are_counted_and_stay_together(tmp_path: Path, good: Columns) -> None:
    files = write(tmp_path / "x.root", good), write(tmp_path / "y.root", branches(400, doubles=True))
    data = load(tmp_path, *files)
    accepted = ingest(files[:1], Reading("strict", -1, False, SPLIT_NONE), tmp_path).rows("test")
    assert f"{accepted} events, about, occur more than once" in data.summary
    assert not truths(data.train) & truths(data.validation)


# ---------------------------------------------------------------- scale

MEASURE = """
import sys
from pathlib import Path
from trainables.pt.data import PtDataSettings, load_data
from trainables.pt.simulate import simulate_batches, write_file

def peak_mb():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e3

folder, events = Path(sys.argv[1]), int(sys.argv[2])
if sys.argv[3] == "write":
    write_file(folder / "x.root", simulate_batches(events, 1))
else:
    data = load_data(PtDataSettings(data=(str(folder / "x.root"),)), folder)
    assert data.cut_flow.events > 0.8 * events
print(peak_mb())
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_number_of_events(tmp_path: Path) -> None:
    peak_mb: dict[tuple[str, int], float] = {}
    for events in (40_000, 240_000):
        for step in ("write", "load"):
            command = [sys.executable, "-c", MEASURE, str(tmp_path), str(events), step]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
            peak_mb[step, events] = float(done.stdout)
    # 200,000 more events are 170 MB of lists, 40 MB of arrays
    assert peak_mb["load", 240_000] < peak_mb["load", 40_000] + 25, peak_mb
    assert peak_mb["write", 240_000] < peak_mb["write", 40_000] + 60, peak_mb
