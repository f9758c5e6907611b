"""Laws of shares: as many trials at a time as really fit, and a clear word where none does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from search.config.settings import Site
from search.errors import ClusterError
from search.tuning.resources import Share, gpu_names, share_of


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
