"""Ray Jobs: submit a search to a running cluster, follow its output, query it and stop it."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import ray
from aiohttp import ClientError
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from search.cluster.code_archive import CodeArchive, locked_requirements, pack
from search.config.environment import changed_environment
from search.config.provenance import git_commit
from search.config.redaction import first_line, without_passwords
from search.errors import ClusterError, UsageError
from trainables.runtime import telemetry

if TYPE_CHECKING:
    from search.cluster.job_spec import JobSpec

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
STOP_TIMEOUT_S = 60  # in which a stopped search closes its trials; Ray's default is 3 s
_RECONNECT_S = 2.0
_STREAM_TIMEOUT_S = 60.0  # without output for so long, the stream may be broken
_NOISY_LOGGERS = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
_INTERRUPTED = 130


def read_token() -> str | None:
    """Read Ray's token from the places where Ray looks for it. It is neither stored nor shown.

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
        for name in _NOISY_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        self.address = (address or os.environ.get("RAY_API_SERVER_ADDRESS") or DEFAULT_ADDRESS).rstrip("/")
        _require_http(self.address)
        token = read_token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # Ray's client would prefer these variables to the address
        with self._errors(), changed_environment({"RAY_API_SERVER_ADDRESS": None, "RAY_ADDRESS": None}):
            _require_listener(self.address)
            self._client = JobSubmissionClient(self.address, headers=headers)

    def submit(self, job: JobSpec, *, pip: bool, include: Sequence[Path], exclude: Sequence[str]) -> str:
        """Pack the code, check it and Ray's version, and send the job; returns the job's id."""
        requirements = locked_requirements() if pip else []
        with tempfile.TemporaryDirectory() as folder:
            archive = pack(Path(folder) / "code.zip", include, exclude)
            with self._errors():
                self._require_same_ray()
                return str(
                    self._client.submit_job(
                        entrypoint=join(job.command),
                        submission_id=f"{job.name}.{secrets.token_hex(3)}",
                        runtime_env=runtime_environment(archive, requirements),
                        metadata={"search": job.name, "workload": job.workload},
                    )
                )

    def find_job(self, id: str) -> Any:
        """Return Ray's details of a job by its id, or of the newest job of a search by the search's name.

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
        """Ask the search to close its trials and end."""
        with self._errors():
            self._client.stop_job(id)

    def follow(self, id: str, show: Callable[[str], object]) -> int:
        """Show the job's output until it ends; returns its exit code.

        Ray's stream of the output may break off, stop or be refused by a proxy while the job runs. Then the missing
        output is read from the log, and a new stream is opened.
        """
        shown = 0

        def show_new(text: str, start: int = 0) -> None:
            nonlocal shown
            show(text[max(0, shown - start) :])
            shown = max(shown, start + len(text))

        async def stream() -> None:
            received = 0
            async with asyncio.timeout(_STREAM_TIMEOUT_S) as timeout:
                async for text in self._client.tail_job_logs(id):  # from the beginning, each time
                    timeout.reschedule(asyncio.get_running_loop().time() + _STREAM_TIMEOUT_S)
                    show_new(text, start=received)
                    received += len(text)

        while True:
            with self._errors():
                with suppress(RuntimeError, TimeoutError, ClientError):
                    asyncio.run(stream())
                _require_listener(self.address)
            job = self.find_job(id)  # before the log, which is then complete if the job has ended
            with suppress(RuntimeError, OSError):
                show_new(self._client.get_job_logs(id))
            if job.status.is_terminal():
                return exit_code(job)
            time.sleep(_RECONNECT_S)

    def _require_same_ray(self) -> None:
        theirs = self._client._server_ray_version  # there is no public attribute
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
        except (OSError, RuntimeError, UnicodeError) as error:  # the last one: not the name of a host
            raise ClusterError(
                f"The job server at {self.address}: {first_line(error)}\n"
                "Is the cluster up (ray start --head), with ray[default] installed? From outside, an SSH tunnel: "
                "ssh -L 8265:127.0.0.1:8265 HEAD, then --address http://127.0.0.1:8265."
            ) from error


def runtime_environment(archive: CodeArchive, requirements: Sequence[str]) -> dict[str, Any]:
    """Describe what Ray prepares on each node: code, variables without secrets, and packages if there are any."""
    prepared: dict[str, Any] = {
        "working_dir": str(archive.path),
        "env_vars": {
            "PYTHONUNBUFFERED": "1",
            "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_TIMEOUT_S),
            **telemetry.OFF,
            "SEARCH_GIT_COMMIT": git_commit(),
        },
    }
    return prepared | ({"pip": {"packages": list(requirements), "pip_check": False}} if requirements else {})


def exit_code(job: Any) -> int:
    """Exit code of the search, as far as Ray reports it."""
    if job.status == JobStatus.SUCCEEDED:
        return 0
    if job.status == JobStatus.STOPPED:
        return _INTERRUPTED
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
    """Connect once, because Ray's client would try for minutes."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    socket.create_connection((parts.hostname, port), timeout=10).close()
