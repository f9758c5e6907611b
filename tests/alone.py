"""python tests/alone.py FLAGS: a search of a slow tiny workload in a process of its own, with its own Ray."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    import search.run
    from search.workloads import WORKLOADS
    from tiny import make_tiny

    import ray

    import tiny

    ray.cloudpickle.register_pickle_by_value(tiny)
    WORKLOADS["tiny"] = make_tiny(
        quick={"x": 0.3, "y": 0.0, "epoch_seconds": 0.0},
        fails={"x": 0.2, "y": 0.0, "crash_epoch": 1},
        slow={"x": 0.1, "y": 0.0},
    )
    sys.exit(search.run.main(sys.argv[1:]))
