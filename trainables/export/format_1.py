"""Read manifests of format 1, which knew the carried workloads alone: give them what format 2 says of itself."""

from __future__ import annotations

from typing import Any

from trainables.export.manifest import ENERGIES, FORMAT

_LOADERS = {"zdc": "trainables.zdc.inference:load", "pt": "trainables.pt.inference:load"}  # by the name's beginning

_NO_PT = "are two of its points at the same place, or all on one line?"


def upgraded(written: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest of format 1 as one of format 2; the file itself stays as it is.

    Raises
    ------
    KeyError, TypeError
        It is no such manifest.
    """
    workload = written["model"]["workload"]
    inputs = [
        {**column, "minimum": 0.0 if column["name"].startswith(ENERGIES) else None} for column in written["inputs"]
    ]
    return {
        **written,
        "format": FORMAT,
        "loader": _LOADERS[workload.partition("-")[0]],
        "inputs": inputs,
        "output": {**written["output"], "sampled": workload == "zdc", "undefined": "" if workload == "zdc" else _NO_PT},
    }
