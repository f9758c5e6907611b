"""Laws of shares: as many trials at a time as really fit, and a clear word where none does."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import ray

from search.config.settings import Site
from search.errors import ClusterError
from search.tuning.local_ray import SESSION_BYTES, SOCKET_BYTES, closed_home, folder_problem, local_ray, ray_folder
from search.tuning.resources import Share, gpu_names, share_of
from trainables.runtime.machine_limits import MachineLimits, machine_limits


def share(*nodes: tuple[float, float], wanted: int | None = None, samples: int = 1000, **site: Any) -> Any:
    """On nodes of so many (CPUs, GPUs)."""
    told = [{"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus} for cpus, gpus in nodes]
    return share_of(Site(**site), told, wanted, samples)


def test_without_flags_each_trial_gets_a_cpu_and_where_there_are_any_a_gpu() -> None:
    assert share((8, 0)) == Share(cpus=1, gpus=0, concurrent=8)
    assert share((8, 2)) == Share(cpus=1, gpus=1, concurrent=2)
    assert share((8, 0), (4, 1)) == Share(cpus=1, gpus=1, concurrent=1)


@pytest.mark.parametrize(
    ("nodes", "site", "fits"),
    [
        ([(8, 0)], {"cpus_per_trial": 2}, 4),
        ([(8, 0)], {"cpus_per_trial": 3}, 2),
        ([(8, 4)], {"gpus_per_trial": 2}, 2),
        ([(8, 4)], {"gpus_per_trial": 0.5}, 8),
        ([(64, 1)], {"gpus_per_trial": 0.1}, 10),  # 1.0 // 0.1 is 9
        ([(64, 2)], {"gpus_per_trial": 0.2}, 10),
        ([(64, 2)], {"gpus_per_trial": 0.6}, 2),  # a fraction lies on one GPU
        ([(1, 0)], {"cpus_per_trial": 0.1}, 10),
        ([(8, 4)], {"gpus_per_trial": 0}, 8),
        ([(3, 0), (3, 0), (3, 0)], {"cpus_per_trial": 2}, 3),  # a trial lies on one node
        ([(8, 0), (2, 2)], {"gpus_per_trial": 1}, 2),
    ],
)
def test_as_many_trials_run_as_fit_on_the_nodes(
    nodes: list[tuple[float, float]], site: dict[str, float], fits: int
) -> None:
    assert share(*nodes, **site).concurrent == fits


def test_no_more_trials_run_than_are_wanted_or_there_are() -> None:
    assert share((8, 0), wanted=3).concurrent == 3
    assert share((8, 0), wanted=30).concurrent == 8
    assert share((8, 0), samples=2).concurrent == 2


@pytest.mark.parametrize("site", [{"cpus_per_trial": 4}, {"gpus_per_trial": 1}])
def test_a_trial_that_fits_nowhere_is_refused_in_numbers(site: dict[str, float]) -> None:
    with pytest.raises(ClusterError, match=r"have 2 CPUs and 0 GPUs; 3 CPUs .* Lower --cpus-per-trial"):
        share((2, 0), (3, 0), **site)


def test_the_bundle_asks_for_a_gpu_only_where_one_is_given() -> None:
    assert share((2, 0)).bundle == {"CPU": 1}
    assert share((2, 1)).bundle == {"CPU": 1, "GPU": 1}


def test_gpus_are_named_as_ray_names_them() -> None:
    nodes = [{"CPU": 4.0, "GPU": 1.0, "accelerator_type:H100": 1.0}, {"CPU": 4.0}]
    assert gpu_names(nodes) == "H100"
    assert gpu_names([{"CPU": 4.0}]) == ""


# --- a Ray of this machine alone

LISTENING = """
import os, psutil
from search.tuning.resources import ray_session
with ray_session(None):
    ours = {process.pid for process in psutil.Process().children(recursive=True)} | {os.getpid()}
    for socket in psutil.net_connections(kind="inet"):
        if socket.status == psutil.CONN_LISTEN and socket.pid in ours:
            print("listens", socket.laddr.ip)
    print("mode", os.environ["RAY_AUTH_MODE"])
"""


@pytest.mark.slow
def test_it_is_reached_from_this_machine_only_and_with_a_token(tmp_path: Path) -> None:
    left_out = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    done = subprocess.run(
        [sys.executable, "-c", LISTENING], env=environment | {"HOME": str(tmp_path)}, capture_output=True, text=True,
        timeout=120, check=True,
    )  # fmt: skip
    words = [line.split() for line in done.stdout.splitlines()]
    assert ["mode", "token"] in words
    assert {address.removeprefix("::ffff:") for what, address in words if what == "listens"} == {"127.0.0.1"}
    assert (tmp_path / ".ray" / "auth_token").exists()


CONFINED = """
import os, ray
from search.tuning.resources import ray_session
with ray_session(None) as (node,):
    worker = ray.remote(lambda: len(os.sched_getaffinity(0)))
    print("has", node["CPU"], ray.get(worker.remote()), os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"]))
    print("folder", ray._private.worker._global_node.get_session_dir_path())
print("after", os.environ.get("RAY_AUTH_TOKEN"), os.listdir(os.environ["TMPDIR"]))
"""


@pytest.mark.slow
def test_it_starts_where_ray_itself_would_not_and_takes_no_more_than_it_may(tmp_path: Path) -> None:
    """One CPU of the node, temporary files with a path too long for sockets, a home that is none."""
    temporary = tmp_path / ("x" * 40) / "slurm_jobdir" / "1355700"
    temporary.mkdir(parents=True)
    left_out = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment |= {"TMPDIR": str(temporary), "HOME": "/dev/null"}
    done = subprocess.run(
        [sys.executable, "-c", CONFINED], env=environment, capture_output=True, text=True, timeout=200, check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    words = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert words["has"] == ["1.0", "1", "token", "64"]
    folder = Path(words["folder"][0]).parent
    assert not folder.is_relative_to(temporary)
    assert not folder.exists(), "the private folder outlives the search"
    assert words["after"] == ["None", "[]"]


@pytest.mark.parametrize(("slow_starts", "starts"), [(2, 3), (3, None)])
def test_a_ray_that_starts_too_slowly_is_started_again_and_at_last_named(
    slow_starts: int, starts: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's own limit of 30 s cannot be changed, so it is not waited for here."""
    tried = []

    def init(**_: object) -> None:
        tried.append(1)
        if len(tried) <= slow_starts:
            raise Exception("The current node timed out during startup. This could happen ...")

    monkeypatch.setattr(ray, "init", init)
    told = pytest.raises(ClusterError, match="Ray does not start on this machine: The current node timed out")
    with told if starts is None else contextlib.nullcontext(), local_ray():
        assert len(tried) == starts
    assert len(tried) == 3


def test_a_folder_without_room_for_sockets_is_known() -> None:
    """The limit is the kernel's: the path of a socket of the last length that passes is bound, one more byte is not."""
    longest = "/tmp/" + "x" * (SOCKET_BYTES - SESSION_BYTES - len("/tmp/"))
    assert folder_problem(Path(longest)) == ""
    assert "43 bytes" in folder_problem(Path(longest + "x"))
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(place / ("s" * (SOCKET_BYTES - len(str(place)) - 1))))
        with socket.socket(socket.AF_UNIX) as one, pytest.raises(OSError, match="too long"):
            one.bind(str(place / ("s" * (SOCKET_BYTES - len(str(place))))))
    finally:
        shutil.rmtree(place)


def test_a_folder_that_cannot_be_written_is_known() -> None:
    assert folder_problem(Path("/dev/null/ray")) == "not a directory"
    assert folder_problem(Path("/proc/ray")) not in ("", None)


def test_where_no_folder_will_do_the_reasons_and_the_remedy_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.tuning.local_ray._SHORT_FOLDERS", ("/proc", "/dev/null"))
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/" + 60 * "x")
    with pytest.raises(ClusterError) as refused, ray_folder():
        pass
    assert re.search(
        r"/tmp/x+/ray: longer than the 43 bytes.*; /proc: .*; /dev/null: not a directory.*"
        r"Delete something .* or set RAY_TMPDIR to a writable folder",
        str(refused.value),
    )
    assert "ray start" not in str(refused.value)


@pytest.mark.parametrize(
    ("home", "closed"), [("{tmp}", ""), ("{tmp}/new", ""), ("/dev/null", "not a directory"), ("/proc/1/home", ".ray: ")]
)
def test_a_home_without_room_for_a_token_is_known(
    home: str, closed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", home.format(tmp=tmp_path))
    assert closed in closed_home()
    assert bool(closed) == bool(closed_home())
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    assert not closed_home()


# --- the part of the machine that is ours

MIB = 2**20
V2 = "36 35 0:31 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "36 35 0:31 {root} /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}"


def limited(tree: Path, groups: str, mounts: list[str], files: dict[str, str]) -> MachineLimits:
    """The limits that these files of the kernel say."""
    for name, text in {"proc/self/cgroup": groups, "proc/self/mountinfo": "\n".join(mounts), **files}.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text and text + "\n")
    return machine_limits(tree)


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "cpus", "memory"),
    [
        ("0::/", [V2.format(root="/")], {}, 8, None),
        ("0::/", [V2.format(root="/")], {"cpu.max": "max 100000", "memory.max": "max"}, 8, None),
        ("0::/", [V2.format(root="/")], {"cpu.max": "250000 100000", "memory.max": f"{64 * MIB}"}, 2, 64 * MIB),
        ("0::/", [V2.format(root="/")], {"cpu.max": "50000 100000"}, 1, None),  # never none
        # a batch system limits the job, of which the process's own group is a part
        ("0::/job/step", [V2.format(root="/")], {"job/cpu.max": "30000 10000", "job/step/memory.max": "4096"}, 3, 4096),
        ("0::/job/step", [V2.format(root="/")], {"job/memory.max": "4096", "job/step/memory.max": "8192"}, 8, 4096),
        ("0::/", [V2.format(root="/")], {"memory.max": f"{64 * MIB}", "memory.high": f"{48 * MIB}"}, 8, 48 * MIB),
        ("0::/", [V2.format(root="/")], {"memory.max": "max", "memory.high": f"{MIB}"}, 8, MIB),
        # a container that sees its own group only, or the host's name of it, or one outside of it
        ("0::/docker/1/a", [V2.format(root="/docker/1")], {"a/cpu.max": "200000 100000"}, 2, None),
        ("0::/docker/1", [V2.format(root="/other")], {"cpu.max": "200000 100000"}, 2, None),
        ("0::/../../b", [V2.format(root="/")], {"cpu.max": "200000 100000"}, 2, None),
        # version 1
        (
            "5:cpu,cpuacct:/job\n3:memory:/job\n0::/",
            [V1.format(root="/", name="cpu"), V1.format(root="/", name="memory")],
            {
                "cpu/job/cpu.cfs_quota_us": "400000", "cpu/job/cpu.cfs_period_us": "100000",
                "cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000",
                "memory/job/memory.limit_in_bytes": f"{MIB}", "memory/memory.limit_in_bytes": "9223372036854771712",
            },
            4, MIB,
        ),
        ("", [], {}, 8, None),  # no Linux, or no /proc
    ],
)  # fmt: skip
def test_limits_of_control_groups_count_on_every_level(
    groups: str, mounts: list[str], files: dict[str, str], cpus: int, memory: int | None,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    files = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    assert limited(tmp_path, groups, mounts, files) == MachineLimits(cpus, memory)


def test_a_process_that_may_use_one_core_has_one() -> None:
    command = "from trainables.runtime.machine_limits import machine_limits; print(machine_limits().cpus)"
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    )  # fmt: skip
    assert done.stdout.strip() == "1"


def test_a_real_control_group_counts() -> None:
    """Where this machine lets a test make one."""
    folder = Path(f"/sys/fs/cgroup/memory/search-test-{os.getpid()}")
    try:
        folder.mkdir()
        (folder / "memory.limit_in_bytes").write_text(str(512 * MIB))
    except OSError as error:
        pytest.skip(f"no control group of our own: {error}")
    try:
        command = (
            f"import os; open({str(folder / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
            "from trainables.runtime.machine_limits import machine_limits; print(machine_limits().memory)"
        )
        done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
        assert int(done.stdout) == 512 * MIB
    finally:
        folder.rmdir()
