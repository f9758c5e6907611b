"""Measured traps of Ray, Optuna, MLflow and packaging, by their numbers, where no other file holds them already.

Elsewhere: 1-5, 10, 13, 20 in test_search, 6-8, 30 in test_sampler, 9, 11 in test_tuner, 12, 31 in test_tracking,
16 in test_interrupt, 17 in test_run, 35 in test_resources.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from finished import Finished

from search.config.settings import Method
from search.tracking.client import embedded_uri
from trainables.runtime.telemetry import OFF

ROOT = Path(__file__).parents[1]
PACKAGES = ("search", "spaces", "trainables")


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            yield file, ast.parse(file.read_text())


def names_used(tree: ast.Module) -> set[str]:
    """Dotted names of everything imported, and of attributes of plain names."""
    used = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                used |= {name.name for name in names}
            case ast.ImportFrom(module=str(module), names=names):
                used |= {module} | {f"{module}.{name.name}" for name in names}
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                used.add(f"{name}.{attribute}")
    return used


@pytest.fixture(scope="module")
def pair(run_tiny: Callable[..., Finished]) -> Finished:
    """Six trials of some seconds on two CPUs: one process may take long to begin."""
    return run_tiny(
        "pair", "--trials", "6", "--epochs", "8", "--scheduler", "none", "--sampler", "random",
        "--set", "epoch_seconds=0.5",
    )  # fmt: skip


def times(done: Finished) -> list[tuple[int, int]]:
    return sorted((run.info.start_time, run.info.end_time) for run in done.children.values())


@pytest.mark.slow
def test_06_28_slots_are_filled_two_trials_run_at_once(pair: Finished) -> None:
    at_once = [sum(begin < moment <= end for begin, end in times(pair)) for moment, _ in times(pair)]
    assert max(at_once) >= 1  # another one ran when a trial began
    assert max(at_once) <= 2


@pytest.mark.slow
def test_29_actors_are_reused_and_keep_nothing_of_the_last_trial(pair: Finished) -> None:
    pids = {label: {int(value) for _, value in pair.curve(label, "pid")} for label in pair.children}
    assert all(len(of_one) == 1 for of_one in pids.values())
    assert len(set().union(*pids.values())) <= 3 < len(pids)
    for label in pair.children:
        assert pair.curve(label, "epochs_here") == [(epoch, epoch) for epoch in range(1, 9)]
        assert {value for _, value in pair.curve(label, "resumed_at")} == {0.0}


@pytest.mark.slow
def test_32_threads_follow_the_cpus_of_a_trial(pair: Finished) -> None:
    for label, run in pair.children.items():
        assert {value for _, value in pair.curve(label, "threads")} == {1.0}
        process = json.loads(pair.artifact(run, "report/process.json"))
        assert process["OMP_NUM_THREADS"] == "1"


@pytest.mark.slow
def test_32_a_trial_of_two_cpus_has_two_threads_and_runs_alone(run_tiny: Callable[..., Finished]) -> None:
    done = run_tiny(
        "wide", "--trials", "2", "--epochs", "2", "--scheduler", "none", "--cpus-per-trial", "2",
        "--set", "epoch_seconds=0.1",
    )  # fmt: skip
    (_, end_of_first), (begin_of_second, _) = times(done)
    assert end_of_first <= begin_of_second + 50  # ms: the clocks of two writes
    for label in done.children:
        assert {value for _, value in done.curve(label, "threads")} == {2.0}
    assert "1 trials at a time, each 2 CPU" in done.text


@pytest.mark.slow
def test_34_nothing_is_sent_to_the_makers_of_ray_and_mlflow(pair: Finished) -> None:
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    for run in pair.children.values():
        process = json.loads(pair.artifact(run, "report/process.json"))
        assert process["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.mark.slow
def test_34_unless_the_user_wants_it() -> None:
    script = "import os, search.tuning.resources as r; print(*(os.environ.get(f'RAY_USAGE_STATS_{one}') for one in "
    script += "('ENABLED', 'REPORT_URL')))"
    outside = {name: value for name, value in os.environ.items() if name not in OFF}
    for wanted, found in (({}, "0 http://127.0.0.1:9\n"), ({"RAY_USAGE_STATS_ENABLED": "1"}, "1 None\n")):
        told = subprocess.run(
            [sys.executable, "-c", script], env=outside | wanted, capture_output=True, text=True, timeout=60, check=True
        )
        assert told.stdout == found


def test_12_the_embedded_store_is_a_database() -> None:
    assert embedded_uri(Path("/here")) == "sqlite:////here/mlflow/mlflow.db"


def test_22_no_ray_train() -> None:
    for file, tree in sources():
        assert not {name for name in names_used(tree) if name.startswith("ray.train")}, file


@pytest.mark.slow
def test_23_the_installed_mlflow_wins_over_the_folder_on_the_driver() -> None:
    assert list((ROOT / "mlflow").rglob("*.py")) == []
    told = subprocess.run(
        [sys.executable, "-c", "import mlflow; print(mlflow.__file__)"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "site-packages" in told.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_23_the_installed_mlflow_wins_over_the_folder_on_a_worker() -> None:
    import ray

    @ray.remote(num_cpus=0)
    def where(root: str) -> str:
        import importlib.util

        sys.path.insert(0, root)
        spec = importlib.util.find_spec("mlflow")
        return str(spec and spec.origin)

    assert "site-packages" in ray.get(where.remote(str(ROOT)), timeout=60)


@pytest.mark.slow
def test_24_the_wheel_holds_the_sample_and_nothing_else_of_ours(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    shutil.copytree(
        ROOT, tmp_path / "tree",
        ignore=shutil.ignore_patterns(".*", "results", "*.egg-info", "build", "dist", "__pycache__"),
    )  # fmt: skip
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "-w", str(tmp_path), str(tmp_path / "tree")], timeout=120, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*"):
            if file.suffix in (".py", ".root", ".typed"):
                assert str(file.relative_to(ROOT)) in names, file


def test_25_tests_are_flat_and_no_package() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []
    assert {path.parent for path in (ROOT / "tests").rglob("test_*.py")} == {ROOT / "tests"}


def test_26_the_lock_pins_torch_and_the_project_leaves_it_to_the_cluster() -> None:
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    assert any(line.split("+")[0].split(" ")[0] == "torch==2.13.0" for line in lock)
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert [name for name in needed if "==" in name] == []
    assert any(name.startswith("torch>=") for name in needed)


def test_33_events_are_resident_and_not_loaded() -> None:
    for file, tree in sources():
        assert not {name for name in names_used(tree) if "DataLoader" in name}, file


def test_36_no_sampler_fetches_code_from_the_network() -> None:
    assert get_args(Method.model_fields["sampler"].annotation) == ("auto", "tpe", "gp", "cmaes", "random", "qmc")
    for file, tree in sources():
        assert not {name for name in names_used(tree) if "AutoSampler" in name or "optunahub" in name}, file
