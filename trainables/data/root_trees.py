"""Open trees of ROOT files, RNTuples too, and stream their fields in chunks; an error names what is there instead."""

# uproot and awkward take a second to import: only functions that read a file do it.

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from trainables.base.errors import DataError
from trainables.data.files import UnreadableFile, unreadable
from trainables.data.root_header import NOT_CLOSED
from trainables.data.root_ntuples import NTUPLE_CLASS, Range, clusters, is_ntuple, steps

if TYPE_CHECKING:
    import awkward as ak

CHUNK_BYTES = 4 << 20  # of branches read at a time; small enough for the caches of a processor
RANGE_CHUNKS = 8  # of one range of a TTree
MOST_KEPT_OPEN, MOST_TREES = 4, 8  # files; trees of each that are kept
TREE_CLASSES = ("TTree", "TNtuple", "TNtupleD", NTUPLE_CLASS)  # that are read
TREE_MARKS = ("RNTuple", "Tree", "Ntuple", "TChain")  # what the name of any class of trees holds


_kept_open: ContextVar[dict[str, Any] | None] = ContextVar("kept_open", default=None)


@contextmanager
def files_kept_open() -> Iterator[None]:
    """Keep the files that were opened last open inside, so that their trees are parsed once: it takes a while."""
    kept: dict[str, Any] = {}
    token = _kept_open.set(kept)
    try:
        yield
    finally:
        _kept_open.reset(token)
        for root_file in kept.values():
            root_file.close()


@contextmanager
def opened(file: str) -> Iterator[Any]:
    """Open a ROOT file for a ``with`` block. Raises ``UnreadableFile`` where it is none, or broken."""
    kept = _kept_open.get()
    root_file = (kept or {}).pop(file, None) or _open(file)
    try:
        yield root_file
    except BaseException:
        root_file.close()
        raise
    if kept is None or kept is not _kept_open.get() or file in kept:
        root_file.close()
        return
    kept[file] = root_file
    if len(kept) > MOST_KEPT_OPEN:
        kept.pop(next(iter(kept))).close()


def _open(file: str) -> Any:
    import uproot

    try:  # a dict: a colon in the name stays a part of the name; a cache of its own: copies share what names objects
        return uproot.open({file: None}, object_cache=MOST_TREES)
    except MemoryError:
        raise
    except Exception as error:  # a broken file may make uproot raise anything
        raise _unreadable(file, "as a ROOT file", error) from error


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


def ranges(tree: Any, names: Sequence[str]) -> list[Range]:
    """Divide a tree at the borders of its chunks into ranges of entries, each of several chunks, of at least one.

    Parameters
    ----------
    tree
        Of ``find_tree``.
    names : sequence of str
        The branches that are read.
    """
    entries = int(tree.num_entries)
    try:
        if is_ntuple(tree):
            borders = [first for first, some in clusters(tree) if some]
        else:
            borders = list(range(0, entries, RANGE_CHUNKS * _chunk_entries(tree, names)))
    except MemoryError:
        raise
    except Exception:  # whoever reads it says what is wrong
        borders = [0]
    return list(zip(borders, [*borders[1:], entries], strict=True))


def _chunk_entries(tree: Any, names: Sequence[str]) -> int:
    return int(tree.num_entries_for(f"{CHUNK_BYTES} B", list(names)))


def _tree_steps(
    tree: Any, names: list[str], chunk_entries: int | None, part: Range
) -> Iterator[Mapping[str, ak.Array]]:
    step = chunk_entries or _chunk_entries(tree, names)
    yield from tree.iterate(names, step_size=step, library="ak", entry_start=part[0], entry_stop=part[1])


def stream(
    tree: Any, file: str, branches: Mapping[str, str], chunk_entries: int | None = None, part: Range | None = None
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
    part : Range, optional
        One of ``ranges``: the chunks are those that the whole tree has there. None: all entries.

    Raises
    ------
    UnreadableFile
        At any chunk.
    """
    names = list(branches.values())
    part = part or (0, int(tree.num_entries))
    if is_ntuple(tree):
        chunks = steps(tree, names, chunk_entries, CHUNK_BYTES, part)
    else:
        chunks = _tree_steps(tree, names, chunk_entries, part)
    entry = part[0]
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
