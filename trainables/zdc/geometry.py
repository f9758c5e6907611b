"""Geometry of the ePIC ZDC ECAL: conversions between crystal number, position and cellID."""

# H hits; crystal = 20 ix + iy in 0 ... 399, or OUTSIDE
# Detector: eic/epic, ZDC_Crystal_LYSO.xml; its centre lies 35.75 m from the interaction point on an axis that
# the crossing angle of -25 mrad turns about y.

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROWS = 20  # crystals along x, and along y
CRYSTALS = ROWS * ROWS
PITCH_MM = 30.3
CROSSING_ANGLE_RAD = -0.025
CENTRE_DISTANCE_MM = 35_750.0
CRYSTAL_DEPTH_MM = 35_737.0  # local z at which the simulation reports the hits of a crystal
DEPTH_TOLERANCE_MM = 500.0  # a hit farther from the centre along the axis belongs to another detector or unit
OUTSIDE = -1
SENTINEL_CELL_ID = -100  # written where a deposit has no cell
SYSTEM_AND_MODULE = 164 | 1 << 8  # lower bits of every cellID of the ZDC ECAL


def local_position(
    x_H: NDArray[np.floating], y_H: NDArray[np.floating], z_H: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Transform a global position in mm to the detector's frame: z on its axis, origin at the interaction point."""
    x, y, z = (np.asarray(value, dtype=np.float64) for value in (x_H, y_H, z_H))
    cosine, sine = np.cos(CROSSING_ANGLE_RAD), np.sin(CROSSING_ANGLE_RAD)
    across, along = x * cosine, x * sine
    across -= z * sine
    along += z * cosine
    return across, y, along


def global_position(
    x_H: NDArray[np.floating], y_H: NDArray[np.floating], z_H: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Transform a position in mm from the detector's frame to the global frame; inverse of ``local_position``."""
    x, y, z = (np.asarray(value, dtype=np.float64) for value in (x_H, y_H, z_H))
    cosine, sine = np.cos(CROSSING_ANGLE_RAD), np.sin(CROSSING_ANGLE_RAD)
    return x * cosine + z * sine, y, -x * sine + z * cosine


def crystal_of_position(
    x_H: NDArray[np.floating], y_H: NDArray[np.floating], z_H: NDArray[np.floating]
) -> NDArray[np.int64]:
    """Return the crystal at a global position in mm, or OUTSIDE.

    Float32 positions at 35 m are precise to 0.002 mm; hits lie at the crystal's centre, 15 mm from its edge.
    """
    x, y, z = local_position(x_H, y_H, z_H)
    ix, iy = x / PITCH_MM, y / PITCH_MM
    for index in (ix, iy):  # in place: of millions of hits new arrays take most of the time
        index += ROWS / 2
        np.floor(index, out=index)
    z -= CENTRE_DISTANCE_MM
    inside = np.abs(z, out=z) < DEPTH_TOLERANCE_MM
    for index in (ix, iy):
        inside &= index >= 0
        inside &= index < ROWS
    ix *= ROWS
    ix += iy
    if not inside.all():
        ix[~inside] = OUTSIDE
    return ix.astype(np.int64)


def crystal_of_cell_id(cell_id_H: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the crystal of a DD4hep cellID ``system:8,module:2,crystal:12`` (crystal counts from 1), or OUTSIDE."""
    crystal = ((cell_id_H.astype(np.uint64) >> np.uint64(10)) & np.uint64(0xFFF)).astype(np.int64) - 1
    return np.where((crystal >= 0) & (crystal < CRYSTALS), crystal, OUTSIDE)


def cell_id_of_crystal(crystal_H: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Return the DD4hep cellID of a crystal of the ZDC ECAL; inverse of ``crystal_of_cell_id``."""
    return ((crystal_H.astype(np.uint64) + np.uint64(1)) << np.uint64(10)) | np.uint64(SYSTEM_AND_MODULE)


def centre_of_crystal(crystal_H: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y in mm, in the detector's frame, of the centre of a crystal."""
    ix, iy = np.divmod(crystal_H, ROWS)
    half = (ROWS - 1) / 2
    return (ix - half) * PITCH_MM, (iy - half) * PITCH_MM


def is_sentinel(cell_id_H: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return where the cellID is the sentinel -100, in any integer type."""
    if np.issubdtype(cell_id_H.dtype, np.floating):
        return np.asarray(cell_id_H == SENTINEL_CELL_ID)
    return np.asarray(cell_id_H == np.array(SENTINEL_CELL_ID).astype(cell_id_H.dtype))
