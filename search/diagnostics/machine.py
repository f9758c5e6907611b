"""Whether this machine and the nodes allow what Ray needs, and set no environment variable that disturbs a search."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import metadata
from typing import Any

from packaging.specifiers import SpecifierSet

from search.config.addresses import join_address, ray_address, split_address
from search.config.redaction import without_passwords
from search.diagnostics.context import DRIVER, DiagnosticContext
from search.diagnostics.finding import Finding, fine, nodes_by_text, warning, wrong
from search.diagnostics.probes.machine import limits
from trainables.runtime.machine_limits import machine_limits

NEEDED_FILES = 4096  # open files, with fewer of which Ray itself warns
Problem = Callable[[str, int], str]  # from the value of a variable and the node's cores to what is wrong, or empty
_SOCKET_BYTES = 107  # of the path of a socket, on Linux
_SESSION_BYTES = 68  # of that, what Ray adds to it


def check(context: DiagnosticContext) -> Iterator[Finding]:
    """Check Python, the limit of open files, and environment variables."""
    limits_of = {DRIVER: limits(tuple(VARIABLES))}
    if context.cluster:
        results = context.cluster.run(limits, tuple(VARIABLES), limit_s=context.node_limit_s)
        yield from results.error_findings("limits")
        limits_of |= results.values
    yield _check_python()
    yield from _check_open_files(limits_of)
    variables = [*_check_variables(limits_of), *_check_proxy(context.address)]
    yield from variables or [fine("environment", "no variable that gets in the way")]


def _check_python() -> Finding:
    needed, version = metadata("hep-search")["Requires-Python"], platform.python_version()
    if version not in SpecifierSet(needed):
        fix = "make the environment with another: make clean; make PYTHON3=python3.11"
        return wrong("Python", version, needed, fix)
    return fine("Python", f"{version} on {platform.system()} {platform.machine()}, {machine_limits().cpus} CPUs")


def _check_open_files(limits_of: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    low = {node: str(one["files"]) for node, one in limits_of.items() if 0 <= one["files"] < NEEDED_FILES}
    for number, nodes in nodes_by_text(low).items():
        fix = "ulimit -n 65536 before Ray starts there; where that is refused, the administrator raises nofile"
        yield warning(f"open files of {nodes}", f"at most {number}", f"{NEEDED_FILES} or more", fix)
    if not low:
        yield fine("open files", f"{NEEDED_FILES} or more everywhere")


def _check_variables(limits_of: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    for name, problem in VARIABLES.items():
        problems = {}
        for node, one in limits_of.items():
            value = one["environment"].get(name)
            if value is not None and (reason := problem(value, one["cores"])):
                problems[node] = f"{without_passwords(value)!r}: {reason}"
        for text, nodes in nodes_by_text(problems).items():
            yield warning(f"{name} on {nodes}", text, fix=f"unset {name} there")


def _check_proxy(address: str | None) -> Iterator[Finding]:
    """Warn of a proxy between here and the cluster; ``no_proxy`` is read as requests and urllib read it."""
    from requests.utils import should_bypass_proxies

    led = any(os.environ.get(name) for name in ("http_proxy", "https_proxy", "grpc_proxy"))
    if not address or not led or address in ("auto", "local"):
        return
    try:
        host, port = split_address(ray_address(address))
    except ValueError:  # the check of the cluster reports it
        return
    if not should_bypass_proxies(f"http://{join_address(host, port) if port else host}", None):
        found, fix = "variables that lead Ray's connections to it", f"export no_proxy=$no_proxy,{host}"
        yield warning("proxy", found, f"{host} in no_proxy", fix)


def _more_than_cores(value: str, cores: int) -> str:
    return f"more threads than the {cores} cores" if value.isdecimal() and int(value) > cores else ""


def _any_of(bad: str, reason: str) -> Problem:
    return lambda value, cores: reason if value.lower() in bad.split() else ""


def _too_long(value: str, _cores: int) -> str:
    if len(value.encode()) + _SESSION_BYTES <= _SOCKET_BYTES:
        return ""
    return "too long: a socket in it has a longer path than Linux takes"


def _has_password(value: str, _cores: int) -> str:
    if without_passwords(value) == value:
        return ""
    return "holds a password: keep it in ~/.mlflow/credentials (mlflow/README.md)"


VARIABLES: dict[str, Problem] = {
    "OMP_NUM_THREADS": _more_than_cores,
    "RAY_TMPDIR": _too_long,
    "MLFLOW_TRACKING_URI": _has_password,
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": _any_of("1 true", "trials without a GPU hide the GPUs from others"),
    "RAY_CHDIR_TO_TRIAL_DIR": _any_of("1 true", "relative paths mean other files in a trial"),
    "RAY_memory_monitor_refresh_ms": _any_of("0", "Ray does not end a trial that takes all memory, so the node dies"),
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": _any_of("0 false", "a trial that diverges ends the search"),
}
