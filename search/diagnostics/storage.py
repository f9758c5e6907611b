"""Whether the storage can be written, is the same on every node, and locks files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from shlex import quote
from uuid import uuid4

from filelock import FileLock, Timeout

from search.config.redaction import first_line
from search.diagnostics.context import DiagnosticContext
from search.diagnostics.finding import Finding, fine, nodes_by_text, warning, wrong
from search.diagnostics.probes.storage import delete_token, exchange_tokens, read_token, write_token
from search.storage.disk import on_network_file_system
from search.storage.location import explanation


def check(context: DiagnosticContext) -> Iterator[Finding]:
    """Write a file, let every node read it and write another one, and delete all of them."""
    token = f".doctor-{uuid4().hex}"
    made = _missing_folders(context.folder)
    try:
        if context.folder:
            context.folder.mkdir(parents=True, exist_ok=True)
        write_token(context.storage, token, token)
    except Exception as error:  # whatever file systems raise
        found, fix = explanation(error), "see there, or name another with --storage (or $SEARCH_STORAGE)"
        if context.folder:
            found = first_line(error)
            fix = f"chmod u+rwx {quote(str(context.storage))}, or name another with --storage (or $SEARCH_STORAGE)"
        yield wrong(f"storage {context.storage}", found, "that it can be written", fix)
        return
    try:
        if context.folder:
            yield from _check_locks(context.folder, context)
        yield from _check_shared(context, token)
    finally:
        delete_token(context.storage, token)
        for folder in made:
            folder.rmdir()


def _missing_folders(folder: Path | None) -> list[Path]:
    """Folders that a search would make, innermost first."""
    return [place for place in (folder, *folder.parents) if not place.exists()] if folder else []


def _check_locks(folder: Path, context: DiagnosticContext) -> Iterator[Finding]:
    """Lock a file, because a search locks its folder, and some network file systems are mounted without locks."""
    file = folder / f".doctor-{uuid4().hex}.lock"
    try:
        with FileLock(file, timeout=5):
            pass
    except (OSError, NotImplementedError, Timeout) as error:
        fix = "mount it with locks (Lustre: -o flock), or name another --storage"
        yield wrong(f"locks in {context.storage}", first_line(error), "that files can be locked", fix)
    finally:
        file.unlink(missing_ok=True)
    if context.server is None and on_network_file_system(folder):
        found = f"to be made in {context.storage}, on a network file system"
        fix = "name a server with --tracking-uri (mlflow/README.md), or a --storage on a local disk"
        yield warning("MLflow's database", found, "a local disk, for SQLite's locks", fix)


def _check_shared(context: DiagnosticContext, token: str) -> Iterator[Finding]:
    if not context.cluster:
        yield fine("storage", f"{context.storage} can be written and read here")
        return
    results = context.cluster.run(exchange_tokens, context.storage, token, limit_s=context.node_limit_s)
    compared = {name: _problem(context.storage, token, result) for name, result in results.values.items()}
    problems = results.errors | {name: problem for name, problem in compared.items() if problem}
    fix = "mount the same file system there, or name a --storage that all nodes share"
    if not context.folder:
        fix = "give Ray there the same credentials (its environment, ~/.aws, the machine's role), and a way to it"
    for problem, nodes in nodes_by_text(problems).items():
        yield wrong(f"storage {context.storage} on {nodes}", problem, "the same as on this machine", fix)
    good = len(context.cluster.nodes) - len(problems)
    if good:
        nodes = "node" if good == 1 else "nodes"
        yield fine("storage", f"{context.storage} can be written and read, here and on {good} {nodes}")


def _problem(storage: str, token: str, result: Mapping[str, str | None]) -> str:
    """Compare what the driver and a node wrote with what they read; empty where it is the same."""
    if result["wrong"]:
        return result["wrong"]
    if result["read"] != token:
        return "another folder of that name: a file that was written here is not in it"
    reply = str(result["reply"])
    try:
        if read_token(storage, reply) != reply:
            return "another folder of that name: a file that was written there is not here"
    finally:
        delete_token(storage, reply)
    return ""
