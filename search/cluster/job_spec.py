"""The search that a job runs: its flags, checked on this machine before a cluster sees them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from search.config.catalogue import absolute_word
from search.config.flags import parse
from search.config.redaction import without_passwords
from search.config.settings import JOURNAL, SearchFlags
from search.config.spec import make_spec, new_name
from search.errors import UsageError
from search.storage.location import Storage
from search.workload import Workload

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class JobSpec:
    """The search that a job runs."""

    workload: str  # or a chain of them
    name: str
    seed: int
    flags: tuple[str, ...]  # of search.run, without --name, --seed and --resume
    resume: str
    storage: str  # folder or URL

    @property
    def command(self) -> list[str]:
        """The whole command, one word each."""
        resume = [] if self.resume == "no" else ["--resume", self.resume]
        seed = ["--seed", str(self.seed)] if self.seed else []
        return ["python", "-m", "search.run", self.workload, *self.flags, "--name", self.name, *resume, *seed]


def make_job_spec(
    workload: str,
    flags: Sequence[str],
    *,
    may_restart: bool,
    remote: bool,
    environment: Mapping[str, str] | None = None,
) -> JobSpec:
    """Check the flags as search.run would, and add those that would come from this machine's environment.

    Parameters
    ----------
    may_restart : bool
        The job may be started several times: then it resumes the search that it finds.
    remote : bool
        The job sees the cluster's folders, not this machine's: paths must be absolute, or URLs.
    environment : mapping, optional
        Variables of the job, which take precedence over this machine's.

    Raises
    ------
    UsageError
        A flag that search.run would refuse, one that holds a password, or a path that does not exist elsewhere.
        (An unknown flag ends the program with code 2, as it does for search.run.)
    """
    flags = [*flags, *_flags_from_environment(flags, environment or {})]
    _refuse_passwords(flags)
    subject, command = parse([workload, *flags])
    Storage(command.site.storage)  # refuses keys in a URL
    if has_flag(flags, "--address"):
        raise UsageError("--address after -- is for search.run on this machine; the job joins the cluster it runs on.")
    if isinstance(subject, Workload):
        make_spec(subject, command)
    if remote:
        _refuse_local_paths(command, workload)
    for flag in ("--name", "--seed", "--resume"):
        flags = without_flag(flags, flag)
    return JobSpec(
        workload=absolute_word(workload),  # valid in any folder
        name=command.site.name or new_name(subject.name),
        seed=command.budget.seed,
        flags=tuple(flags),
        resume="auto" if may_restart else command.site.resume,
        storage=command.site.storage,
    )


def has_flag(words: Sequence[str], flag: str) -> bool:
    """Whether a flag is among the words, in any spelling."""
    return any(_flag_of(word) == flag for word in words)


def without_flag(words: Sequence[str], flag: str) -> list[str]:
    """Remove a flag and its one value from the words."""
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


def _flags_from_environment(flags: Sequence[str], of_job: Mapping[str, str]) -> list[str]:
    """Make flags of the variables that search.run reads, unless they are given or the job has its own."""
    found = []
    storage = of_job.get("SEARCH_STORAGE", os.environ.get("SEARCH_STORAGE"))
    if storage and not has_flag(flags, "--storage"):
        found += ["--storage", storage]
    server = "" if "MLFLOW_TRACKING_URI" in of_job else os.environ.get("MLFLOW_TRACKING_URI", "")
    if (server == JOURNAL or server.startswith(("http://", "https://"))) and not has_flag(flags, "--tracking-uri"):
        usable_there = without_passwords(server) == server and urlsplit(server).hostname not in _LOOPBACK
        found += ["--tracking-uri", server] if usable_there else []
    return found


def _refuse_passwords(flags: Sequence[str]) -> None:
    for word in flags:
        if without_passwords(word) != word:
            raise UsageError(
                f"{without_passwords(word)}: holds a password, which would stand in the job's script and logs. Take "
                "it out; put MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD into the cluster's environment, or "
                "user and password into ~/.mlflow/credentials there."
            )


def _refuse_local_paths(command: SearchFlags[Any], workload: str) -> None:
    for flag, path in _paths(command):
        if not (path.startswith("/") or ":/" in path):
            raise UsageError(
                f"{flag} {path}: a path of this machine means nothing on the cluster. Name a folder that all its nodes "
                f"see, from the root on, as in: {workload} ... -- {flag} /shared/{path}"
            )


def _paths(command: SearchFlags[Any]) -> Iterator[tuple[str, str]]:
    site = command.site
    for flag, path in (("--storage", site.storage), ("--cache", site.cache), ("--json", command.json)):
        if path is not None:
            yield flag, str(path)
    for part in ("data", "holdout", "validation"):
        yield from ((f"--{part}", name) for name in getattr(command.data, part))


def write_script(text: str, file: Path, overwrite: bool) -> Path:
    """Write a script or manifest, without replacing one that may have been changed by hand.

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
