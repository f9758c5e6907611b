"""Make the inputs of the pT models from accepted events: three feature sets, always in the same order."""

# N events, F features

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainables.pt.config import PtConfig, PtEnergyConfig
from trainables.pt.data import Events

FeatureSet = Literal["energy", "dphi", "full"]
FEATURE_NAMES: dict[FeatureSet, tuple[str, ...]] = {
    "energy": (
        *("r_inner_intt_cm", "z_inner_intt_cm", "r_outer_intt_cm", "z_outer_intt_cm"),
        *("r_inner_face_cm", "z_inner_face_cm", "e_inner_face_gev"),
    ),
    "dphi": ("inverse_dphi", "zero"),
    "full": (
        *(f"{axis}_{hit}_cm" for hit in ("mvtx_0", "mvtx_1", "mvtx_2", "inner_intt", "outer_intt") for axis in "xyz"),
        *(
            name
            for point in ("inner_face", "volume_centre", *(f"tower_{rank}" for rank in range(9)))
            for name in (*(f"{axis}_{point}_cm" for axis in "xyz"), f"e_{point}_gev")
        ),
    ),
}


def feature_set(config: PtConfig) -> FeatureSet:
    """Return the feature set of a configuration of pt-energy or pt-dphi."""
    return config.features if isinstance(config, PtEnergyConfig) else "dphi"


def features(name: FeatureSet, events: Events) -> NDArray[np.float32]:
    """Make the inputs of a model, not standardised.

    ``energy``: radius and z of the inner and of the outer INTT cluster, radius, z and energy of the cluster at
    the inner face. ``dphi``: the inverse bending angle in 1/rad, and 0. ``full``: the five hits, both clusters
    and the nine towers with most energy, in the order of ``Events``.

    Parameters
    ----------
    name : "energy", "dphi" or "full"
    events : Events

    Returns
    -------
    array (N, F) of float32
        F is 7, 2 or 59; columns in the order of ``FEATURE_NAMES``.
    """
    if name == "energy":
        points = (events.hit_N53[:, 3], events.hit_N53[:, 4], events.cluster_N24[:, 0])
        columns = [column for point in points for column in (np.hypot(point[:, 0], point[:, 1]), point[:, 2])]
        return np.stack([*columns, events.cluster_N24[:, 0, 3]], axis=1)
    if name == "dphi":
        return np.stack([1 / events.dphi_N, np.zeros_like(events.dphi_N)], axis=1)
    blocks = (events.hit_N53, events.cluster_N24, events.tower_N94)
    return np.concatenate([block.reshape(len(events), -1) for block in blocks], axis=1)
