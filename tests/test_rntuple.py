"""An RNTuple is read field by field as the tree of the same events is: flat lists, and podio's collections."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import pt_files
import pytest
import uproot
import zdc_files

from trainables.base.errors import DataError
from trainables.data.root_trees import find_tree, opened, stream

NAMES = {"mytree": "myTree", "edm4hep": "events", "podio": "events", "pt": "tree"}
Columns = Mapping[str, Any]


def podio(columns: Columns) -> dict[str, Any]:
    """The branches ``A.b.c`` as podio has them: a collection A of records with a record b."""

    def nested(prefix: str) -> Any:
        names = dict.fromkeys(
            name.removeprefix(prefix).partition(".")[0] for name in columns if name.startswith(prefix)
        )
        whole = {name: columns.get(prefix + name) for name in names}
        parts = {name: nested(f"{prefix}{name}.") if part is None else part for name, part in whole.items()}
        return ak.zip(parts, depth_limit=2)

    return {name: nested(f"{name}.") for name in dict.fromkeys(name.partition(".")[0] for name in columns)}


def write_ntuple(path: Path, name: str, columns: Columns, clusters: int = 1) -> str:
    """Write an RNTuple with a cluster for each of several parts of its entries."""
    entries = len(next(iter(columns.values())))
    step = math.ceil(entries / clusters)
    parts = [
        {field: ak.to_packed(values[start : start + step]) for field, values in columns.items()}
        for start in range(0, entries, step)
    ]
    with uproot.recreate(path) as file:
        ntuple = file.mkrntuple(name, parts[0])
        for part in parts[1:]:
            ntuple.extend(part)
    with uproot.open(path) as file:
        assert len(file[name].cluster_summaries) == clusters
    return str(path)


@pytest.fixture(scope="module")
def columns() -> dict[str, Columns]:
    zdc = zdc_files.both_layouts()
    return {**zdc, "podio": podio(zdc["edm4hep"]), "pt": pt_files.branches()}


def tree_of(kind: str, columns: Mapping[str, Columns], path: Path) -> str:
    if kind == "pt":
        return pt_files.write(path, dict(columns["pt"]))
    layout = "edm4hep" if kind == "podio" else kind
    return zdc_files.write(path, layout, dict(columns[layout]))


def load(kind: str, cache: Path, *files: str, **flags: Any) -> Any:
    return (pt_files if kind == "pt" else zdc_files).load(cache, *files, **flags)


@pytest.mark.parametrize("clusters", [1, 7])
@pytest.mark.parametrize("kind", NAMES)
def test_an_rntuple_gives_the_cache_of_the_tree_bit_for_bit(
    tmp_path: Path, columns: dict[str, Columns], kind: str, clusters: int
) -> None:
    tree = load(kind, tmp_path / "cache", tree_of(kind, columns, tmp_path / "tree.root"))
    ntuple_file = write_ntuple(tmp_path / "ntuple.root", NAMES[kind], columns[kind], clusters)
    ntuple = load(kind, tmp_path / "cache", ntuple_file)
    assert ntuple.fingerprint == tree.fingerprint
    for part in ("train", "validation"):
        one, other = vars(getattr(tree, part)), vars(getattr(ntuple, part))
        assert {name: array.tobytes() for name, array in one.items()} == {
            name: array.tobytes() for name, array in other.items()
        }
    assert ntuple.summary[0] == tree.summary[0]


@pytest.mark.parametrize("entries", [1, 7, 10_000, None])
def test_steps_hold_every_entry_once_in_order(tmp_path: Path, columns: dict[str, Columns], entries: int | None) -> None:
    path = write_ntuple(tmp_path / "x.root", "events", columns["podio"], clusters=5)
    field = "MCParticles.momentum.z"
    with opened(path) as root_file:
        ntuple = find_tree(root_file, path, "events", "", "")
        found = list(stream(ntuple, path, {"pz": field, "energy": "EcalFarForwardZDCHits.energy"}, entries))
    assert [entry for entry, _ in found] == [sum(len(part["pz"]) for _, part in found[:n]) for n in range(len(found))]
    assert len(found) >= 5  # a step lies in one cluster
    assert ak.concatenate([part["pz"] for _, part in found]).to_list() == columns["edm4hep"][field].to_list()


def without(name: str) -> Callable[[Columns], Columns]:
    return lambda columns: {field: values for field, values in columns.items() if field != name}


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("mytree", without("ecal_energy"), "no branch 'ecal_energy'; nearest: .*'mcPar_energy'"),
        ("pt", without("trk_Z"), "no branch 'trk_Z'; nearest: 'trk_"),
        ("edm4hep", without("MCParticles.mass"), r"no branch 'MCParticles\.mass'; nearest: 'MCParticles"),
        (
            "mytree",
            lambda found: {**found, "ecal_energy": found["ecal_energy"].layout.content[:400]},
            "found type float",
        ),
        ("pt", lambda found: {**found, "trk_Z": ak.Array([["a"]] * 400)}, "'trk_Z' should hold a list of numbers"),
    ],
    ids=["mytree-missing", "pt-missing", "edm4hep-missing", "mytree-scalar", "pt-text"],
)
def test_a_field_that_is_missing_or_of_another_type_is_named(
    tmp_path: Path, columns: dict[str, Columns], kind: str, change: Callable[[Any], Any], said: str
) -> None:
    path = write_ntuple(tmp_path / "x.root", NAMES[kind], change(columns[kind]))
    for skip in (False, True):
        with pytest.raises(DataError, match=rf"x\.root: .*{said}"):
            load(kind, tmp_path / "cache", path, skip_bad_files=skip)


def test_a_collection_without_a_needed_member_is_named(tmp_path: Path, columns: dict[str, Columns]) -> None:
    part = podio({name: values for name, values in columns["edm4hep"].items() if not name.endswith("momentum.z")})
    path = write_ntuple(tmp_path / "x.root", "events", part)
    with pytest.raises(DataError, match=r"no branch 'MCParticles\.momentum\.z'; nearest: 'MCParticles\.momentum"):
        load("podio", tmp_path / "cache", path)


@pytest.mark.parametrize("kind", NAMES)
def test_a_cut_or_damaged_rntuple_is_named_and_can_be_left_out(
    tmp_path: Path, columns: dict[str, Columns], kind: str
) -> None:
    whole = write_ntuple(tmp_path / "whole.root", NAMES[kind], columns[kind])
    content = Path(whole).read_bytes()
    cut, damaged = tmp_path / "cut.root", tmp_path / "damaged.root"
    cut.write_bytes(content[: len(content) // 2])
    pages = range(len(content) // 4, len(content) // 2)  # compressed numbers
    damaged.write_bytes(bytes(content[: pages.start]) + b"\xff" * len(pages) + bytes(content[pages.stop :]))
    with pytest.raises(DataError, match=r"cut\.root: truncated: its header names \d+ bytes"):
        load(kind, tmp_path / "cache", str(cut))
    with pytest.raises(DataError, match=r"damaged\.root: cannot be read from entry 0 on .*Copy it again"):
        load(kind, tmp_path / "cache", str(damaged))
    alone = load(kind, tmp_path / "cache", whole)
    rest = load(kind, tmp_path / "cache", whole, str(cut), str(damaged), skip_bad_files=True)
    assert rest.fingerprint == alone.fingerprint
    assert len([line for line in rest.summary if line.startswith("skipped: ")]) == 2


def test_an_empty_rntuple_is_named(tmp_path: Path, columns: dict[str, Columns]) -> None:
    with uproot.recreate(tmp_path / "empty.root") as file:
        file.mkrntuple("tree", {name: ak.to_packed(values[:0]) for name, values in columns["pt"].items()})
    with pytest.raises(DataError, match="no events: tree 'tree' is empty"):
        load("pt", tmp_path / "cache", str(tmp_path / "empty.root"))
