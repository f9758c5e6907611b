"""Which code and which versions made a result."""

from __future__ import annotations

import getpass
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("hep-search", "ray", "optuna", "mlflow", "torch", "uproot", "numpy")


def user() -> str:
    """Who runs this; containers may not know."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that make numbers, by ``version.<name>``."""
    packages = {f"version.{package}": version(package) for package in _PACKAGES}
    return {"version.python": platform.python_version(), **packages}


@cache
def git_commit() -> str:
    """Commit of this code, with ``-dirty`` where files differ from it.

    Outside a checkout the one that a job was told, ``$SEARCH_GIT_COMMIT``, or ``unknown``.
    """
    git = ["git", "-C", str(Path(__file__).resolve().parents[2])]
    try:
        run = subprocess.run([*git, "describe", "--always", "--dirty", "--abbrev=40", "--match="],
                             capture_output=True, text=True, timeout=20, check=True)  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("SEARCH_GIT_COMMIT", "").strip() or "unknown"
    return run.stdout.strip()
