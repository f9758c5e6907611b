"""The quick ways of the ingest give what the plain ones give: hit maps, lists of numbers, the carried caches."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from numpy.typing import NDArray

from trainables.base.errors import DataError
from trainables.data.root_chunks import Chunk
from trainables.data.split import SPLIT_THREE
from trainables.zdc import geometry
from trainables.zdc.data import SAMPLE
from trainables.zdc.ingest import Reading, ingest
from trainables.zdc.showers import FileTally, Hits, crystal_sums, hit_maps, pack_mask

EVENTS = 700  # more than two dense blocks
CARRIED = {  # of the carried sample, by threshold in MeV: a hash of its cache
    0.0: "ae4528321b9c00b3",
    30.0: "d42837a6f5970a9a",
}


def make_hits(energy_gev: tuple[float, ...]) -> Hits:
    """Hits of some events, several in a crystal; a third of the events have none."""
    rng = np.random.default_rng(4)
    event = np.sort(rng.choice(np.arange(1, EVENTS, 3).repeat(2), 9000))
    energy = rng.choice(energy_gev, len(event)) * rng.random(len(event))
    return Hits(event, rng.integers(0, 40, len(event)), energy)


@pytest.mark.parametrize("threshold_mev", [0.0, 0.7, 30.0])
@pytest.mark.parametrize(
    "energy_gev", [(0.01,), (0.0, 0.01), (-0.01, 0.01), (0.0,), (-0.01,)], ids=lambda gev: f"{gev} GeV"
)
def test_hit_maps_are_those_of_the_sums_of_all_crystals(energy_gev: tuple[float, ...], threshold_mev: float) -> None:
    hits, tally = make_hits(energy_gev), FileTally()
    sums = crystal_sums(hits, EVENTS)
    touched, mask = hit_maps(hits, EVENTS, threshold_mev, tally)
    np.testing.assert_array_equal(touched, pack_mask(sums, 0.0))
    np.testing.assert_array_equal(mask, pack_mask(sums, threshold_mev))
    assert tally.hit_crystals == (sums > threshold_mev).sum()
    if not tally.hit_crystals:  # only then it is told
        assert tally.largest_sum_mev == max(sums.max(), 0)


def test_events_without_a_hit_have_an_empty_map() -> None:
    nothing = Hits(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    for threshold_mev in (0.0, 1.0):
        touched, mask = hit_maps(nothing, 3, threshold_mev, FileTally())
        assert touched.shape == mask.shape == (3, 50)
        assert not touched.any()
        assert not mask.any()


def chunk_of(array: ak.Array) -> Chunk:
    return Chunk("x.root", 0, {"a": array}, {"a": "branch"})


LISTS = ak.Array([[1.5, 2.5], [], [3.5], [4.5, 5.5, 6.5]])
NUMBERS = {
    "as uproot reads them": LISTS,
    "a part of longer lists": LISTS[1:3],
    "in another order": LISTS[[3, 0, 1]],
    "of equal lengths": ak.to_regular(ak.Array([[1, 2], [3, 4]])),
    "chosen from events": LISTS[np.array([True, False, True, True])],
    "chosen from lists": LISTS[LISTS > 2],
    "empty": LISTS[:0],
    "integers": ak.values_astype(LISTS, np.int32),
}


@pytest.mark.parametrize("array", NUMBERS.values(), ids=NUMBERS)
def test_lists_of_numbers_are_read_as_by_awkward(array: ak.Array) -> None:
    chunk = chunk_of(array)
    chunk.check_lists(["a"], "")
    assert chunk.counts("a").tolist() == [len(one) for one in array.to_list()]
    assert chunk.flat("a").tolist() == [number for one in array.to_list() for number in one]
    assert chunk.flat("a").dtype == ak.to_numpy(ak.flatten(array)).dtype


@pytest.mark.parametrize(
    "array",
    [
        ak.Array(["some", "words"]),
        ak.Array([[True], [False, True]]),
        ak.Array([1.0, 2.0]),
        ak.Array([[[1.0]], [[2.0], []]]),
        ak.Array(ak.contents.ListOffsetArray(ak.index.Index64([0, 1, 2]), ak.contents.NumpyArray(np.zeros((2, 3))))),
        ak.Array([["a word"], ["another"]]),
    ],
    ids=lambda array: str(array.type.content),
)
def test_anything_but_a_list_of_numbers_is_refused(array: ak.Array) -> None:
    with pytest.raises(DataError, match="branch 'branch' should hold a list of numbers per event, found type"):
        chunk_of(array).check_lists(["a"], "")


def test_crystals_at_the_edges_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    local = [rng.uniform(-330, 330, 20_000), rng.uniform(-330, 330, 20_000), rng.uniform(35_200, 36_300, 20_000)]
    local[0][:5000] = np.round(local[0][:5000] / geometry.PITCH_MM) * geometry.PITCH_MM
    position = [axis.astype(np.float32) for axis in geometry.global_position(*local)]
    before = [axis.copy() for axis in position]

    def formula(x: NDArray[Any], y: NDArray[Any], z: NDArray[Any]) -> NDArray[np.int64]:
        x, y, z = (axis.astype(np.float64) for axis in (x, y, z))
        cosine, sine = np.cos(-0.025), np.sin(-0.025)
        ix, iy = np.floor((x * cosine - z * sine) / 30.3 + 10), np.floor(y / 30.3 + 10)
        inside = (ix >= 0) & (ix < 20) & (iy >= 0) & (iy < 20) & (np.abs(x * sine + z * cosine - 35_750) < 500)
        return np.where(inside, 20 * ix + iy, -1).astype(np.int64)

    for axes in (position, [axis.astype(np.float64) for axis in position]):
        crystal = geometry.crystal_of_position(*axes)
        np.testing.assert_array_equal(crystal, formula(*axes))
        assert {-1, 0, 399} <= set(crystal.tolist())
    for axis, as_it_was in zip(position, before, strict=True):
        np.testing.assert_array_equal(axis, as_it_was)


@pytest.mark.parametrize("threshold_mev", CARRIED)
def test_the_cache_of_the_carried_sample_stays_the_same_byte_for_byte(threshold_mev: float, tmp_path: Path) -> None:
    """Another content would need another ``READER_VERSION``; results of earlier searches could not be compared."""
    cache = ingest((str(SAMPLE),), Reading("auto", threshold_mev, False, SPLIT_THREE), tmp_path)
    digest = hashlib.sha256()
    for part in SPLIT_THREE:
        for column in ("condition", "mask_packed", "event_hash"):
            rows = cache.column(part, column)
            digest.update((rows[:, :4] if column == "condition" else rows).tobytes())  # angles may differ by machine
    assert digest.hexdigest()[:16] == CARRIED[threshold_mev]
    assert cache.meta["repeated"] == 0


def test_events_that_occur_more_than_once_are_counted(tmp_path: Path) -> None:
    for name in ("a.root", "b.root", "c.root"):
        shutil.copy(SAMPLE, tmp_path / name)
    files = tuple(str(tmp_path / name) for name in ("a.root", "b.root", "c.root"))
    cache = ingest(files, Reading("auto", 0.0, False, SPLIT_THREE), tmp_path / "cache")
    assert cache.meta["repeated"] == 2 * cache.meta["events"] // 3
