"""ZDC files of any kind for tests: branches of simulated events, changed and written as a test likes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

from trainables.zdc.data import ZDCDataSettings, load_data
from trainables.zdc.energies import BinningSettings
from trainables.zdc.events import Events
from trainables.zdc.simulate import Showers, edm4hep_columns, mytree_columns, simulate

LAYOUTS = ("mytree", "edm4hep")
WIDE = BinningSettings(bin_width_mev=5000.0, min_bin_count=2)
Columns = dict[str, ak.Array]


def showers(events: int = 400, seed: int = 1) -> Showers:
    return simulate(events, np.random.default_rng(seed))


def flat_branches(layout: str, batch: Showers) -> Columns:
    columns = mytree_columns(batch) if layout == "mytree" else edm4hep_columns(batch)
    separator = "_" if layout == "mytree" else "."
    return {
        f"{collection}{separator}{field}": ak.Array(values[field])
        for collection, values in columns.items()
        if collection != "energySum_ZDC"
        for field in values.fields
    }


def write(path: Path, layout: str, columns: Columns, tree: str = "") -> str:
    """Write branches as they are, each with a length of its own."""
    with uproot.recreate(path) as file:
        types = {name: values.type.content for name, values in columns.items()}
        file.mktree(tree or {"mytree": "myTree", "edm4hep": "events"}[layout], types).extend(columns)
    return str(path)


def load(cache: Path, *files: str, **flags: Any) -> Any:
    return load_data(ZDCDataSettings(**{"data": files, "binning": WIDE, **flags}), cache)


def rows_of(*parts: Events) -> set[bytes]:
    return {
        condition.tobytes() + mask.tobytes()
        for part in parts
        for condition, mask in zip(part.condition_N6, part.mask_packed_N50, strict=True)
    }


def both_layouts() -> dict[str, Columns]:
    """The same events as the flat branches of each layout."""
    return {layout: flat_branches(layout, showers()) for layout in LAYOUTS}
