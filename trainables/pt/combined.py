"""Build pt-combined on its two upstream models, called branches: their predictions, its 14 inputs, the common table."""

# N events, F features; branches in the order of BRANCHES

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.base.batches import on_device
from trainables.base.errors import DataError
from trainables.base.training import TrainedModel
from trainables.evaluation.scores import fingerprint
from trainables.pt.config import config_of
from trainables.pt.data import Events, PtData
from trainables.pt.features import feature_set, features
from trainables.pt.metrics import score
from trainables.pt.model import in_chunks, network_of
from trainables.pt.naive import ANGLE_FORMULA, ENERGY_FORMULA, REPORT, naive_predictors

BRANCHES = ("pt-energy", "pt-dphi")
BRANCH_ROWS = ("energy branch", "dphi branch")  # of leaderboards
PT_BINS = 10  # of the one-hot part: [0, 1), [1, 2), ... [9, 10) GeV
# reported with and without the correction of high pT
CORRECTED_NUMBERS = ("resolution", "half_width", "core_sigma", "bias", "tail")

Numbers = Mapping[str, float]


@dataclass(frozen=True)
class CombinedData(PtData):
    """Events with the predictions of the two branch models, of both parts."""

    train_branch_N2: NDArray[np.float32]  # GeV: energy branch, dphi branch
    validation_branch_N2: NDArray[np.float32]


def require_branches(models: Mapping[str, TrainedModel]) -> None:
    """Raise DataError where a branch is missing."""
    if missing := [name for name in BRANCHES if name not in models]:
        raise DataError(f"pt-combined: no model of {', '.join(missing)}; expected one each of {', '.join(BRANCHES)}.")


def join_branches(data: PtData, models: Mapping[str, TrainedModel]) -> CombinedData:
    """Add the predictions of two frozen branch models on all events to the data.

    Raises
    ------
    DataError
        A branch is missing, or predicts what is not finite.
    """
    require_branches(models)
    used = {name: models[name] for name in BRANCHES}
    inherited = {field.name: getattr(data, field.name) for field in fields(PtData)}
    inherited["fingerprint"] = _fingerprint(data.fingerprint, used)
    return CombinedData(
        **inherited,
        train_branch_N2=_predictions(data.train, used),
        validation_branch_N2=_predictions(data.validation, used),
    )


def combined_inputs(events: Events, branch_N2: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make inputs (N, 14): 1/dphi in 1/rad, pT of the dphi branch, cluster energy, pT of the energy branch, 10 bins.

    The last ten say in which bin [k, k + 1) GeV the mean of both pT lies; all are 0 below 0 and from 10 GeV on.
    Source: ML4Reco, "Train_combined model 1&2".
    """
    energy_pt_N, dphi_pt_N = branch_N2[:, 0], branch_N2[:, 1]
    inverse_dphi_N = features("dphi", events)[:, 0]
    energy_N = events.cluster_N24[:, 0, 3]
    first_N4 = np.stack((inverse_dphi_N, dphi_pt_N, energy_N, energy_pt_N), axis=1)
    return np.concatenate((first_N4, pt_one_hot(0.5 * (energy_pt_N + dphi_pt_N))), axis=1).astype(np.float32)


def pt_one_hot(pt_N: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (N, 10): 1 in the column k whose [k, k + 1) GeV holds pT, else 0."""
    hot_N10: NDArray[np.bool_] = np.floor(pt_N)[:, np.newaxis] == np.arange(PT_BINS)
    return hot_N10.astype(np.float32)


def combined_baselines(data: CombinedData) -> dict[str, dict[str, float]]:
    """Score the analytic formulas and each branch alone on the validation events, by name."""
    truth_N = data.validation.truth_N3[:, 0]
    branches = {
        name: score(data.validation_branch_N2[:, column], truth_N, data.binning).numbers()
        for column, name in enumerate(BRANCH_ROWS)
    }
    return naive_predictors(data) | branches


def chain_rows(
    ranked: Mapping[str, Sequence[tuple[Mapping[str, Any], Numbers]]], others: Mapping[str, Numbers]
) -> dict[str, Numbers]:
    """Make the table over the three searches: from the formulas to the combined model with its correction, by label.

    Parameters
    ----------
    ranked : mapping of workload to sequence of (hyperparameters, metrics)
        Complete trials, best first.
    others : mapping of label to metrics
        Baselines and references of pt-combined: the formulas, each branch alone on the same validation events,
        and the published result where it is comparable.
    """
    rows = {name: others[name] for name in (ENERGY_FORMULA, ANGLE_FORMULA)}
    rows |= {
        f"{workload} alone, kept epoch": others[label] for workload, label in zip(BRANCHES, BRANCH_ROWS, strict=True)
    }
    combined = ranked["pt-combined"]
    corrected = [metrics for point, metrics in combined if point["post_correction"] != "none"]
    best = combined[0][1]
    if best in corrected[:1]:
        rows["pt-combined"] = {name: best[f"{name}_uncorrected"] for name in CORRECTED_NUMBERS}
        rows["pt-combined, post-correction"] = best
    else:
        rows["pt-combined"] = best
        if corrected:
            rows["another pt-combined, post-correction"] = corrected[0]
    return rows | ({REPORT: others[REPORT]} if REPORT in others else {})


def _predictions(events: Events, models: Mapping[str, TrainedModel]) -> NDArray[np.float32]:
    """Predict pT of all events by both branches, (N, 2) in GeV."""
    columns = []
    for name, model in models.items():
        input_NF = on_device(features(feature_set(config_of(model)), events), torch.device("cpu"))
        pt_N = in_chunks(network_of(model), input_NF).numpy()
        if bad := int((~np.isfinite(pt_N)).sum()):
            raise DataError(f"{name} of {model.run}: {bad} of {len(pt_N)} predictions are not finite; use another run.")
        columns.append(pt_N)
    return np.stack(columns, axis=1)


def _fingerprint(of_data: str, models: Mapping[str, TrainedModel]) -> str:
    """Hash the events and the branches, not the predictions, because kinds of CPU differ in their last bit."""
    digest = hashlib.sha256(of_data.encode())
    for name, model in models.items():
        weights = sorted(model.weights.items())
        about = [name, dict(model.hyperparameters), [key for key, _ in weights]]
        digest.update(json.dumps(about, sort_keys=True).encode())
        digest.update(fingerprint(weight.detach().cpu().numpy() for _, weight in weights).encode())
    return digest.hexdigest()
