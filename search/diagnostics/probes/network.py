"""What a node can connect to, and which of our servers accept connections from other machines."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

_SERVERS = {"dashboard.py": "Ray's dashboard", "mlflow.server": "MLflow"}  # by a word of their command lines
_LOCAL_ONLY = {"--host=127.0.0.1", "--host=localhost", "--host=::1"}  # flags of a dashboard for this machine alone


def reach(url: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Return HTTP status and beginning of the response; 0 and the reason where there is none."""
    request = urllib.request.Request(url, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status), response.read(1000).decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read(1000).decode(errors="replace")
    except (OSError, ValueError) as error:
        return 0, str(getattr(error, "reason", error))


def reach_port(host: str, port: int) -> tuple[int, str]:
    """Return 200 if something listens on the port; else 0 and the reason."""
    try:
        socket.create_connection((host, port), timeout=10).close()
    except OSError as error:
        return 0, str(error)
    return 200, ""


def public_servers() -> list[tuple[str, str, int]]:
    """List dashboards and MLflow servers that listen on more than the loopback address: name, address, port.

    Processes of other users may be missing. The port of a dashboard's metrics is open in any case, as are Ray's other
    ports.
    """
    import psutil

    servers = set()
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status != psutil.CONN_LISTEN or connection.pid is None or _is_loopback(connection.laddr.ip):
            continue
        try:
            words = psutil.Process(connection.pid).cmdline()
        except psutil.Error:  # it has ended, or belongs to another user
            continue
        server = next((name for word, name in _SERVERS.items() if word in " ".join(words)), None)
        if server and not _LOCAL_ONLY & set(words):
            servers.add((server, connection.laddr.ip, connection.laddr.port))
    return sorted(servers)


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1" or address.startswith("::ffff:127.")
