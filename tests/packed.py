"""Small trained models of each workload, and their packages, for the tests of what is done with them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

import trainables.pt.export
import trainables.zdc.export
from trainables.base.training import TrainedModel, Training
from trainables.export.package import Package
from trainables.pt.combined import join_branches
from trainables.pt.config import PtCombinedConfig, PtDphiConfig, PtEnergyConfig
from trainables.pt.data import PtData, PtDataSettings
from trainables.pt.simulate import simulate_data as simulate_pt
from trainables.pt.train import PtCombinedTraining, PtDphiTraining, PtEnergyTraining
from trainables.zdc.config import ZDCConfig
from trainables.zdc.data import ZDCData, ZDCDataSettings
from trainables.zdc.simulate import simulate_data as simulate_zdc
from trainables.zdc.train import ZDCTraining

CPU = torch.device("cpu")
WORKLOADS = ("zdc", "pt-energy", "pt-dphi", "pt-combined")
ABOUT = {"search": "first-look", "trial": "test26-lr4", "seed": 3, "objective_version": "some-1"}
SMALL = {"width": 16, "batch_size": 64, "epochs": 6, "learning_rate": 1e-2}


@cache
def zdc_data() -> ZDCData:
    return simulate_zdc(500, 1)


@cache
def pt_data() -> PtData:
    return simulate_pt(1000, 1)


@cache
def training(workload: str, **changes: Any) -> Training:
    """A finished one."""
    if workload == "zdc":
        config = ZDCConfig(hidden_dim=4, batch_size=64, epochs=2, gan=False, max_lr_gen=1e-2, **changes)
        return _finished(ZDCTraining(config, zdc_data(), CPU))
    if workload == "pt-energy":
        return _finished(PtEnergyTraining(PtEnergyConfig(**SMALL, **changes), pt_data(), CPU))
    if workload == "pt-dphi":
        return _finished(PtDphiTraining(PtDphiConfig(**SMALL), pt_data(), CPU))
    joined = join_branches(pt_data(), branches("pt-combined", **changes))
    # in the midst of the spectrum, so that many events are corrected
    corrected = {"post_correction": "given", "post_start": 5.0}
    return _finished(PtCombinedTraining(PtCombinedConfig(**SMALL, **corrected), joined, CPU))


def model(workload: str, **changes: Any) -> TrainedModel:
    done = training(workload, **changes)
    return TrainedModel(workload, f"run of {workload}", done.config.model_dump(), done.weights())


def branches(workload: str, **changes: Any) -> Mapping[str, TrainedModel]:
    """``changes`` are those of pt-energy."""
    if workload != "pt-combined":
        return {}
    return {"pt-energy": model("pt-energy", **changes), "pt-dphi": model("pt-dphi")}


def pack(workload: str, folder: Path, **changes: Any) -> Package:
    """The package of that model."""
    return pack_model(model(workload, **changes), folder, **changes)


def pack_model(packed: TrainedModel, folder: Path, **changes: Any) -> Package:
    """The package of any model; the validation events stand for the holdout."""
    if packed.workload == "zdc":
        settings = ZDCDataSettings(hit_threshold_mev=1.5)
        return trainables.zdc.export.package(packed, {}, zdc_data().validation, settings, ABOUT, folder)
    used = branches(packed.workload, **changes)
    return trainables.pt.export.package(packed, used, pt_data().validation, PtDataSettings(), ABOUT, folder)


def _finished(begun: Training) -> Training:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    while not begun.finished:
        begun.train_epoch()
    torch.set_num_threads(threads)
    return begun


def quiet() -> dict[str, str]:
    """As in an activated environment, where MLflow looks for its server."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    return os.environ | {
        "PATH": path,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
