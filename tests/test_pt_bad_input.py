"""Every bad pT input is a DataError that names what is wrong, before any trial starts."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from pt_files import Columns, branches, chosen, load, write

from trainables.base.errors import DataError
from trainables.data.root_chunks import Chunk
from trainables.pt.content import content_of
from trainables.pt.layouts import COLLECTIONS, OPTIONAL, read_chunks
from trainables.pt.metrics import PtBinning
from trainables.pt.selection import select
from trainables.pt.simulate import simulate, write_file

Change = Callable[[Columns], Columns]
NEEDED = [f"{collection}_{field}" for collection, fields in COLLECTIONS.items() for field in fields]
READ = [*NEEDED, *(f"{collection}_{field}" for collection, fields in OPTIONAL.items() for field in fields)]


@pytest.fixture(scope="module")
def good() -> Columns:
    """Simulated events; the third one has something in every collection and is accepted."""
    columns = {name: values for name, values in branches(400).items() if name in READ}
    content = content_of(Chunk("simulated", 0, columns, {name: name for name in columns}))
    accepted = np.flatnonzero(select(content, "strict", -1).accepted_N)
    rest = np.setdiff1d(np.arange(400), accepted[0])
    return chosen(columns, [*rest[:2], accepted[0], *rest[2:]])


def third(name: str, change: Callable[[list[Any]], list[Any]]) -> Change:
    """Change the list of one branch in the third event."""

    def changed(columns: Columns) -> Columns:
        values = columns[name]
        new = ak.values_astype(ak.Array([change(values[2].to_list())]), values.layout.content.dtype)
        return {**columns, name: ak.concatenate([values[:2], new, values[3:]])}

    return changed


def first_value(name: str, value: float) -> Change:
    return third(name, lambda values: [value, *values[1:]])


def scaled(factor: float, pattern: str) -> Change:
    return lambda columns: {
        name: values * np.float32(factor) if re.search(pattern, name) else values for name, values in columns.items()
    }


def without(name: str) -> Change:
    return lambda columns: {other: values for other, values in columns.items() if other != name}


def emptied(collection: str) -> Change:
    return lambda columns: {
        name: values[:, :0] if name.rpartition("_")[0] == collection else values for name, values in columns.items()
    }


def first(events: int) -> Change:
    return lambda columns: {name: values[:events] for name, values in columns.items()}


def scalar(name: str) -> Change:
    return lambda columns: {**columns, name: np.zeros(len(columns[name]), np.float32)}


def both(*changes: Change) -> Change:
    def changed(columns: Columns) -> Columns:
        for change in changes:
            columns = change(columns)
        return columns

    return changed


def on_top(columns: Columns) -> Columns:
    """The outer INTT cluster of the third event where its inner one is."""
    layers = columns["trk_layer"][2].to_list()
    inner, outer = (next(n for n, layer in enumerate(layers) if layer in pair) for pair in ((3, 4), (5, 6)))
    for axis in "XY":

        def moved(values: list[float]) -> list[float]:
            return [values[inner] if number == outer else value for number, value in enumerate(values)]

        columns = third(f"trk_{axis}", moved)(columns)
    return columns


nan, inf = float("nan"), float("inf")
BAD: list[tuple[Change, str]] = [
    (without("trk_Y"), r"tree 'tree' has no branch 'trk_Y'; nearest: .*'trk_[XZ]'"),
    (without("caloClus_innr_edep"), r"no branch 'caloClus_innr_edep'; nearest: 'caloClus_innr_[XYZ]'"),
    (without("caloClus_system"), r"no branch 'caloClus_system'"),
    (first(0), r"no events: tree 'tree' is empty"),
    (first(5), r"too few events: expected at least 20.*found 5 events\."),
    (first_value("PrimaryG4P_Pt", 0.0), r"entry 2: 'PrimaryG4P_Pt': expected a true pT above 0 GeV; found 0 "),
    (first_value("PrimaryG4P_Pt", -1.5), r"entry 2: 'PrimaryG4P_Pt': expected a true pT above 0 GeV; found -1.5"),
    (first_value("PrimaryG4P_Pt", nan), r"entry 2: 'PrimaryG4P_Pt': expected finite numbers; found nan"),
    (scalar("PrimaryG4P_Pt"), r"branch 'PrimaryG4P_Pt' should hold a list of numbers per event, found type float32"),
    (scalar("trk_layer"), r"branch 'trk_layer' should hold a list of numbers per event"),
    (on_top, r"entry 2: two INTT clusters: expected two places, found both at x = "),
    (
        both(first_value("caloClus_innr_X", 0.0), first_value("caloClus_innr_Y", 0.0)),
        r"entry 2: beam axis and inner-face cluster: expected two places, found both at x = 0 cm, y = 0 cm",
    ),
    (
        scaled(10, r"^(trk|tower|caloClus|CEMC).*_[XYZxyz]$"),
        r"expected about 7.4 and 93.5 cm. Are the positions in mm\?",
    ),
    (scaled(0.01, r"^(caloClus).*_[XYZxyz]$"), r"expected about 7.4 and 93.5 cm"),
    (scaled(1000, "^caloClus.*edep"), r"Expected both in GeV: is one of them in MeV"),
    (scaled(1000, "PrimaryG4P_Pt"), r"Expected both in GeV: is one of them in MeV"),
    (
        emptied("caloClus_innr"),
        r"(?s)too few events pass the selection 'strict': expected at least 20, found 0.*"
        r"one inner-face cluster +0 +0.0%  removes \d\d\d",
    ),
    (emptied("PrimaryG4P"), r"(?s)too few events pass the selection.*one primary +0 +0.0%  removes 400"),
]


@pytest.mark.parametrize(("change", "said"), BAD, ids=[said[:50] for _, said in BAD])
def test_bad_content_is_named(tmp_path: Path, good: Columns, change: Change, said: str) -> None:
    path = write(tmp_path / "bad.root", change(good))
    with pytest.raises(DataError, match=said) as refusal:
        load(tmp_path / "cache", path)
    if "too few events pass" not in said:
        assert "bad.root" in str(refusal.value)
    assert not list((tmp_path / "cache").glob("pt-*/manifest.json"))


def test_the_good_events_are_good(tmp_path: Path, good: Columns) -> None:
    assert len(load(tmp_path, write(tmp_path / "good.root", good)).train) > 150


@pytest.mark.parametrize("name", NEEDED)
def test_every_needed_branch_is_missed(tmp_path: Path, good: Columns, name: str) -> None:
    path = write(tmp_path / "bad.root", without(name)(good))
    with pytest.raises(DataError, match=rf"bad\.root: tree 'tree' has no branch '{name}'; nearest: '"):
        load(tmp_path, path)


@pytest.mark.parametrize("name", READ)
def test_lists_that_belong_together_are_equally_long(tmp_path: Path, good: Columns, name: str) -> None:
    path = write(tmp_path / "bad.root", third(name, lambda values: values[1:])(good))
    collection = name.rpartition("_")[0]
    with pytest.raises(DataError, match=rf"entry 2: unequal lengths: '{collection}_") as refusal:
        load(tmp_path, path)
    assert f"'{name}' has " in str(refusal.value)


REAL = [name for name in NEEDED if name not in ("trk_layer", "caloClus_system")]


@pytest.mark.parametrize(("name", "value"), list(zip(REAL, [nan, inf, -inf] * len(REAL), strict=False)))
def test_no_number_that_is_not_finite_comes_in(tmp_path: Path, good: Columns, name: str, value: float) -> None:
    path = write(tmp_path / "bad.root", first_value(name, value)(good))
    with pytest.raises(DataError, match=rf"bad\.root: entry 2: '{name}': expected finite numbers; found {value}"):
        load(tmp_path, path)


def test_the_entry_named_is_that_of_the_file_in_later_chunks_too(tmp_path: Path) -> None:
    columns = branches(900)
    flat = ak.to_numpy(ak.flatten(columns["tower_edep"])).copy()
    flat[int(ak.sum(ak.num(columns["tower_edep"])[:777]))] = nan
    columns["tower_edep"] = ak.unflatten(flat, ak.num(columns["tower_edep"]))
    wanted = 777 + int(np.argmax(ak.to_numpy(ak.num(columns["tower_edep"]))[777:] > 0))
    path = write(tmp_path / "bad.root", columns)
    with pytest.raises(DataError, match=f"entry {wanted}: 'tower_edep'"):
        list(map(content_of, read_chunks(path, 100)))


def test_particles_of_the_other_charge_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "positrons.root", branches(400, charge=1))
    with pytest.raises(DataError, match=r"\d+ events bend to the other side, .* Are they positrons\? Pass --charge 1"):
        load(tmp_path, path)
    electrons = write(tmp_path / "electrons.root", branches(400))
    with pytest.raises(DataError, match=r"Are they electrons\? Pass --charge -1"):
        load(tmp_path, electrons, charge=1)


def test_a_mixture_of_charges_is_told(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{charge}.root", branches(400, charge=charge)) for charge in (-1, 1)]
    lines = load(tmp_path / "cache", *files).summary
    assert any(re.match(r"\d+ events bend to the other side and are left out", line) for line in lines)


def test_a_sample_that_does_not_fill_the_bins_is_refused(tmp_path: Path, good: Columns) -> None:
    path = write(tmp_path / "x.root", good)
    with pytest.raises(DataError, match=r"pT bins of 0.1 GeV .* expected\s+at least half.*--bin-width-gev"):
        load(tmp_path, path, binning=PtBinning(bin_width_gev=0.1))


def test_files_without_the_tree_name_the_trees_they_have(tmp_path: Path, good: Columns) -> None:
    other = write(tmp_path / "other.root", good, tree="electrons")
    with pytest.raises(DataError, match=r"no such tree: expected 'tree'; trees there: 'electrons'"):
        load(tmp_path, other)
    inside = write(tmp_path / "inside.root", good, tree="folder/tree")
    with pytest.raises(DataError, match=r"expected 'tree'; trees there: 'folder/tree'"):
        load(tmp_path, inside)


def broken_files(folder: Path) -> dict[str, str]:
    """Files that cannot be read, and what is said of each."""
    write_file(folder / "whole.root", [simulate(400, np.random.default_rng(5))])
    content = bytearray((folder / "whole.root").read_bytes())
    (folder / "short.root").write_bytes(content[:-1000])
    (folder / "text.root").write_text("see the other folder")
    (folder / "hollow.root").write_bytes(b"")
    tree = uproot.open({str(folder / "whole.root"): None})["tree"]
    place = tree["tower_X"].member("fBasketSeek")[0] + 200
    content[place : place + 400] = bytes(400)
    (folder / "rotten.root").write_bytes(content)
    (folder / "whole.root").unlink()
    write(folder / "nothing.root", first(0)(branches(400)))
    write(folder / "foreign.root", branches(20), tree="other")
    return {
        "short.root": "truncated",
        "text.root": "not a ROOT file",
        "hollow.root": "not a ROOT file: .*an empty file",
        "rotten.root": "cannot be read from entry 0 on",
        "nothing.root": "no events",
        "foreign.root": "no such tree",
        "absent.root": "cannot be read .No such file",
    }


def test_an_unreadable_file_never_silently_shortens_the_sample(tmp_path: Path) -> None:
    broken = broken_files(tmp_path)
    good_file = write(tmp_path / "good.root", branches(400))
    for name, said in broken.items():
        with pytest.raises(DataError, match=f"{name}: {said}"):
            load(tmp_path / "cache", good_file, str(tmp_path / name))
    bad_files = [str(tmp_path / name) for name in broken]
    data = load(tmp_path / "cache", good_file, *bad_files, skip_bad_files=True)
    assert data.fingerprint == load(tmp_path / "cache", good_file).fingerprint
    assert data.cut_flow.to_json() == load(tmp_path / "cache", good_file).cut_flow.to_json()
    skipped = [line for line in data.summary if line.startswith("skipped: ")]
    assert len(skipped) == len(broken)
    for name, said in broken.items():
        assert any(re.search(f"{name}: {said}", line) for line in skipped)
    with pytest.raises(DataError, match="no readable file is left"):
        load(tmp_path / "cache", *bad_files, skip_bad_files=True)


def test_a_file_that_breaks_off_in_its_middle_is_skipped_as_a_whole(tmp_path: Path) -> None:
    batches = [simulate(2000, np.random.default_rng(seed)) for seed in (5, 6, 7, 8, 9, 10)]
    write_file(tmp_path / "bad.root", batches)
    path = str(tmp_path / "bad.root")
    assert len(list(read_chunks(path))) > 1  # or it would not show
    content = bytearray((tmp_path / "bad.root").read_bytes())
    place = uproot.open({path: None})["tree"]["tower_X"].member("fBasketSeek")[5] + 200
    content[place : place + 400] = bytes(400)
    (tmp_path / "bad.root").write_bytes(content)
    good = write(tmp_path / "good.root", branches(400))
    with pytest.raises(DataError, match=r"bad\.root: cannot be read from entry [1-9]"):
        load(tmp_path / "cache", path, good)
    data = load(tmp_path / "cache", path, good, skip_bad_files=True)
    alone = load(tmp_path / "cache", good)
    assert data.fingerprint == alone.fingerprint
    assert data.cut_flow.to_json() == alone.cut_flow.to_json()


def test_bad_content_is_never_skipped(tmp_path: Path, good: Columns) -> None:
    bad = write(tmp_path / "bad.root", first_value("PrimaryG4P_Pt", 0.0)(good))
    fine = write(tmp_path / "good.root", branches(400, seed=2))
    with pytest.raises(DataError, match=r"bad\.root: entry 2"):
        load(tmp_path, bad, fine, skip_bad_files=True)
