"""The flags of one search, checked here before any cluster sees them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from search.config.flags import Command, parse
from search.config.redaction import without_passwords
from search.config.settings import JOURNAL
from search.config.spec import make_plan, new_name
from search.errors import UsageError
from search.storage.location import Storage
from search.workloads import Workload

_HERE = ("localhost", "127.0.0.1", "::1")  # names of every machine for itself


@dataclass(frozen=True)
class SearchRequest:
    """A search that somebody else's machine is asked to run."""

    what: str  # workload or chain
    name: str
    seed: int
    words: tuple[str, ...]  # flags of search.run, without --name, --seed and --resume
    resume: str
    storage: str  # folder or URL

    @property
    def command(self) -> list[str]:
        """The whole command, one word each."""
        seed = ["--seed", str(self.seed)] if self.seed else []
        return ["python", "-m", "search.run", self.what, *self.words, *self.identity, *seed]

    @property
    def identity(self) -> list[str]:
        """Which search it is, and that it goes on where an earlier job of it was cut off."""
        return ["--name", self.name, *([] if self.resume == "no" else ["--resume", self.resume])]


def make_request(
    what: str, words: Sequence[str], *, again: bool, shared: bool, environment: Mapping[str, str] | None = None
) -> SearchRequest:
    """Check the words as search.run would, and make explicit what they leave to the environment.

    Parameters
    ----------
    again : bool
        The job may be started several times: it is to go on with what it finds.
    shared : bool
        The job sees the cluster's folders, not this machine's: paths must be absolute, or URLs.
    environment : mapping, optional
        What the job has in its own; it goes before this machine's.

    Raises
    ------
    UsageError
        A word that search.run would refuse, a password among them, or a path that means nothing elsewhere.
        (What is no flag at all ends the program with code 2, as it does for search.run.)
    """
    words = [*words, *_from_environment(words, environment or {})]
    _refuse_passwords(words)
    subject, command = parse([what, *words])
    Storage(command.site.storage)  # refuses keys in a URL
    if given(words, "--address"):
        raise UsageError("--address after -- is for search.run on this machine; the job joins the cluster it runs on.")
    if isinstance(subject, Workload):
        make_plan(subject, command.budget, command.method, command.site, demo=not command.data.data)
    if shared:
        _refuse_local_paths(command, what)
    for flag in ("--name", "--seed", "--resume"):
        words = without(words, flag)
    return SearchRequest(
        what=what,
        name=command.site.name or new_name(what),
        seed=command.budget.seed,
        words=tuple(words),
        resume="auto" if again else command.site.resume,
        storage=command.site.storage,
    )


def given(words: Sequence[str], flag: str) -> bool:
    """Whether a flag is among the words, in any of its spellings."""
    return any(_flag_of(word) == flag for word in words)


def without(words: Sequence[str], flag: str) -> list[str]:
    """The words without a flag and its one value."""
    kept, skip = list[str](), False
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if skip:
            skip = False
        elif _flag_of(word) == flag:
            skip = "=" not in word and not following.startswith("--")
        else:
            kept.append(word)
    return kept


def _flag_of(word: str) -> str:
    return word.partition("=")[0].replace("_", "-") if word.startswith("--") else ""


def _from_environment(words: Sequence[str], of_job: Mapping[str, str]) -> list[str]:
    """What search.run would take from the environment, as flags that travel; the job's own comes first."""
    found = []
    storage = of_job.get("SEARCH_STORAGE", os.environ.get("SEARCH_STORAGE"))
    if storage and not given(words, "--storage"):
        found += ["--storage", storage]
    server = "" if "MLFLOW_TRACKING_URI" in of_job else os.environ.get("MLFLOW_TRACKING_URI", "")
    if (server == JOURNAL or server.startswith(("http://", "https://"))) and not given(words, "--tracking-uri"):
        travels = without_passwords(server) == server and urlsplit(server).hostname not in _HERE
        found += ["--tracking-uri", server] if travels else []
    return found


def _refuse_passwords(words: Sequence[str]) -> None:
    for word in words:
        if without_passwords(word) != word:
            raise UsageError(
                f"{without_passwords(word)}: holds a password, which would stand in the job's script and logs. Take "
                "it out; put MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD into the cluster's environment, or "
                "user and password into ~/.mlflow/credentials there."
            )


def _refuse_local_paths(command: Command[Any], what: str) -> None:
    for flag, path in _paths(command):
        if not (path.startswith("/") or ":/" in path):
            raise UsageError(
                f"{flag} {path}: a path of this machine means nothing on the cluster. Name a folder that all its nodes "
                f"see, from the root on, as in: {what} ... -- {flag} /shared/{path}"
            )


def _paths(command: Command[Any]) -> Iterator[tuple[str, str]]:
    site = command.site
    for flag, path in (("--storage", site.storage), ("--cache", site.cache), ("--json", command.json)):
        if path is not None:
            yield flag, str(path)
    for flag, names in (("--data", command.data.data), ("--holdout", command.data.holdout)):
        yield from ((flag, name) for name in names)


def write_script(text: str, file: Path, overwrite: bool) -> Path:
    """Write a script or manifest; one that is there may have been changed by hand.

    Raises
    ------
    UsageError
        It is there already, it is a folder, or it cannot be written.
    """
    try:
        if file.is_dir():
            raise UsageError(f"--script {file}: that is a folder. Name a file in it.")
        if file.exists() and not overwrite:
            raise UsageError(f"{file} is there already. Pass --overwrite, or another --script.")
        if not file.parent.is_dir():
            raise UsageError(f"--script {file}: there is no folder {file.parent}. Make it first.")
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--script {file}: cannot be written: {error.strerror}. Name another file.") from error
    return file
