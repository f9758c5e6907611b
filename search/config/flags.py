"""Parse the command line of ``python -m search.run``: one subcommand for each workload and each chain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from search.config import catalogue
from search.config.settings import SearchFlags, Site
from search.workload import Chain, Workload
from search.workloads import CHAINS, WORKLOADS, Catalogue

# Old spellings, which --help does not show.
_ALIASES = {
    "--also": "--free",
    "--branches": "--upstream",
    "--keep": "--keep-checkpoints",
    "--limit": "--constraint",
}
PROGRAM = "python -m search.run"


def parse(arguments: list[str]) -> tuple[Workload | Chain, SearchFlags[Any]]:
    """Turn arguments into settings; wrong ones end the program with code 2, --help with 0.

    Only the workload that the first argument names is imported. Raises UsageError where it cannot be.
    """
    name = arguments[0] if arguments else ""
    if name not in catalogue.titles() and ":" not in name and not name.endswith(".py"):
        _refuse_name(arguments)
    if name in WORKLOADS or name in CHAINS:
        carried: Catalogue[Any] = WORKLOADS if name in WORKLOADS else CHAINS
        title, settings = carried.titles[name], carried.settings(name)
    else:
        found = catalogue.find_workload(name)
        title, settings = found.title, found.settings

    def flags(flags: Any) -> SearchFlags[Any]:
        return flags  # type: ignore[no-any-return]

    flags.__annotations__["flags"] = SearchFlags[settings]  # type: ignore[valid-type]
    flags.__doc__ = title
    given = tyro.cli(
        flags,
        prog=f"{PROGRAM} {name}",
        description=title,
        args=standard_spelling(arguments[1:]),
        config=(tyro.conf.OmitArgPrefixes,),
    )
    return catalogue.find(name), given


def _refuse_name(arguments: list[str]) -> None:
    """Show which workloads and chains there are: as help, or with a near name as an error."""

    def command(title: str) -> Any:
        def nothing() -> None: ...

        nothing.__doc__ = title
        return nothing

    tyro.extras.subcommand_cli_from_dict(
        {name: command(title) for name, title in catalogue.titles().items()},
        prog=PROGRAM,
        description=f"Run one hyperparameter search. Its flags: {PROGRAM} WORKLOAD --help. "
        "A workload of your own: FILE.py:ATTRIBUTE or MODULE:ATTRIBUTE",
        args=arguments,
    )


def standard_spelling(arguments: list[str]) -> list[str]:
    """Replace old names of flags; read ``--resume`` alone as ``--resume yes``."""
    words = []
    for word, following in zip(arguments, [*arguments[1:], ""], strict=False):
        flag, equals, value = word.partition("=")
        words.append(_ALIASES.get(flag.replace("_", "-"), flag) + equals + value if word.startswith("--") else word)
        if word == "--resume" and following not in ("yes", "no", "auto"):
            words.append("yes")
    return words


@dataclass(frozen=True)
class SyncFlags:
    """The flags of --sync: which search, and where it and its MLflow server are."""

    sync: Annotated[
        str,
        tyro.conf.arg(help="name of the search whose event log is exported to MLflow; exit code 1: a part is refused"),
    ]
    storage: str = field(default_factory=lambda: Site().storage)
    tracking_uri: str | None = None


def parse_sync(arguments: list[str]) -> SyncFlags:
    """Turn arguments into settings; wrong ones end the program with code 2."""
    return tyro.cli(SyncFlags, prog=PROGRAM, args=arguments)
