"""Whether the disks of storage, temporary files and shared memory have room, here and on every node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from search.diagnostics.context import DRIVER, Setup
from search.diagnostics.finding import Finding, alike, fine, warning, wrong
from search.diagnostics.probes.machine import room
from trainables.runtime.disk_space import Patience, can_write, megabytes

NEEDED_BYTES = 100 * 2**20  # below, a search soon waits for room
COMFORT_BYTES = 2 * 2**30
FEW_FILES = 1_000  # that a file system still takes
_MENDS = {
    "storage": "delete old searches there, or name another --storage",
    "temporary files": "delete something there, or set TMPDIR (and ray start --temp-dir) to a larger disk",
    "shared memory": "delete what lies there, or start Ray with a smaller --object-store-memory",
}

Disks = Mapping[str, tuple[str, int, int, int]]


def check(setup: Setup) -> Iterator[Finding]:
    """Free room, files that can still be made, and a try at writing for quotas, which show in neither."""
    folder = str(setup.folder) if setup.folder else None
    told: dict[str, Disks] = {} if setup.is_node else {DRIVER: room(folder)}
    findings: list[Finding] = []
    if setup.cluster:
        answers = setup.cluster.ask(room, folder, limit_s=setup.patience_s)
        findings += answers.complaints("disks")
        told |= answers.of
    for what in _MENDS:
        findings += _full(what, {node: disks[what] for node, disks in told.items() if what in disks})
    if not any(finding.level == "wrong" for finding in findings):
        findings += _quota(setup)
    findings += _object_store(setup, told)
    yield from findings
    if not findings:
        free = {what: [disks[what][2] for disks in told.values() if what in disks] for what in _MENDS}
        least = [f"{megabytes(min(several))} for {what}" for what, several in free.items() if several]
        yield fine("disks", f"free are {', '.join(least)}, or more")


def _full(what: str, disks: Disks) -> Iterator[Finding]:
    lacking: dict[str, str] = {}
    tight: dict[str, str] = {}
    for node, (path, total, free, files) in disks.items():
        of = f"{path} has {megabytes(free)} free of {megabytes(total)}"
        if 0 <= files < FEW_FILES:
            lacking[node] = f"{path} takes only {files} more files"
        elif free < NEEDED_BYTES:
            lacking[node] = of
        elif free < COMFORT_BYTES and what != "shared memory":
            tight[node] = of
    for text, nodes in alike(lacking).items():
        yield wrong(f"{what} of {nodes}", text, f"{megabytes(NEEDED_BYTES)} and {FEW_FILES} files", _MENDS[what])
    for text, nodes in alike(tight).items():
        yield warning(f"{what} of {nodes}", text, megabytes(COMFORT_BYTES), _MENDS[what])


def _quota(setup: Setup) -> Iterator[Finding]:
    size = Patience().reserve_bytes
    if setup.folder and setup.folder.is_dir() and not can_write(setup.folder, size):
        found = f"no room for {megabytes(size)} in {setup.folder}, although its disk is not full"
        yield wrong("storage", found, "a quota that is not used up", "quota -s shows it; name another --storage")


def _object_store(setup: Setup, told: Mapping[str, Disks]) -> Iterator[Finding]:
    """Where shared memory is smaller than Ray's object store, Ray keeps objects on a disk instead."""
    small = {}
    for node in setup.cluster.nodes if setup.cluster else ():
        asked = int(node.resources.get("object_store_memory", 0))
        _, total, _, _ = told.get(node.name, {}).get("shared memory", ("", asked, 0, 0))
        if total < asked:
            small[node.name] = f"{megabytes(total)} in all, for an object store of {megabytes(asked)}"
    for text, nodes in alike(small).items():
        mend = "give the container more (docker run --shm-size), or start Ray with --object-store-memory"
        yield warning(f"shared memory of {nodes}", text, "as much as the object store; it is on a disk now", mend)
