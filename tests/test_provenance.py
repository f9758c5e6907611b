"""Laws of provenance: the commit that is named is that of the code; where none is named, it is said why."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.config import provenance
from search.config.provenance import CodeState, code_state, state_of_file

IDENTITY = ("-c", "user.name=tests", "-c", "user.email=tests@example.org")


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *IDENTITY, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(autouse=True)
def own_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the settings of whoever tests nor the commit that their job names."""
    for name in ("SEARCH_GIT_COMMIT", "GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout with one commit, which is taken for that of this code."""
    folder = tmp_path / "check out"
    for package in ("search/config", "spaces", "trainables"):
        (folder / package).mkdir(parents=True)
        (folder / package / "one.py").write_text("ONE = 1\n")
    git(folder.parent, "init", "-q", str(folder))
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    monkeypatch.setattr(provenance, "__file__", str(folder / "search" / "config" / "one.py"))
    code_state.cache_clear()
    yield folder
    code_state.cache_clear()


def asked() -> CodeState:
    code_state.cache_clear()
    return code_state()


def test_the_commit_says_whether_all_of_the_code_is_in_it(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    (checkout / "notes.txt").write_text("not code")
    assert asked() == CodeState(commit)
    new = checkout / "trainables" / "two.py"
    new.write_text("TWO = 2\n")
    assert asked() == CodeState(f"{commit}-dirty"), "a file that belongs to no commit"
    (checkout / ".gitignore").write_text("two.py\n")
    assert asked() == CodeState(commit)
    (checkout / "spaces" / "one.py").write_text("ONE = 3\n")
    assert asked() == CodeState(f"{commit}-dirty")


def test_a_repository_that_the_environment_names_is_not_that_of_the_code(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a hook of another repository, which starts a search."""
    commit = git(checkout, "rev-parse", "HEAD")
    git(tmp_path, "init", "-q", "other")
    git(tmp_path / "other", "commit", "-q", "--allow-empty", "-m", "another")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    assert asked() == CodeState(commit)


def of_another_user(checkout: Path) -> None:
    for place in (checkout, *checkout.rglob("*")):
        os.chown(place, 65534, 65534)


def moved(checkout: Path) -> None:
    """A worktree whose repository is elsewhere now, as in a container that sees only the worktree."""
    shutil.rmtree(checkout / ".git")
    (checkout / ".git").write_text("gitdir: /nowhere/.git/worktrees/x\n")


def damaged(checkout: Path) -> None:
    (checkout / ".git" / "index").write_bytes(b"DIRC")


def without_commit(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    git(checkout.parent, "init", "-q", str(checkout))


FAULTS = {
    "dubious ownership": (of_another_user, "git config --global --add safe.directory '"),
    "not a git repository: /nowhere": (moved, "set SEARCH_GIT_COMMIT"),
    "index file": (damaged, "See git status"),
    "HEAD": (without_commit, "See git status"),
    "git is not installed": (None, "Install git"),
}


@pytest.mark.parametrize("reason", FAULTS)
def test_a_commit_that_git_does_not_name_is_unknown_for_a_reason_with_a_remedy(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    break_it, fix = FAULTS[reason]
    if break_it is of_another_user and os.geteuid() != 0:
        pytest.skip("only root gives files to others")
    if break_it:
        break_it(checkout)
    else:
        monkeypatch.setenv("PATH", "/nowhere")
    for found in (asked(), state_of_file(checkout / "spaces" / "one.py")):
        assert "unknown (git" in found.commit
        assert reason in found.commit
        assert reason in found.warning
        assert fix in found.warning
        assert "\n" not in found.warning
    monkeypatch.setenv("SEARCH_GIT_COMMIT", "0123")
    assert asked() == CodeState("0123")


def test_a_file_of_a_user_has_a_hash_and_the_commit_of_its_own_checkout(checkout: Path, tmp_path: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    file = checkout / "spaces" / "one.py"
    assert state_of_file(file).commit.endswith(f", commit {commit}")
    new = checkout / "mine.py"
    new.write_text("")
    assert state_of_file(new).commit.endswith(f", commit {commit}-dirty")
    alone = tmp_path / "alone.py"
    alone.write_text("")
    assert state_of_file(alone).commit.startswith("alone.py blake2b ")
    assert "commit" not in state_of_file(alone).commit
