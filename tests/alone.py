"""python tests/alone.py FLAGS: a search of the tiny workload in a process of its own, with its own Ray."""

from __future__ import annotations

import os

if __name__ == "__main__":
    import ray
    import tiny
    from forked import fork_workers

    import search.run
    from search.reporting.console import run_command
    from search.workloads import WORKLOADS

    if "ALONE_FORKS" in os.environ:
        fork_workers()
    ray.cloudpickle.register_pickle_by_value(tiny)
    WORKLOADS["tiny"] = tiny.make_tiny(
        fails={"x": 0.2, "y": 0.0, "crash_epoch": 1},
        slow={"x": 0.1, "y": 0.0},
    )
    if fault := os.environ.get("ALONE_FAULT"):
        import faults_inside

        faults_inside.install(fault)
    run_command(search.run.main)
