"""Flatten a chunk of a pT file to arrays, and refuse values that cannot be right."""

# N events of one chunk, H points (clusters, towers, hits) of all of them; cm, GeV, rad

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.root_chunks import Chunk
from trainables.pt.layouts import EMCAL


@dataclass(frozen=True)
class Points:
    """Points of one kind, in the order of the file; numbers are of the file's types until some points are chosen."""

    event_H: NDArray[np.int64]  # ascending, 0 ... N - 1
    axes_cm: tuple[NDArray[Any], ...]  # x, y, z, each (H,)
    energy_gev_H: NDArray[Any]  # zeros where they have none
    layer_H: NDArray[Any]  # zeros where they have none

    def where(self, chosen_H: NDArray[np.bool_]) -> Points:
        """Select points."""
        if chosen_H.all():
            return self
        axes_cm = tuple(values[chosen_H] for values in self.axes_cm)
        return Points(self.event_H[chosen_H], axes_cm, self.energy_gev_H[chosen_H], self.layer_H[chosen_H])

    def at(self, index_N: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return position and energy, (N, 4), of the points with these indices; zeros where an index is negative."""
        values_N4 = np.zeros((len(index_N), 4))
        there_N = index_N >= 0
        rows_N = slice(None) if there_N.all() else np.flatnonzero(there_N)
        chosen_N = index_N[rows_N]
        for column, values_H in enumerate((*self.axes_cm, self.energy_gev_H)):
            values_N4[rows_N, column] = values_H[chosen_N]
        return values_N4

    def places(self, index_A: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the positions, (A, 3), of the points with these indices."""
        return np.stack([values_H[index_A] for values_H in self.axes_cm], axis=1, dtype=np.float64, casting="same_kind")


@dataclass(frozen=True)
class Content:
    """The arrays of which selection and features are made."""

    chunk: Chunk  # for messages
    primaries_N: NDArray[np.int64]
    truth_N3: NDArray[np.float64]  # pT, eta, phi of the first primary; NaN where there is none
    tracker: Points  # clusters of the silicon
    towers: Points  # of the EMCal
    clusters: Points  # of the EMCal, at the volume centre
    inner_face: Points  # clusters at the inner face
    surface: Points  # where a primary met the surface of the EMCal

    def __len__(self) -> int:
        return len(self.primaries_N)


def content_of(chunk: Chunk) -> Content:
    """Flatten a chunk.

    Parameters
    ----------
    chunk : Chunk
        Of ``layouts.read_chunks``, or with the same fields.

    Raises
    ------
    DataError
        A value is not finite, a true pT is not positive.
    """
    clusters = _points(chunk, "caloClus")
    towers = _points(chunk, "tower")
    return Content(
        chunk=chunk,
        primaries_N=chunk.counts("PrimaryG4P_Pt"),
        truth_N3=_truth(chunk),
        tracker=_points(chunk, "trk"),
        towers=_of_emcal(chunk, towers, "tower_system") if "tower_system" in chunk.fields else towers,
        clusters=_of_emcal(chunk, clusters, "caloClus_system"),
        inner_face=_points(chunk, "caloClus_innr"),
        surface=_points(chunk, "CEMC_Pr_Hit"),
    )


def _truth(chunk: Chunk) -> NDArray[np.float64]:
    """Return pT, eta and phi of the first primary of each event, (N, 3)."""
    count_N = chunk.counts("PrimaryG4P_Pt")
    event_H = np.repeat(np.arange(len(count_N)), count_N)
    some_N = count_N > 0
    first_N = (np.cumsum(count_N) - count_N)[some_N]
    truth_N3 = np.full((len(count_N), 3), np.nan)
    for column, field in enumerate(("PrimaryG4P_Pt", "PrimaryG4P_Eta", "PrimaryG4P_Phi")):
        values_H = _finite(chunk, field, event_H).astype(np.float64)
        if column == 0:
            chunk.refuse(values_H <= 0, field, values_H, "a true pT above 0 GeV", event_H)
        truth_N3[some_N, column] = values_H[first_N]
    return truth_N3


def _points(chunk: Chunk, collection: str) -> Points:
    axes = ("x", "y", "z") if f"{collection}_x" in chunk.fields else ("X", "Y", "Z")
    count_N = chunk.counts(f"{collection}_{axes[0]}")
    event_H = np.repeat(np.arange(len(count_N)), count_N)
    zeros_H = np.zeros(len(event_H))
    energy, layer = f"{collection}_edep", f"{collection}_layer"
    return Points(
        event_H=event_H,
        axes_cm=tuple(_finite(chunk, f"{collection}_{axis}", event_H) for axis in axes),
        energy_gev_H=_finite(chunk, energy, event_H) if energy in chunk.fields else zeros_H,
        layer_H=_finite(chunk, layer, event_H) if layer in chunk.fields else zeros_H,
    )


def _of_emcal(chunk: Chunk, points: Points, field: str) -> Points:
    return points.where(_finite(chunk, field, points.event_H) == EMCAL)


def _finite(chunk: Chunk, field: str, event_H: NDArray[np.int64]) -> NDArray[Any]:
    values_H = chunk.flat(field)
    chunk.refuse_not_finite(field, values_H, event_H)
    return values_H
