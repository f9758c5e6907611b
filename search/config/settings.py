"""How much, how and where to search: frozen settings, filled from flags and from the environment."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from trainables.data.files import DataSettings

S = TypeVar("S", bound=DataSettings)

LONGEST_NAME = 100  # of a search
WARM_START_SAMPLERS = ("tpe", "gp")  # cmaes keeps its state in its own trials, qmc and random have none
JOURNAL = "journal"  # in place of a server: none is asked, what happens waits for --sync
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


def _checked_trials(trials: object) -> str:
    if not re.fullmatch(r"\+?\d+", str(trials)):
        raise ValueError(f"expected a number of trials, or +N to add N to a search; found {trials!r}")
    return str(trials)


def _count(expected: str, right: Callable[[int], bool], *words: str) -> BeforeValidator:
    """Check a number, or one of the words that may stand for it."""

    def check(count: object) -> str:
        if count in words or (str(count).isdecimal() and right(int(str(count)))):
            return str(count)
        raise ValueError(f"expected {expected}; found {count!r}")

    return BeforeValidator(check)


def _checked_name(name: str) -> str:
    """A name becomes a folder and a part of commands: letters, digits, dot, dash, underscore, nothing else."""
    expected = "up to 100 letters, digits, dots, dashes and underscores, the first a letter or digit"
    if not re.fullmatch(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}", name):
        raise ValueError(f"expected {expected}; found {name!r}")
    return name


def quoted_in_uri(path: str) -> str:
    """Quote those characters of a path that SQLAlchemy reads as parts of a URI."""
    return path.replace("%", "%25").replace("?", "%3F")


_RELATIVE_DATABASE = re.compile(r"(sqlite)((?:\+\w+)?:///)(?!/|:memory:|file:)(.+)")


def absolute_database(uri: str) -> str:
    """Return the URI of a database, of which MLflow reads a relative path from wherever each process works."""
    found = _RELATIVE_DATABASE.fullmatch(uri)
    if not found:
        return uri
    scheme, rest, file = found.groups()
    folder = str(Path.cwd())
    quoted = quoted_in_uri(folder)  # and then the driver must be named: see ``embedded_uri``
    driver = "+pysqlite" if quoted != folder and rest.startswith(":") else ""
    return f"{scheme}{driver}{rest}{quoted}/{file}"


def _checked_names(words: tuple[str, ...]) -> tuple[str, ...]:
    """Names, with commas or spaces between them; each once."""
    names = [name.strip() for word in words for name in word.split(",")]
    return tuple(dict.fromkeys(_checked_name(name) for name in names if name))


def _share(expected: str, right: Callable[[float], bool], *, auto: bool) -> BeforeValidator:
    """Check the number of CPUs or GPUs of one trial, or where it may be measured the word auto."""

    def check(share: object) -> object:
        if share is None or (auto and share == "auto"):
            return share
        try:
            if math.isfinite(number := float(str(share))) and right(number):
                return number
        except ValueError:
            pass
        raise ValueError(f"expected {expected}{' or auto' if auto else ''}; found {share!r}")

    return BeforeValidator(check)


def _cpus(*, auto: bool) -> BeforeValidator:
    return _share("a number above 0", lambda number: number > 0, auto=auto)


def _gpus(*, auto: bool) -> BeforeValidator:
    def right(number: float) -> bool:
        return 0 <= number < 1 or (number >= 1 and number.is_integer())

    return _share(f"a fraction below 1 or a whole number, 0 for no GPU{',' * auto}", right, auto=auto)


Auto = Literal["auto"]  # measured in a short benchmark of one trial


class Settings(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ExecutionFlags(Settings):
    """How trials are run: side by side, and again after a failure."""

    max_concurrent: Annotated[int, Field(ge=1)] | None = Field(
        None, description="trials at the same time; None: as many as CPUs and GPUs hold"
    )
    retries: int = Field(1, ge=0, description="restarts of a trial that failed (not of one that diverged)")


class Budget(ExecutionFlags):
    """Budget of a search: trials, epochs, time."""

    trials: Annotated[str, BeforeValidator(_checked_trials)] | None = Field(
        None,
        description="sampled trials, the presets come on top; +N: as many more in the search of this --name; "
        "None: the workload's number",
    )
    epochs: Annotated[int, Field(ge=1)] | None = Field(
        None, description="epochs of a whole trial; None: the workload's"
    )
    time_limit: Annotated[str, AfterValidator(_checked_duration)] | None = Field(
        None, description="stop all trials after this long: 90s, 30m, 1h30m, 2d"
    )
    max_failures: int = Field(
        5, ge=0, description="end a search in which so many trials failed and nothing works; 0: never"
    )
    seed: int = Field(0, ge=0, description="seed of the sampler; trial n trains with seed + n")
    race: Annotated[
        str, _count("auto, 0 for no race, or a number of trainings from 2 on", lambda trainings: trainings != 1, "auto")
    ] = Field(
        "auto",
        description="trainings with new seeds, at the end, of the best trials and the reference preset; 0: none; auto: "
        "about a tenth of the compute, below 50 sampled trials winner and preset alone, below 15 trials none",
    )
    min_effect: float = Field(
        0.0, ge=0, description="difference of the objective that is worth having: less counts as a tie"
    )


class Method(Settings):
    """Method of a search: objectives, constraints, sampler, scheduler, space."""

    objective: str | None = Field(
        None, description="metric to optimise, or several: NAME,NAME gives a Pareto front; None: the workload's first"
    )
    constraint: tuple[str, ...] = Field(
        (),
        description="largest value that a metric may have, NAME=VALUE or 'NAME<=VALUE', or the smallest one, "
        "'NAME>=VALUE' ...; NAME=inf: none; (): the workload's",
    )
    sampler: Literal["auto", "tpe", "gp", "cmaes", "random", "qmc"] = Field(
        "auto",
        description="Optuna sampler; tpe and gp respect constraints; auto: tpe, random for 200 trials of one objective",
    )
    scheduler: Annotated[
        Literal["auto", "none", "asha", "asha-early", "asha-sharp", "median", "pbt"],
        BeforeValidator(lambda word: "auto" if word is None else word),  # None was the word for what is now auto
    ] = Field(
        "auto",
        description="stops weak trials early, by the first objective; auto: asha; of random points (--sampler "
        "random or qmc) asha-early for 20 or more, asha-sharp for 200 or more; none for several objectives",
    )
    presets: str | None = Field(
        None,
        description="points of the reports to run first: all, none, or name,name; None: the workload's",
    )
    set: tuple[str, ...] = Field((), description="hyperparameters fixed at a value, not searched: KEY=VALUE ...")
    free: tuple[str, ...] = Field((), description="hyperparameters to search that are fixed by default")
    upstream: tuple[str, ...] = Field(
        (),
        description="MLflow runs, by id or name, of trials or searches whose models this workload builds on; "
        "none: the registry's champions, or else the best of the newest searches",
    )
    warm_from: Annotated[tuple[str, ...], AfterValidator(_checked_names)] = Field(
        (),
        description="earlier searches of this workload whose complete trials the sampler learns from: NAME,NAME "
        "(samplers tpe and gp; read from their directories, or from MLflow where a directory is gone)",
    )


class StorageFlags(Settings):
    """Where searches are stored."""

    storage: Annotated[str, BeforeValidator(str)] = Field(
        default_factory=lambda: os.environ.get("SEARCH_STORAGE", "results"),
        description="folder of states and checkpoints, or a URL: s3://BUCKET/FOLDER; from $SEARCH_STORAGE if set",
    )


class TrackingFlags(StorageFlags):
    """Where searches are stored and logged."""

    tracking_uri: Annotated[str, AfterValidator(absolute_database)] | None = Field(
        None,
        description="MLflow server; journal: no server is contacted, events wait in the event log until --sync; "
        "None: that of $MLFLOW_TRACKING_URI, or else a database in --storage",
    )

    @property
    def server(self) -> str | None:
        """URI of the MLflow server, or ``JOURNAL``; no default of the flag, because --help would show its password."""
        return self.tracking_uri or absolute_database(os.environ.get("MLFLOW_TRACKING_URI", "")) or None

    @property
    def offline(self) -> bool:
        """Whether no server is contacted."""
        return self.server == JOURNAL


class ClusterFlags(Settings):
    """Which Ray cluster trains."""

    address: str | None = Field(
        default_factory=lambda: os.environ.get("RAY_ADDRESS"),
        description="Ray cluster; None: a new one on this machine; from $RAY_ADDRESS if set",
    )


class WhereFlags(ClusterFlags, TrackingFlags):
    """The Ray cluster, the folders, and the MLflow server."""

    cache: Path | None = Field(
        None,
        description="folder of the data cache; None: cache in --storage (of a URL: in $SEARCH_WORK)",
    )


class FixedShareFlags(Settings):
    """A trial's share of the cluster, in numbers."""

    cpus_per_trial: Annotated[float, _cpus(auto=False)] = Field(
        1, description="CPU cores of one trial, its threads follow"
    )
    gpus_per_trial: Annotated[float | None, _gpus(auto=False)] = Field(
        None, description="GPUs of one trial, fractions too; None: 1 where the cluster has any, else 0"
    )


class Site(WhereFlags):
    """Site of a search: the cluster, the share of one trial, storage, tracking."""

    name: Annotated[str, AfterValidator(_checked_name)] | None = Field(
        None, description="name of the search; None: made of workload and time"
    )
    resume: Literal["no", "yes", "auto"] = Field(
        "no", description="resume the search of this --name; auto: if there is one, else start it"
    )
    cpus_per_trial: Annotated[float | Auto | None, _cpus(auto=True)] = Field(
        None,
        description="CPU cores of one trial, its threads follow; auto: measured in a short benchmark of one trial, "
        "the number that trains most; None: 1, or auto with --gpus-per-trial auto where there is no GPU",
    )
    gpus_per_trial: Annotated[float | Auto | None, _gpus(auto=True)] = Field(
        None,
        description="GPUs of one trial, fractions too; auto: measured in a short benchmark of one trial, the fraction "
        "that fits; None: 1 where the cluster has any, else 0",
    )
    stack: Annotated[
        str, _count("auto, off, or a number from 2 to 64", lambda slots: 2 <= slots <= 64, "auto", "off")
    ] = Field("off", description="trials that train as one program on each core or GPU; auto: measured")
    keep_checkpoints: int = Field(
        5, ge=0, description="number of best complete trials (or a whole Pareto front) whose checkpoints are kept"
    )


@dataclass(frozen=True)
class SearchFlags(Generic[S]):
    """Everything that is asked of one search, as the command line or Python gives it."""

    data: S
    budget: Budget = field(default_factory=Budget)
    method: Method = field(default_factory=Method)
    site: Site = field(default_factory=Site)
    json: Path | None = None
    """write the leaderboard to this file as well"""
