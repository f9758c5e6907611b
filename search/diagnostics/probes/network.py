"""What a node reaches, and what of ours it lets others reach."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

_SERVERS = {"dashboard.py": "Ray's dashboard", "mlflow.server": "MLflow"}  # by a word of their command lines
_HERE = {"--host=127.0.0.1", "--host=localhost", "--host=::1"}  # a dashboard that listens to this machine alone


def reach(url: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """HTTP status and the beginning of the answer; 0 and the reason where nothing answers."""
    request = urllib.request.Request(url, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status), answer.read(1000).decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read(1000).decode(errors="replace")
    except (OSError, ValueError) as error:
        return 0, str(getattr(error, "reason", error))


def reach_port(host: str, port: int) -> tuple[int, str]:
    """As ``reach``, of whatever listens there."""
    try:
        socket.create_connection((host, port), timeout=10).close()
    except OSError as error:
        return 0, str(error)
    return 200, ""


def listening() -> list[tuple[str, str, int]]:
    """Dashboards and MLflow servers that listen beyond this machine: which, address, port.

    As far as processes can be seen. (A dashboard's port of metrics is open anyway, as Ray's other ports are.)
    """
    import psutil

    found = set()
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status != psutil.CONN_LISTEN or connection.pid is None or _loopback(connection.laddr.ip):
            continue
        try:
            words = psutil.Process(connection.pid).cmdline()
        except psutil.Error:  # gone meanwhile, or somebody else's
            continue
        server = next((name for word, name in _SERVERS.items() if word in " ".join(words)), None)
        if server and not _HERE & set(words):
            found.add((server, connection.laddr.ip, connection.laddr.port))
    return sorted(found)


def _loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1" or address.startswith("::ffff:127.")
