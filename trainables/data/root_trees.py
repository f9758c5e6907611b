"""Open trees of ROOT files, RNTuples too, and stream their fields in chunks; an error names what is there instead."""

# uproot and awkward take a second to import: only functions that read a file do it.

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from trainables.base.errors import DataError
from trainables.data.files import UnreadableFile, unreadable
from trainables.data.root_header import NOT_CLOSED
from trainables.data.root_ntuples import NTUPLE_CLASS, is_ntuple, steps

if TYPE_CHECKING:
    import awkward as ak

CHUNK_BYTES = 4 << 20  # of branches read at a time; small enough for the caches of a processor
TREE_CLASSES = ("TTree", "TNtuple", "TNtupleD", NTUPLE_CLASS)  # that are read
TREE_MARKS = ("RNTuple", "Tree", "Ntuple", "TChain")  # what the name of any class of trees holds


@contextmanager
def opened(file: str) -> Iterator[Any]:
    """Open a ROOT file for a ``with`` block. Raises ``UnreadableFile`` where it is none, or broken."""
    import uproot

    try:
        root_file = uproot.open({file: None})  # a dict: a colon in the name stays a part of the name
    except MemoryError:
        raise
    except Exception as error:  # a broken file may make uproot raise anything
        raise _unreadable(file, "as a ROOT file", error) from error
    with root_file:
        yield root_file


def trees_in(root_file: Any) -> dict[str, str]:
    """Return name and class of each tree in an open file, also of classes that are not read."""
    return {name: kind for name, kind in _classes(root_file).items() if any(mark in kind for mark in TREE_MARKS)}


def _classes(root_file: Any) -> dict[str, str]:
    """Return name and class of each object; of the cycles of a name, the newest counts."""
    keys: list[str] = root_file.keys(recursive=True)
    newest = sorted(keys, key=lambda key: int(key.rpartition(";")[2]))
    return {key.rpartition(";")[0]: str(root_file.classname_of(key)) for key in newest}


def find_tree(root_file: Any, file: str, name: str, expected: str, advice: str) -> Any:
    """Find the tree of that name.

    Parameters
    ----------
    root_file
        Of ``opened``.
    file, name : str
    expected, advice : str
        For the message of ``no_tree``.

    Raises
    ------
    UnreadableFile
        No such tree, or it cannot be read.
    DataError
        It is a tree of a class that is not read.
    """
    kind = trees_in(root_file).get(name)
    if kind is None:
        raise no_tree(root_file, file, expected, advice)
    if kind not in TREE_CLASSES:
        what = "an RNTuple of a preliminary format" if kind.endswith("RNTuple") else f"a {kind}"
        raise DataError(
            f"{file}: '{name}' is {what} (class {kind}), which this version does not read: expected a TTree or an "
            "RNTuple of ROOT 6.34 or newer. Write the file again."
        )
    try:
        return root_file[name]
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise _unreadable(file, f"in its tree '{name}'", error) from error


def no_tree(root_file: Any, file: str, expected: str, advice: str) -> UnreadableFile:
    """Make the error for a missing tree; it names the trees that are there, and what else has the expected name.

    Parameters
    ----------
    root_file
        Of ``opened``.
    file : str
    expected : str
        Name of the tree in quotes, or of several.
    advice : str
        The end of the message, unless the reason is known.
    """
    classes, trees = _classes(root_file), trees_in(root_file)
    if not classes:
        return UnreadableFile(f"{file}: not closed: it holds nothing at all: {NOT_CLOSED}")
    there = ", ".join(f"'{name}'" + _unless_read(kind) for name, kind in sorted(trees.items())) or "none"
    for name, kind in classes.items():
        if f"'{name}'" in expected:
            advice = f"'{name}' is a {kind} there. {advice}"
        elif name in trees and f"'{name.rpartition('/')[2]}'" in expected:
            advice = f"Trees are read from the top of a file alone: rootcp --recreate '{file}:{name}' NEW.root"
    return UnreadableFile(f"{file}: no such tree: expected {expected}; trees there: {there}. {advice}")


def _unless_read(kind: str) -> str:
    return "" if kind in TREE_CLASSES else f" ({kind})"


def entries_of(tree: Any, file: str, name: str) -> int:
    """Return the number of events of a tree. Raises ``UnreadableFile`` where there are none."""
    entries = int(tree.num_entries)
    if entries == 0:
        raise UnreadableFile(f"{file}: no events: tree '{name}' is empty. Was its job cut off?")
    return entries


def no_branch(file: str, tree: str, branch: str, present: Sequence[str], advice: str) -> DataError:
    """Make the error for a missing branch; it names the nearest ones."""
    nearest = get_close_matches(branch, [name.rpartition("/")[2] for name in present], n=3, cutoff=0.4)
    names = ", ".join(repr(name) for name in nearest) or "none that is alike"
    return DataError(f"{file}: tree '{tree}' has no branch '{branch}'; nearest: {names}. {advice}")


def stream(
    tree: Any, file: str, branches: Mapping[str, str], chunk_entries: int | None = None
) -> Iterator[tuple[int, dict[str, ak.Array]]]:
    """Yield first entry and fields of one chunk after another. Memory: one chunk and the baskets it lies in.

    Parameters
    ----------
    tree
        Of ``find_tree``.
    file : str
    branches : mapping of field to branch
    chunk_entries : int, optional
        None: so many that they have ``CHUNK_BYTES``.

    Raises
    ------
    UnreadableFile
        At any chunk.
    """
    names = list(branches.values())
    if is_ntuple(tree):
        chunks = steps(tree, names, chunk_entries, CHUNK_BYTES)
    else:
        chunks = tree.iterate(names, step_size=chunk_entries or f"{CHUNK_BYTES} B", library="ak")
    entry = 0
    while (arrays := _next_step(chunks, file, entry)) is not None:
        yield entry, {field: arrays[branch] for field, branch in branches.items()}
        entry += len(arrays[names[0]])


def _next_step(chunks: Iterator[Mapping[str, ak.Array]], file: str, entry: int) -> Mapping[str, ak.Array] | None:
    try:
        return next(chunks, None)
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise _unreadable(file, f"from entry {entry} on", error) from error


def _unreadable(file: str, where: str, error: Exception) -> DataError:
    reason = " ".join(str(error).split())[:200]
    if "compression algorithm" in reason and not isinstance(error, ImportError):
        return UnreadableFile(
            f"{file}: cannot be read {where} ({reason}). Copy it again; if that does not help, write it with another "
            "compression: zlib, lzma, lz4 or zstd."
        )
    return unreadable(file, where, error)
