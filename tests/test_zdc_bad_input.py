"""Every bad ZDC input is a DataError that names what is wrong, before any trial starts."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import pytest
import uproot
from zdc_files import Columns, both_layouts, flat_branches, load, showers, write

from trainables.base.errors import DataError
from trainables.zdc import geometry
from trainables.zdc.simulate import write_file


@pytest.fixture(scope="module")
def good() -> dict[str, Columns]:
    return both_layouts()


def first_event(name: str, change: Callable[[Any], Any]) -> Callable[[Columns], Columns]:
    """Change the list of one branch in the third event."""

    def changed(columns: Columns) -> Columns:
        values = columns[name]
        parts = [
            values[:2],
            ak.values_astype(ak.Array([change(values[2].to_list())]), values.layout.content.dtype),
        ]
        return {**columns, name: ak.concatenate([*parts, values[3:]])}

    return changed


def scaled(factor: float, *names: str) -> Callable[[Columns], Columns]:
    def changed(columns: Columns) -> Columns:
        return {
            name: values * factor if any(re.search(pattern, name) for pattern in names) else values
            for name, values in columns.items()
        }

    return changed


def without(name: str) -> Callable[[Columns], Columns]:
    return lambda columns: {other: values for other, values in columns.items() if other != name}


def first(events: int) -> Callable[[Columns], Columns]:
    return lambda columns: {name: values[:events] for name, values in columns.items()}


def renamed(collection: str) -> Callable[[Columns], Columns]:
    return lambda columns: {
        name.replace("EcalFarForwardZDCHits", collection): values for name, values in columns.items()
    }


def no_hits(columns: Columns) -> Columns:
    return {name: values[:, :0] if name.startswith(("ecal", "Ecal")) else values for name, values in columns.items()}


def moved_cells(columns: Columns) -> Columns:
    name = "EcalFarForwardZDCHits.cellID"
    cell = columns[name]
    crystal = geometry.crystal_of_cell_id(ak.to_numpy(ak.flatten(cell)))
    moved = geometry.cell_id_of_crystal((crystal + 20) % 400)
    return {**columns, name: ak.unflatten(moved, ak.num(cell))}


def twice_the_primary(columns: Columns) -> Columns:
    return {
        name: ak.concatenate([values, values], axis=1) if name.startswith("MCParticles") else values
        for name, values in columns.items()
    }


def scalar_energy(columns: Columns) -> Columns:
    return {**columns, "mcPar_energy": columns["mcPar_energy"][:, 0]}


nan, inf = float("nan"), float("inf")
BAD = [
    ("mytree", without("ecal_posY"), r"no branch 'ecal_posY'; nearest: 'ecal_pos[XZ]'"),
    ("edm4hep", without("MCParticles.mass"), r"no branch 'MCParticles.mass'; nearest: .*'MCParticles"),
    (
        "edm4hep",
        without("EcalFarForwardZDCHits.cellID"),
        r"no branch 'EcalFarForwardZDCHits.cellID'; nearest.* reads the hits of .*ZDCEcalRecHits.* cellID there: none",
    ),
    (
        "edm4hep",
        lambda columns: renamed("HcalFarForwardZDCHits")(columns),
        r"no branch 'EcalFarForwardZDCHits.cellID'.* with a cellID there: .*HcalFarForwardZDCHits.* Write",
    ),
    ("mytree", first(0), r"no events: tree 'myTree' is empty"),
    ("mytree", first(2), r"too few events: expected at least 20.*found 2 events with \d+ ZDC hits\."),
    (
        "edm4hep",
        lambda columns: no_hits(first(5)(columns)),
        r"5 events with 0 ZDC hits: the ZDC collection is empty",
    ),
    ("edm4hep", no_hits, r"no hits at all: the ZDC collection is empty in each of the 400 events"),
    ("mytree", no_hits, r"no hits at all"),
    (
        "mytree",
        first_event("ecal_posX", lambda x: x[1:]),
        r"entry 2: unequal lengths: 'ecal_energy' has (\d+) values, 'ecal_posX'",
    ),
    (
        "mytree",
        first_event("ecal_energy", lambda e: [nan, *e[1:]]),
        r"entry 2: 'ecal_energy': expected finite numbers; found nan",
    ),
    (
        "edm4hep",
        first_event("EcalFarForwardZDCHits.position.z", lambda z: [*z[:-1], inf]),
        r"entry 2: '.*position.z': expected finite.*inf",
    ),
    (
        "mytree",
        first_event("mcPar_energy", lambda _: [nan]),
        r"entry 2: 'mcPar_energy': expected a finite number; found nan",
    ),
    (
        "edm4hep",
        first_event("MCParticles.momentum.x", lambda _: [inf]),
        r"entry 2: 'MCParticles.momentum.x': expected a finite",
    ),
    ("mytree", scaled(0.0, "mcPar_mom"), r"entry 0: 'mcPar_momX': expected a moving particle.*found 0"),
    ("mytree", scaled(0.5, "mcPar_energy"), r"entry 0: 'mcPar_energy': expected the total energy"),
    ("mytree", scalar_energy, r"'mcPar_energy' should hold a list of numbers per event, found type float"),
    ("edm4hep", twice_the_primary, r"entry 0: expected exactly one particle with generatorStatus 1, found 2"),
    (
        "edm4hep",
        scaled(2, "generatorStatus"),
        r"entry 0: expected exactly one particle with generatorStatus 1, found 0",
    ),
    ("mytree", first_event("mcPar_momX", lambda _: []), r"entry 2: unequal lengths"),
    (
        "mytree",
        scaled(0.1, "ecal_pos"),
        r"entry \d+: \d+ of \d+ hits of this file lie outside the 20x20 crystals",
    ),
    ("edm4hep", moved_cells, r"entry \d+: cellID and position name different crystals for \d+ of \d+ hits"),
    (
        "mytree",
        scaled(1000, "ecal_energy"),
        r"crystals hold .* GeV, of particles with .* is one of them in MeV",
    ),
    (
        "mytree",
        scaled(1000, "ecal_energy", "mcPar_energy", "mcPar_mom"),
        r"wrong unit suspected: the median energy reads as .* in MeV\?",
    ),
    (
        "mytree",
        scaled(1e-3, "ecal_energy", "mcPar_energy", "mcPar_mom"),
        r"wrong unit suspected: .* in TeV\?",
    ),
    (
        "mytree",
        scaled(0.5, "ecal_energy", "mcPar_energy", "mcPar_mom"),
        r"no event has an energy from 15000 to 20000 MeV",
    ),
]


@pytest.mark.parametrize(("layout", "change", "said"), BAD, ids=[said[:40] for _, _, said in BAD])
def test_bad_content_is_named(
    tmp_path: Path, good: dict[str, Columns], layout: str, change: Callable[[Columns], Columns], said: str
) -> None:
    path = write(tmp_path / "bad.root", layout, change(good[layout]))
    with pytest.raises(DataError, match=said) as refusal:
        load(tmp_path / "cache", path)
    if not re.search("suspected|no event|no hits", said):
        assert "bad.root" in str(refusal.value)
    if "suspected" not in said and "no event has" not in said:  # those depend on the bins, not on the files
        assert not list((tmp_path / "cache").glob("zdc-*/manifest.json"))


def test_a_threshold_above_every_deposit_is_refused(tmp_path: Path, good: dict[str, Columns]) -> None:
    path = write(tmp_path / "x.root", "mytree", good["mytree"])
    with pytest.raises(DataError, match=r"no crystal is above the hit threshold of 1e\+06 MeV; the largest .* Lower"):
        load(tmp_path, path, hit_threshold_mev=1e6)


@pytest.mark.parametrize("collection", ["EcalFarForwardZDCRecHits", "ZDCEcalHits", "ZDCEcalRecHits"])
def test_each_name_of_the_hit_collection_is_read(tmp_path: Path, good: dict[str, Columns], collection: str) -> None:
    today = load(tmp_path / "cache", write(tmp_path / "today.root", "edm4hep", good["edm4hep"]))
    other = write(tmp_path / "other.root", "edm4hep", renamed(collection)(good["edm4hep"]))
    assert load(tmp_path / "cache", other).fingerprint == today.fingerprint


def rows(file: uproot.WritableDirectory, tree: str, columns: Columns) -> None:
    file.mktree(tree, {name: values.type.content for name, values in columns.items()}).extend(columns)


def test_the_newest_cycle_of_a_tree_is_read(tmp_path: Path, good: dict[str, Columns]) -> None:
    whole = write(tmp_path / "whole.root", "edm4hep", good["edm4hep"])
    with uproot.recreate(tmp_path / "cycles.root") as file:
        rows(file, "events", first(300)(good["edm4hep"]))
        rows(file, "events", good["edm4hep"])
    cycles = str(tmp_path / "cycles.root")
    assert load(tmp_path / "cache", cycles).fingerprint == load(tmp_path / "cache", whole).fingerprint


def test_an_rntuple_of_a_preliminary_format_is_named_and_never_left_out(
    tmp_path: Path, good: dict[str, Columns], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = "ROOT::Experimental::RNTuple"
    add = uproot.writing._cascade.Directory.add_object

    def add_object(self: Any, sink: Any, _: str, *values: Any, **options: Any) -> Any:
        return add(self, sink, kind, *values, **options)

    with monkeypatch.context() as patched, uproot.recreate(tmp_path / "tuple.root") as file:
        patched.setattr(uproot.writing._cascade.Directory, "add_object", add_object)
        file.mkrntuple("events", good["edm4hep"])
    files = (write(tmp_path / "whole.root", "edm4hep", good["edm4hep"]), str(tmp_path / "tuple.root"))
    said = rf"tuple\.root: 'events' is an RNTuple of a preliminary format \(class {kind}\), .*expected a TTree or an RN"
    for skip in (False, True):
        with pytest.raises(DataError, match=said):
            load(tmp_path / "cache", *files, skip_bad_files=skip)


def replaced(path: Path, old: bytes, new: bytes) -> str:
    """Change bytes everywhere in a file."""
    content = path.read_bytes()
    assert len(old) == len(new)
    assert old in content
    path.write_bytes(content.replace(old, new))
    return str(path)


def test_a_tree_of_an_unknown_class_is_named(tmp_path: Path, good: dict[str, Columns]) -> None:
    write(tmp_path / "odd.root", "mytree", good["mytree"])
    odd = replaced(tmp_path / "odd.root", b"\x05TTree\x06myTree", b"\x05XTree\x06myTree")
    with pytest.raises(DataError, match=r"'myTree' is a XTree \(class XTree\), which this version does not read"):
        load(tmp_path / "cache", odd)


def test_what_only_has_the_name_of_the_tree_is_named(tmp_path: Path, good: dict[str, Columns]) -> None:
    with uproot.recreate(tmp_path / "folder.root") as file:
        file.mkdir("events")
        rows(file, "sim/events", good["edm4hep"])
    advice = r"rootcp --recreate '.*folder\.root:sim/events' NEW\.root"
    with pytest.raises(DataError, match=rf"no such tree: .*trees there: 'sim/events'\. .*{advice}"):
        load(tmp_path / "cache", str(tmp_path / "folder.root"))
    with uproot.recreate(tmp_path / "other.root") as file:
        file["events"] = "no tree"
    with pytest.raises(DataError, match=r"trees there: none\. 'events' is a TObjString there"):
        load(tmp_path / "cache", str(tmp_path / "other.root"))


def test_a_compression_that_is_not_known_is_named(tmp_path: Path, good: dict[str, Columns]) -> None:
    with uproot.recreate(tmp_path / "new.root", compression=uproot.ZSTD(5)) as file:
        rows(file, "events", good["edm4hep"])
    replaced(tmp_path / "new.root", b"ZS\x01", b"QQ\x01")
    with pytest.raises(DataError, match=r"new\.root: cannot be read .*compression algorithm: b'QQ'.* or zstd"):
        load(tmp_path / "cache", str(tmp_path / "new.root"))


@pytest.mark.parametrize("layout", ["auto", "mytree", "edm4hep"])
def test_a_file_without_any_key_was_not_closed(tmp_path: Path, layout: str) -> None:
    uproot.recreate(tmp_path / "hollow.root").close()
    with pytest.raises(DataError, match=r"hollow\.root: not closed: it holds nothing at all: .*hadd"):
        load(tmp_path / "cache", str(tmp_path / "hollow.root"), layout=layout)


def test_files_without_the_tree_name_the_trees_they_have(tmp_path: Path, good: dict[str, Columns]) -> None:
    other = write(tmp_path / "other.root", "mytree", good["mytree"], tree="showers")
    with pytest.raises(DataError, match=r"no such tree: expected 'myTree' .* or 'events' .* there: 'showers'"):
        load(tmp_path, other)
    right = write(tmp_path / "right.root", "mytree", good["mytree"])
    with pytest.raises(DataError, match=r"expected 'events' \(layout edm4hep\); trees there: 'myTree'.*--layout"):
        load(tmp_path, right, layout="edm4hep")
    assert load(tmp_path, right, layout="mytree").fingerprint == load(tmp_path, right).fingerprint


def test_a_file_with_both_trees_needs_a_layout(tmp_path: Path, good: dict[str, Columns]) -> None:
    with uproot.recreate(tmp_path / "both.root") as file:
        for name, layout in (("myTree", "mytree"), ("events", "edm4hep")):
            types = {branch: values.type.content for branch, values in good[layout].items()}
            file.mktree(name, types).extend(good[layout])
    with pytest.raises(DataError, match=r"holds both 'myTree' and 'events'.*--layout"):
        load(tmp_path, str(tmp_path / "both.root"))
    assert len(load(tmp_path, str(tmp_path / "both.root"), layout="edm4hep").train) > 0


def autosave(whole: Path, file: Path) -> None:
    """Write a file as a job leaves it that died after a save: its header and keys know what was saved, no more."""
    content = whole.read_bytes()
    record = struct.pack(">ihiIhhii", 120, 4, 90, 0, 40, 1, len(content), 100) + b"\x07TBasket" + bytes(90)
    file.write_bytes(content + record)


def broken_files(folder: Path) -> dict[str, str]:
    """Files that cannot be read, and what is said of each."""
    write_file(folder / "whole.root", "mytree", [showers(seed=5)])
    content = bytearray((folder / "whole.root").read_bytes())
    (folder / "short.root").write_bytes(content[:-1000])
    (folder / "text.root").write_text("see the other folder")
    (folder / "hollow.root").write_bytes(b"")
    tree = uproot.open({str(folder / "whole.root"): None})["myTree"]
    place = tree["ecal_posX"].member("fBasketSeek")[0] + 200
    content[place : place + 400] = bytes(400)
    (folder / "rotten.root").write_bytes(content)
    autosave(folder / "whole.root", folder / "unclosed.root")
    (folder / "whole.root").unlink()
    write(folder / "nothing.root", "mytree", first(0)(flat_branches("mytree", showers())))
    return {
        "short.root": "truncated",
        "text.root": "not a ROOT file",
        "hollow.root": "not a ROOT file: .*an empty file",
        "rotten.root": "cannot be read from entry 0 on",
        "unclosed.root": "not closed: its header names",
        "nothing.root": "no events",
        "absent.root": "cannot be read .No such file",
    }


def test_an_unreadable_file_never_silently_shortens_the_sample(tmp_path: Path) -> None:
    broken = broken_files(tmp_path)
    write_file(tmp_path / "good.root", "mytree", [showers()])
    good_file = str(tmp_path / "good.root")
    for name, said in broken.items():
        with pytest.raises(DataError, match=f"{name}: {said}"):
            load(tmp_path / "cache", good_file, str(tmp_path / name))
    bad_files = [str(tmp_path / name) for name in broken]
    with pytest.raises(DataError, match=r"5 of 8 files cannot be read; --skip-bad-files leaves them out"):
        load(tmp_path / "cache", good_file, *bad_files)
    data = load(tmp_path / "cache", good_file, *bad_files, skip_bad_files=True)
    assert data.fingerprint == load(tmp_path / "cache", good_file).fingerprint
    skipped = [line for line in data.summary if line.startswith("skipped: ")]
    assert len(skipped) == len(broken)
    for name, said in broken.items():
        assert any(re.search(f"{name}: {said}", line) for line in skipped)
    with pytest.raises(DataError, match="no readable file is left"):
        load(tmp_path / "cache", *bad_files, skip_bad_files=True)


def test_a_file_that_breaks_off_in_its_middle_is_skipped_as_a_whole(tmp_path: Path) -> None:
    write_file(tmp_path / "bad.root", "mytree", [showers(seed=5), showers(seed=6)])
    content = bytearray((tmp_path / "bad.root").read_bytes())
    place = uproot.open({str(tmp_path / "bad.root"): None})["myTree"]["ecal_posX"].member("fBasketSeek")[1] + 200
    content[place : place + 400] = bytes(400)
    (tmp_path / "bad.root").write_bytes(content)
    write_file(tmp_path / "good.root", "mytree", [showers()])
    both = (str(tmp_path / "bad.root"), str(tmp_path / "good.root"))
    with pytest.raises(DataError, match=r"bad\.root: cannot be read from entry"):
        load(tmp_path / "cache", *both)
    data = load(tmp_path / "cache", *both, skip_bad_files=True)
    assert data.fingerprint == load(tmp_path / "cache", both[1]).fingerprint


def test_bad_content_is_never_skipped(tmp_path: Path, good: dict[str, Columns]) -> None:
    bad = write(tmp_path / "bad.root", "mytree", scaled(0.0, "mcPar_mom")(good["mytree"]))
    write_file(tmp_path / "good.root", "mytree", [showers(seed=2)])
    with pytest.raises(DataError, match=r"bad\.root: entry 0"):
        load(tmp_path, bad, str(tmp_path / "good.root"), skip_bad_files=True)
