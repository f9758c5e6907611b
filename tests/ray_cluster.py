"""A real Ray cluster on this machine: a head and workers, each on a host of its own, with a token and a job server."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path

from hosts import LOCAL, Host, Network, require_ray, running_network
from proxy import free_port
from ray.job_submission import JobStatus, JobSubmissionClient
from server import _Process

from search.cluster.node import wait_for_port

_RAY = (str(Path(sys.executable).parent / "ray"), "start", "--block", "--object-store-memory=150000000")
_QUICK = {  # a dead node is noticed within seconds
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}


class RayCluster:
    """A head without CPUs, so that trials run on the workers; each of those has one CPU and two GPUs that are none."""

    def __init__(self, folder: Path, network: Network) -> None:
        self.folder, self._network = folder, network
        self.head = network.add()
        self.workers: list[Host] = []
        self.token = secrets.token_hex(16)
        self._gcs, self._jobs = free_port(), free_port()

    @property
    def address(self) -> str:
        return f"http://{self.head.address}:{self._jobs}"

    @property
    def environment(self) -> dict[str, str]:
        """Of somebody who may use the cluster."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}

    def start(self) -> None:
        place = f"--node-ip-address={self.head.address}"
        ports = (f"--port={self._gcs}", f"--dashboard-port={self._jobs}", f"--dashboard-host={self.head.address}")
        self._ray(self.head, "--head", place, *ports, "--num-cpus=0", "--ray-client-server-port=20001")
        if not wait_for_port(f"{self.head.address}:{self._jobs}", 120):
            raise RuntimeError((self.folder / f"{self.head.name}.log").read_text()[-3000:])

    def add_workers(self, count: int) -> None:
        """So many more nodes; returns when they have joined."""
        join = (f"--address={self.head.address}:{self._gcs}", "--num-cpus=1", "--num-gpus=2")
        hosts = [self._network.add() for _ in range(count)]
        for host, process in [(host, self._ray(host, *join)) for host in hosts]:
            process.wait_until(partial(require_ray, self.folder / f"{host.name}.log"), 180)
        self.workers += hosts

    def submit(self, *words: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """``python -m search.submit`` with these words, to this cluster, in a process of its own."""
        return subprocess.run(self.command(*words), timeout=seconds, check=False, **self.how)

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "search.submit", *words]

    @property
    def how(self) -> dict[str, object]:
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
        environment = outside | self.environment | {"COLUMNS": "200"}
        return {"capture_output": True, "text": True, "env": environment, "cwd": Path(__file__).parents[1]}

    def start_job(self, *words: str) -> str:
        """Any command, as a job on the head; returns the job's id."""
        return str(self._client.submit_job(entrypoint=shlex.join(words)))

    def run_job(self, *words: str) -> None:
        """Any command, as a job on the head; returns when it has ended well."""
        client, id = self._client, self.start_job(*words)
        while not client.get_job_status(id).is_terminal():
            time.sleep(0.2)
        if client.get_job_status(id) != JobStatus.SUCCEEDED:
            raise RuntimeError(f"{shlex.join(words)}\n{client.get_job_logs(id)}")

    @cached_property
    def _client(self) -> JobSubmissionClient:
        """Of a head that answers: it asks at once."""
        return JobSubmissionClient(self.address, headers={"Authorization": f"Bearer {self.token}"})

    def start_on_head(self, command: list[str], name: str, environment: Mapping[str, str] | None = None) -> None:
        self.head.start(command, self.folder / f"{name}.log", environment)

    def _ray(self, host: Host, *options: str) -> _Process:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = _QUICK | self.environment | {"PATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
        ports = ("--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0")
        command = [*_RAY, *options, *ports, f"--temp-dir={LOCAL}/ray"]
        return host.start(command, self.folder / f"{host.name}.log", environment)


@contextlib.contextmanager
def running_cluster(folder: Path, workers: int) -> Iterator[RayCluster]:
    """Skips the test where this machine makes no namespaces."""
    with running_network(0) as network:
        cluster = RayCluster(folder, network)
        cluster.start()
        cluster.add_workers(workers)
        yield cluster
