"""A real Slurm of two nodes on this machine, each in namespaces of its own, with its own munge, in one folder."""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hosts import Network, running_network
from proxy import free_port
from server import _Process

_PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")


class SlurmCluster:
    """A controller on this machine; on each host of the network a slurmd of one CPU and two GPUs that are none."""

    def __init__(self, folder: Path, network: Network) -> None:
        self.folder, self._network = folder, network
        self._started: list[_Process] = []
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self.nodes = [host.name for host in network.hosts]

    def start(self) -> None:
        for name in ("state", "munge"):
            (self.folder / name).mkdir(mode=0o755)
        self._start_munge()
        (self.folder / "slurm.conf").write_text(self._configuration())
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
        environment = os.environ | self.environment
        controller = _Process([_program("slurmctld"), "-D"], self.folder / "slurmctld.log", env=environment)
        self._started.append(controller)
        controller.wait_until(lambda: self.run("scontrol", "ping"), 30)
        for host in self._network.hosts:
            log = self.folder / f"{host.name}.log"
            host.start([_program("slurmd"), "-D", "-N", host.name], log, self.environment)
        controller.wait_until(self._require_idle, 60)

    def run(self, *command: str, cwd: Path | None = None, more: Mapping[str, str] | None = None) -> str:
        """What one of Slurm's commands prints."""
        done = subprocess.run(
            command,
            cwd=cwd,
            env=os.environ | self.environment | dict(more or {}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def state(self, job: str) -> str:
        """As ``scontrol`` says it: PENDING, RUNNING, COMPLETED, FAILED, ..."""
        return self.about(job)["JobState"]

    def about(self, job: str) -> dict[str, str]:
        words = self.run("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait_for_end(self, job: str, seconds: float) -> str:
        """The state in which it ended."""
        deadline = time.monotonic() + seconds
        while (state := self.state(job)) in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"job {job} is still {state}: {self.about(job)}")
            time.sleep(1)
        return state

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
            self.run("scancel", "--full", "--state=RUNNING")
            self.run("scancel")
        for host in self._network.hosts:
            host.kill()
        for process in reversed(self._started):
            process.end(signal.SIGKILL)

    def _require_idle(self) -> None:
        states = self.run("sinfo", "--noheader", "--format=%T %D").split()
        if states != ["idle", str(len(self.nodes))]:
            raise RuntimeError(f"nodes are {states}")

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        key = folder / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        options = [f"--socket={folder}/socket", f"--key-file={key}", f"--pid-file={folder}/pid"]
        options += [f"--log-file={folder}/log", f"--seed-file={folder}/seed", "--num-threads=2"]
        munged = _Process([_program("munged"), "--foreground", "--force", *options], self.folder / "munged.log")
        self._started.append(munged)
        munged.wait_until((folder / "socket").stat, 20)

    def _configuration(self) -> str:
        folder, here = self.folder, platform.node().partition(".")[0]
        nodes = "\n".join(
            f"NodeName={host.name} NodeHostname={host.name} NodeAddr={host.address} Port={free_port()} CPUs=1 "
            "RealMemory=4000 Gres=gpu:2"
            for host in self._network.hosts
        )
        return f"""\
ClusterName=tests
SlurmctldHost={here}({self._network.gateway})
SlurmctldPort={free_port()}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=10
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldPidFile={folder}/slurmctld.pid
MailProg=/bin/true
ReturnToService=2
KillWait=30
MpiDefault=none
JobCompType=jobcomp/none
GresTypes=gpu
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
{nodes}
PartitionName=all Nodes=ALL Default=YES State=UP MaxTime=60
"""


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if not found:
        pytest.skip(f"Slurm is not installed ({name} is missing): apt-get install slurm-wlm munge")
    return found


@contextlib.contextmanager
def running_slurm(folder: Path, nodes: int = 2) -> Iterator[SlurmCluster]:
    """Skips the test where Slurm or namespaces are not to be had."""
    for name in _PROGRAMS:
        _program(name)
    with running_network(nodes) as network:
        cluster = SlurmCluster(folder, network)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


if __name__ == "__main__":  # for a look around: python tests/slurm_cluster.py FOLDER
    with running_slurm(Path(sys.argv[1])) as running:
        print(running.environment, running.nodes)
        input("return to end it")
