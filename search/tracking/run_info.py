"""Collect what the MLflow runs of a search are made of, once, whichever process creates the runs and when."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.config.provenance import command_line, git_commit, user, versions
from search.tracking.mlflow_ui import LONGEST, NOTE

_LONGEST_PARAMETER = 6_000  # characters, in every database of MLflow


@dataclass(frozen=True)
class RunFacts:
    """What the runs of one search have in common, as its description keeps it."""

    run_id: str  # of the search's own run; empty: no server has the search yet
    experiment_id: str  # empty with it
    tags: Mapping[str, str]  # of all its runs
    fingerprint: str  # of the data
    source: str  # where the data come from, in words


@dataclass(frozen=True)
class OwnRun:
    """The search's own run, parent of its trials' runs, as it is to be created once."""

    name: str
    started_ms: int  # since 1970
    params: Mapping[str, str]
    tags: Mapping[str, str]  # among them the token by which it is found again

    @property
    def token(self) -> str:
        return self.tags["token"]


def new_facts(tags: Mapping[str, str], fingerprint: str, source: str) -> RunFacts:
    """Return the facts of a search that no server has yet, run by this process's user."""
    return RunFacts("", "", {"mlflow.user": user(), **tags}, fingerprint, source)


def new_run(name: str, token: str, settings: Mapping[str, Any], facts: RunFacts, note: str) -> OwnRun:
    """Return the search's own run as this process begins it: its command, host, versions and time.

    Parameters
    ----------
    settings : mapping of str to object
        Parameters of the run; None and "" are left out.
    note : str
        Description of the run.
    """
    command = command_line()[:LONGEST]
    own = {
        "kind": "search",
        "token": token,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": _program(command),
        "command": command,
        NOTE: note,
        "mlflow.source.git.commit": git_commit(),
        "host": platform.node(),
        **versions(),
    }
    params = {key: str(value)[:_LONGEST_PARAMETER] for key, value in settings.items() if value not in (None, "")}
    return OwnRun(name, time.time_ns() // 1_000_000, params, own | dict(facts.tags))


def _program(command: str) -> str:
    """Return the program and what it works on; the pages show what comes after the last slash only."""
    words = command.split()
    return " ".join(words[2:4]) if words[:2] == ["python", "-m"] else command.partition(",")[0].rstrip(")") + ")"
