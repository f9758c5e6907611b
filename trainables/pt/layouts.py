"""The layout of pT files: TTree or RNTuple 'tree', one entry an event, lists of numbers, streamed as chunks."""

# lengths in cm, energies and momenta in GeV, angles in rad

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainables.data import root_trees as trees
from trainables.data.root_chunks import Chunk
from trainables.data.root_ntuples import Range

TREE = "tree"
COLLECTIONS = {  # the lists of one collection are equally long; its other branches are not read
    "trk": ("layer", "X", "Y", "Z"),  # clusters of the silicon: MVTX layers 0-2, INTT 3-6
    "tower": ("X", "Y", "Z", "edep"),
    "caloClus": ("system", "X", "Y", "Z", "edep"),  # at the volume centre
    "caloClus_innr": ("X", "Y", "Z", "edep"),  # at the inner face
    "PrimaryG4P": ("Pt", "Eta", "Phi"),
    "CEMC_Pr_Hit": ("x", "y", "z"),  # where the primary met the surface of the EMCal
}
OPTIONAL = {"tower": ("system",)}  # without it every tower belongs to the EMCal
EMCAL = 0  # of caloClus_system and tower_system

TREE_ADVICE = "Check --data: pT files hold it at their top."
BRANCH_ADVICE = "Write the file with this branch."
LIST_ADVICE = "Write the file so."


def count_entries(file: str) -> int:
    """Return the number of events of a file, after a check that every needed branch is there.

    Raises
    ------
    UnreadableFile
        Not readable, no such tree, no events.
    DataError
        A branch is missing.
    """
    with trees.opened(file) as root_file:
        tree = _tree(root_file, file)
        _collections(file, tree.keys(recursive=True))
        return trees.entries_of(tree, file, TREE)


def ranges(file: str) -> list[Range]:
    """Divide a file of ``count_entries`` into ranges of entries for ``read_chunks``."""
    with trees.opened(file) as root_file:
        tree = _tree(root_file, file)
        collections = _collections(file, tree.keys(recursive=True))
        return trees.ranges(tree, [name for names in collections.values() for name in names])


def read_chunks(file: str, chunk_entries: int | None = None, part: Range | None = None) -> Iterator[Chunk]:
    """Stream a file. Memory: one chunk and the baskets it lies in.

    Fields have the names of the branches; floats and doubles, any integers are accepted.

    Parameters
    ----------
    file : str
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
        tree = _tree(root_file, file)
        collections = _collections(file, tree.keys(recursive=True))
        branches = {name: name for names in collections.values() for name in names}
        for entry, fields in trees.stream(tree, file, branches, chunk_entries, part):
            chunk = Chunk(file, entry, fields, branches)
            for names in collections.values():
                chunk.check_lists(names, LIST_ADVICE)
            yield chunk


def _tree(root_file: Any, file: str) -> Any:
    return trees.find_tree(root_file, file, TREE, f"'{TREE}'", TREE_ADVICE)


def _collections(file: str, present: list[str]) -> dict[str, list[str]]:
    """List the branches of each collection, the optional ones where they are present."""
    found: dict[str, list[str]] = {}
    for collection, fields in COLLECTIONS.items():
        needed = [f"{collection}_{field}" for field in fields]
        for branch in needed:
            if branch not in present:
                raise trees.no_branch(file, TREE, branch, present, BRANCH_ADVICE)
        optional = [f"{collection}_{field}" for field in OPTIONAL.get(collection, ())]
        found[collection] = needed + [branch for branch in optional if branch in present]
    return found
