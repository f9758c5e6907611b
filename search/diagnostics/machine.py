"""Whether this machine and the nodes grant what Ray needs, and no variable of theirs gets in the way."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import metadata
from typing import Any

from packaging.specifiers import SpecifierSet

from search.config.redaction import without_passwords
from search.diagnostics.context import DRIVER, Setup
from search.diagnostics.finding import Finding, alike, fine, warning, wrong
from search.diagnostics.probes.machine import limits

FILES = 4096  # open files below which Ray itself warns
Judge = Callable[[str, int], str]  # value of a variable and cores of the node, to what is odd about it; or empty
_SOCKET_BYTES = 107  # of the path of a socket, on Linux
_SESSION_BYTES = 64  # of that, what Ray adds to its folder


def check(setup: Setup) -> Iterator[Finding]:
    """Python, open files, environment."""
    told = {DRIVER: limits(tuple(ODDITIES))}
    if setup.cluster:
        answers = setup.cluster.ask(limits, tuple(ODDITIES), limit_s=setup.patience_s)
        yield from answers.complaints("limits")
        told |= answers.of
    yield _python()
    yield from _files(told)
    yield from _oddities(told, setup)


def _python() -> Finding:
    needed, there = metadata("hep-search")["Requires-Python"], platform.python_version()
    if there not in SpecifierSet(needed):
        return wrong("Python", there, needed, "make the environment with another: make clean; make PYTHON3=python3.11")
    return fine("Python", f"{there} on {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs")


def _files(told: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    few = {node: str(answer["files"]) for node, answer in told.items() if 0 <= answer["files"] < FILES}
    for number, nodes in alike(few).items():
        mend = "ulimit -n 65536 before Ray starts there; where that is refused, the administrator raises nofile"
        yield warning(f"open files of {nodes}", f"at most {number}", f"{FILES} or more", mend)
    if not few:
        yield fine("open files", f"{FILES} or more everywhere")


def _oddities(told: Mapping[str, Mapping[str, Any]], setup: Setup) -> Iterator[Finding]:
    seen = False
    for name, judge in ODDITIES.items():
        odd = {}
        for node, answer in told.items():
            value = answer["environment"].get(name)
            if value is not None and (reason := judge(value, answer["cores"])):
                odd[node] = f"{without_passwords(value)!r}: {reason}"
        for text, nodes in alike(odd).items():
            seen = True
            yield warning(f"{name} on {nodes}", text, mend=f"unset {name} there")
    if setup.address and any(os.environ.get(name) for name in ("http_proxy", "https_proxy", "grpc_proxy")):
        host = setup.address.rpartition("://")[2].partition(":")[0]
        if host not in os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")).split(","):
            seen = True
            yield warning("proxy", "variables that lead Ray's connections to it", f"{host} in no_proxy",
                          f"export no_proxy=$no_proxy,{host}")  # fmt: skip
    if not seen:
        yield fine("environment", "no variable that gets in the way")


def _more_than_cores(value: str, cores: int) -> str:
    return f"more threads than the {cores} cores" if value.isdecimal() and int(value) > cores else ""


def _when(bad: str, reason: str) -> Judge:
    return lambda value, cores: reason if value.lower() in bad.split() else ""


def _long(value: str, _cores: int) -> str:
    return "too long: a socket in it has a longer path than Linux takes" * (
        len(value.encode()) + _SESSION_BYTES > _SOCKET_BYTES
    )


def _secret(value: str, _cores: int) -> str:
    return "holds a password: keep it in ~/.mlflow/credentials (mlflow/README.md)" * (without_passwords(value) != value)


ODDITIES: dict[str, Judge] = {
    "OMP_NUM_THREADS": _more_than_cores,
    "RAY_TMPDIR": _long,
    "MLFLOW_TRACKING_URI": _secret,
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": _when("1 true", "trials without a GPU hide the GPUs from others"),
    "RAY_CHDIR_TO_TRIAL_DIR": _when("1 true", "relative paths mean other files in a trial"),
    "RAY_memory_monitor_refresh_ms": _when("0", "nobody ends a trial that takes all memory, before the node dies"),
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": _when("0 false", "a trial that diverges ends the search"),
}
