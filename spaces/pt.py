"""The search spaces of the three pT models and the named points of their report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a preset needs no optuna
    from optuna import Trial

# In the spaces, but fixed at their default unless the user frees them, because they set the cost of a trial.
OPTIONAL = ("width", "depth", "batch_size")

# May change within a run; population based training perturbs only these.
_MUTABLE = ("learning_rate", "final_rate", "dropout", "weight_decay", "peak_weight", "peak_window")
MUTABLE_ENERGY = _MUTABLE
MUTABLE_DPHI = (*_MUTABLE, "lambda_mono", "boundary_ramp", "boundary_cap")
MUTABLE_COMBINED = _MUTABLE


def suggest_energy(trial: Trial) -> dict[str, Any]:
    """Suggest one point for pt-energy, as keyword arguments of ``PtEnergyConfig``."""
    return _suggest_shared(trial) | {"features": trial.suggest_categorical("features", ["energy", "full"])}


def suggest_dphi(trial: Trial) -> dict[str, Any]:
    """Suggest one point for pt-dphi, as keyword arguments of ``PtDphiConfig``; unused penalties have no parameters."""
    point = _suggest_shared(trial)
    point["monotonic"] = trial.suggest_categorical("monotonic", [True, False])
    if point["monotonic"]:
        point["lambda_mono"] = trial.suggest_float("lambda_mono", 0.01, 3.0, log=True)  # a decade to either side of 0.3
    point["boundary"] = trial.suggest_categorical("boundary", [True, False])
    if point["boundary"]:
        point["boundary_ramp"] = trial.suggest_float("boundary_ramp", 1e-3, 0.1, log=True)  # short runs: steep
        point["boundary_cap"] = trial.suggest_float("boundary_cap", 0.02, 2.0, log=True)  # a decade to either side
    return point


def suggest_combined(trial: Trial) -> dict[str, Any]:
    """Suggest one point for pt-combined, as keyword arguments of ``PtCombinedConfig``."""
    point = _suggest_shared(trial)
    point["post_correction"] = trial.suggest_categorical("post_correction", ["none", "fitted", "given"])
    if point["post_correction"] != "none":
        point["post_start"] = trial.suggest_float("post_start", 8.0, 9.5)  # GeV; the spectrum ends at 10
    if point["post_correction"] == "given":
        point["post_offset"] = trial.suggest_float("post_offset", -0.02, 0.06)
        point["post_slope"] = trial.suggest_float("post_slope", 0.0, 0.16)  # below 0 predictions would bend down
    return point


def _suggest_shared(trial: Trial) -> dict[str, Any]:
    return {
        # 5e-5 of the report is for 40,000 updates; small samples make fewer and need larger ones
        "learning_rate": trial.suggest_float("learning_rate", 3e-5, 5e-3, log=True),
        "final_rate": trial.suggest_float("final_rate", 1e-3, 1.0, log=True),  # 1: constant, as in the report
        "dropout": trial.suggest_float("dropout", 0.0, 0.4),  # 0 is off
        "weight_decay": trial.suggest_float("weight_decay", 0.0, 0.1),  # 0 is off; times the learning rate an update
        # 1: all events alike; 100: those outside of the peak, which draw all predictions down, hardly count
        "peak_weight": trial.suggest_float("peak_weight", 1.0, 100.0, log=True),
        "peak_window": trial.suggest_float("peak_window", 0.05, 0.5, log=True),  # half to five times the resolution
        "width": trial.suggest_categorical("width", [32, 64, 128, 256, 512]),
        "depth": trial.suggest_int("depth", 1, 5),
        "batch_size": trial.suggest_categorical("batch_size", [64, 128, 256, 512, 1024, 2048, 4096]),
    }


_REPORT: dict[str, Any] = {
    "width": 256,
    "depth": 3,
    "batch_size": 1024,
    "learning_rate": 5e-5,
    "final_rate": 1.0,
    "dropout": 0.2,
    "weight_decay": 0.0,
    "peak_weight": 3.0,
    "peak_window": 0.2,
}
# Ours, for some ten thousand events and some ten epochs: the report's rate would not get there, and the few events
# outside of the peak draw everything down. Dropout lowers predictions too: their spread costs relative loss.
_SMALL = _REPORT | {
    "width": 64,
    "batch_size": 64,
    "learning_rate": 3e-3,
    "final_rate": 0.01,
    "dropout": 0.0,
    "peak_weight": 30.0,
}
_FEATURES = {"features": "energy"}
_MONOTONIC: dict[str, Any] = {"monotonic": True, "lambda_mono": 0.3}
_BOUNDARY: dict[str, Any] = {"boundary": True, "boundary_ramp": 0.005, "boundary_cap": 0.2}
_COMBINED = _REPORT | {"dropout": 0.0, "width": 128}
_FITTED: dict[str, Any] = {"post_correction": "fitted", "post_start": 8.8}

PRESETS_ENERGY: dict[str, dict[str, Any]] = {
    "report": _REPORT | _FEATURES,
    "no-dropout": _REPORT | _FEATURES | {"dropout": 0.0},
    "small-sample": _SMALL | _FEATURES,
}
PRESETS_DPHI: dict[str, dict[str, Any]] = {
    "report": _REPORT | _MONOTONIC | _BOUNDARY,
    "no-dropout": _REPORT | _MONOTONIC | _BOUNDARY | {"dropout": 0.0},
    "no-boundary": _REPORT | _MONOTONIC | {"boundary": False},
    "no-monotonic": _REPORT | {"monotonic": False} | _BOUNDARY,
    "small-sample": _SMALL | _MONOTONIC | _BOUNDARY | {"boundary_ramp": 0.05},  # its cap after 4 epochs
}
PRESETS_COMBINED: dict[str, dict[str, Any]] = {
    "report": _COMBINED | {"post_correction": "given", "post_start": 8.8, "post_offset": 0.02, "post_slope": 0.08},
    "no-correction": _COMBINED | {"post_correction": "none"},
    "fitted-correction": _COMBINED | _FITTED,
    "small-sample": _SMALL | _FITTED,
}
