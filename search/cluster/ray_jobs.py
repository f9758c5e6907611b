"""Ray Jobs: a search sent to a running cluster, followed, asked for and stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import join
from typing import Any
from urllib.parse import urlsplit

import ray
from aiohttp import ClientError
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from search.cluster.code_archive import Package, lock, pack
from search.cluster.job_spec import SearchRequest
from search.config.environment import changed_environment
from search.config.provenance import git_commit
from search.config.redaction import first_line, without_passwords
from search.errors import ClusterError, UsageError

USUAL_ADDRESS = "http://127.0.0.1:8265"
LEAVE_S = 60  # a stopped search gets to close its trials; Ray's own patience is 3 s
_RECONNECT_S = 2.0
_SILENT_S = 60.0  # a stream without a word for so long may be a dead one
_CHATTER = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")  # loggers: packages, sockets
_ENDED_EARLY = 130
_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # these go before what Ray's client is told


def read_token() -> str | None:
    """Ray's token from the places where Ray looks for it; it is neither kept nor shown.

    Raises
    ------
    ClusterError
        ``$RAY_AUTH_TOKEN_PATH`` names a file that cannot be read.
    """
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return None
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    file = Path(named).expanduser() if named else Path.home() / ".ray" / "auth_token"
    try:
        return file.read_text().strip() or None
    except OSError as error:
        if named:
            raise ClusterError(f"$RAY_AUTH_TOKEN_PATH: {file} cannot be read: {error.strerror}.") from error
        return None


class JobServer:
    """The job server of one cluster.

    Raises
    ------
    ClusterError
        Nothing answers at the address, or it refuses the token.
    """

    def __init__(self, address: str | None) -> None:
        for name in _CHATTER:
            logging.getLogger(name).setLevel(logging.WARNING)
        self.address = (address or os.environ.get("RAY_API_SERVER_ADDRESS") or USUAL_ADDRESS).rstrip("/")
        _require_http(self.address)
        token = read_token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with self._errors(), changed_environment(dict.fromkeys(_ADDRESSES)):
            _require_listener(self.address)
            self._client = JobSubmissionClient(self.address, headers=headers)

    def submit(self, request: SearchRequest, *, pip: bool, include: Sequence[Path], exclude: Sequence[str]) -> str:
        """Pack, check, send; returns the job's id."""
        requirements = lock() if pip else []
        with tempfile.TemporaryDirectory() as folder:
            package = pack(Path(folder) / "code.zip", include, exclude)
            with self._errors():
                self._require_same_ray()
                return str(
                    self._client.submit_job(
                        entrypoint=join(request.command),
                        submission_id=f"{request.name}.{secrets.token_hex(3)}",
                        runtime_env=runtime_environment(package, requirements),
                        metadata={"search": request.name, "workload": request.what},
                    )
                )

    def find(self, id: str) -> Any:
        """What the server knows of a job, by its id or by the name of its search (then the newest one).

        Raises
        ------
        UsageError
            There is none.
        """
        with self._errors():
            jobs = [job for job in self._client.list_jobs() if job.submission_id]
        found = [job for job in jobs if id in (job.submission_id, (job.metadata or {}).get("search"))]
        if not found:
            known = ", ".join(sorted(str(job.submission_id) for job in jobs)) or "none"
            raise UsageError(f"No job {id!r} at {self.address}. There: {known}.")
        return max(found, key=lambda job: job.start_time or 0)

    def stop(self, id: str) -> None:
        """Ask the search to close its trials and leave."""
        with self._errors():
            self._client.stop_job(id)

    def follow(self, id: str) -> int:
        """Show the job's output until it ends; returns its exit code.

        Ray's stream of the output may break off, fall silent or be refused by a proxy while the job goes on: then
        what it withheld is read from the log, and a new one is opened.
        """
        shown = 0

        def show(text: str, start: int = 0) -> None:
            nonlocal shown
            print(text[max(0, shown - start) :], end="", flush=True)
            shown = max(shown, start + len(text))

        async def stream() -> None:
            received = 0
            async with asyncio.timeout(_SILENT_S) as patience:
                async for text in self._client.tail_job_logs(id):  # from the beginning, each time
                    patience.reschedule(asyncio.get_running_loop().time() + _SILENT_S)
                    show(text, start=received)
                    received += len(text)

        while True:
            with self._errors():
                with suppress(RuntimeError, TimeoutError, ClientError):
                    asyncio.run(stream())
                _require_listener(self.address)
            job = self.find(id)  # before the log, which is whole then if the job has ended
            with suppress(RuntimeError, OSError):
                show(self._client.get_job_logs(id))
            if job.status.is_terminal():
                return exit_code(job)
            time.sleep(_RECONNECT_S)

    def _require_same_ray(self) -> None:
        theirs = self._client._server_ray_version  # Ray asks for it, and has no public word for the answer
        if theirs != ray.__version__:
            raise ClusterError(
                f"The cluster at {self.address} runs Ray {theirs}, this project Ray {ray.__version__}. Both must be "
                f"the same: on the cluster, pip install 'ray[default,tune]=={ray.__version__}'."
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except AuthenticationError as error:
            raise ClusterError(
                f"The cluster at {self.address} refuses the token, or there is none. Put the cluster's token into "
                "$RAY_AUTH_TOKEN, a file that $RAY_AUTH_TOKEN_PATH names, or ~/.ray/auth_token "
                "(on the head: ray get-auth-token)."
            ) from error
        except (OSError, RuntimeError, UnicodeError) as error:  # the last one: no name of a host
            raise ClusterError(
                f"The job server at {self.address}: {first_line(error)}\n"
                "Is the cluster up (ray start --head), with ray[default] installed? From outside, an SSH tunnel: "
                "ssh -L 8265:127.0.0.1:8265 HEAD, then --address http://127.0.0.1:8265."
            ) from error


def runtime_environment(package: Package, requirements: Sequence[str]) -> dict[str, Any]:
    """What Ray prepares on each node: the code, and, where asked for, the locked versions. No secret is in it."""
    environment: dict[str, Any] = {
        "working_dir": str(package.path),
        "env_vars": {
            "PYTHONUNBUFFERED": "1",
            "RAY_JOB_STOP_WAIT_TIME_S": str(LEAVE_S),
            "RAY_USAGE_STATS_ENABLED": "0",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "SEARCH_GIT_COMMIT": git_commit(),
        },
    }
    return environment | ({"pip": {"packages": list(requirements), "pip_check": False}} if requirements else {})


def exit_code(job: Any) -> int:
    """That of the search, as far as Ray tells it."""
    if job.status == JobStatus.SUCCEEDED:
        return 0
    if job.status == JobStatus.STOPPED:
        return _ENDED_EARLY
    return int(job.driver_exit_code or 1)


def _require_http(address: str) -> None:
    if "@" in address or without_passwords(address) != address:
        raise UsageError("--address: a password in the address would be shown. Use Ray's token: $RAY_AUTH_TOKEN.")
    expected = "expected the cluster's dashboard, as in http://HOST:8265 (not Ray's port 6379)"
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018  # it is read only here
    except ValueError as error:
        raise UsageError(f"--address {address}: {expected}; {error}.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--address {address}: {expected}.")


def _require_listener(address: str) -> None:
    """Ray's client would wait for minutes."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    socket.create_connection((parts.hostname, port), timeout=10).close()
