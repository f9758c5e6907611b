"""Turn off what dependencies would report to their makers: compute nodes often have no way out, and no one asked them.

``import trainables`` and ``import search`` do it first, in every command, on every worker, and where a model is loaded.
A variable that is set already keeps its value.
"""

from __future__ import annotations

import os

_RAY = "RAY_USAGE_STATS_ENABLED"
_RAY_URL = "RAY_USAGE_STATS_REPORT_URL"
OFF = {
    _RAY: "0",  # Ray reports the versions and sizes of clusters
    _RAY_URL: "http://127.0.0.1:9",  # a cluster of ray start reports even that it does not report: to nobody
    "MLFLOW_DISABLE_TELEMETRY": "true",  # MLflow reports which of its functions are called
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime from 1.29 on looks up its maker's host when it is imported
    "DO_NOT_TRACK": "true",  # a common word for the same, which some packages read
}


def turn_off() -> None:
    """Set the variables that the user has not set."""
    for name, value in OFF.items():
        if name != _RAY_URL or os.environ[_RAY] == "0":
            os.environ.setdefault(name, value)
