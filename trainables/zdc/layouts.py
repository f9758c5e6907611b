"""The two layouts of ZDC files: opens a file, finds its branches, streams them as chunks of arrays."""

# N events and H hits of one chunk; GeV and mm

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from trainables.errors import DataError
from trainables.files import UnreadableFile

Layout = Literal["mytree", "edm4hep"]
TREES: dict[Layout, str] = {"mytree": "myTree", "edm4hep": "events"}
HIT_COLLECTIONS = (
    "EcalFarForwardZDCHits",
    "EcalFarForwardZDCRecHits",
)  # of simulated, of reconstructed files
CHUNK_BYTES = "4 MB"  # of branches read at a time; small enough for the caches of a processor

# What we call a field, and its branch. Fields of hits begin with "hit_", the other ones belong to particles.
MYTREE_FIELDS = {
    "energy": "mcPar_energy",
    "px": "mcPar_momX",
    "py": "mcPar_momY",
    "pz": "mcPar_momZ",
    "hit_energy": "ecal_energy",
    "hit_x": "ecal_posX",
    "hit_y": "ecal_posY",
    "hit_z": "ecal_posZ",
}
MYTREE_OPTIONAL = {"hit_cell_id": "ecal_cellID"}
EDM4HEP_FIELDS = {
    "status": "MCParticles.generatorStatus",
    "mass": "MCParticles.mass",
    "px": "MCParticles.momentum.x",
    "py": "MCParticles.momentum.y",
    "pz": "MCParticles.momentum.z",
    "hit_cell_id": "HITS.cellID",
    "hit_energy": "HITS.energy",
}
EDM4HEP_OPTIONAL = {"hit_x": "HITS.position.x", "hit_y": "HITS.position.y", "hit_z": "HITS.position.z"}


@dataclass(frozen=True)
class Chunk:
    """Consecutive entries of one file as they stand there; lengths agree within particles and within hits."""

    file: str
    layout: Layout
    first_entry: int
    fields: Mapping[str, ak.Array]  # (N, var), by the names above
    branches: Mapping[str, str]  # the branch of each field, to be named in messages

    def where(self, event: int) -> str:
        """File and entry, as every message begins."""
        return f"{self.file}: entry {self.first_entry + event}"


def detect_layout(file: str) -> Layout:
    """Layout of a file, told by its trees. Raises ``UnreadableFile`` where it has neither."""
    with _opened(file) as root_file:
        trees = _trees(root_file)
        found = [layout for layout, tree in TREES.items() if tree in trees]
    if len(found) > 1:
        raise DataError(
            f"{file}: holds both 'myTree' and 'events'. Say which one: --layout mytree or --layout edm4hep."
        )
    if not found:
        raise _no_tree(file, "'myTree' (layout mytree) or 'events' (layout edm4hep)", trees)
    return found[0]


def count_entries(file: str, layout: Layout) -> int:
    """Number of events of a file; also makes sure that every needed branch is there.

    Raises
    ------
    UnreadableFile
        Not readable, no such tree, no events.
    DataError
        A branch is missing.
    """
    with _opened(file) as root_file:
        tree = _tree(root_file, file, layout)
        branch_names(file, layout, tree.keys(recursive=True))
        entries = int(tree.num_entries)
    if entries == 0:
        raise UnreadableFile(f"{file}: no events: tree '{TREES[layout]}' is empty. Was its job cut off?")
    return entries


def count_hits(file: str, layout: Layout) -> int:
    """Number of entries of the hit collection of a whole file."""
    return sum(int(ak.count(chunk.fields["hit_energy"])) for chunk in read_chunks(file, layout))


def read_chunks(file: str, layout: Layout, chunk_size: str | int = CHUNK_BYTES) -> Iterator[Chunk]:
    """Stream a file. Memory: one chunk and the baskets it lies in.

    Parameters
    ----------
    file : str
    layout : "mytree" or "edm4hep"
    chunk_size : str or int
        Bytes as uproot writes them, or number of entries.

    Raises
    ------
    UnreadableFile
        Not readable, here or at any later chunk.
    DataError
        Branch missing, a branch that is not a list per event, unequal lengths.
    """
    with _opened(file) as root_file:
        tree = _tree(root_file, file, layout)
        branches = branch_names(file, layout, tree.keys(recursive=True))
        steps = tree.iterate(list(branches.values()), step_size=chunk_size, library="ak")
        entry = 0
        while (arrays := _next_step(steps, file, entry)) is not None:
            fields = {field: arrays[branch] for field, branch in branches.items()}
            chunk = Chunk(file, layout, entry, fields, branches)
            _check_lengths(chunk, [field for field in fields if not field.startswith("hit_")])
            _check_lengths(chunk, [field for field in fields if field.startswith("hit_")])
            yield chunk
            entry += len(arrays)


def branch_names(file: str, layout: Layout, present: list[str]) -> dict[str, str]:
    """The branch of each field of a layout, among those present: podio's ``A/A.b`` or flat ``A.b``.

    Raises
    ------
    DataError
        A needed branch is missing; names the nearest ones.
    """
    if layout == "mytree":
        needed, optional = MYTREE_FIELDS, MYTREE_OPTIONAL
    else:
        hits = next((name for name in HIT_COLLECTIONS if _find(f"{name}.cellID", present)), HIT_COLLECTIONS[0])
        needed = {field: branch.replace("HITS", hits) for field, branch in EDM4HEP_FIELDS.items()}
        optional = {field: branch.replace("HITS", hits) for field, branch in EDM4HEP_OPTIONAL.items()}
    found = {field: _find(branch, present) for field, branch in needed.items()}
    for field, branch in found.items():
        if branch is None:
            raise _no_branch(file, layout, needed[field], present)
    extra = {field: _find(branch, present) for field, branch in optional.items()}
    if any(branch is None for branch in extra.values()):
        extra = {}
    return {field: branch for field, branch in (found | extra).items() if branch is not None}


def _find(branch: str, present: list[str]) -> str | None:
    nested = f"{branch.partition('.')[0]}/{branch}"
    return next((name for name in (branch, nested) if name in present), None)


def _no_branch(file: str, layout: Layout, branch: str, present: list[str]) -> DataError:
    nearest = get_close_matches(branch, [name.rpartition("/")[2] for name in present], n=3, cutoff=0.4)
    names = ", ".join(repr(name) for name in nearest) or "none that is alike"
    return DataError(
        f"{file}: tree '{TREES[layout]}' has no branch '{branch}'; nearest: {names}. Layout {layout} needs "
        "it: pass the other --layout, or write the file with this branch."
    )


@contextmanager
def _opened(file: str) -> Iterator[Any]:
    try:
        root_file = uproot.open({file: None})  # a dict: a colon in the name stays a part of the name
    except MemoryError:
        raise
    except Exception as error:  # a broken file may make uproot raise anything
        raise _unreadable(file, "as a ROOT file", error) from error
    with root_file:
        yield root_file


def _trees(root_file: Any) -> dict[str, str]:
    """Name and class of what holds events in a file."""
    classes: dict[str, str] = root_file.classnames(recursive=True, cycle=False)
    return {name: kind for name, kind in classes.items() if kind in ("TTree", "TNtuple", "TNtupleD", "ROOT::RNTuple")}


def _tree(root_file: Any, file: str, layout: Layout) -> Any:
    trees = _trees(root_file)
    name = TREES[layout]
    if name not in trees:
        raise _no_tree(file, f"'{name}' (layout {layout})", trees)
    if trees[name] == "ROOT::RNTuple":
        raise DataError(
            f"{file}: expected '{name}' to be a TTree, found an RNTuple. Write it with podio's TTree writer."
        )
    try:
        return root_file[name]
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise _unreadable(file, f"in its tree '{name}'", error) from error


def _no_tree(file: str, expected: str, trees: Mapping[str, str]) -> UnreadableFile:
    there = ", ".join(repr(name) for name in sorted(trees)) or "none"
    return UnreadableFile(
        f"{file}: no such tree: expected {expected}; trees there: {there}. Check --layout and --data."
    )


def _next_step(steps: Iterator[ak.Array], file: str, entry: int) -> ak.Array | None:
    try:
        return next(steps, None)
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise _unreadable(file, f"from entry {entry} on", error) from error


def _unreadable(file: str, where: str, error: Exception) -> UnreadableFile:
    reason = " ".join(str(error).split())[:200]
    return UnreadableFile(f"{file}: cannot be read {where} ({type(error).__name__}: {reason}). Copy it again.")


def _check_lengths(chunk: Chunk, fields: list[str]) -> None:
    """Every field is a list of numbers per event, and the lists of one event are equally long."""
    counts: dict[str, NDArray[np.int64]] = {}
    for field in fields:
        array = chunk.fields[field]
        if array.ndim != 2 or not np.issubdtype(_number_type(array), np.number):
            raise DataError(
                f"{chunk.file}: branch '{chunk.branches[field]}' should hold a list of numbers per event, "
                f"found type {array.type.content}. Pass the other --layout, or write the file so."
            )
        counts[field] = ak.to_numpy(ak.num(array, axis=1))
    first = fields[0]
    for field in fields[1:]:
        if not np.array_equal(counts[field], counts[first]):
            event = int(np.argmax(counts[field] != counts[first]))
            raise DataError(
                f"{chunk.where(event)}: unequal lengths: '{chunk.branches[first]}' has "
                f"{counts[first][event]} values, '{chunk.branches[field]}' has {counts[field][event]}. These "
                "lists belong together: write the file again."
            )


def _number_type(array: ak.Array) -> np.dtype[Any]:
    flat = ak.flatten(array, axis=None)
    return np.asarray(ak.to_numpy(flat[:1])).dtype
