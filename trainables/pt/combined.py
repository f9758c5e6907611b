"""What pt-combined takes from two trained branch models: their predictions, once a search, and its 14 inputs."""

# N events, F features; branches in the order of BRANCHES

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.base.batches import on_device
from trainables.base.errors import DataError
from trainables.base.training import TrainedModel
from trainables.evaluation.scores import fingerprint
from trainables.pt.config import PtDphiConfig, PtEnergyConfig
from trainables.pt.data import Events, PtData
from trainables.pt.features import features
from trainables.pt.metrics import score
from trainables.pt.model import in_chunks, load_network
from trainables.pt.naive import naive_predictors

BRANCHES = ("pt-energy", "pt-dphi")
BRANCH_ROWS = ("energy branch", "dphi branch")  # of leaderboards
PT_BINS = 10  # of the one-hot part: [0, 1), [1, 2), ... [9, 10) GeV


@dataclass(frozen=True)
class CombinedData(PtData):
    """Events with the predictions of the two branch models, of both parts."""

    train_branch_N2: NDArray[np.float32]  # GeV: energy branch, dphi branch
    validation_branch_N2: NDArray[np.float32]


def join_branches(data: PtData, models: Mapping[str, TrainedModel]) -> CombinedData:
    """The data with the predictions of two frozen branch models on all events.

    Raises
    ------
    DataError
        A branch is missing, or predicts what is not finite.
    """
    if missing := [name for name in BRANCHES if name not in models]:
        raise DataError(
            f"pt-combined: no model of {', '.join(missing)}; expected one of each of {', '.join(BRANCHES)}."
        )
    used = {name: models[name] for name in BRANCHES}
    inherited = {field.name: getattr(data, field.name) for field in fields(PtData)}
    inherited["fingerprint"] = _fingerprint(data.fingerprint, used)
    return CombinedData(
        **inherited,
        train_branch_N2=_predictions(data.train, used),
        validation_branch_N2=_predictions(data.validation, used),
    )


def combined_inputs(events: Events, branch_N2: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inputs (N, 14): 1/dphi in 1/rad, pT of the dphi branch, cluster energy, pT of the energy branch, one-hot (10).

    The last ten say in which bin [k, k + 1) GeV half the sum of both pT lies; all are 0 below 0 and from 10 GeV on.
    Source: ML4Reco, "Train_combined model 1&2".
    """
    energy_pt_N, dphi_pt_N = branch_N2[:, 0], branch_N2[:, 1]
    inverse_dphi_N = features("dphi", events)[:, 0]
    energy_N = events.cluster_N24[:, 0, 3]
    first_N4 = np.stack((inverse_dphi_N, dphi_pt_N, energy_N, energy_pt_N), axis=1)
    return np.concatenate((first_N4, pt_one_hot(0.5 * (energy_pt_N + dphi_pt_N))), axis=1).astype(np.float32)


def pt_one_hot(pt_N: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 in the column k whose [k, k + 1) GeV holds pT, 0 elsewhere: (N, 10)."""
    hot_N10: NDArray[np.bool_] = np.floor(pt_N)[:, np.newaxis] == np.arange(PT_BINS)
    return hot_N10.astype(np.float32)


def combined_baselines(data: CombinedData) -> dict[str, dict[str, float]]:
    """Scores on the validation events of the analytic formulas and of each branch alone, by name."""
    truth_N = data.validation.truth_N3[:, 0]
    branches = {
        name: score(data.validation_branch_N2[:, column], truth_N, data.binning).numbers()
        for column, name in enumerate(BRANCH_ROWS)
    }
    return naive_predictors(data) | branches


def _predictions(events: Events, models: Mapping[str, TrainedModel]) -> NDArray[np.float32]:
    """Both branches on all events, (N, 2) in GeV."""
    columns = []
    for name, model in models.items():
        values: dict[str, Any] = dict(model.hyperparameters)
        config = PtEnergyConfig(**values) if name == "pt-energy" else PtDphiConfig(**values)
        input_NF = features(config.features if isinstance(config, PtEnergyConfig) else "dphi", events)
        pt_N = in_chunks(load_network(config, model.weights), on_device(input_NF, torch.device("cpu"))).numpy()
        if bad := int((~np.isfinite(pt_N)).sum()):
            raise DataError(f"{name} of {model.run}: {bad} of {len(pt_N)} predictions are not finite; use another run.")
        columns.append(pt_N)
    return np.stack(columns, axis=1)


def _fingerprint(of_data: str, models: Mapping[str, TrainedModel]) -> str:
    """The same for the same events and the same branches, wherever they predict: kinds of CPU differ in a last bit."""
    digest = hashlib.sha256(of_data.encode())
    for name, model in models.items():
        weights = sorted(model.weights.items())
        about = [name, dict(model.hyperparameters), [key for key, _ in weights]]
        digest.update(json.dumps(about, sort_keys=True).encode())
        digest.update(fingerprint(weight.detach().cpu().numpy() for _, weight in weights).encode())
    return digest.hexdigest()
