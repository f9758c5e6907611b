"""python tests/on_declared_gpus.py FOLDER FLAGS: a search of the tiny workload on a Ray with two GPUs that are none.

Each process that a trial's data comes to writes what it was given into FOLDER, and waits there for three others.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tiny

TOGETHER, LIMIT_S = 4, 60.0


@dataclass(frozen=True)
class Witness(tiny.TinyData):
    """Data that tells where it is unpacked: before anything of a trial could fail for want of CUDA."""

    folder: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return arrive, (self.folder,)


def arrive(folder: str) -> Witness:
    told = {"devices": os.environ.get("CUDA_VISIBLE_DEVICES"), "threads": os.environ.get("OMP_NUM_THREADS")}
    (Path(folder) / f"{os.getpid()}.json").write_text(json.dumps(told))
    deadline = time.monotonic() + LIMIT_S
    while len(list(Path(folder).glob("*.json"))) < TOGETHER and time.monotonic() < deadline:
        time.sleep(0.05)
    return Witness(folder=folder)


if __name__ == "__main__":
    import ray

    import search.run
    from search.workloads import WORKLOADS

    ray.cloudpickle.register_pickle_by_value(tiny)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    folder, *flags = sys.argv[1:]
    data = Witness(folder=folder) if folder else tiny.TinyData()
    WORKLOADS["tiny"] = replace(tiny.make_tiny(), load_data=lambda settings, cache: data)
    ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    sys.exit(search.run.main(flags))
