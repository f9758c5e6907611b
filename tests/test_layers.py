"""Who may import whom: the contracts of pyproject.toml hold, and trainables need no search."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_layers_and_the_homes_of_third_parties_are_kept() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    ended = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "0 broken" in ended.stdout


def test_every_module_of_search_has_its_layer() -> None:
    import tomllib

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (
        contract["layers"] for contract in contracts if contract["type"] == "layers" and "containers" not in contract
    )
    placed = {name.strip() for layer in layers for name in re.split(r"[|:]", layer)}
    modules = {f"search.{path.stem}" for path in (ROOT / "search").glob("*.py") if path.stem != "__init__"}
    assert modules <= placed, f"without a layer: {modules - placed}"


@pytest.mark.slow
def test_trainables_train_where_ray_mlflow_and_optuna_are_not_installed() -> None:
    """A bare GPU machine, a notebook, a profiler."""
    script = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ray", "mlflow", "optuna", "search", "spaces"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import torch
from trainables.zdc.config import ZDCConfig
from trainables.zdc.simulate import simulate_data
from trainables.zdc.train import ZDCTraining

training = ZDCTraining(ZDCConfig(epochs=1, hidden_dim=4, batch_size=64), simulate_data(200, 1), torch.device("cpu"))
training.train_epoch()
assert training.finished

from trainables.pt.config import PtDphiConfig
from trainables.pt.simulate import simulate_data
from trainables.pt.train import PtDphiTraining

training = PtDphiTraining(PtDphiConfig(epochs=1, width=8), simulate_data(300, 1), torch.device("cpu"))
training.train_epoch()
assert training.finished
absent = {"ray", "mlflow", "optuna", "matplotlib"} & sys.modules.keys()
assert not absent, absent
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_settings_configurations_and_spaces_load_without_the_heavy_libraries() -> None:
    """So that --help and a wrong flag answer at once."""
    script = """
import sys
import spaces.pt, spaces.zdc, trainables.contract, trainables.base.checkpoint, trainables.base.errors
import trainables.base.objectives, trainables.base.training, trainables.data.files, trainables.pt.config
import trainables.pt.data, trainables.pt.metrics, trainables.pt.plots, trainables.zdc.config, trainables.zdc.data
import trainables.runtime.disk_space, trainables.runtime.gpu_memory, trainables.runtime.object_store
heavy = {"torch", "ray", "mlflow", "optuna", "uproot", "awkward", "pandas", "pyarrow", "matplotlib"}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_a_command_that_draws_nothing_does_not_pay_for_figures() -> None:
    script = """
import sys
import search.run, search.submit, search.engine.sync, search.promote, search.doctor
paid = {"matplotlib", "mplhep", "plotly", "sklearn"} & sys.modules.keys()
assert not paid, paid
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
