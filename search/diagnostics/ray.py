"""Whether Ray can be joined, asks for a token, and has room for a trial; leaves the cluster to the other checks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

import ray

from search.cluster.ray_jobs import JobServer, read_token
from search.config.settings import Site
from search.diagnostics.cluster import Cluster
from search.diagnostics.context import Setup
from search.diagnostics.finding import Finding, fine, warning, wrong
from search.diagnostics.probes.network import reach_port
from search.errors import ClusterError, UsageError
from search.tuning.resources import Nodes, gpu_names, ray_session, share_of

_REFUSED = "InvalidAuthToken"  # as Ray says it
_TOKEN = "the token of that cluster"
_GIVE_TOKEN = (
    "copy ~/.ray/auth_token of its head node to this machine (mode 600), or name the file in RAY_AUTH_TOKEN_PATH"
)
_ENABLE = (
    "ray get-auth-token --generate on the head node, the same ~/.ray/auth_token on every node, then start Ray anew "
    "there with RAY_AUTH_MODE=token"
)


def check(setup: Setup) -> Iterator[Finding]:
    """Join, or start a Ray here for as long as the checks take."""
    if setup.address and setup.address.startswith(("http://", "https://")):
        yield from _job_server(setup.address)
        return
    if setup.address and (problem := _refusal(setup.address)):
        yield problem
        return
    try:
        nodes = setup.session.enter_context(ray_session(setup.address))
    except ClusterError as error:
        yield wrong("cluster", str(error), "one that can be joined")
        return
    setup.cluster = Cluster.joined()
    yield from _seen(setup, nodes)
    yield _token(setup.address or "the Ray that a search starts here")
    yield _room(setup)


def _seen(setup: Setup, nodes: Nodes) -> Iterator[Finding]:
    cpus, gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    kinds = f" ({gpu_names(nodes)})" if gpu_names(nodes) else ""
    where = f"at {setup.address}" if setup.address else "started here"
    has = f"{_count(len(nodes), 'node')}, {_count(cpus, 'CPU')}, {_count(gpus, 'GPU')}{kinds}"
    yield fine("cluster", f"{where}, Ray {ray.__version__}: {has}")
    if dead := sum(not node["Alive"] for node in ray.nodes()):
        yield warning(
            "cluster", f"{_count(dead, 'node')} that died", "none", "ray logs cluster gcs_server.out says why"
        )


def _count(number: float, what: str) -> str:
    return f"{number:g} {what}" + "s" * (number != 1)


def _job_server(address: str) -> Iterator[Finding]:
    """From outside a cluster only its job server is seen."""
    try:
        JobServer(address)
    except (ClusterError, UsageError) as error:
        yield wrong(f"job server at {address}", str(error), "one that takes jobs from here")
        return
    yield fine("cluster", f"the job server at {address} takes jobs from here")
    mend = "run it on a node of the cluster: python -m search.doctor --address auto"
    yield warning("nodes", "a job server only, through which they are not seen", mend=mend)


def _refusal(address: str) -> Finding | None:
    """Why the cluster would not let us in: Ray itself tries for long, and does not say."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    what, here = f"cluster at {address}", ray.__version__
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token" and read_token() is None:
        return wrong(what, "no token on this machine", _TOKEN, _GIVE_TOKEN)
    status, told = reach_port(host, int(port)) if host and port.isdecimal() else (200, "")
    if status and not address.startswith(("ray://", "local")):
        status, told = _health(address, os.environ)
    if status:
        return None
    if _REFUSED in told:
        return wrong(what, "the token of this machine is refused, or none is sent", _TOKEN, _GIVE_TOKEN)
    if "ersion mismatch" in told:
        mend = f"pip install 'ray[default,tune]=={here}' there, or its version here"
        return wrong(what, _last(told), f"Ray {here} as here", mend)
    mend = "ray start --head there; or leave out --address (and $RAY_ADDRESS) to use this machine"
    return wrong(what, f"no answer ({_last(told)})", "Ray", mend)


def _health(address: str, environment: Mapping[str, str]) -> tuple[int, str]:
    """200 where ``ray health-check`` finds all well; else 0, and what it says."""
    command = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "health-check"]
    command += ["--address", address]
    try:
        done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return 0, "nothing within 30 s"
    return (0, done.stderr + done.stdout) if done.returncode else (200, "")


def _last(told: str) -> str:
    """The line in which a program that failed says why."""
    lines = [line for line in told.splitlines() if line.strip() and not line.startswith((" ", "/", "***"))]
    return lines[-1] if lines else "nothing"


def _token(where: str) -> Finding:
    """Ask as a stranger would."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
    status, told = _health(ray.get_runtime_context().gcs_address, environment | {"RAY_AUTH_MODE": "disabled"})
    if status:
        mend = _ENABLE if "RAY_AUTH_MODE" not in os.environ else f"unset RAY_AUTH_MODE here; {_ENABLE}"
        return wrong("token", f"{where} takes commands from anybody who reaches it", "Ray's token authentication", mend)
    if _REFUSED in told:
        return fine("token", "who has none is refused by Ray")
    return warning("token", f"it could not be tried to come without one ({_last(told)})", "Ray to refuse that")


def _room(setup: Setup) -> Finding:
    """The share that a search with these flags would give each trial."""
    site = Site(cpus_per_trial=setup.cpus_per_trial, gpus_per_trial=setup.gpus_per_trial)
    nodes = [node.resources for node in setup.joined.nodes]
    try:
        setup.share = share_of(site, nodes, None, sys.maxsize)
    except ClusterError as error:
        found, _, mend = str(error).partition(". ")
        return wrong("room for a trial", found, "a node that has it", mend)
    share = setup.share
    return fine("room for a trial", f"{share.concurrent} at a time, each {share.cpus:g} CPU and {share.gpus:g} GPU")
