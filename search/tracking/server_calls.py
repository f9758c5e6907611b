"""Call MLflow, and decide of each failure whether the server refused the request or does not answer."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import Any

from search.config.redaction import first_line

NEVER = {400, 404, 409, 413, 422}  # HTTP statuses that another attempt will not change
_PASSING = {401, 408, 425, 429}  # of 4xx: a password that is being changed, a busy server
_STORE_REFUSES = {501, 505, 507, 508}  # of 5xx: 507 is a quota
_NO_LOGIN = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError"}  # of stores
_LOCAL = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EROFS, errno.ENAMETOOLONG}
_FRONT_SERVER = re.compile(r"API request to endpoint \S+ failed with error code (\d{3}) != ")


class UnavailableError(Exception):
    """The server does not answer, or not now; the request makes sense later."""


class RefusedError(Exception):
    """The server or its store does not accept the request as long as nobody changes something there."""


def call_server(request: Callable[[], Any]) -> Any:
    """Return what a request returns; raise ``RefusedError`` or ``UnavailableError`` where it fails."""
    try:
        return request()
    except Exception as error:
        raise _failure(error, refused=status_of(error) in NEVER) from error


def upload(request: Callable[[], Any]) -> None:
    """Upload a file; raise as ``call_server`` does.

    More counts as refused, because no other file waits for this one, and a refused file is kept: permissions, quotas,
    a missing library or login of the store, and errors of a local file system other than a full disk.
    """
    try:
        request()
    except Exception as error:
        raise _failure(error, refused=_refuses_file(error)) from error


def status_of(error: Exception) -> int:
    """Return the HTTP status of an error; 503 for errors without one, as of a connection, a lock or a disk."""
    if of_front_server := _FRONT_SERVER.search(str(error)):  # MLflow has no code for most of its statuses
        return int(of_front_server[1])
    if of_mlflow := getattr(error, "get_http_status_code", None):
        return int(of_mlflow())
    for inner in (error, error.__cause__, error.__context__):  # boto3 wraps what its store answers
        response = getattr(inner, "response", None)
        of_store = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
        if status := of_store.get("HTTPStatusCode") or getattr(response, "status_code", None):
            return int(status)
    return 503


def _failure(error: Exception, *, refused: bool) -> Exception:
    return (RefusedError if refused else UnavailableError)(first_line(error))


def lacks_access(error: BaseException | None) -> bool:
    """Return whether this machine lacks the library or the login of an object store."""
    return isinstance(error, ImportError) or type(error).__name__ in _NO_LOGIN


def _refuses_file(error: Exception) -> bool:
    if lacks_access(error) or (isinstance(error, OSError) and error.errno in _LOCAL):
        return True
    status = status_of(error)
    return (400 <= status < 500 and status not in _PASSING) or status in _STORE_REFUSES
