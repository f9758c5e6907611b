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

_CODE = ("search", "spaces", "trainables")  # folders of the checkout
_OF_ANOTHER_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_NAMESPACE")
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

    commit: str  # with ``-dirty`` where files differ from it, or are not in it; else ``unknown`` or a version
    warning: str = ""  # for people, with the command that fixes it


def git_commit() -> str:
    """Return the commit of this code; see ``code_state``."""
    return code_state().commit


def state_of_file(file: Path) -> CodeState:
    """Return a hash of a file, and the commit of the checkout that it is in, if any."""
    state = f"{file.name} blake2b {hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()}"
    folder = file.resolve().parent
    if not any((place / ".git").exists() for place in (folder, *folder.parents)):
        return CodeState(state)
    found = _state_of(folder, file.name)
    return CodeState(f"{state}, commit {found.commit}", found.warning)


def _state_of(folder: Path, *code: str) -> CodeState:
    """Ask git which commit a folder of a checkout is, and whether files of the code are in it.

    Parameters
    ----------
    code
        Paths in the folder, in which a file that git does not track belongs to no commit.
    """
    try:
        commit = _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--match=")
        new = _git(folder, "ls-files", "--others", "--exclude-standard", "--", *code)
        return CodeState(f"{commit}-dirty" if new and not commit.endswith("-dirty") else commit)
    except FileNotFoundError:
        reason, fix = "git is not installed", "Install git, or set SEARCH_GIT_COMMIT"
    except subprocess.TimeoutExpired:
        reason, fix = "git did not answer within 20 s", "Set SEARCH_GIT_COMMIT"
    except (OSError, subprocess.CalledProcessError) as error:
        said = " ".join((getattr(error, "stderr", None) or str(error)).split())
        if "dubious ownership" in said:
            root = next((str(one) for one in (folder, *folder.parents) if (one / ".git").exists()), str(folder))
            reason = f"git refuses to read {root} because it belongs to another user (dubious ownership)"
            fix = f"Allow it with: git config --global --add safe.directory {quote(root)}"
        else:
            reason, fix = f"git failed in {folder}: {said[:200]}", "See git status, or set SEARCH_GIT_COMMIT"
    return CodeState(f"unknown ({reason})", f"the runs will not name the commit that made them: {reason}. {fix}")


def _git(folder: Path, *words: str) -> str:
    """Run git there, whichever repository the variables of a hook, or of another tool, name."""
    environment = {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER_REPOSITORY}
    return subprocess.run(
        ["git", "-C", str(folder), *words],
        capture_output=True, text=True, timeout=20, check=True, env=environment | {"LC_ALL": "C"},
    ).stdout.strip()  # fmt: skip


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
    found = _state_of(root, *_CODE)
    return CodeState(given) if given and found.warning else found
