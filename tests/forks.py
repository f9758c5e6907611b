"""python tests/forks.py SOCKET: a process with all libraries imported, whose forks stand for new Python processes.

A process of tests that starts Python spends seconds of a core on imports. Here a fork does without: it takes over
arguments, environment, folder, standard streams and session of what asked for it (``forked.py``, ``forked_worker.py``).
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

# Not Ray: its settings are those of the environment in which it is imported.
PRELOADED = (
    "asyncio", "torch", "numpy", "pandas", "pyarrow.fs", "pyarrow.parquet", "scipy.stats", "optuna", "optuna.samplers",
    "optuna.storages.journal", "mlflow", "mlflow.store.tracking.sqlalchemy_store", "alembic.command", "aiohttp",
    "jsonschema", "requests", "yaml", "google.protobuf.json_format", "fsspec", "psutil", "matplotlib.pyplot",
    "rich.live", "tyro", "search.run", "search.tracking.client", "search.tracking.exporter",
    "search.reporting.leaderboard", "search.reporting.html",
    "search.storage.search_dir", "search.config.spec", "trainables.base.torch_training",
    "trainables.zdc.train", "trainables.pt.train", "spaces.zdc", "spaces.pt",
)  # fmt: skip
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


class ForkServer:
    """Answers each request with how its fork has ended; whoever hangs up before, kills it.

    A request with ``adopt`` is answered at once, with the pid of a fork that is now a child of that process.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._waiting: dict[int, socket.socket] = {}  # by pid of the fork
        self._wake, awake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(awake)
        self._awake = awake
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> dict[str, Any]:
        """Return in each fork, with its request; end this process where nobody can ask any more."""
        while True:
            ready, _, _ = select.select([self._listener, self._wake, *self._waiting.values()], [], [])
            if self._wake in ready:
                with suppress(BlockingIOError):
                    os.read(self._wake, 4096)
                self._reap()
            for pid, connection in list(self._waiting.items()):
                if connection in ready:  # it says nothing, so it is gone
                    os.kill(pid, signal.SIGKILL)
                    self._waiting.pop(pid).close()
            if self._listener in ready and (request := self._answer(self._listener.accept()[0])) is not None:
                return request

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                if connection := self._waiting.pop(pid, None):
                    with suppress(OSError):
                        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
                    connection.close()

    def _answer(self, connection: socket.socket) -> dict[str, Any] | None:
        content, streams = b"", []
        with suppress(ConnectionError):
            content, streams, _, _ = socket.recv_fds(connection, 65_536, 3)
            while content and not content.endswith(b"\n") and (more := connection.recv(65_536)):
                content += more
        if not content.endswith(b"\n"):
            connection.close()
            return None
        request: dict[str, Any] = json.loads(content)
        if request.get("adopt"):
            return self._orphan(connection, request, streams)
        if (pid := os.fork()) == 0:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            self._become(connection, request, streams)
            return request
        self._waiting[pid] = connection
        for stream in streams:
            os.close(stream)
        return None

    def _orphan(self, connection: socket.socket, request: dict[str, Any], streams: list[int]) -> dict[str, Any] | None:
        if (between := os.fork()) == 0:
            if (pid := os.fork()) == 0:
                while (parent := os.getppid()) != request["adopt"]:
                    if parent == 1:
                        os._exit(1)  # nobody waits for it any more
                    time.sleep(0.001)
                self._become(connection, request, streams)
                return request
            with suppress(OSError):
                connection.sendall(b"%d\n" % pid)
            os._exit(0)
        os.waitpid(between, 0)
        connection.close()
        for stream in streams:
            os.close(stream)
        return None

    def _become(self, connection: socket.socket, request: dict[str, Any], streams: list[int]) -> None:
        """Make of this fork the process that was asked for, with nothing left of the server."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for other in (self._listener, connection, *self._waiting.values()):
            other.close()
        os.close(self._wake)
        os.close(self._awake)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        if request.get("new_session"):
            os.setsid()
        if request.get("new_group"):
            os.setpgid(0, 0)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        _open_streams()
        tempfile.tempdir = None  # that of its own environment, when it asks
        random.seed()
        import numpy as np

        np.random.seed()  # noqa: NPY002 - what libraries draw from


def _open_streams() -> None:
    """As Python opens them when it starts."""
    at_once = bool(os.environ.get("PYTHONUNBUFFERED"))
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        errors = "backslashreplace" if number == 2 else None
        stream = open(number, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115 - as long as it lives
        if mode == "w":
            stream.reconfigure(line_buffering=number == 2 or stream.isatty(), write_through=at_once)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def run(words: list[str]) -> None:
    """Run the program that these words, without the interpreter's own, name."""
    if words[0] == "-u":
        words = words[1:]
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.path[0] = str(Path.cwd())
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        return
    sys.argv = words
    sys.path[0] = str(Path(words[0]).resolve().parent)
    runpy.run_path(words[0], run_name="__main__")


def main() -> list[str]:
    """Serve until this is a fork; return what it is to run."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    path, before = list(sys.path), dict(os.environ)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        for module in PRELOADED:
            importlib.import_module(module)
        sys.path[:] = path
        gc.collect()
        gc.freeze()
        listener.listen(64)
        threads = list(Path("/proc/self/task").iterdir())
        assert "ray" not in sys.modules
        assert len(threads) == 1, f"a fork has one thread of {len(threads)}"
        print("ready", flush=True)
        imports_set = {name: value for name, value in os.environ.items() if before.get(name) != value}
        words: list[str] = ForkServer(listener).serve()["words"]
        for name, value in imports_set.items():
            os.environ.setdefault(name, value)
    return words


def end(code: object) -> None:
    """As Python ends, but without tidying up the memory that it shares with the process it was forked from."""
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined] - waits for threads
    atexit._run_exitfuncs()
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(int(code or 0) & 0xFF)


if __name__ == "__main__":
    asked = main()
    try:
        run(asked)
    except SystemExit as ending:
        end(ending.code)
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        end(1)
    end(0)
