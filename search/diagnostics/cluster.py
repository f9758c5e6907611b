"""Whether Ray can be joined, asks for a token, and has room for a trial. Connects the cluster for the other checks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

import ray

from search.cluster.ray_jobs import JobServer, read_token
from search.config.addresses import ray_address, split_address
from search.config.settings import Site
from search.diagnostics.context import DiagnosticContext
from search.diagnostics.finding import Finding, fine, warning, wrong
from search.diagnostics.nodes import Cluster
from search.diagnostics.probes.network import reach_port
from search.errors import ClusterError, UsageError
from search.tuning.autoscaler import autoscales
from search.tuning.local_ray import closed_home, default_folder, folder_problem
from search.tuning.resources import Nodes, gpu_names, ray_session, share_of

_REFUSED = "InvalidAuthToken"  # in Ray's message
_TOKEN = "the token of that cluster"
_GIVE_TOKEN = (
    "copy ~/.ray/auth_token of its head node to this machine (mode 600), or name the file in RAY_AUTH_TOKEN_PATH"
)
_ENABLE = (
    "ray get-auth-token --generate on the head node, the same ~/.ray/auth_token on every node, then start Ray again "
    "there with RAY_AUTH_MODE=token"
)


def check(context: DiagnosticContext) -> Iterator[Finding]:
    """Join the cluster, or start a Ray on this machine, until all checks are done."""
    address = context.address
    if address and address.startswith(("http://", "https://")):
        yield from _check_job_server(address)
        return
    if address and (problem := _refusal(address)):
        yield problem
        return
    if not address:
        yield from _check_own_ray()
    try:
        nodes = context.session.enter_context(ray_session(address))
    except ClusterError as error:
        yield wrong("cluster", str(error), "one that can be joined")
        return
    context.cluster = Cluster.connected()
    yield from _check_nodes(address, nodes)
    yield _check_token(address or "the Ray that a search starts here")
    yield _check_share(context)


def _check_own_ray() -> Iterator[Finding]:
    """Report what a Ray of our own cannot have where Ray looks for it; a search avoids both."""
    folder = default_folder()
    if problem := folder_problem(folder):
        fix = "nothing for a search, which takes another folder; for ray start: --temp-dir with a short, writable path"
        yield warning(f"Ray's folder {folder}", problem, "a folder for Ray's files and sockets", fix)
    if problem := closed_home():
        fix = "nothing for a search on this machine, which makes a token of its own; for clusters: RAY_AUTH_TOKEN_PATH"
        yield warning("Ray's token", problem, "a home that can be written", fix)


def _check_nodes(address: str | None, nodes: Nodes) -> Iterator[Finding]:
    cpus, gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    kinds = f" ({gpu_names(nodes)})" if gpu_names(nodes) else ""
    where = f"at {address}" if address else "started here"
    has = f"{_count(len(nodes), 'node')}, {_count(cpus, 'CPU')}, {_count(gpus, 'GPU')}{kinds}"
    yield fine("cluster", f"{where}, Ray {ray.__version__}: {has}")
    if dead := sum(not node["Alive"] for node in ray.nodes()):
        found = f"{_count(dead, 'node')} that died"
        yield warning("cluster", found, "none", "ray logs cluster gcs_server.out says why")


def _count(number: float, what: str) -> str:
    return f"{number:g} {what}" + "s" * (number != 1)


def _check_job_server(address: str) -> Iterator[Finding]:
    """From outside of a cluster only its job server can be checked."""
    try:
        JobServer(address)
    except (ClusterError, UsageError) as error:
        yield wrong(f"job server at {address}", str(error), "one that takes jobs from here")
        return
    yield fine("cluster", f"the job server at {address} takes jobs from here")
    fix = "run it on a node of the cluster: python -m search.doctor --address auto"
    yield warning("nodes", "a job server only, through which they are not seen", fix=fix)


def _refusal(address: str) -> Finding | None:
    """Find out why the cluster cannot be joined, because Ray itself retries for long and gives no reason."""
    what, here = f"cluster at {address}", ray.__version__
    try:
        address = ray_address(address)
        host, port = split_address(address)
    except ValueError as error:
        return wrong(what, str(error), "an address", "--address HOST:6379")
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token" and read_token() is None:
        return wrong(what, "no token on this machine", _TOKEN, _GIVE_TOKEN)
    status, message = reach_port(host, port) if port else (200, "")
    if status and not address.startswith(("ray://", "local")):
        status, message = _health(address, os.environ)
    if status:
        return None
    if _REFUSED in message:
        return wrong(what, "the token of this machine is refused, or none is sent", _TOKEN, _GIVE_TOKEN)
    if "ersion mismatch" in message:
        fix = f"pip install 'ray[default,tune]=={here}' there, or its version here"
        return wrong(what, _reason(message), f"Ray {here} as here", fix)
    fix = "ray start --head there; or leave out --address (and $RAY_ADDRESS) to use this machine"
    return wrong(what, f"no answer ({_reason(message)})", "Ray", fix)


def _health(address: str, environment: Mapping[str, str]) -> tuple[int, str]:
    """Return 200 if ``ray health-check`` succeeds; else 0 and its output."""
    command = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "health-check"]
    command += ["--address", address]
    try:
        done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return 0, "nothing within 30 s"
    return (0, done.stderr + done.stdout) if done.returncode else (200, "")


def _reason(output: str) -> str:
    """The line in which a program that failed gives its reason: the last one that is neither indented nor a path."""
    lines = [line for line in output.splitlines() if line.strip() and not line.startswith((" ", "/", "***"))]
    return lines[-1] if lines else "nothing"


def _check_token(where: str) -> Finding:
    """Try to connect without a token."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
    status, message = _health(ray.get_runtime_context().gcs_address, environment | {"RAY_AUTH_MODE": "disabled"})
    if status:
        fix = _ENABLE if "RAY_AUTH_MODE" not in os.environ else f"unset RAY_AUTH_MODE here; {_ENABLE}"
        return wrong("token", f"{where} takes commands from anybody who reaches it", "Ray's token authentication", fix)
    if _REFUSED in message:
        return fine("token", "Ray refuses connections without one")
    found = f"a connection without one could not be tried ({_reason(message)})"
    return warning("token", found, "Ray to refuse that")


def _check_share(context: DiagnosticContext) -> Finding:
    """Compute the share that a search with these flags would give each trial."""
    site = Site(cpus_per_trial=context.cpus_per_trial, gpus_per_trial=context.gpus_per_trial)
    nodes = [node.resources for node in context.connected_cluster.nodes]
    try:
        share = share_of(site, nodes, None, sys.maxsize)
    except ClusterError as error:
        found, _, fix = str(error).partition(". ")
        if autoscales():
            return warning(
                "room for a trial", found, "a node that has it", "nothing: the autoscaler adds one for a trial"
            )
        return wrong("room for a trial", found, "a node that has it", fix)
    context.share = share
    return fine("room for a trial", f"{share.concurrent} at a time, each {share.cpus:g} CPU and {share.gpus:g} GPU")
