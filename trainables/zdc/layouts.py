"""The two layouts of ZDC files: their trees (TTree or RNTuple) and branches, read in chunks."""

# N events and H hits of one chunk; GeV and mm

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from trainables.base.errors import DataError
from trainables.data import root_chunks
from trainables.data import root_trees as trees
from trainables.data.root_ntuples import Range

Layout = Literal["mytree", "edm4hep"]
TREES: dict[Layout, str] = {"mytree": "myTree", "edm4hep": "events"}
HIT_COLLECTIONS = (  # of simulated, of reconstructed files; then by their names before 2023
    "EcalFarForwardZDCHits",
    "EcalFarForwardZDCRecHits",
    "ZDCEcalHits",
    "ZDCEcalRecHits",
)
TREE_ADVICE = "Check --layout and --data."
BRANCH_ADVICE = "Layout {} needs it: pass the other --layout, or write the file with this branch."
ADVICE = "Pass the other --layout, or write the file so."

# Name of a field here, and its branch. Fields of hits begin with "hit_", the others belong to particles.
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
class Chunk(root_chunks.Chunk):
    """Entries of one file under the names above; lengths agree within particles and within hits."""

    layout: Layout


def detect_layout(file: str) -> Layout:
    """Detect the layout of a file from its trees. Raises ``UnreadableFile`` where it has neither."""
    with trees.opened(file) as root_file:
        there = trees.trees_in(root_file)
        found = [layout for layout, tree in TREES.items() if tree in there]
        if not found:
            expected = "'myTree' (layout mytree) or 'events' (layout edm4hep)"
            raise trees.no_tree(root_file, file, expected, TREE_ADVICE)
    if len(found) > 1:
        raise DataError(
            f"{file}: holds both 'myTree' and 'events'. Say which one: --layout mytree or --layout edm4hep."
        )
    return found[0]


def count_entries(file: str, layout: Layout) -> int:
    """Count the events of a file, after a check that every needed branch is there.

    Raises
    ------
    UnreadableFile
        Not readable, no such tree, no events.
    DataError
        A branch is missing.
    """
    with trees.opened(file) as root_file:
        tree = _tree(root_file, file, layout)
        branch_names(file, layout, tree.keys(recursive=True))
        return trees.entries_of(tree, file, TREES[layout])


def count_hits(file: str, layout: Layout) -> int:
    """Count the entries of the hit collection of a whole file."""
    return sum(int(chunk.counts("hit_energy").sum()) for chunk in read_chunks(file, layout))


def ranges(file: str, layout: Layout) -> list[Range]:
    """Divide a file of ``count_entries`` into ranges of entries for ``read_chunks``."""
    with trees.opened(file) as root_file:
        tree = _tree(root_file, file, layout)
        return trees.ranges(tree, list(branch_names(file, layout, tree.keys(recursive=True)).values()))


def read_chunks(
    file: str, layout: Layout, chunk_entries: int | None = None, part: Range | None = None
) -> Iterator[Chunk]:
    """Stream a file in chunks. Memory: one chunk and the baskets that hold it.

    Parameters
    ----------
    file : str
    layout : "mytree" or "edm4hep"
    chunk_entries : int, optional
        None: so many that they have some MB.
    part : Range, optional
        One of ``ranges``. None: all entries.

    Raises
    ------
    UnreadableFile
        Not readable, here or at any later chunk.
    DataError
        Branch missing, a branch that is not a list per event, unequal lengths.
    """
    with trees.opened(file) as root_file:
        tree = _tree(root_file, file, layout)
        branches = branch_names(file, layout, tree.keys(recursive=True))
        for entry, fields in trees.stream(tree, file, branches, chunk_entries, part):
            chunk = Chunk(file, entry, fields, branches, layout)
            chunk.check_lists([field for field in fields if not field.startswith("hit_")], ADVICE)
            chunk.check_lists([field for field in fields if field.startswith("hit_")], ADVICE)
            yield chunk


def branch_names(file: str, layout: Layout, present: list[str]) -> dict[str, str]:
    """Return the branch of each field of a layout, among those present: podio's ``A/A.b`` or flat ``A.b``.

    Raises
    ------
    DataError
        A needed branch is missing; the message names the nearest ones.
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
            advice = _collections_advice(present) if field == "hit_cell_id" else BRANCH_ADVICE.format(layout)
            raise trees.no_branch(file, TREES[layout], needed[field], present, advice)
    extra = {field: _find(branch, present) for field, branch in optional.items()}
    if any(branch is None for branch in extra.values()):
        extra = {}
    return {field: branch for field, branch in (found | extra).items() if branch is not None}


def _collections_advice(present: list[str]) -> str:
    """Name the collections of hits that are read, and those that a file has."""
    names = [name.rpartition("/")[2] for name in present]
    there = [name.removesuffix(".cellID") for name in names if name.endswith(".cellID")]
    return (
        f"Layout edm4hep reads the hits of {', '.join(HIT_COLLECTIONS[:-1])} or {HIT_COLLECTIONS[-1]}; collections "
        f"with a cellID there: {', '.join(there) or 'none'}. Write the file with one of the former."
    )


def _find(branch: str, present: list[str]) -> str | None:
    nested = f"{branch.partition('.')[0]}/{branch}"
    return next((name for name in (branch, nested) if name in present), None)


def _tree(root_file: Any, file: str, layout: Layout) -> Any:
    return trees.find_tree(root_file, file, TREES[layout], f"'{TREES[layout]}' (layout {layout})", TREE_ADVICE)
