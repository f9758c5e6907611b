"""Every example runs as it stands: the notebook in a kernel, the Lightning module through the checks and a search."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def run(folder: Path, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def jets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jets")
    shutil.copy(EXAMPLES / "jet_tagger.py", folder)
    random = np.random.default_rng(2)
    quark_N = random.random(1_000) < 0.5
    x_N3 = random.normal(size=(1_000, 3)) + quark_N[:, None]
    np.savez(folder / "jets.npz", x=x_N3.astype("f4"), y=quark_N.astype("f4"))
    return folder


def test_the_lightning_example_keeps_the_contract(jets: Path) -> None:
    pytest.importorskip("lightning", reason="the extra 'lightning' is not installed")
    run(jets, "-m", "search.check", "jet_tagger.py:WORKLOAD", "--data", "jets.npz")


def test_the_lightning_example_is_searched_and_promoted(jets: Path) -> None:
    pytest.importorskip("lightning", reason="the extra 'lightning' is not installed")
    flags = ("--data", "jets.npz", "--name", "jets", "--trials", "2", "--epochs", "3")
    run(jets, "-m", "search.run", "jet_tagger.py:WORKLOAD", *flags)
    printed = run(jets, "-m", "search.promote", "jet_tagger.py:WORKLOAD", "--top", "1", "--seeds", "1")
    assert "version 1 of jet-tagger is the champion" in printed


def test_the_notebook_runs(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    shutil.copy(EXAMPLES / "photon_id.py", tmp_path)
    notebook = nbformat.read(EXAMPLES / "search.ipynb", as_version=4)
    path = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = str(ROOT)
    try:
        client = nbclient.NotebookClient(
            notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        )
        client.execute()
    finally:
        os.environ["PYTHONPATH"] = path
    last = notebook.cells[-1].outputs[-1]["data"]["text/plain"]
    assert last == "True", "what search.load reads is what search.run returned"
    table = next(cell for cell in notebook.cells if cell.source == "result.trials").outputs[-1]["data"]["text/html"]
    assert "trial-005" in table
