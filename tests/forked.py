"""Start Python programs of tests as forks of one process that has imported nearly all, and workers of Ray too."""

from __future__ import annotations

import atexit
import inspect
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from forks import PR_SET_CHILD_SUBREAPER, prctl

HERE = Path(__file__).parent
ADDRESS, WORKER = "FORK_SERVER", "FORKED_WORKER"  # in the environment of whatever may ask for forks
NO_THREAD = {  # a fork has one thread of its parent's
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def start_server() -> None:
    """Run the process that forks, unless this one or what started it has it; it ends with its parent."""
    if ADDRESS in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="forks-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    command = [sys.executable, str(HERE / "forks.py"), f"{folder}/server"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=os.environ | NO_THREAD, start_new_session=True
    )
    atexit.register(process.kill)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n", "the process that forks does not start"
    os.environ[ADDRESS] = f"{folder}/server"


def fork_workers() -> None:
    """Let the Rays that this process starts have forks as workers, where there is a process that forks.

    And no process that hands on what workers print: no search asks Ray for that.
    """
    import ray._private.node as node

    class Node(node.Node):
        def __init__(self, ray_params: Any, *words: Any, **more: Any) -> None:
            if ray_params.worker_path is None and ADDRESS in os.environ:
                os.environ[WORKER] = str(Path(node.__file__).parent / "workers" / "default_worker.py")
                ray_params.worker_path = str(HERE / "forked_worker.py")
                ray_params.include_log_monitor = False
            super().__init__(ray_params, *words, **more)

    node.Node = Node


class ForkedPython(subprocess.Popen[Any]):
    """``subprocess.Popen`` of ``[sys.executable, ...]``: the process is a fork, and yet a child of this one."""

    def _execute_child(self, *words: Any, **more: Any) -> None:
        asked = inspect.signature(super()._execute_child).bind(*words, **more).arguments  # type: ignore[misc]
        program, *flags = map(os.fspath, asked["args"])
        assert program == sys.executable
        start_server()
        request = {
            "words": flags,
            "folder": os.fspath(asked["cwd"] or Path.cwd()),
            "environment": {ADDRESS: os.environ[ADDRESS]} | dict(asked["env"] or os.environ),
            "new_session": asked["start_new_session"],
            "adopt": os.getpid(),
        }
        pipes = (asked["p2cread"], asked["c2pwrite"], asked["errwrite"])
        streams = [number if pipe == -1 else pipe for number, pipe in enumerate(pipes)]
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        try:
            with socket.socket(socket.AF_UNIX) as server:
                server.connect(os.environ[ADDRESS])
                socket.send_fds(server, [json.dumps(request).encode() + b"\n"], streams)
                with server.makefile("rb") as answers:
                    (pid,) = answers  # until the process between the two is gone
                self.pid = int(pid)
        finally:
            prctl(PR_SET_CHILD_SUBREAPER, 0)
        self._child_created = True
        ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(asked[end] for end in ends))  # type: ignore[attr-defined]
