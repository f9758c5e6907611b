"""Whether the dashboard answers, and nothing of ours listens to strangers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ray._private.worker import get_dashboard_url

from search.diagnostics.context import DRIVER, Setup
from search.diagnostics.finding import Finding, alike, fine, names, warning
from search.diagnostics.probes.network import listening, reach

_MENDS = {
    "Ray's dashboard": "ray start without --dashboard-host; look at it through ssh -L 8265:127.0.0.1:8265",
    "MLflow": "mlflow server --host 127.0.0.1; see mlflow/README.md for others to reach it",
}


def check(setup: Setup) -> Iterator[Finding]:
    """Ray's own ports are open to the network, as they must be: the check of the token is about them."""
    told = {} if setup.is_node else {DRIVER: listening()}
    if setup.cluster:
        answers = setup.cluster.ask(listening, limit_s=setup.patience_s)
        yield from answers.complaints("ports")
        told |= answers.of
    yield from _public(told)
    if setup.address and setup.cluster:
        yield _dashboard()


def _public(told: Mapping[str, list[tuple[str, str, int]]]) -> Iterator[Finding]:
    found = False
    for server, mend in _MENDS.items():
        addresses = {
            node: names(f"{address}:{port}" for name, address, port in ports if name == server)
            for node, ports in told.items()
        }
        for text, nodes in alike({node: text for node, text in addresses.items() if text}).items():
            found = True
            yield warning(
                f"{server} on {nodes}", f"listening on {text}", "127.0.0.1, unless others are to reach it", mend
            )
    if not found:
        yield fine("ports", "neither dashboard nor MLflow listen beyond their machine")


def _dashboard() -> Finding:
    url = get_dashboard_url()
    if not url:
        mend = "ray start --head --include-dashboard true (pip install 'ray[default]')"
        return warning("dashboard", "none", "one, for search.submit --to ray", mend)
    status, told = reach(f"http://{url}/api/version")
    if status:
        return fine("dashboard", f"http://{url} answers" + (", and asks for the token" if status in (401, 403) else ""))
    mend = f"ssh -L 8265:127.0.0.1:{url.rpartition(':')[2]} HEAD, then --address http://127.0.0.1:8265"
    return warning(
        "dashboard", f"no answer at http://{url} ({told})", "one, for search.submit --to ray from here", mend
    )
