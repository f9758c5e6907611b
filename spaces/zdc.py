"""The search space of the ZDC model and the named points of its report of 2025-08-07."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a preset needs no optuna
    from optuna import Trial

# In the space, but fixed at their default unless the user frees them, because they set the cost of a trial.
OPTIONAL = ("hidden_dim", "batch_size")

# May change within a run; population based training perturbs only these.
MUTABLE = ("max_lr_gen", "max_lr_dis", "adversarial_weight", "smoothing")


def suggest(trial: Trial) -> dict[str, Any]:
    """Suggest one point of the space, as keyword arguments of ``ZDCConfig``; parameters exist only where they act."""
    gan = trial.suggest_categorical("gan", [True, False])
    point: dict[str, Any] = {
        "gan": gan,
        "max_lr_gen": trial.suggest_float("max_lr_gen", 1e-4, 5e-3, log=True),  # the report: 7e-4 ... 1e-3
        "pct_start": trial.suggest_float("pct_start", 0.1, 0.9),  # LR4 0.35, LR6 0.8 of the report lie inside
        "normalise": trial.suggest_categorical("normalise", [True, False]),
        "hidden_dim": trial.suggest_categorical("hidden_dim", [8, 16, 32, 64]),  # multiples of 4: group norms
        "batch_size": trial.suggest_categorical("batch_size", [256, 512, 1024, 2048, 4096]),
    }
    return point | _suggest_adversary(trial) if gan else point


def _suggest_adversary(trial: Trial) -> dict[str, Any]:
    point: dict[str, Any] = {
        "dis_gen_ratio": trial.suggest_categorical("dis_gen_ratio", ["1:5", "1:2", "1:1", "2:1", "5:1"]),
        "max_lr_dis": trial.suggest_float("max_lr_dis", 1e-4, 5e-3, log=True),  # the report: 9e-4, 1e-3
        "adversarial_weight": trial.suggest_float(
            "adversarial_weight", 3e-4, 3e-2, log=True
        ),  # above: spoils the averages
        "smoothing": trial.suggest_float("smoothing", 0.0, 0.3),  # 0 is off, as in test24
        "noise_shape": trial.suggest_categorical("noise_shape", ["constant", "linear", "cosine"]),
        "noise_start": trial.suggest_float("noise_start", 0.3, 1.5),  # 1: hits drawn by the map's probabilities
    }
    if point["noise_shape"] != "constant":
        point["noise_end"] = trial.suggest_float("noise_end", 0.3, 1.5)
    return point


_LR4: dict[str, Any] = {
    "gan": True,
    "dis_gen_ratio": "1:1",
    "max_lr_gen": 9e-4,
    "max_lr_dis": 1e-3,
    "pct_start": 0.35,
    "noise_shape": "linear",
    "noise_start": 0.7,
    "noise_end": 1.0,
    "adversarial_weight": 0.003,
    "normalise": True,
    "smoothing": 0.1,
}
_ADVERSARY = frozenset(_LR4) - {"gan", "max_lr_gen", "pct_start", "normalise"}


def _without(point: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in point.items() if name not in names}


# The report's samples, as points of suggest(); what it leaves open has the values of LR4, its baseline.
PRESETS: dict[str, dict[str, Any]] = {
    "test24": _LR4 | {"normalise": False, "smoothing": 0.0},
    "test25": _LR4 | {"dis_gen_ratio": "1:5"},
    "test26-lr4": _LR4,
    "test26-lr4-ns1": _without(_LR4, "noise_end") | {"noise_shape": "constant", "noise_start": 1.0},
    "test26-lr6": _LR4 | {"max_lr_gen": 1e-3, "pct_start": 0.8},
    "test26-lr8": _LR4 | {"max_lr_gen": 7e-4},
    "test26-lr9": _LR4 | {"max_lr_gen": 1e-3, "max_lr_dis": 9e-4},
    "regression-only": _without(_LR4, *_ADVERSARY) | {"gan": False},
}
