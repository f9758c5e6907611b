"""Whether the storage can be written, is the same on every node, and locks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from search.config.redaction import first_line
from search.diagnostics.context import Setup
from search.diagnostics.finding import Finding, alike, fine, warning, wrong
from search.diagnostics.probes.storage import delete_token, exchange, read_token, write_token
from search.storage.disk import on_network_file_system
from search.storage.location import meaning


def check(setup: Setup) -> Iterator[Finding]:
    """Write a word, let every node read it and write one back; nothing of it stays."""
    token = f".doctor-{uuid4().hex}"
    new = _absent(setup.folder)
    try:
        if setup.folder:
            setup.folder.mkdir(parents=True, exist_ok=True)
        write_token(setup.storage, token, token)
    except Exception as error:  # whatever file systems raise
        mend = f"chmod u+rwx {setup.storage}, or name another with --storage (or $SEARCH_STORAGE)"
        found = first_line(error) if setup.folder else meaning(error)
        if not setup.folder:
            mend = "see there, or name another with --storage (or $SEARCH_STORAGE)"
        yield wrong(f"storage {setup.storage}", found, "that it can be written", mend)
        return
    try:
        yield from _locks(setup)
        yield from _shared(setup, token)
    finally:
        delete_token(setup.storage, token)
        for folder in new:
            folder.rmdir()


def _absent(folder: Path | None) -> list[Path]:
    """Folders that a search would make, innermost first."""
    return [place for place in (folder, *folder.parents) if not place.exists()] if folder else []


def _locks(setup: Setup) -> Iterator[Finding]:
    """Some network file systems are mounted without locks; a search needs one to be alone."""
    if not setup.folder:
        return
    file = setup.folder / f".doctor-{uuid4().hex}.lock"
    try:
        with FileLock(file, timeout=5):
            pass
    except (OSError, NotImplementedError, Timeout) as error:
        mend = "mount it with locks (Lustre: -o flock), or name another --storage"
        yield wrong(f"locks in {setup.storage}", first_line(error), "that files can be locked", mend)
    finally:
        file.unlink(missing_ok=True)
    if setup.server is None and on_network_file_system(setup.folder):
        found = f"to be made in {setup.storage}, on a network file system"
        mend = "name a server with --tracking-uri (mlflow/README.md), or a --storage on a local disk"
        yield warning("MLflow's database", found, "a local disk, for SQLite's locks", mend)


def _shared(setup: Setup, token: str) -> Iterator[Finding]:
    if not setup.cluster:
        yield fine("storage", f"{setup.storage} can be written and read here")
        return
    answers = setup.cluster.ask(exchange, setup.storage, token, limit_s=setup.patience_s)
    said = {name: _problem(setup, token, told) for name, told in answers.of.items()}
    problems = answers.silent | {name: problem for name, problem in said.items() if problem}
    for problem, nodes in alike(problems).items():
        mend = "mount the same file system there, or name a --storage that all nodes share"
        if not setup.folder:
            mend = "give Ray there the same credentials (its environment, ~/.aws, the machine's role), and a way to it"
        yield wrong(f"storage {setup.storage} on {nodes}", problem, "the same as on this machine", mend)
    good = len(setup.cluster.nodes) - len(problems)
    if good:
        nodes = "node" if good == 1 else "nodes"
        yield fine("storage", f"{setup.storage} can be written and read, here and on {good} {nodes}")


def _problem(setup: Setup, token: str, told: Mapping[str, str | None]) -> str:
    if told["wrong"]:
        return told["wrong"]
    if told["read"] != token:
        return "another folder of that name: a file that was written here is not in it"
    reply = str(told["reply"])
    try:
        if read_token(setup.storage, reply) != reply:
            return "another folder of that name: a file that was written there is not here"
    finally:
        delete_token(setup.storage, reply)
    return ""
