"""Hosts with addresses, names and processes of their own on this one machine: namespaces joined by a bridge."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from server import _Process

LOCAL = "/var/tmp"  # a disk that each host has for itself; all others they share with this machine


class Host:
    """One host. What is started here sees only its own processes, and dies with ``kill``."""

    def __init__(self, network: Network, number: int) -> None:
        self.name = f"{network.name}n{number}"
        self.address = network.address(number)
        self._space = f"{network.name}-{number}"
        self._bridge_end = f"{network.name}v{number}"
        self._processes: list[_Process] = []
        inside = f"{network.name}w{number}"
        _ip("netns", "add", self._space)
        _ip("link", "add", self._bridge_end, "type", "veth", "peer", "name", inside, "netns", self._space)
        _ip("link", "set", self._bridge_end, "master", network.name, "up")
        _ip("-n", self._space, "address", "add", f"{self.address}/24", "dev", inside)
        for device in (inside, "lo"):
            _ip("-n", self._space, "link", "set", device, "up")
        _ip("-n", self._space, "route", "add", "default", "dev", inside)  # leads nowhere; who asks for it finds us

    def start(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> _Process:
        """A process that is the first one of the host, as far as it and its children see."""
        words = ["nsenter", f"--net=/run/netns/{self._space}"]
        words += ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        # a shell stays the first process, for somebody must see off those whose parents are gone
        alone = f'hostname "$0" && mount -t tmpfs tmpfs {LOCAL} && {{ "$@" & wait; }}'
        words += ["--uts", "/bin/sh", "-c", alone, self.name, *command]
        process = _Process(words, log, env={**os.environ, **(environment or {})})
        self._processes.append(process)
        return process

    def run(self, command: Sequence[str], seconds: float = 180) -> str:
        """What a command prints that has this host's network."""
        words = ["nsenter", f"--net=/run/netns/{self._space}", *command]
        return subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=True).stdout

    def kill(self) -> None:
        """As if its power were cut: its network first, so that nobody is told, then all its processes."""
        subprocess.run(["ip", "link", "delete", self._bridge_end], capture_output=True, check=False)
        for process in self._processes:
            process.end(signal.SIGKILL)
        self._processes.clear()

    def remove(self) -> None:
        self.kill()
        subprocess.run(["ip", "netns", "delete", self._space], capture_output=True, check=False)


class Network:
    """A bridge that only this machine and the hosts on it reach. ``gateway``: this machine's own address there."""

    def __init__(self) -> None:
        self.name = f"hs{secrets.token_hex(2)}"
        self._prefix = f"198.18.{secrets.randbelow(254)}"  # set aside for tests of networks: RFC 2544
        self.gateway = self.address(254)
        self.hosts: list[Host] = []
        # of its own, or it takes another one with each host that comes and goes, and those it talks to miss that
        _ip("link", "add", self.name, "address", "02:00:00:00:00:fe", "type", "bridge")
        _ip("address", "add", f"{self.gateway}/24", "dev", self.name)
        _ip("link", "set", self.name, "up")

    def address(self, number: int) -> str:
        return f"{self._prefix}.{number}"

    def add(self) -> Host:
        self.hosts.append(Host(self, len(self.hosts) + 1))
        return self.hosts[-1]

    def remove(self) -> None:
        for host in self.hosts:
            host.remove()
        subprocess.run(["ip", "link", "delete", self.name], capture_output=True, check=False)


@contextlib.contextmanager
def running_network(hosts: int) -> Iterator[Network]:
    """A network with so many hosts; skips the test where this machine does not allow it."""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"):
        pytest.skip("hosts in namespaces need root and iproute2: apt-get install iproute2")
    network = None
    try:
        try:
            network = Network()
            for _ in range(hosts):
                network.add()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine makes no network namespaces: {error.stderr.strip()}")
        yield network
    finally:
        if network is not None:
            network.remove()


def require_ray(log: Path) -> None:
    """For ``wait_until``: the ``ray start`` that writes this log has started or joined a cluster."""
    if "Ray runtime started" not in log.read_text():
        raise RuntimeError("Ray has not started yet")


def _ip(*words: Any) -> None:
    subprocess.run(["ip", *map(str, words)], capture_output=True, text=True, check=True, timeout=20)
