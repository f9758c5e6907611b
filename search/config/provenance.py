"""Report which command, code and package versions made a result."""

from __future__ import annotations

import getpass
import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

from search.config.redaction import without_passwords

_PACKAGES = ("hep-search", "ray", "optuna", "mlflow", "torch", "uproot", "numpy")


def user() -> str:
    """Return the name of the user who runs this process; in some containers it is unknown."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def command_line() -> str:
    """Return the command that the user typed, without passwords."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = spec.name if spec and spec.name.startswith("search.") else "search.run"
    return without_passwords(" ".join(["python -m", module, *sys.argv[1:]]))


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect results, by ``version.<name>``."""
    packages = {f"version.{package}": version(package) for package in _PACKAGES}
    return {"version.python": platform.python_version(), **packages}


@cache
def git_commit() -> str:
    """Return the commit of this code, with ``-dirty`` where files differ from it.

    Outside a checkout it is ``$SEARCH_GIT_COMMIT``, which a job's environment may hold, or ``unknown``.
    """
    git = ["git", "-C", str(Path(__file__).resolve().parents[2])]
    try:
        run = subprocess.run([*git, "describe", "--always", "--dirty", "--abbrev=40", "--match="],
                             capture_output=True, text=True, timeout=20, check=True)  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("SEARCH_GIT_COMMIT", "").strip() or "unknown"
    return run.stdout.strip()
