"""A workload in one file outside of the repository, with the project installed from a wheel: all that is done."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ray_cluster import running_cluster

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
WORD = "photon_id.py:WORKLOAD"
SHAPES = "shapes/*.parquet"
EVENTS = 400  # in each of three files


class Desk:
    """A user's folder, and a Python that has the project from a wheel, not from this checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "desk"
        self.folder.mkdir()
        self.python = _installed(folder)
        shutil.copy(ROOT / "examples" / "photon_id.py", self.folder)
        self._write_events()

    @property
    def storage(self) -> Path:
        return self.folder / "results"

    def _write_events(self) -> None:
        (self.folder / "shapes").mkdir()
        random = np.random.default_rng(1)
        for number in range(3):
            photon_N = random.random(EVENTS) < 0.5
            shape_N8 = random.normal(size=(EVENTS, 8)) + photon_N[:, None] * np.linspace(0, 1, 8)
            table = pd.DataFrame(shape_N8.astype("f4"), columns=[f"shape_{i}" for i in range(8)])
            table["is_photon"] = photon_N
            table.to_parquet(self.folder / "shapes" / f"part-{number}.parquet")

    def start(self, *words: str) -> subprocess.Popen[str]:
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RAY_"))}
        return subprocess.Popen(
            [self.python, *words], cwd=self.folder, env=outside | {"COLUMNS": "200"}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def run(self, *words: str, code: int = 0) -> str:
        process = self.start(*words)
        printed = process.communicate(timeout=500)[0]
        assert process.returncode == code, printed
        return printed


def _installed(folder: Path) -> Path:
    """An environment with a wheel of the project, which finds the libraries of this one."""
    source = folder / "source"  # a build leaves files in its folder
    for name in ("search", "spaces", "trainables"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    python = folder / "env" / "bin" / "python"
    place = next((folder / "env" / "lib").glob("python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", place, source], check=True)
    (place / "libraries.pth").write_text(sysconfig.get_paths()["purelib"])  # a path alone: no editable install of it
    shutil.rmtree(source)
    return python


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("outside"))


FLAGS = ("--data", SHAPES, "--name", "first", "--trials", "4", "--epochs", "40", "--scheduler", "none")


@pytest.fixture(scope="module")
def searched(desk: Desk) -> Desk:
    """A search that was killed after its first epochs, and resumed."""
    process = desk.start("-m", "search.run", WORD, *FLAGS)
    deadline = time.monotonic() + 300
    while not list((desk.storage / "searches" / "first").glob("*/checkpoint_*")):
        assert time.monotonic() < deadline, "no checkpoint in 300 s"
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    desk.run("-m", "search.run", WORD, *FLAGS, "--resume")
    return desk


def test_the_project_comes_from_the_wheel(desk: Desk) -> None:
    where = desk.run("-c", "import search; print(search.__file__)")
    assert Path(where.strip()).is_relative_to(desk.python.parents[1])


def test_a_killed_search_resumes_with_every_point_once(searched: Desk) -> None:
    leaderboard = json.loads((searched.storage / "searches" / "first" / "leaderboard.json").read_text())
    rows = [row for row in leaderboard["rows"] if row["number"] is not None]
    assert sorted(row["number"] for row in rows) == [0, 1, 2, 3]
    assert len({row["hyperparameters"]["lr"] for row in rows}) == 4
    assert all(row["outcome"] == "complete" for row in rows)


def test_its_report_is_written(searched: Desk) -> None:
    searched.run("-m", "search.report", "first", "--out", "page.html")
    assert "auc" in (searched.folder / "page.html").read_text()


def test_its_champion_predicts_in_a_fresh_process_without_the_file(searched: Desk, tmp_path: Path) -> None:
    printed = searched.run("-m", "search.promote", WORD, "--top", "2", "--seeds", "2")
    assert "version 1 of photon-id is the champion" in printed
    script = f"""
import mlflow, numpy as np
mlflow.set_tracking_uri("sqlite:///{searched.storage}/mlflow/mlflow.db")
model = mlflow.pyfunc.load_model("models:/photon-id@champion")
x = np.zeros((3, 8), "f4")
assert model.predict(x).shape == (3, 1)
assert (model.predict(x) == model.predict({{"x": x}})).all()
print("loaded")
"""
    away = tmp_path / "photon_id.py"
    shutil.move(searched.folder / "photon_id.py", away)
    try:
        assert "loaded" in searched.run("-c", script)
    finally:
        shutil.move(away, searched.folder / "photon_id.py")


def test_a_wrong_word_is_answered_in_one_line(desk: Desk) -> None:
    assert "has no attribute 'WORKLOAT'. Nearest: WORKLOAD." in desk.run("-m", "search.run", f"{WORD[:-1]}T", code=2)
    assert "no such file" in desk.run("-m", "search.run", "foton_id.py:WORKLOAD", code=2)


def test_it_runs_as_a_job_of_a_cluster(desk: Desk, tmp_path: Path) -> None:
    with running_cluster(tmp_path, workers=1) as cluster:
        done = cluster.submit(
            f"{desk.folder}/{WORD}", "--to", "ray", "--address", cluster.address, "--",
            "--data", f"{desk.folder}/{SHAPES}", "--storage", f"{tmp_path}/there", "--name", "sent",
            "--trials", "2", "--epochs", "2", "--gpus-per-trial", "0",
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    about = json.loads((tmp_path / "there" / "searches" / "sent" / "search.json").read_text())
    assert about["word"].endswith(WORD)
    assert about["facts"]["tags"]["workload_code"].startswith("photon_id.py blake2b")
