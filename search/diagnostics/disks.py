"""Whether the disks of storage, temporary files and shared memory have space, here and on every node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from search.diagnostics.context import DRIVER, DiagnosticContext
from search.diagnostics.finding import Finding, fine, nodes_by_text, warning, wrong
from search.diagnostics.probes.machine import disk_space
from trainables.runtime.disk_space import Patience, can_write, megabytes

NEEDED_BYTES = 100 * 2**20  # with less, a search soon waits for space
RECOMMENDED_BYTES = 2 * 2**30
NEEDED_FILES = 1_000  # that can still be made
_FIXES = {
    "storage": "delete old searches there, or name another --storage",
    "temporary files": "delete something there, or set TMPDIR (and ray start --temp-dir) to a larger disk",
    "shared memory": "delete what lies there, or start Ray with a smaller --object-store-memory",
}

Disks = Mapping[str, tuple[str, int, int, int]]  # as of the probe


def check(context: DiagnosticContext) -> Iterator[Finding]:
    """Check free space and free files, and write a file, because a quota shows in neither."""
    folder = str(context.folder) if context.folder else None
    disks_of: dict[str, Disks] = {} if context.on_node else {DRIVER: disk_space(folder)}
    findings: list[Finding] = []
    if context.cluster:
        results = context.cluster.run(disk_space, folder, limit_s=context.node_limit_s)
        findings += results.error_findings("disks")
        disks_of |= results.values
    for use in _FIXES:
        findings += _check_space(use, {node: disks[use] for node, disks in disks_of.items() if use in disks})
    if not any(finding.level == "wrong" for finding in findings):
        findings += _check_quota(context)
    findings += _check_object_store(context, disks_of)
    yield from findings
    if not findings:
        free = {use: [disks[use][2] for disks in disks_of.values() if use in disks] for use in _FIXES}
        least = [f"{megabytes(min(several))} for {use}" for use, several in free.items() if several]
        yield fine("disks", f"free are {', '.join(least)}, or more")


def _check_space(use: str, disks: Disks) -> Iterator[Finding]:
    full: dict[str, str] = {}
    nearly_full: dict[str, str] = {}
    for node, (path, total, free, files) in disks.items():
        space = f"{path} has {megabytes(free)} free of {megabytes(total)}"
        if 0 <= files < NEEDED_FILES:
            full[node] = f"{path} takes only {files} more files"
        elif free < NEEDED_BYTES:
            full[node] = space
        elif free < RECOMMENDED_BYTES and use != "shared memory":
            nearly_full[node] = space
    for text, nodes in nodes_by_text(full).items():
        yield wrong(f"{use} of {nodes}", text, f"{megabytes(NEEDED_BYTES)} and {NEEDED_FILES} files", _FIXES[use])
    for text, nodes in nodes_by_text(nearly_full).items():
        yield warning(f"{use} of {nodes}", text, megabytes(RECOMMENDED_BYTES), _FIXES[use])


def _check_quota(context: DiagnosticContext) -> Iterator[Finding]:
    size = Patience().reserve_bytes
    if context.folder and context.folder.is_dir() and not can_write(context.folder, size):
        found = f"no room for {megabytes(size)} in {context.folder}, although its disk is not full"
        yield wrong("storage", found, "a quota that is not used up", "quota -s shows it; name another --storage")


def _check_object_store(context: DiagnosticContext, disks_of: Mapping[str, Disks]) -> Iterator[Finding]:
    """Report shared memory that is smaller than Ray's object store, which Ray then keeps on a disk."""
    small = {}
    for node in context.cluster.nodes if context.cluster else ():
        needed = int(node.resources.get("object_store_memory", 0))
        _, total, _, _ = disks_of.get(node.name, {}).get("shared memory", ("", needed, 0, 0))
        if total < needed:
            small[node.name] = f"{megabytes(total)} in all, for an object store of {megabytes(needed)}"
    for text, nodes in nodes_by_text(small).items():
        fix = "give the container more (docker run --shm-size), or start Ray with --object-store-memory"
        yield warning(f"shared memory of {nodes}", text, "as much as the object store; it is on a disk now", fix)
