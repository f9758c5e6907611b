"""How much, how and where to search: frozen settings, filled from flags and from the environment."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_UNITS_S = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def seconds(duration: str) -> float:
    """Seconds of a duration such as ``90s``, ``30m``, ``1h30m`` or ``2d``; ValueError for anything else."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", duration)
    total = float(sum(float(number) * _UNITS_S[unit] for number, unit in parts))
    if "".join(number + unit for number, unit in parts) != duration or total <= 0:
        raise ValueError(f"expected a duration such as 90s, 30m, 1h30m or 2d; found {duration!r}")
    return total


def _checked_duration(duration: str) -> str:
    seconds(duration)
    return duration


def _checked_name(name: str) -> str:
    """A name becomes a folder and a part of commands: letters, digits, dot, dash, underscore, nothing else."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(
            f"expected up to 100 letters, digits, dots, dashes and underscores, the first a letter or digit; "
            f"found {name!r}"
        )
    return name


class Settings(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Budget(Settings):
    """How much: trials, epochs, time."""

    trials: Annotated[int, Field(ge=0)] | None = Field(
        None, description="sampled trials; the presets come on top; None: the workload's number"
    )
    epochs: Annotated[int, Field(ge=1)] | None = Field(
        None, description="epochs of a whole trial; None: the workload's"
    )
    max_concurrent: Annotated[int, Field(ge=1)] | None = Field(
        None, description="trials at the same time; None: as many as CPUs and GPUs hold"
    )
    time_limit: Annotated[str, AfterValidator(_checked_duration)] | None = Field(
        None, description="stop all trials after this long: 90s, 30m, 1h30m, 2d"
    )
    retries: int = Field(1, ge=0, description="restarts of a trial that failed (not of one that diverged)")
    seed: int = Field(0, ge=0, description="seed of the sampler; trial n trains with seed + n")


class Method(Settings):
    """How: what is minimised, who proposes the points, who stops trials early."""

    objective: str | None = Field(
        None, description="metric to optimise, or several: NAME,NAME gives a Pareto front; None: the workload's first"
    )
    limit: tuple[str, ...] = Field(
        (), description="largest value that a metric may have, NAME=VALUE ...; NAME=inf: no limit; none: the workload's"
    )
    sampler: Literal["tpe", "gp", "cmaes", "random", "qmc"] = Field("tpe", description="Optuna sampler")
    scheduler: Literal["none", "asha", "median", "pbt"] = Field("asha", description="who stops weak trials early")
    presets: str | None = Field(
        None,
        description="points of the reports to run first: all, none, or name,name; None: the workload's",
    )
    set: tuple[str, ...] = Field((), description="hyperparameters held at a value, not searched: KEY=VALUE ...")
    also: tuple[str, ...] = Field((), description="hyperparameters to search that are held by default")
    branches: tuple[str, ...] = Field(
        (),
        description="MLflow runs, by id or name, of trials or searches whose models this workload builds on; "
        "none: the registry's champions, or else the best of the newest searches",
    )


class Site(Settings):
    """Where: the cluster, a trial's share of it, and the folders. Paths are made absolute."""

    name: Annotated[str, AfterValidator(_checked_name)] | None = Field(
        None, description="name of the search; None: made of workload and time"
    )
    resume: bool = Field(False, description="go on with the interrupted search of this --name")
    address: str | None = Field(
        default_factory=lambda: os.environ.get("RAY_ADDRESS"),
        description="Ray cluster; None: a new one on this machine; from $RAY_ADDRESS if set",
    )
    cpus_per_trial: float = Field(1, gt=0, description="CPU cores of one trial; its threads follow")
    gpus_per_trial: Annotated[float, Field(ge=0)] | None = Field(
        None, description="GPUs of one trial, fractions too; None: 1 where the cluster has any, else 0"
    )
    storage: Path = Field(
        default_factory=lambda: Path(os.environ.get("SEARCH_STORAGE", "results")),
        description="folder of states and checkpoints; from $SEARCH_STORAGE if set",
    )
    cache: Path | None = Field(None, description="folder of the data cache; None: cache in --storage")
    tracking_uri: str | None = Field(
        None, description="MLflow server; None: that of $MLFLOW_TRACKING_URI, or else a database in --storage"
    )

    @property
    def server(self) -> str | None:
        """URI of the MLflow server; no default of the flag, for --help would show its password."""
        return self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
