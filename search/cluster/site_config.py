"""The site file: the settings that all jobs on one cluster share, in TOML, each of them validated."""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError, ValidationInfo, field_validator

from search.config.redaction import names_secret, without_passwords
from search.config.settings import Settings
from search.errors import UsageError

_ELSEWHERE = (
    "which would stand in scripts. Put it into the environment from which you submit, into ~/.mlflow/credentials, or "
    "into a Secret of Kubernetes"
)
_ASSIGNED = re.compile(r"(?<!\w)([A-Za-z_]\w*)=[\"']?[^\s\"'$]")  # name=text; not name=$variable
S = TypeVar("S", bound=BaseModel)


def _matching(pattern: str, what: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"expected {what}; found {text!r}")
        return text

    return AfterValidator(check)


Word = Annotated[str, _matching(r"[A-Za-z0-9][A-Za-z0-9._:,=@+&|*\[\]/-]*", "a word without spaces and quotes")]
Time = Annotated[str, _matching(r"(\d+-)?\d+(:\d\d){0,2}", "Slurm's minutes, H:MM:SS, or D-HH:MM:SS")]
Option = Annotated[
    str, _matching(r"--?[A-Za-z][a-z0-9-]*([= ][A-Za-z0-9._:,=@+/-]+)?", "an option of sbatch, as in --exclusive")
]
OneLine = Annotated[str, _matching(r"[^\x00-\x1f\x7f]*", "one line")]
Variable = Annotated[str, _matching(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable")]
Quantity = Annotated[str, _matching(r"[0-9]+(\.[0-9]+)?(m|[kMGTP]i?)?", "an amount, as in 500m, 4 or 16Gi")]
Label = Annotated[str, _matching(r"[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?", "a name as Kubernetes takes it")]
Image = Annotated[str, _matching(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*", "an image, as in registry.example/hep-search:1")]
Archive = Annotated[str, _matching(r"(s3|gs|https)://[A-Za-z0-9._/-]+\.zip", "an s3:// or https:// URL of a .zip")]
Folder = Annotated[str, _matching(r"/[^\x00-\x1f\x7f]*", "an absolute path")]

ShortFolder = Annotated[  # because the paths of Ray's sockets in it may have 107 bytes
    str, _matching(r"/[^\x00-\x1f\x7f]{0,29}", "an absolute path of 30 characters at most")
]


def _no_secret(text: str) -> str:
    if without_passwords(text) != text or any(names_secret(name) for name in _ASSIGNED.findall(text)):
        raise ValueError(f"holds a password or another secret, {_ELSEWHERE}")
    return text


def _no_secret_names(variables: dict[str, str]) -> dict[str, str]:
    for name in variables:
        if names_secret(name):
            raise ValueError(f"{name} looks like a secret, {_ELSEWHERE}")
    return variables


Shown = Annotated[OneLine, AfterValidator(_no_secret)]
Environment = Annotated[dict[Variable, Shown], AfterValidator(_no_secret_names)]


class SlurmSite(Settings):
    """Table ``[slurm]``."""

    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    reservation: Word | None = None
    nodes: int = Field(1, ge=1)
    cpus_per_node: int | None = Field(None, ge=1)  # none: all that Slurm gives
    gpus_per_node: int = Field(0, ge=0)
    gpu_type: Word | None = None  # as in a100
    gpu_option: Literal["gpus-per-node", "gres"] = "gpus-per-node"
    memory: Word | None = None  # of a node, as in 64G
    time: Time = "4:00:00"
    options: tuple[Annotated[Option, AfterValidator(_no_secret)], ...] = ()  # more of them for sbatch
    modules: tuple[Word, ...] = ()
    setup: tuple[Shown, ...] = ()  # lines of shell: the environment in which python and ray are found
    container: tuple[Shown, ...] = ()  # words before each command inside, as in apptainer exec --nv IMAGE
    environment: Environment = Field(default_factory=dict)
    scratch: ShortFolder = "/tmp"  # local to a node
    warn_s: int = Field(120, ge=10, le=3600)  # before the time limit: then the search is warned, and saves its state
    wait_s: int = Field(300, ge=10)  # for all nodes
    max_requeues: int = Field(20, ge=0)


class KubeRaySite(Settings):
    """Table ``[kuberay]``."""

    image: Image | None = None
    namespace: Label | None = None
    service_account: Label | None = None
    pull_secrets: tuple[Label, ...] = ()
    head_cpus: Quantity = "2"
    head_memory: Quantity = "8Gi"
    workers: int = Field(1, ge=0)
    min_workers: int | None = Field(None, ge=0)  # fewer: the cluster grows from them to workers; none: it does not grow
    cpus_per_worker: int = Field(4, ge=1)
    memory_per_worker: Quantity = "16Gi"
    gpus_per_worker: int = Field(0, ge=0)
    gpu_resource: Label = "nvidia.com/gpu"
    shared_memory: Quantity = "4Gi"  # of each pod: Ray's object store lies there
    claim: Label | None = None  # PersistentVolumeClaim (ReadWriteMany) of storage and data,
    mount: Folder = "/shared"  # and where pods see it
    secrets: tuple[Label, ...] = ()  # their keys become environment variables of all pods
    environment: Environment = Field(default_factory=dict)
    node_selector: dict[Label, Label] = Field(default_factory=dict)
    tolerate: tuple[Label, ...] = ()  # keys of taints
    working_dir: Archive | None = None  # of the code, where the image does not hold it
    retries: int = Field(2, ge=0)  # new clusters after one that died, in which the search resumes
    keep_s: int = Field(300, ge=0)  # the cluster after the end

    @field_validator("min_workers")
    @classmethod
    def _at_most_workers(cls, least: int | None, info: ValidationInfo) -> int | None:
        if least is not None and least > (most := info.data.get("workers", least)):
            raise ValueError(f"expected at most workers, which is {most}; found {least}")
        return least

    @property
    def grows(self) -> bool:
        """Whether an autoscaler adds workers as trials need them, and removes them again."""
        return self.min_workers is not None and self.min_workers < self.workers


def read_site(file: Path | None, table: str, model: type[S], **flags: object) -> S:
    """Read one table of a site file; flags take precedence over it, and without a file the defaults hold.

    Raises
    ------
    UsageError
        The file cannot be read, or has an unknown key or an invalid value; with the nearest key.
    """
    content = _content(file, table) if file else {}
    try:
        return model(**content | {name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise UsageError(_message(file, table, model, error)) from error


def _content(file: Path, table: str) -> dict[str, Any]:
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--site {file}: cannot be read ({getattr(error, 'strerror', error)}).") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"--site {file}: not TOML: {error}.") from error
    unknown = tables.keys() - {"slurm", "kuberay"}
    if unknown or not isinstance(tables.get(table), dict):
        found = ", ".join(f"[{name}]" for name in tables) or "nothing"
        raise UsageError(f"--site {file}: expected a table [{table}] (known: [slurm], [kuberay]); found {found}.")
    content: dict[str, Any] = tables[table]
    return content


def _message(file: Path | None, table: str, model: type[BaseModel], error: ValidationError) -> str:
    lines = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"]) or "?"
        if fault["type"] == "extra_forbidden":
            near = get_close_matches(key, model.model_fields, n=1)
            hint = f"nearest: {near[0]}" if near else f"known: {', '.join(sorted(model.model_fields))}"
            lines.append(f"{key} is not known; {hint}")
        else:
            lines.append(f"{key}: {fault['msg'].removeprefix('Value error, ')}")
    where = f"--site {file}: [{table}]" if file else "flags"
    return without_passwords("\n".join(f"{where} {line}." for line in lines))
