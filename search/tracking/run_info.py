"""What the MLflow runs of a search are made of: settled by the search's own process, whoever makes them, and when."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.config.provenance import git_commit, user, versions
from search.config.redaction import without_passwords
from search.tracking.mlflow_ui import LONGEST, NOTE, opening_note


@dataclass(frozen=True)
class RunFacts:
    """What the runs of one search have in common, as its folder keeps it."""

    run_id: str  # of the search's own run; empty: no server has heard of it yet
    experiment_id: str  # empty with it
    tags: Mapping[str, str]  # of all its runs
    fingerprint: str  # of the data
    source: str  # where the data come from, in words


@dataclass(frozen=True)
class OwnRun:
    """The search's own run, parent of its trials' runs: as it is to be made, once."""

    name: str
    started_ms: int  # since 1970
    params: Mapping[str, str]
    tags: Mapping[str, str]  # among them the token by which it is found again

    @property
    def token(self) -> str:
        return self.tags["token"]


def new_facts(tags: Mapping[str, str], fingerprint: str, source: str) -> RunFacts:
    """Of a search that no server has heard of, run by this process's user."""
    return RunFacts("", "", {"mlflow.user": user(), **tags}, fingerprint, source)


def new_run(name: str, token: str, settings: Mapping[str, Any], facts: RunFacts) -> OwnRun:
    """The search's own run as this process begins it: its command, host and versions, its time."""
    command = _command()
    own = {
        "kind": "search",
        "token": token,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": " ".join(command.split()[2:4]),  # the pages show what comes after the last slash only
        "command": command,
        NOTE: opening_note(command, facts.source),
        "mlflow.source.git.commit": git_commit(),
        "host": platform.node(),
        **versions(),
    }
    params = {key: str(value)[:6_000] for key, value in settings.items() if value not in (None, "")}
    return OwnRun(name, time.time_ns() // 1_000_000, params, own | dict(facts.tags))


def _command() -> str:
    """What the user typed, without passwords."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = spec.name if spec and spec.name.startswith("search.") else "search.run"
    return without_passwords(" ".join(["python -m", module, *sys.argv[1:]]))[:LONGEST]
