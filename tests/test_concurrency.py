"""Laws of a cluster that grows and shrinks: as many trials run as it holds, and no point is drawn early."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest
from proxy import free_port
from server import _Process

from search.cluster.node import wait_for_port
from search.storage.event_log import read_entries
from search.storage.names import EVENT_LOG

QUICK = {  # a dead node is noticed within seconds
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
# An autoscaler of Ray's own that starts nodes as processes of this machine, and is to it what KubeRay's is to pods.
AUTOSCALER = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
KUBERAYS = {
    "disable_node_updaters": True,
    "disable_launch_config_check": True,
    "foreground_node_launch": True,
    "worker_liveness_check": False,  # a node that starts slowly is waited for
}
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
STEADY = ("--epochs", "6", "--set", "epoch_seconds=0.5", "--scheduler", "none")  # trials of three seconds
BY_HAND = ("--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0")


class Elastic:
    """A Ray on this machine whose nodes come and go, and one search on it in a process of its own."""

    def __init__(self, folder: Path, nodes: Path, settings: Mapping[str, str]) -> None:
        self._folder, self._nodes = folder, nodes
        self.address = f"127.0.0.1:{free_port()}"
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
        self._environment = outside | settings | {
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16), "RAY_USAGE_STATS_ENABLED": "0",
        }  # fmt: skip
        self._processes: list[_Process] = []
        self._search: subprocess.Popen[bytes] | None = None

    def head(self, cpus: int, *options: str) -> None:
        port = self.address.rpartition(":")[2]
        self._ray("--head", f"--port={port}", f"--num-cpus={cpus}", "--include-dashboard=false", *options)
        if not wait_for_port(self.address, 120):
            raise RuntimeError((self._folder / "node-0.log").read_text())

    def growing_head(self, most: int) -> None:
        """A head without CPUs, and an autoscaler that adds up to so many nodes of one CPU and removes none."""
        config = {
            "cluster_name": "growing",
            "max_workers": most,
            "upscaling_speed": 1.0,
            "idle_timeout_minutes": 60,
            "provider": {"type": "external", "module": PROVIDER, "gcs_address": self.address, **KUBERAYS},
            "head_node_type": "ray.head.default",
            "available_node_types": {
                "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
                "worker": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": most},
            },
        }
        config |= {name: {} for name in ("auth", "docker", "file_mounts")}
        config |= {name: [] for name in ("cluster_synced_files", "worker_setup_commands", "worker_start_ray_commands")}
        file = self._folder / "autoscaler.json"
        file.write_text(json.dumps(config))
        self.head(0, f"--autoscaling-config={file}")

    def join(self, cpus: int) -> _Process:
        return self._ray(f"--address={self.address}", f"--num-cpus={cpus}")

    def _ray(self, *options: str) -> _Process:
        number = len(self._processes)
        command = [
            str(Path(sys.executable).parent / "ray"),
            "start",
            "--block",
            "--object-store-memory=80000000",
            *options,
        ]
        command += [*BY_HAND, "--node-ip-address=127.0.0.1", f"--temp-dir={self._nodes}/{number}"]
        self._processes.append(_Process(command, self._folder / f"node-{number}.log", env=self._environment))
        return self._processes[-1]

    def start_search(self, *flags: str) -> None:
        tests = Path(__file__).parent
        words = (
            "tiny",
            "--storage",
            self._folder,
            "--name",
            "s",
            "--presets",
            "none",
            "--tracking-uri",
            "journal",
            *STEADY,
        )
        environment = self._environment | {"RAY_ADDRESS": self.address, "PYTHONPATH": f"{tests.parent}:{tests}"}
        with (self._folder / "search.log").open("w") as log:
            self._search = subprocess.Popen(
                [sys.executable, tests / "alone.py", *words, *flags],
                env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=self._folder,
            )  # fmt: skip

    @property
    def words(self) -> str:
        return (self._folder / "search.log").read_text()

    def epochs(self) -> list[tuple[float, int]]:
        """Time and trial of each epoch so far."""
        log = self._folder / "searches" / "s" / EVENT_LOG
        entries = read_entries(log) if log.exists() else ()
        return [(entry.at_ms / 1000, entry.content["number"]) for entry in entries if entry.event == "epoch_ended"]

    def at_once(self, seconds: float) -> int:
        """Trials that ended an epoch in the last seconds."""
        return len({trial for at, trial in self.epochs() if at > time.time() - seconds})

    def wait_until(self, there: Callable[[], bool], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not there():
            assert self._search
            assert self._search.poll() is None, self.words
            assert time.monotonic() < deadline, self.words
            time.sleep(0.2)

    def end(self, seconds: float = 180) -> int:
        assert self._search
        return self._search.wait(seconds)

    def close(self) -> None:
        if self._search:
            self._search.kill()
            self._search.wait()
        for process in self._processes:
            process.end(signal.SIGKILL)
        for stray in psutil.process_iter(["cmdline"]):  # of nodes that an autoscaler started
            if any(f"{self._nodes}/" in word for word in stray.info["cmdline"] or ()):
                stray.kill()


@pytest.fixture
def elastic(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Elastic]:
    nodes = Path(tempfile.mkdtemp(prefix="el", dir="/tmp"))
    cluster = Elastic(tmp_path, nodes, getattr(request, "param", QUICK))
    yield cluster
    cluster.close()
    shutil.rmtree(nodes, ignore_errors=True)


@pytest.mark.slow
def test_trials_follow_nodes_that_join_and_leave(elastic: Elastic) -> None:
    elastic.head(1)
    elastic.start_search("--trials", "8", "--epochs", "6", "--retries", "5")
    elastic.wait_until(lambda: len(elastic.epochs()) >= 2)
    assert "1 trials at a time, each 1 CPU and no GPU, up to 8 at a time if nodes join" in elastic.words
    assert len({trial for _, trial in elastic.epochs()}) == 1, "a trial was proposed that has no room"
    joined = elastic.join(1)
    elastic.wait_until(lambda: elastic.at_once(1.5) >= 2)
    joined.end(signal.SIGKILL)
    left = time.time()
    elastic.wait_until(lambda: len({trial for at, trial in elastic.epochs() if at > left + 3}) >= 2)
    assert elastic.end() == 0, elastic.words
    later = sorted((at, trial) for at, trial in elastic.epochs() if at > left + 3)
    turns = sum(trial != before for (_, trial), (_, before) in zip(later[1:], later, strict=False))
    assert turns <= len({trial for _, trial in later}), "two trials took turns on what is left"
    assert "8 complete" in elastic.words, elastic.words[-3000:]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("elastic", [AUTOSCALER], indirect=True)
def test_a_search_that_begins_on_a_head_without_cpus_makes_its_cluster_grow(elastic: Elastic) -> None:
    elastic.growing_head(2)
    elastic.start_search("--trials", "4", "--max-concurrent", "2")
    elastic.wait_until(lambda: bool(elastic.epochs()), 500)
    assert "no node has room for a trial yet: waiting for one with 1 CPU and 0 GPU" in elastic.words
    assert elastic.end(500) == 0, elastic.words
    assert "4 complete" in elastic.words, elastic.words[-3000:]
    seen = [[at for at, trial in elastic.epochs() if trial == number] for number in range(4)]
    beginnings, ends = [min(times) for times in seen], [max(times) for times in seen]
    at_once = max(sum(begin <= now < end for begin, end in zip(beginnings, ends, strict=True)) for now in beginnings)
    assert at_once == 2, seen
