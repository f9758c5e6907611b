"""A real PostgreSQL and a real ``mlflow server`` on it, which tests may stop, kill and start again."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psutil
import pytest
from proxy import FaultyProxy as FaultyProxy
from proxy import free_port as free_port
from proxy import listening

if TYPE_CHECKING:
    from mlflow import MlflowClient

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before mlflow is imported, by whatever test
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

MLFLOW = (sys.executable, "-m", "mlflow")
_QUIET = {  # nothing is sent out, and no more processes than needed
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


class _Process:
    """A process with its children, which does not outlive the tests, even where those are killed."""

    def __init__(self, command: Sequence[str], log: Path, *, remove: Path | None = None, **how: Any) -> None:
        """``remove``: a folder to delete where the tests die; ``how``: what ``Popen`` takes."""
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command,
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **how,
            )
        self._log = log
        # It reads the end of its input only when this process closes it or is gone.
        epilogue = 'read -r _; kill -KILL "-$0"; [ -z "$1" ] || { sleep 1; rm -rf "$1"; }'
        self._heir = subprocess.Popen(
            ["/bin/sh", "-c", epilogue, str(self._process.pid), str(remove or "")],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_until(self, ready: Callable[[], object], seconds: float) -> None:
        """Until ``ready`` raises no error any more.

        Raises
        ------
        RuntimeError
            The process ended before, or the time did; with the end of its log.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                ready()
                return
            except Exception as error:  # not yet
                if not self.running or time.monotonic() > deadline:
                    self.end(signal.SIGKILL)
                    command = " ".join(map(str, self._process.args))
                    tail = self._log.read_text()[-3000:]
                    raise RuntimeError(f"{command} did not start: {error}\n{tail}") from error
            time.sleep(0.05)

    def end(self, number: int, port: int = 0, *, only_parent: bool = False, seconds: float = 30) -> None:
        """Send the signal, to the children too unless told otherwise; return when all are gone and the port is free."""
        try:
            parent = psutil.Process(self._process.pid)
            family = [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            family = []
        _signal(family[:1] if only_parent else family, number)
        deadline = time.monotonic() + seconds
        while any(map(_alive, family)) and time.monotonic() < deadline:
            time.sleep(0.01)
        _signal(family, signal.SIGKILL)
        self._process.wait(seconds)
        with contextlib.suppress(ProcessLookupError):  # children that outlived a parent which died by itself
            os.killpg(self._process.pid, signal.SIGKILL)
        while port and listening(port) and time.monotonic() < deadline:  # a killed process closes it a little later
            time.sleep(0.01)
        self._heir.kill()
        self._heir.communicate()


def _signal(processes: Sequence[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _alive(process: psutil.Process) -> bool:
    """Not one that merely waits for somebody to ask how it ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Postgres:
    """A PostgreSQL cluster in a folder of its own, on 127.0.0.1, with a password made for it.

    ``uri(database)`` holds that password; ``address`` and ``password`` serve those who pass them separately.
    """

    USER = "mlflow"

    def __init__(self) -> None:
        self.binaries = self._find_binaries()
        self.port = free_port()
        self.password = secrets.token_urlsafe(12)
        self.address = f"127.0.0.1:{self.port}"
        self._owner = self._find_owner()
        # neither pytest's own folders nor a long path: another user must enter it, and a socket's name is short
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._process: _Process | None = None
        self._make_cluster()

    @staticmethod
    def _find_binaries() -> Path:
        """Newest installation that has both; the test is skipped where there is none."""
        folders = [Path(found).parent for found in [shutil.which("initdb")] if found]
        folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: folder.parent.name)[::-1]
        for folder in folders:
            if (folder / "initdb").exists() and (folder / "postgres").exists():
                return folder
        pytest.skip("PostgreSQL (initdb, postgres) is not installed: apt-get install postgresql")

    @staticmethod
    def _find_owner() -> pwd.struct_passwd | None:
        """PostgreSQL refuses to run as root; anybody else runs it as themselves."""
        if os.geteuid() != 0:
            return None
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(name)
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")

    def _as_owner(self) -> dict[str, Any]:
        if self._owner is None:
            return {}
        return {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []}

    def _make_cluster(self) -> None:
        password_file = self.folder / "password"
        password_file.write_text(self.password)
        if self._owner is not None:
            for path in (self.folder, password_file):
                os.chown(path, self._owner.pw_uid, self._owner.pw_gid)
        command = [self.binaries / "initdb", "--pgdata", self.folder / "data", "--username", self.USER]
        command += ["--pwfile", password_file, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"]
        done = subprocess.run(
            [*command, "--no-sync", "--no-instructions"],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
            **self._as_owner(),
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed:\n{done.stdout}")

    def uri(self, database: str = "postgres") -> str:
        return f"postgresql://{self.USER}:{quote(self.password)}@{self.address}/{database}"

    def start(self, seconds: float = 60) -> None:
        """Start it on its port and wait until it answers."""
        command = [str(self.binaries / "postgres"), "-D", str(self.folder / "data")]
        command += ["-c", f"port={self.port}", "-c", "listen_addresses=127.0.0.1"]
        command += ["-c", f"unix_socket_directories={self.folder}", "-c", "fsync=off", "-c", "max_connections=50"]
        self._process = _Process(command, self.folder / "log", remove=self.folder, **self._as_owner())
        self._process.wait_until(lambda: self.execute("select 1"), seconds)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement, each in a transaction of its own; returns its rows."""
        import psycopg

        with psycopg.connect(self.uri(database), autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str, like: str = "template1") -> str:
        """An empty database, or a copy of one that nobody is connected to; returns its URI."""
        self.execute(f'create database "{name}" template "{like}"')
        return self.uri(name)

    def stop(self) -> None:
        """As an administrator does (fast shutdown): connections are cut, everything is written."""
        self._end(signal.SIGINT, only_parent=True)

    def kill(self) -> None:
        """SIGKILL to all its processes: what was committed must come back by recovery."""
        self._end(signal.SIGKILL)

    def _end(self, number: int, **how: Any) -> None:
        if self._process is not None:
            self._process.end(number, self.port, **how)
            self._process = None

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class MlflowServer:
    """A real ``mlflow server`` in its own process group, with served artifacts; always on the same port.

    ``start(); stop(); start()`` and ``start(); kill(); start()`` keep database, artifacts and address.
    """

    def __init__(
        self,
        folder: Path,
        backend_uri: str,
        *,
        workers: int = 1,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        """``command`` replaces everything after ``mlflow``; there ``{port}`` and ``{folder}`` are filled in."""
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.artifacts = folder / "artifacts"
        self.log = folder / "server.log"
        self._environment = {**os.environ, **_QUIET, **(environment or {})}
        self._environment.pop("MLFLOW_TRACKING_URI", None)  # a server's store is not that of its clients
        own = ["server", "--host", "127.0.0.1", "--port", "{port}", "--workers", str(workers)]
        own += ["--backend-store-uri", backend_uri, "--artifacts-destination", "{folder}/artifacts", *options]
        self.command = [part.format(port=self.port, folder=folder) for part in command or own]
        self._process: _Process | None = None

    def client(self) -> MlflowClient:
        from mlflow import MlflowClient

        return MlflowClient(self.uri)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def start(self, seconds: float = 120) -> None:
        """Start it and wait until it answers; the first start on an empty database makes the tables."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = _Process([*MLFLOW, *self.command], self.log, env=self._environment)
        self._process.wait_until(self._ask, seconds)

    def _ask(self) -> None:
        with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
            answer.read()

    def stop(self) -> None:
        """SIGTERM to all its processes, as a service manager sends it."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to all its processes: nothing is finished, nobody is told."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.end(number, self.port)
            self._process = None


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    postgres = Postgres()
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.remove()


@contextlib.contextmanager
def running_server(folder: Path, backend_uri: str, **how: Any) -> Iterator[MlflowServer]:
    """``how``: what ``MlflowServer`` takes."""
    server = MlflowServer(folder, backend_uri, **how)
    try:
        server.start()
        yield server
    finally:
        server.kill()
