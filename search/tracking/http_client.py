"""Ask an MLflow server over HTTP exactly as MLflow's own client does: its certificates, proxies, user and password."""

# MLflow is imported where it is used: ``client`` must import it first, and these functions also run on nodes.

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from search.config.redaction import first_line, without_passwords

if TYPE_CHECKING:
    from requests import Response


def get(uri: str, path: str, **options: Any) -> Response:
    """Return the server's response, whatever its status.

    Parameters
    ----------
    options
        Of ``mlflow.utils.rest_utils.http_request``, as ``params`` and ``timeout``.

    Raises
    ------
    MlflowException
        There is no response.
    """
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    response: Response = http_request(get_default_host_creds(uri), path, "GET", raise_on_status=False, **options)
    return response


def reach_server(uri: str, timeout_s: float = 10) -> tuple[int, str]:
    """Return HTTP status and beginning of the response to a first question; 0 and the cause where there is none."""
    try:
        response = get(uri, "/health", timeout=timeout_s, max_retries=0)
    except Exception as error:  # whatever MLflow's client, a proxy or a certificate raises
        return 0, first_line(error)
    return response.status_code, response.text[:1000]


def redirection(uri: str, timeout_s: float = 10) -> str:
    """Return where a server sends its clients instead; empty: nowhere. What is written gets lost on that way."""
    try:
        response = get(uri, "/health", timeout=timeout_s, max_retries=0)
    except Exception:
        return ""
    if not response.history:
        return ""
    parts = urlsplit(response.url)
    return without_passwords(f"{parts.scheme}://{parts.netloc}{parts.path.removesuffix('/health')}")


def proxy_of(uri: str) -> str:
    """Return the proxy that requests to a server go through; empty: none. ``no_proxy`` is heeded as they heed it."""
    from requests.utils import get_environ_proxies, select_proxy

    return without_passwords(str(select_proxy(uri, get_environ_proxies(uri, None)) or ""))
