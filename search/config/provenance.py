"""Report which command, code and package versions made a result."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from shlex import quote

from search.config.redaction import without_passwords

_PACKAGES = ("hep-search", "ray", "optuna", "mlflow", "torch", "uproot", "numpy")


def user() -> str:
    """Return the name of the user who runs this process; in some containers it is unknown."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


_call = ""  # of a function, where the user typed no command


@contextmanager
def called_as(call: str) -> Iterator[None]:
    """Let ``command_line`` return this call of a function, as somebody wrote it in Python."""
    global _call
    before, _call = _call, call
    try:
        yield
    finally:
        _call = before


def command_line() -> str:
    """Return the command that the user typed, as a shell reads it again, or the call of Python, without passwords."""
    if _call:
        return without_passwords(_call)
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = spec.name if spec and spec.name.startswith("search.") else "search.run"
    return " ".join(["python -m", module, *(quote(without_passwords(word)) for word in sys.argv[1:])])


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect results, by ``version.<name>``."""
    packages = {f"version.{package}": version(package) for package in _PACKAGES}
    return {"version.python": platform.python_version(), **packages}


@dataclass(frozen=True)
class CodeState:
    """Which code runs: its commit, and why git could not name it."""

    commit: str  # with ``-dirty`` where files differ from it; else ``unknown`` or a version
    warning: str = ""  # for people, with the command that fixes it


def git_commit() -> str:
    """Return the commit of this code; see ``code_state``."""
    return code_state().commit


def state_of_file(file: Path) -> str:
    """Return a hash of a file, and the commit of the checkout that it is in, if any."""
    state = f"{file.name} blake2b {hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()}"
    try:
        return f"{state}, commit {_describe(file.parent).stdout.strip()}"
    except (OSError, subprocess.SubprocessError):
        return state


def _describe(folder: Path) -> subprocess.CompletedProcess[str]:
    git = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    return subprocess.run(git, capture_output=True, text=True, timeout=20, check=True, env=os.environ | {"LC_ALL": "C"})


@cache
def code_state() -> CodeState:
    """Ask git which commit this code is.

    ``$SEARCH_GIT_COMMIT``, which a job's environment may hold, takes the place of a commit that git cannot name. Code
    that was installed without a checkout has a version instead.
    """
    root = Path(__file__).resolve().parents[2]
    given = os.environ.get("SEARCH_GIT_COMMIT", "").strip()
    if not (root / ".git").exists():
        return CodeState(given or f"unknown (version {version('hep-search')} without a checkout)")
    try:
        run = _describe(root)
    except FileNotFoundError:
        reason, fix = "git is not installed", "Install git, or set SEARCH_GIT_COMMIT"
    except subprocess.TimeoutExpired:
        reason, fix = "git did not answer within 20 s", "Set SEARCH_GIT_COMMIT"
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip()
        if "dubious ownership" in said:
            reason = f"git refuses to read {root} because it belongs to another user (dubious ownership)"
            fix = f"Allow it with: git config --global --add safe.directory {quote(str(root))}"
        else:
            reason, fix = (
                f"git failed in {root}: {said.splitlines()[0] if said else 'no reason given'}",
                "See git status",
            )
    else:
        return CodeState(run.stdout.strip())
    if given:
        return CodeState(given)
    return CodeState(f"unknown ({reason})", f"the runs will not name the commit that made them: {reason}. {fix}")
