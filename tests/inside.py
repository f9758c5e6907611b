"""python tests/inside.py COMMAND: what a container does, run a command; its search.run knows the tiny workload."""

from __future__ import annotations

import os
import sys

SEARCH = ["python", "-m", "search.run"]

if __name__ == "__main__":
    if sys.argv[1:4] != SEARCH:
        os.execvp(sys.argv[1], sys.argv[1:])
    import ray
    import tiny

    import search.run
    from search.workloads import WORKLOADS

    ray.cloudpickle.register_pickle_by_value(tiny)
    WORKLOADS["tiny"] = tiny.make_tiny(slow={"x": 0.1, "y": 0.0}, other={"x": 0.2, "y": 0.0})
    sys.exit(search.run.main(sys.argv[4:]))
