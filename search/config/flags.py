"""The flags of a search, as the command line gives them: one subcommand for each workload and each chain."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from search.config.settings import Budget, Method, Site
from search.workloads import CHAINS, WORKLOADS, Chain, Workload
from trainables.data.files import DataSettings

S = TypeVar("S", bound=DataSettings)


@dataclass(frozen=True)
class Command(Generic[S]):
    """The flags of one search."""

    data: S
    budget: Budget = field(default_factory=Budget)
    method: Method = field(default_factory=Method)
    site: Site = field(default_factory=Site)
    json: Annotated[Path | None, tyro.conf.arg(help="write the leaderboard to this file as well")] = None


def parse(arguments: list[str]) -> tuple[Workload | Chain, Command[Any]]:
    """Flags to settings; wrong words end the program with code 2, as --help does with 0."""

    def of(what: Workload | Chain) -> Any:
        first = what if isinstance(what, Workload) else WORKLOADS[what.workloads[0]]

        def flags(command: Any) -> tuple[Workload | Chain, Command[Any]]:
            return what, command

        flags.__annotations__["command"] = Command[first.settings]  # type: ignore[name-defined]
        flags.__doc__ = what.title
        return flags

    arguments = _spelled_out(arguments)
    known: dict[str, Workload | Chain] = {**WORKLOADS, **CHAINS}
    return tyro.extras.subcommand_cli_from_dict(  # type: ignore[no-any-return]
        {name: of(what) for name, what in known.items()},
        prog="python -m search.run",
        description="Run one hyperparameter search. Its flags: python -m search.run WORKLOAD --help",
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
    )


def _spelled_out(arguments: list[str]) -> list[str]:
    """``--resume`` alone is ``--resume yes``."""
    words = []
    for word, following in zip(arguments, [*arguments[1:], ""], strict=False):
        words.append(word)
        if word == "--resume" and following not in ("yes", "no", "auto"):
            words.append("yes")
    return words


@dataclass(frozen=True)
class Sync:
    """The flags of --sync: which search, and where it and its MLflow are."""

    sync: Annotated[str, tyro.conf.arg(help="name of the search whose journal is delivered to MLflow")]
    storage: str = field(default_factory=lambda: Site().storage)
    tracking_uri: str | None = None


def parse_sync(arguments: list[str]) -> Sync:
    """Flags to settings; wrong words end the program with code 2."""
    return tyro.cli(Sync, prog="python -m search.run", args=arguments)
