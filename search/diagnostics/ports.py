"""Whether the dashboard answers, and none of our servers accepts connections from other machines by accident."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ray._private.worker import get_dashboard_url

from search.config.addresses import join_address, split_address
from search.diagnostics.context import DRIVER, DiagnosticContext
from search.diagnostics.finding import Finding, fine, first_names, nodes_by_text, warning
from search.diagnostics.probes.network import public_servers, reach

_FIXES = {
    "Ray's dashboard": "ray start without --dashboard-host; look at it through ssh -L 8265:127.0.0.1:8265",
    "MLflow": "mlflow server --host 127.0.0.1; see mlflow/README.md for others to reach it",
}


def check(context: DiagnosticContext) -> Iterator[Finding]:
    """Check servers; Ray's own ports must be open to the network, and the check of the cluster tries the token."""
    servers_of = {} if context.on_node else {DRIVER: public_servers()}
    if context.cluster:
        results = context.cluster.run(public_servers, limit_s=context.node_limit_s)
        yield from results.error_findings("ports")
        servers_of |= results.values
    findings = list(_public(servers_of))
    yield from findings or [fine("ports", "neither dashboard nor MLflow listen beyond their machine")]
    if context.address and context.cluster:
        yield _check_dashboard()


def _public(servers_of: Mapping[str, list[tuple[str, str, int]]]) -> Iterator[Finding]:
    for server, fix in _FIXES.items():
        addresses = {
            node: first_names(join_address(address, port) for name, address, port in servers if name == server)
            for node, servers in servers_of.items()
        }
        for text, nodes in nodes_by_text({node: text for node, text in addresses.items() if text}).items():
            expected = "127.0.0.1, unless others are to reach it"
            yield warning(f"{server} on {nodes}", f"listening on {text}", expected, fix)


def _check_dashboard() -> Finding:
    url = get_dashboard_url()
    if not url:
        fix = "ray start --head --include-dashboard true (pip install 'ray[default]')"
        return warning("dashboard", "none", "one, for search.submit --to ray", fix)
    status, message = reach(f"http://{url}/api/version")
    if status:
        return fine("dashboard", f"http://{url} answers" + (", and asks for the token" if status in (401, 403) else ""))
    fix = f"ssh -L 8265:127.0.0.1:{split_address(url)[1]} HEAD, then --address http://127.0.0.1:8265"
    found = f"no answer at http://{url} ({message})"
    return warning("dashboard", found, "one, for search.submit --to ray from here", fix)
