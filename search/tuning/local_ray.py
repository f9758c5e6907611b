"""Start a Ray of our own on this machine: its folder, its token, its CPUs and memory, and why it did not start."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

import psutil
import ray
from ray._common.utils import get_default_ray_temp_dir, get_system_memory
from ray._private import ray_constants, services
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

from search.config.environment import changed_environment
from search.config.redaction import first_line
from search.errors import ClusterError
from trainables.runtime import signals
from trainables.runtime.disk_space import can_write, megabytes
from trainables.runtime.machine_limits import machine_limits

SOCKET_BYTES = 107  # of the path of a socket, on Linux
SESSION_BYTES = len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")  # what Ray adds to its folder
NEEDED_BYTES = 4 * 2**20  # for its logs
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
_ATTEMPTS = 3
_TOKEN_PLACES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_OBJECT_STORE = 0.3  # of the memory, as Ray itself takes


@contextmanager
def local_ray() -> Iterator[None]:
    """Run a Ray on this machine, with as many CPUs and as much memory as this process may use.

    Raises
    ------
    ClusterError
        It does not start. The message has the reason and the remedy.
    """
    with ExitStack() as stack:
        stack.enter_context(_on_loopback())
        folder = stack.enter_context(ray_folder())
        stack.enter_context(_token())
        options = _resources()
        if quote(sys.executable) != sys.executable:  # Ray gives it to a shell as it is
            options["runtime_env"] = {"py_executable": quote(sys.executable)}
        if folder != default_folder():
            options["object_spilling_directory"] = stack.enter_context(_spill_folder())
        _start(folder, options)
        stack.callback(ray.shutdown)
        yield


def _start(folder: Path, options: Mapping[str, Any]) -> None:
    """Start Ray; again where it took too long, because it gives a node 30 s, which a busy machine may exceed."""
    for attempts_left in reversed(range(_ATTEMPTS)):
        try:
            with signals.kept_by_ray(), _without_usage_reporter():
                ray.init(
                    address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
                    _temp_dir=str(folder), **options,
                )  # fmt: skip
            return
        except Exception as error:  # Ray raises plain ones, too
            ray.shutdown()
            if attempts_left and "timed out" in str(error):
                continue
            logs = f"Its logs: {folder}/session_latest/logs. " if folder == default_folder() else ""
            raise ClusterError(
                f"Ray does not start on this machine: {first_line(error)}\n"
                f"{logs}What this machine lacks: python -m search.doctor --only machine disks"
            ) from error


@contextmanager
def _without_usage_reporter() -> Iterator[None]:
    """Start Ray without the process that, where there is no dashboard, only reports usage.

    Where that is turned off, the process still asks three makers of clouds whether this is one of their machines.
    """
    if os.environ.get("RAY_USAGE_STATS_ENABLED") != "0":
        yield
        return
    start = services.start_api_server
    services.start_api_server = lambda *_, **__: (None, None)  # as where it cannot be started
    try:
        yield
    finally:
        services.start_api_server = start


# --- the folder


def default_folder() -> Path:
    """Return where Ray would put its files by itself."""
    return Path(get_default_ray_temp_dir())


def folder_problem(folder: Path) -> str:
    """Return why Ray cannot put its files into a folder, which need not exist yet; empty: it can."""
    if len(str(folder).encode()) + SESSION_BYTES > SOCKET_BYTES:
        return f"longer than the {SOCKET_BYTES - SESSION_BYTES} bytes that leave room for the paths of sockets"
    return _write_problem(folder, NEEDED_BYTES)


def _write_problem(folder: Path, size: int) -> str:
    """Try to write into a folder, or into the one in which it would be made; returns what is wrong."""
    try:
        there = next(place for place in (folder, *folder.parents) if place.exists())
        return "" if can_write(there, size) else f"no room for {megabytes(size)}"
    except OSError as error:
        return (error.strerror or type(error).__name__).lower()


@contextmanager
def ray_folder() -> Iterator[Path]:
    """Choose the folder of a Ray of our own: Ray's default, or a private one that is deleted at the end.

    Raises
    ------
    ClusterError
        None of the folders will do.
    """
    default = default_folder()
    problems = {str(default): folder_problem(default)}
    if not problems[str(default)]:
        yield default
        return
    for parent in _SHORT_FOLDERS:
        if problem := folder_problem(Path(parent, "ray-00000000")):
            problems[parent] = problem
            continue
        folder = Path(tempfile.mkdtemp(prefix="ray-", dir=parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    tried = "; ".join(f"{folder}: {problem}" for folder, problem in problems.items())
    raise ClusterError(
        f"Ray finds no folder for its files on this machine ({tried}). Delete something in one of them, or set "
        f"RAY_TMPDIR to a writable folder with a path of at most {SOCKET_BYTES - SESSION_BYTES - len('/ray')} bytes."
    )


@contextmanager
def _spill_folder() -> Iterator[str]:
    """Make a folder for objects that outgrow memory, where temporary files belong: it may have more room than ours."""
    named = os.environ.get("RAY_TMPDIR", "")
    parent = named if Path(named).is_absolute() and not _write_problem(Path(named), 1) else None
    with tempfile.TemporaryDirectory(prefix="ray-spill-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield folder


# --- the token


def closed_home() -> str:
    """Return why Ray cannot keep its token in the home; empty: it can, or it needs no file."""
    if any(os.environ.get(name) for name in _TOKEN_PLACES) or os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return ""
    try:
        token = Path.home() / ".ray" / "auth_token"
        if token.exists():
            return "" if token.read_text().strip() else f"{token} is empty"
    except (OSError, RuntimeError) as error:  # the last one: no home at all
        return first_line(error)
    problem = _write_problem(token.parent, 1)
    return f"{token.parent}: {problem}" if problem else ""


@contextmanager
def _token() -> Iterator[None]:
    """Give Ray its token in the environment where the home is closed."""
    if not closed_home():
        yield
        return
    with changed_environment({"RAY_AUTH_TOKEN": secrets.token_hex(32)}):
        AuthenticationTokenLoader.instance().reset_cache()
        yield
    AuthenticationTokenLoader.instance().reset_cache()


# --- CPUs and memory


def _resources() -> dict[str, Any]:
    """Return CPUs and memory for ``ray.init``; Ray's own numbers where nothing more limits this process."""
    limits = machine_limits()
    given: dict[str, Any] = {"num_cpus": limits.cpus}
    if limits.memory is not None and limits.memory < get_system_memory():
        shared = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").exists() else limits.memory
        given["object_store_memory"] = int(min(_OBJECT_STORE * limits.memory, 0.9 * shared))
        used = psutil.Process().memory_info().rss
        given["_memory"] = max(int(limits.memory - given["object_store_memory"] - used), 1)
    return given


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Let a Ray that starts here listen on 127.0.0.1 only, as it does by itself on a Mac.

    On Linux it would listen on all interfaces, and it has no public setting against that.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        # for the processes that it starts, and for those that search for it
        with changed_environment({ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0"}):
            yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
