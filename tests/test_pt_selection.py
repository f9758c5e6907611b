"""The selection is the written one, event by event: against plain loops, on the sample and on every pathology."""

# N events

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st
from pt_files import Columns, branches, event, of_events, write
from scipy.stats import binomtest

from trainables.data.root_chunks import Chunk
from trainables.data.split import SPLIT_NONE
from trainables.pt.content import content_of
from trainables.pt.cutflow import CUTS, SELECTIONS, CutFlow, Selection, wilson_interval
from trainables.pt.data import SAMPLE
from trainables.pt.ingest import Reading, ingest
from trainables.pt.layouts import COLLECTIONS, OPTIONAL, read_chunks
from trainables.pt.metrics import PtBinning
from trainables.pt.selection import Charge, bending_angle, select, wrapped

Event = dict[str, list[float]]
READ = [
    f"{collection}_{field}"
    for collection, fields in COLLECTIONS.items()
    for field in (*fields, *OPTIONAL.get(collection, ()))
]

# ---------------------------------------------------------------- the written rules, in plain loops


def points(event: Event, collection: str, axes: str = "XYZ") -> list[tuple[float, ...]]:
    return list(zip(*(event[f"{collection}_{axis}"] for axis in axes), strict=True))


def distance_from_line(point: Sequence[float], one: Sequence[float], other: Sequence[float]) -> float:
    along = [b - a for a, b in zip(one, other, strict=True)]
    step = sum((p - a) * d for p, a, d in zip(point, one, along, strict=True)) / sum(d * d for d in along)
    return math.dist(point, [a + step * d for a, d in zip(one, along, strict=True)])


def turned_back(angle: float) -> float:
    while angle > math.pi:
        angle -= 2 * math.pi
    while angle <= -math.pi:
        angle += 2 * math.pi
    return angle


def plain(event: Event, selection: str, charge: int) -> dict[str, Any] | str:
    """The arrays of an accepted event, or the first cut that it fails."""
    cuts = iter(CUTS[selection])  # type: ignore[index]
    cut = next(cuts)
    if len(event["PrimaryG4P_Pt"]) != 1:
        return cut
    silicon = list(zip(event["trk_layer"], points(event, "trk"), strict=True))
    intt = []
    for layers in ((3, 4), (5, 6)):
        cut, found = next(cuts), [place for layer, place in silicon if layer in layers]
        if len(found) != 1:
            return cut
        intt += found
    mvtx = []
    for wanted in (0, 1, 2):
        there = [place for layer, place in silicon if layer == wanted]
        nearest = min(there, key=lambda place: distance_from_line(place, *intt)) if there else None
        mvtx.append(nearest or (0.0, 0.0, 0.0))
        if selection == "strict":
            cut = next(cuts) if wanted == 0 else cut
            if nearest is None:
                return cut
    least = 0.5 if selection == "loose" else -math.inf
    centre = [
        (*place, energy)
        for system, place, energy in zip(
            event["caloClus_system"], points(event, "caloClus"), event["caloClus_edep"], strict=True
        )
        if system == 0 and energy > least
    ]
    face = [
        (*place, energy)
        for place, energy in zip(points(event, "caloClus_innr"), event["caloClus_innr_edep"], strict=True)
        if energy > least
    ]
    for found in (centre, face):
        cut = next(cuts)
        if len(found) != 1:
            return cut
    (x0, y0, _), (x1, y1, _), (x2, y2, _, _) = *intt, face[0]
    dphi = -charge * turned_back(math.atan2(y2 - y1, x2 - x1) - math.atan2(y1 - y0, x1 - x0))
    cut = next(cuts)
    if not dphi > 0.01:
        return cut
    towers = [
        (*place, energy)
        for system, place, energy in zip(
            event["tower_system"], points(event, "tower"), event["tower_edep"], strict=True
        )
        if system == 0
    ]
    highest = sorted(towers, key=lambda tower: -tower[3])[:9]
    surface = points(event, "CEMC_Pr_Hit", "xyz")
    return {
        "hit": [*mvtx, *intt],
        "cluster": [face[0], centre[0]],
        "tower": highest + [(0.0,) * 4] * (9 - len(highest)),
        "dphi": dphi,
        "truth": [event[f"PrimaryG4P_{name}"][0] for name in ("Pt", "Eta", "Phi")],
        "surface_dphi": turned_back(math.atan2(surface[0][1], surface[0][0]) - math.atan2(y2, x2))
        if len(surface) == 1
        else math.nan,
    }


def first_failed(file: str, selection: Selection, charge: Charge) -> list[str | None]:
    """By our code: the first cut that each event of a file fails."""
    failed: list[str | None] = []
    for chunk in read_chunks(file):
        left_NC = select(content_of(chunk), selection, charge).left_CN.T
        failed += [None if left_C.all() else CUTS[selection][int(np.argmin(left_C))] for left_C in left_NC]
    return failed


def assert_as_plain(folder: Path, columns: Columns, selection: Selection, charge: Charge) -> None:
    """Which cut removes which event, and every array of what is left, must be those of the plain loops."""
    file = write(folder / "x.root", columns)
    events = ak.to_list(ak.zip({name: columns[name] for name in READ}, depth_limit=1))
    results = [plain(one, selection, charge) for one in events]
    assert first_failed(file, selection, charge) == [one if isinstance(one, str) else None for one in results]
    cache = ingest((file,), Reading(selection, charge, False, SPLIT_NONE), folder)
    accepted = [one for one in results if isinstance(one, dict)]
    assert cache.rows("test") == len(accepted) >= 20
    for name in ("hit", "cluster", "tower", "truth"):
        assert np.array_equal(cache.column("test", name), np.array([one[name] for one in accepted], np.float32)), name
    for name in ("dphi", "surface_dphi"):
        np.testing.assert_allclose(cache.column("test", name), [one[name] for one in accepted], rtol=2e-7, atol=1e-7)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_the_selection_of_the_carried_sample_is_the_written_one(tmp_path: Path, selection: Selection) -> None:
    arrays = uproot.open({str(SAMPLE): "tree"}).arrays(READ, entry_stop=2000)
    assert_as_plain(tmp_path, {name: arrays[name] for name in READ}, selection, -1)


# ---------------------------------------------------------------- by hand: what is accepted, what removes an event

FACE_X = ("caloClus_innr_X", "caloClus_innr_Y")


def more(one: Event, **added: float) -> Event:
    """Append one value to each of these lists."""
    return one | {name: [*one[name], value] for name, value in added.items()}


def without(one: Event, collection: str, *numbers: int) -> Event:
    return {
        name: [value for number, value in enumerate(values) if number not in numbers]
        if name.rpartition("_")[0] == collection
        else values
        for name, values in one.items()
    }


def rotated(one: Event, angle: float, mirror: bool = False) -> Event:
    """Turned about the beam; mirrored first, so that an electron becomes a positron."""
    turned = dict(one)
    for x, y in [("trk_X", "trk_Y"), ("tower_X", "tower_Y"), ("caloClus_X", "caloClus_Y"), FACE_X]:
        turned[x], turned[y] = rotated_axes(one[x], one[y], angle, mirror)
    hit = ("CEMC_Pr_Hit_x", "CEMC_Pr_Hit_y")
    turned[hit[0]], turned[hit[1]] = rotated_axes(one[hit[0]], one[hit[1]], angle, mirror)
    sign = -1 if mirror else 1
    turned["PrimaryG4P_Phi"] = [turned_back(sign * phi + angle) for phi in one["PrimaryG4P_Phi"]]
    return turned


def rotated_axes(x: list[float], y: list[float], angle: float, mirror: bool) -> tuple[list[float], list[float]]:
    sign = -1 if mirror else 1
    pairs = [(a, sign * b) for a, b in zip(x, y, strict=True)]
    cosine, sine = math.cos(angle), math.sin(angle)
    return [a * cosine - b * sine for a, b in pairs], [a * sine + b * cosine for a, b in pairs]


def bending(angle: float) -> Event:
    """INTT clusters on the x axis, the calorimeter cluster under that angle from the outer one."""
    one = event()
    return one | {
        "trk_X": [2.5, 3.3, 4.2, 7.0, 10.0],
        "trk_Y": [0.0] * 5,
        "caloClus_innr_X": [10 + 83 * math.cos(angle)],
        "caloClus_innr_Y": [83 * math.sin(angle)],
    }


def silicon(one: Event, layer: float, x: float, y: float = 0.0, z: float = 0.3) -> Event:
    return more(one, trk_layer=layer, trk_X=x, trk_Y=y, trk_Z=z)


def centre(one: Event, system: float, energy: float) -> Event:
    return more(one, caloClus_system=system, caloClus_X=-103.5, caloClus_Y=3, caloClus_Z=9, caloClus_edep=energy)


def face(one: Event, energy: float) -> Event:
    return more(one, caloClus_innr_X=-93.5, caloClus_innr_Y=2, caloClus_innr_Z=8, caloClus_innr_edep=energy)


def scaled(one: Event, energy: float) -> Event:
    return one | {"caloClus_edep": [energy], "caloClus_innr_edep": [energy]}


GOOD = event()
TWO_PRIMARIES = more(GOOD, PrimaryG4P_Pt=2.0, PrimaryG4P_Eta=0.5, PrimaryG4P_Phi=1.0)
INNER, OUTER, MVTX = "one inner INTT cluster", "one outer INTT cluster", "a cluster in each MVTX layer"
CENTRE, FACE, ANGLE = "one EMCal cluster", "one inner-face cluster", "bending angle > 0.01 rad"
ABOVE = " > 0.5 GeV"
PATHOLOGIES: dict[str, tuple[Event, str | None, str | None]] = {  # fails: strict, loose
    "good": (GOOD, None, None),
    "no primary": (without(GOOD, "PrimaryG4P", 0), "one primary", "one primary"),
    "two primaries": (TWO_PRIMARIES, "one primary", "one primary"),
    "two inner clusters, one layer": (silicon(GOOD, 3, 7.2), INNER, INNER),
    "two inner clusters, two layers": (silicon(GOOD, 4, 7.7), INNER, INNER),
    "no inner cluster": (without(GOOD, "trk", 3), INNER, INNER),
    "two outer clusters": (silicon(GOOD, 6, 10.2), OUTER, OUTER),
    "no outer cluster": (without(GOOD, "trk", 4), OUTER, OUTER),
    "nothing in the silicon": (without(GOOD, "trk", 0, 1, 2, 3, 4), INNER, INNER),
    "no MVTX layer 0": (without(GOOD, "trk", 0), MVTX, None),
    "no MVTX layer 2": (without(GOOD, "trk", 2), MVTX, None),
    "no MVTX at all": (without(GOOD, "trk", 0, 1, 2), MVTX, None),
    "nearer MVTX cluster comes later": (silicon(GOOD, 1, 3.3385, 0.0024, 0.5), None, None),
    "farther MVTX cluster in z alone": (silicon(GOOD, 0, 2.5255, 0.0028, 3.0), None, None),
    "the same MVTX cluster twice": (silicon(GOOD, 2, 4.1505, 0.0071, 0.41), None, None),
    "MVTX clusters at the same distance": (
        silicon(bending(0.1) | {"trk_Z": [0.8] * 5, "trk_Y": [0.1, 0, 0, 0, 0]}, 0, 2.5, -0.1, 0.8),
        None,
        None,
    ),
    "clusters of other detectors": (silicon(silicon(GOOD, 7, 30.0), 55, 80.0), None, None),
    "two EMCal clusters": (centre(GOOD, 0, 1.0), CENTRE, CENTRE + ABOVE),
    "a soft second EMCal cluster": (centre(GOOD, 0, 0.3), CENTRE, None),
    "a cluster of the hadronic calorimeter": (centre(GOOD, 2, 3.0), None, None),
    "only a cluster of the hadronic calorimeter": (GOOD | {"caloClus_system": [1]}, CENTRE, CENTRE + ABOVE),
    "no EMCal cluster": (without(GOOD, "caloClus", 0), CENTRE, CENTRE + ABOVE),
    "two inner-face clusters": (face(GOOD, 1.0), FACE, FACE + ABOVE),
    "a soft second inner-face cluster": (face(GOOD, 0.3), FACE, None),
    "no inner-face cluster": (without(GOOD, "caloClus_innr", 0), FACE, FACE + ABOVE),
    "soft": (scaled(GOOD, 0.4), None, CENTRE + ABOVE),
    "at the energy of loose": (scaled(GOOD, 0.5), None, CENTRE + ABOVE),
    "two soft ones": (centre(face(scaled(GOOD, 0.4), 0.3), 0, 0.3), CENTRE, CENTRE + ABOVE),
    "dphi just above the cut": (bending(0.010001), None, None),
    "dphi just below the cut": (bending(0.009999), ANGLE, ANGLE),
    "dphi 0": (bending(0.0), ANGLE, ANGLE),
    "dphi to the other side": (bending(-0.05), ANGLE, ANGLE),
    "dphi large": (bending(2.0), None, None),
    "across pi": (rotated(GOOD, math.pi - 0.02), None, None),
    "between the two directions at pi": (rotated(GOOD, math.pi - 0.0073), None, None),
    "a positron": (rotated(GOOD, 0.3, mirror=True), ANGLE, ANGLE),
    "a positron across pi": (rotated(GOOD, math.pi - 0.02, mirror=True), ANGLE, ANGLE),
    "twelve towers": (
        GOOD
        | {f"tower_{axis}": [float(value) for value in range(12)] for axis in ("X", "Y", "Z", "edep")}
        | {"tower_system": [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0]},
        None,
        None,
    ),
    "towers of equal energy": (
        GOOD
        | {f"tower_{axis}": [float(value) for value in range(12)] for axis in "XYZ"}
        | {"tower_edep": [1.0] * 5 + [2.0] * 7, "tower_system": [0] * 12},
        None,
        None,
    ),
    "no tower": (without(GOOD, "tower", 0, 1), None, None),
    "never at the surface": (without(GOOD, "CEMC_Pr_Hit", 0), None, None),
    "twice at the surface": (more(GOOD, CEMC_Pr_Hit_x=0, CEMC_Pr_Hit_y=93.5, CEMC_Pr_Hit_z=1), None, None),
}


def test_what_removes_an_event_is_what_was_meant(tmp_path: Path) -> None:
    file = write(tmp_path / "x.root", of_events([one for one, _, _ in PATHOLOGIES.values()]))
    for number, selection in enumerate(SELECTIONS, 1):
        failed = dict(zip(PATHOLOGIES, first_failed(file, selection, -1), strict=True))
        assert failed == {name: expected[number] for name, expected in PATHOLOGIES.items()}


@pytest.mark.parametrize("charge", [-1, 1])
@pytest.mark.parametrize("selection", SELECTIONS)
def test_every_pathology_is_treated_as_written(tmp_path: Path, selection: Selection, charge: Charge) -> None:
    # as often mirrored as not: neither charge may look like the wrong one
    ones = [one for pathology, _, _ in PATHOLOGIES.values() for one in (pathology, rotated(pathology, 1.0, True))]
    assert_as_plain(tmp_path, of_events(ones), selection, charge)


def broken_at_random(columns: Columns, seed: int) -> list[Event]:
    """Simulated events, most of them changed once or twice in ways that the cuts are about."""
    rng = np.random.default_rng(seed)
    events = ak.to_list(ak.zip({name: columns[name] for name in READ}, depth_limit=1))
    ways = (
        lambda one: silicon(one, rng.integers(8), *rng.uniform(-10, 10, 3)),
        lambda one: silicon(one, rng.integers(3), *rng.uniform(-4, 4, 2), rng.uniform(-9, 9)),
        lambda one: without(one, "trk", int(rng.integers(5))),
        lambda one: centre(one, rng.integers(2), rng.uniform(0.1, 1.0)),
        lambda one: face(one, rng.uniform(0.1, 1.0)),
        lambda one: rotated(one, rng.uniform(-math.pi, math.pi), bool(rng.integers(2))),
        lambda one: one,
    )
    for _ in range(2):
        events = [ways[rng.integers(len(ways))](one) for one in events]
    return events


@pytest.mark.parametrize("selection", SELECTIONS)
def test_events_broken_at_random_are_treated_as_written(tmp_path: Path, selection: Selection) -> None:
    assert_as_plain(tmp_path, of_events(broken_at_random(branches(1500, seed=4), 5)), selection, -1)


# ---------------------------------------------------------------- the bending angle


def test_an_angle_exactly_at_the_cut_is_not_above_it() -> None:
    y = 64 * math.tan(0.01)
    while math.atan2(y, 64) < 0.01:
        y = math.nextafter(y, math.inf)
    while math.atan2(y, 64) > 0.01:
        y = math.nextafter(y, 0)
    assert math.atan2(y, 64) == 0.01
    at_the_cut = bending(0.1) | {"trk_X": [1, 2, 3, 4.0, 8.0], "caloClus_innr_X": [72.0], "caloClus_innr_Y": [y]}
    above = at_the_cut | {"caloClus_innr_Y": [math.nextafter(y, 1) + 1e-15]}
    fields = {name: ak.Array([[float(v) for v in one[name]] for one in (at_the_cut, above)]) for name in READ}
    content = content_of(Chunk("by hand", 0, fields, {name: name for name in READ}))
    for selection in SELECTIONS:
        choice = select(content, selection, -1)
        assert choice.dphi_N[0] == 0.01
        assert choice.accepted_N.tolist() == [False, True]


def test_the_angle_of_a_positron_is_that_of_its_mirror_image() -> None:
    rng = np.random.default_rng(1)
    inner, outer, calo = (rng.uniform(-1, 1, (1000, 3)) for _ in range(3))
    mirror = np.array([1.0, -1.0, 1.0])
    electron = bending_angle(inner, outer, calo, -1)
    assert np.array_equal(bending_angle(inner * mirror, outer * mirror, calo * mirror, 1), electron)
    assert np.array_equal(bending_angle(inner, outer, calo, 1), -electron)


@given(st.floats(-50, 50))
def test_wrapped_angles_are_above_minus_pi_up_to_pi_and_the_same_direction(angle: float) -> None:
    result = float(wrapped(np.array([angle]))[0])
    assert -np.pi < result <= np.pi
    np.testing.assert_allclose(np.exp(1j * result), np.exp(1j * angle), atol=1e-13)
    if -np.pi < angle <= np.pi:
        assert result == angle


def test_both_ends_of_the_turn_are_pi() -> None:
    assert wrapped(np.array([np.pi, -np.pi, 3 * np.pi])).tolist() == [np.pi] * 3


# ---------------------------------------------------------------- the cut flow


def flow_of(file: Path | str) -> CutFlow:
    flow = CutFlow()
    for chunk in read_chunks(str(file), 3000):
        content = content_of(chunk)
        left = {selection: select(content, selection, -1).left_CN for selection in SELECTIONS}
        flow.count(content.truth_N3[:, 0], left)
    return flow


def test_the_numbers_of_the_cut_flow_add_up() -> None:
    flow = flow_of(SAMPLE)
    for selection in SELECTIONS:
        left_CK = flow.left[selection]
        assert (np.diff(left_CK, axis=0) <= 0).all()
        assert (left_CK >= 0).all()
        totals = flow.totals(selection)
        assert list(totals) == list(CUTS[selection])
        lines = flow.table(selection)
        assert len(lines) == 1 + len(totals)
        assert int(lines[0].split()[-1]) == flow.events == 18_000
        removed = [int(line.rpartition(" ")[2]) for line in lines[1:]]
        assert flow.events - sum(removed) == flow.accepted(selection) == totals[CUTS[selection][-1]]
        efficiency = flow.efficiency(selection, np.arange(11))
        assert efficiency.generated_B.sum() == flow.events
        assert efficiency.accepted_B.sum() == flow.accepted(selection)


def test_events_without_one_primary_are_counted_but_in_no_bin(tmp_path: Path) -> None:
    flow = flow_of(write(tmp_path / "x.root", of_events([GOOD, without(GOOD, "PrimaryG4P", 0), TWO_PRIMARIES])))
    assert (flow.events, flow.left["strict"][0].sum()) == (3, 1)
    efficiency = flow.efficiency("strict", [0, 2, 4, 5, 6, 10])
    assert efficiency.generated_B.tolist() == efficiency.accepted_B.tolist() == [0, 0, 0, 1, 0]
    assert np.isnan(efficiency.efficiency_B).tolist() == [True, True, True, False, True]
    assert "33.3%  removes 2" in flow.table("strict")[1]


def test_fine_bins_and_bins_of_the_scores_agree_on_every_edge() -> None:
    pt_gev = np.arange(1, 120, dtype=np.float32) / np.float32(10)
    pt_gev = np.concatenate([pt_gev, np.nextafter(pt_gev, np.float32(0)), np.nextafter(pt_gev, np.float32(200))])
    doubles = np.concatenate([pt_gev.astype(np.float64), np.arange(1, 120) / 10])  # the latter as a file may have them
    pt_gev = doubles.astype(np.float32)  # as Events have them
    flow = CutFlow()
    flow.count(doubles, {name: np.ones((len(CUTS[name]), len(pt_gev)), bool) for name in SELECTIONS})
    for width in (0.1, 0.5, 1.0, 2.5):
        binning = PtBinning(bin_width_gev=width)
        efficiency = flow.efficiency("strict", binning.edges_gev)
        np.testing.assert_allclose(efficiency.low_edge_gev_B, binning.edges_gev[:-1])
        assert efficiency.generated_B.tolist() == binning.count(pt_gev).tolist()


def test_edges_between_the_fine_bins_are_moved_and_said() -> None:
    flow = flow_of(SAMPLE)
    efficiency = flow.efficiency("strict", [0, 0.26, 0.52, 0.54, 1.0, 300.0])
    assert efficiency.low_edge_gev_B.tolist() == [0, 0.3, 0.5, 1.0]
    assert efficiency.high_edge_gev_B.tolist() == [0.3, 0.5, 1.0, 100.0]
    assert efficiency.generated_B.sum() == flow.events


def test_momenta_above_the_fine_bins_are_generated_but_in_no_bin() -> None:
    flow = CutFlow()
    flow.count(np.array([1e30, 100.0, 99.95]), {name: np.ones((len(CUTS[name]), 3), bool) for name in SELECTIONS})
    assert flow.events == flow.accepted("strict") == 3
    assert flow.efficiency("strict", [0, 50, 1000]).generated_B.tolist() == [0, 1]


def test_a_cut_flow_survives_json_and_adds() -> None:
    flow = flow_of(SAMPLE)
    text = json.dumps(flow.to_json())
    assert len(text) < 40_000
    twice = CutFlow.from_json(json.loads(text))
    assert twice.to_json() == flow.to_json()
    twice.add(flow)
    assert twice.events == 36_000
    for selection in SELECTIONS:
        assert np.array_equal(twice.left[selection], 2 * flow.left[selection])
    assert CutFlow.from_json(CutFlow().to_json()).events == 0


def test_errors_of_the_efficiency_are_wilson_intervals() -> None:
    accepted, generated = np.array([0, 1, 5, 10, 700]), np.array([10, 10, 10, 10, 1000])
    lower, upper = wilson_interval(accepted, generated)
    for k, n, low, high in zip(accepted, generated, lower, upper, strict=True):
        expected = binomtest(int(k), int(n)).proportion_ci(math.erf(1 / math.sqrt(2)), method="wilson")
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (lower[0], upper[0]) == pytest.approx((0, 1 / 11))  # by pencil
    assert np.isnan(wilson_interval(np.array([0]), np.array([0]))).all()


def test_the_loose_selection_accepts_more_but_for_the_softest_electrons() -> None:
    flow = flow_of(SAMPLE)
    strict, loose = (flow.efficiency(selection, [0, 0.6, *range(1, 11)]) for selection in ("strict", "loose"))
    assert flow.accepted("loose") > 1.1 * flow.accepted("strict")
    assert loose.upper_B[0] < strict.lower_B[0]  # their clusters are below 0.5 GeV
    assert (loose.lower_B[2:] > strict.upper_B[2:]).all()
