"""Select events: the cuts, the clusters that make an event, and the bending angle."""

# N events of one chunk, H clusters of all of them, C cuts, A some of the events, P pairs of event, layer; cm, GeV

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainables.base.errors import DataError
from trainables.pt.content import Content, Points
from trainables.pt.cutflow import SELECTIONS, Selection

Charge = Literal[-1, 1]  # of the particles, in units of e: electrons -1, positrons 1

MVTX_LAYERS = (0, 1, 2)
INNER_INTT_LAYERS = (3, 4)
OUTER_INTT_LAYERS = (5, 6)
SMALLEST_DPHI_RAD = 0.01  # an event's bending angle is above this
LOOSE_ENERGY_GEV = 0.5  # the loose selection sees only clusters above this


@dataclass(frozen=True)
class Choice:
    """The clusters that a selection chose in each event. Indices of points are -1 where there is none."""

    accepted_N: NDArray[np.bool_]  # passes all cuts
    left_CN: NDArray[np.bool_]  # passes this cut and all before, in the order of ``CUTS``
    mvtx_N3: NDArray[np.int64]  # in each MVTX layer the cluster nearest to the line through the INTT clusters
    inner_N: NDArray[np.int64]  # INTT clusters
    outer_N: NDArray[np.int64]
    face_N: NDArray[np.int64]  # cluster at the inner face
    centre_N: NDArray[np.int64]  # cluster at the volume centre
    dphi_N: NDArray[np.float64]  # bending angle, charge sign applied; NaN where a cut before fails


@dataclass(frozen=True)
class _Silicon:
    """What no selection changes: the primary and the clusters in the silicon."""

    one_primary_N: NDArray[np.bool_]
    one_inner_N: NDArray[np.bool_]
    one_outer_N: NDArray[np.bool_]
    mvtx_N3: NDArray[np.int64]
    inner_N: NDArray[np.int64]
    outer_N: NDArray[np.int64]


def select(content: Content, selection: Selection, charge: Charge) -> Choice:
    """Apply a selection.

    ``strict``: exactly one primary; exactly one cluster in the INTT layers 3 and 4, exactly one in 5 and 6; at
    least one in each MVTX layer; exactly one EMCal cluster, exactly one inner-face cluster; a bending angle
    above 0.01 rad. ``loose``: the same without the MVTX, and calorimeter clusters of 0.5 GeV or less are ignored.

    Parameters
    ----------
    content : Content
    selection : "strict" or "loose"
    charge : -1 or 1

    Raises
    ------
    DataError
        Two clusters of an otherwise good event lie on top of each other, so that an angle is undefined.
    """
    return _select(content, _silicon(content), selection, charge)


def select_by_each(content: Content, charge: Charge) -> dict[Selection, Choice]:
    """Apply every selection, as ``select`` does; what they share is computed once."""
    silicon = _silicon(content)
    return {selection: _select(content, silicon, selection, charge) for selection in SELECTIONS}


def _silicon(content: Content) -> _Silicon:
    layer_H = content.tracker.layer_H
    one_primary_N = content.primaries_N == 1
    inner_N, one_inner_N = _the_one(content.tracker, _in_layers(layer_H, INNER_INTT_LAYERS), len(content))
    outer_N, one_outer_N = _the_one(content.tracker, _in_layers(layer_H, OUTER_INTT_LAYERS), len(content))
    mvtx_N3 = _nearest_mvtx(content, inner_N, outer_N, one_primary_N & one_inner_N & one_outer_N)
    return _Silicon(one_primary_N, one_inner_N, one_outer_N, mvtx_N3, inner_N, outer_N)


def _in_layers(layer_H: NDArray[Any], layers: tuple[int, ...]) -> NDArray[np.bool_]:
    found_H: NDArray[np.bool_] = np.logical_or.reduce([layer_H == layer for layer in layers])
    return found_H


def _select(content: Content, silicon: _Silicon, selection: Selection, charge: Charge) -> Choice:
    threshold_gev = LOOSE_ENERGY_GEV if selection == "loose" else -np.inf
    centre_N, one_centre_N = _the_one(content.clusters, content.clusters.energy_gev_H > threshold_gev, len(content))
    face_N, one_face_N = _the_one(content.inner_face, content.inner_face.energy_gev_H > threshold_gev, len(content))
    mvtx_cut = [(silicon.mvtx_N3 >= 0).all(axis=1)] if selection == "strict" else []
    cuts = [silicon.one_primary_N, silicon.one_inner_N, silicon.one_outer_N, *mvtx_cut, one_centre_N, one_face_N]
    dphi_N = _bending_angles(content, silicon, face_N, np.logical_and.reduce(cuts), charge)
    cuts.append(dphi_N > SMALLEST_DPHI_RAD)
    left_CN = np.logical_and.accumulate(cuts)
    return Choice(left_CN[-1], left_CN, silicon.mvtx_N3, silicon.inner_N, silicon.outer_N, face_N, centre_N, dphi_N)


def bending_angle(
    inner_A3: NDArray[np.float64], outer_A3: NDArray[np.float64], face_A3: NDArray[np.float64], charge: Charge
) -> NDArray[np.float64]:
    """Compute the angle from the direction between the INTT clusters to that from the outer one to the calorimeter.

    ``dphi = phi(calo - outer INTT) - phi(outer INTT - inner INTT)``, in (-pi, pi], positive for electrons in the
    field of sPHENIX; that of positrons is flipped, so that it is positive for the particles of any file.

    Parameters
    ----------
    inner_A3, outer_A3, face_A3 : arrays (A, 3)
        Clusters of the INTT, and that at the inner face of the EMCal; cm.
    charge : -1 or 1
        Of the particles.
    """
    return -charge * wrapped(_phi(face_A3 - outer_A3) - _phi(outer_A3 - inner_A3))


def wrapped(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move angles in rad into (-pi, pi] by whole turns; those inside already stay exactly as they are."""
    turns: NDArray[np.float64] = np.ceil((angle - np.pi) / (2 * np.pi))
    return angle - 2 * np.pi * turns


def _phi(xyz_A3: NDArray[np.float64]) -> NDArray[np.float64]:
    phi_A: NDArray[np.float64] = np.arctan2(xyz_A3[:, 1], xyz_A3[:, 0])
    return phi_A


def _the_one(points: Points, chosen_H: NDArray[np.bool_], events: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return each event's only chosen point, -1 where there is not exactly one; and whether there is one."""
    number_H = np.flatnonzero(chosen_H)
    event_H = points.event_H[number_H]
    one_N = np.bincount(event_H, minlength=events) == 1
    index_N = np.full(events, -1)
    index_N[event_H] = number_H
    return np.where(one_N, index_N, -1), one_N


def _nearest_mvtx(
    content: Content, inner_N: NDArray[np.int64], outer_N: NDArray[np.int64], pair_N: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Find in each MVTX layer the cluster nearest to the line through the two INTT clusters: indices (N, 3).

    Of two at the same distance the first in the file. -1 where the layer is empty or there is no line.
    """
    tracker, layers = content.tracker, len(MVTX_LAYERS)
    inner_A3, outer_A3 = tracker.places(inner_N[pair_N]), tracker.places(outer_N[pair_N])
    _refuse_same_place(content, pair_N, inner_A3, outer_A3, "two INTT clusters")
    number_H = np.flatnonzero(_in_layers(tracker.layer_H, MVTX_LAYERS) & pair_N[tracker.event_H])
    place_H = tracker.event_H[number_H] * layers + tracker.layer_H[number_H].astype(np.int64)
    nearest_P = np.full(len(content) * layers, -1)
    nearest_P[place_H] = number_H
    several_H = (np.bincount(place_H, minlength=len(nearest_P)) > 1)[place_H]  # the few that need distances
    number_H, place_H = number_H[several_H], place_H[several_H]
    row_H = (np.cumsum(pair_N) - 1)[place_H // layers]
    # |a x b| is the distance from the line times |b|, which the clusters of one event share
    along_H3 = outer_A3[row_H] - inner_A3[row_H]
    off_H = np.linalg.norm(np.cross(tracker.places(number_H) - inner_A3[row_H], along_H3), axis=1)
    order_H = np.lexsort((off_H, place_H))  # stable
    place_P, first_P = np.unique(place_H[order_H], return_index=True)
    nearest_P[place_P] = number_H[order_H][first_P]
    return nearest_P.reshape(len(content), layers)


def _bending_angles(
    content: Content, silicon: _Silicon, face_N: NDArray[np.int64], wanted_N: NDArray[np.bool_], charge: Charge
) -> NDArray[np.float64]:
    """Compute the bending angle of the wanted events, NaN for all others."""
    inner_A3, outer_A3 = (content.tracker.places(one_N[wanted_N]) for one_N in (silicon.inner_N, silicon.outer_N))
    face_A3 = content.inner_face.places(face_N[wanted_N])
    _refuse_same_place(content, wanted_N, outer_A3, face_A3, "outer INTT and inner-face cluster")
    _refuse_same_place(content, wanted_N, np.zeros_like(face_A3), face_A3, "beam axis and inner-face cluster")
    dphi_N = np.full(len(content), np.nan)
    dphi_N[wanted_N] = bending_angle(inner_A3, outer_A3, face_A3, charge)
    return dphi_N


def _refuse_same_place(
    content: Content, chosen_N: NDArray[np.bool_], one_A3: NDArray[np.float64], other_A3: NDArray[np.float64], what: str
) -> None:
    """Raise DataError where two points have the same x and y, because no angle is defined between them."""
    same_A = (one_A3[:, :2] == other_A3[:, :2]).all(axis=1)
    if same_A.any():
        first = int(np.argmax(same_A))
        x, y = other_A3[first, :2]
        raise DataError(
            f"{content.chunk.where(int(np.flatnonzero(chosen_N)[first]))}: {what}: expected two places, found both "
            f"at x = {x:g} cm, y = {y:g} cm ({int(same_A.sum())} such events nearby): the bending angle is undefined. "
            "Leave these events out when the file is written."
        )
