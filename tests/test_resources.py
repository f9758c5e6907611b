"""Laws of shares: as many trials at a time as really fit, and a clear word where none does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.errors import ClusterError
from search.resources import on_network_file_system, share_of
from search.settings import Site


def share(cpus: float, gpus: float = 0.0, wanted: int | None = None, samples: int = 1000, **site: Any) -> Any:
    return share_of(Site(**site), [{"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}], wanted, samples)


def test_without_flags_each_trial_gets_a_cpu_and_where_there_are_any_a_gpu() -> None:
    assert (share(8).cpus, share(8).gpus, share(8).concurrent) == (1, 0, 8)
    assert (share(8, 2).gpus, share(8, 2).concurrent) == (1, 2)


@pytest.mark.parametrize(
    ("cpus", "gpus", "site", "fits"),
    [
        (8, 0, {"cpus_per_trial": 2}, 4),
        (8, 0, {"cpus_per_trial": 3}, 2),
        (8, 4, {"gpus_per_trial": 2}, 2),
        (8, 4, {"gpus_per_trial": 0.5}, 8),
        (64, 1, {"gpus_per_trial": 0.1}, 10),
        (64, 2, {"gpus_per_trial": 0.2}, 10),
        (1, 0, {"cpus_per_trial": 0.1}, 10),
        (8, 4, {"gpus_per_trial": 0}, 8),
    ],
)
def test_as_many_trials_run_as_fit(cpus: float, gpus: float, site: dict[str, float], fits: int) -> None:
    assert share(cpus, gpus, **site).concurrent == fits


def test_no_more_trials_run_than_are_wanted_or_there_are() -> None:
    assert share(8, wanted=3).concurrent == 3
    assert share(8, wanted=30).concurrent == 8
    assert share(8, samples=2).concurrent == 2


@pytest.mark.parametrize("site", [{"cpus_per_trial": 4}, {"gpus_per_trial": 1}])
def test_a_trial_that_fits_nowhere_is_refused_in_numbers(site: dict[str, float]) -> None:
    with pytest.raises(ClusterError, match=r"the nodes have 2 CPUs and 0 GPUs. Lower --cpus-per-trial"):
        share(2, **site)


def test_the_bundle_asks_for_a_gpu_only_where_one_is_given() -> None:
    assert share(2).bundle == {"CPU": 1}
    assert share(2, 1).bundle == {"CPU": 1, "GPU": 1}


MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/vdb /home/local ext4 rw 0 0
lustre@tcp:/scratch /scratch lustre rw 0 0
/dev/vdc /scratch2 xfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "network"),
    [
        ("/var/x", False),
        ("/home/me/results", True),
        ("/home/local/results", False),
        ("/scratch/me", True),
        ("/scratch2/me", False),
        ("/homes/me", False),
    ],
)
def test_network_file_systems_are_known_by_their_mounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, network: bool
) -> None:
    """Pitfall 35."""
    (tmp_path / "mounts").write_text(MOUNTS)
    mounts = tmp_path / "mounts"
    monkeypatch.setattr("search.resources.Path", lambda name: mounts if name == "/proc/mounts" else Path(name))
    assert on_network_file_system(Path(folder)) is network


def test_this_machines_own_mounts_can_be_read(tmp_path: Path) -> None:
    assert on_network_file_system(tmp_path) in (True, False)
