"""Stream the fields of RNTuples, of podio's collections too, cluster by cluster, as the branches of trees are."""

# N entries of one step

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import awkward as ak

Range = tuple[int, int]  # first entry, and the one after the last
NTUPLE_CLASS = "ROOT::RNTuple"  # since ROOT 6.34; the preliminary ones before it have another format


def is_ntuple(tree: Any) -> bool:
    """Return whether an open tree is an RNTuple."""
    return bool(tree.classname == NTUPLE_CLASS)


def clusters(ntuple: Any) -> list[tuple[int, int]]:
    """List first entry and number of entries of each cluster."""
    return [(int(one.num_first_entry), int(one.num_entries)) for one in ntuple.cluster_summaries]


def steps(
    ntuple: Any, names: Sequence[str], chunk_entries: int | None, chunk_bytes: int, part: Range
) -> Iterator[Mapping[str, ak.Array]]:
    """Yield consecutive entries by the names of fields. Memory: two clusters of these fields.

    Parameters
    ----------
    ntuple
        Of uproot.
    names : sequence of str
        Of ``ntuple.keys()``: a field, or a path into records and collections, ``MCParticles.momentum.x``.
    chunk_entries : int, optional
        Of one step; a cluster may end before. None: so many that they have about ``chunk_bytes``.
    chunk_bytes : int
    part : Range
        The clusters that begin there are read.
    """
    top = {field.name for field in ntuple.fields}
    columns: dict[str, Any] = {}  # arrays of uproot, by cluster: reading one touches the next
    for first, entries in clusters(ntuple):
        if not entries or not part[0] <= first < part[1]:
            continue
        read_before = set(columns)
        arrays = ntuple.arrays(
            filter_name=list(names), entry_start=first, entry_stop=first + entries, array_cache=columns
        )
        for key in read_before:
            del columns[key]
        step = chunk_entries or max(1, entries * chunk_bytes // max(arrays.nbytes, 1))
        for start in range(0, entries, step):
            some = arrays[start : start + step]
            yield {name: some[name] if name in top else _inner(some, name) for name in names}


def _inner(arrays: ak.Array, path: str) -> ak.Array:
    for name in path.split("."):
        arrays = arrays[name]
    return arrays
