"""Makes one check after the other: none of them can stop the others, by failing or by never ending."""

from __future__ import annotations

import importlib
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from queue import Empty, Queue

from search.config.redaction import first_line
from search.diagnostics.context import Setup
from search.diagnostics.finding import Finding, warning, wrong

MODULES = {  # by name of the check; imported when its turn comes, for an import may be what is wrong
    "cluster": "joining",
    "machine": "machine",
    "versions": "versions",
    "gpus": "gpus",
    "clocks": "clocks",
    "storage": "storage",
    "disks": "room",
    "ports": "ports",
    "upload": "upload",
    "data": "data",
    "tracking": "tracking",
    "trial": "trial",
}
OF_NODES = ("gpus", "clocks", "trial")  # nothing to look at without a cluster
_ALONE = ("upload",)  # nothing to ask a node
_LEAVE_S = 30.0


def run(setup: Setup, only: Sequence[str] = ()) -> Iterator[tuple[str, Finding | None]]:
    """Names of checks and what they find; at the beginning of each its name and None."""
    wanted = [name for name in MODULES if not only or name in only]
    if "cluster" not in wanted and any(name not in _ALONE for name in wanted):
        wanted.insert(0, "cluster")
    try:
        for name in wanted:
            if name in OF_NODES and setup.cluster is None:
                continue
            yield name, None
            for finding in findings_of(name, setup):
                yield name, finding
        missed = [name for name in wanted if name in OF_NODES]
        if missed and setup.cluster is None and not (setup.address or "").startswith("http"):
            yield (
                "cluster",
                warning("nodes", f"not looked at: {', '.join(missed)}", "a cluster that was joined", "see above"),
            )
    finally:
        leaving = threading.Thread(target=setup.session.close, daemon=True)
        leaving.start()
        leaving.join(_LEAVE_S)
        setup.over.set()


def findings_of(name: str, setup: Setup) -> Iterator[Finding]:
    """What one check finds, its own failure among it, until it ends or its time is up."""
    found: Queue[Finding | None] = Queue()
    threading.Thread(target=_check, args=(name, setup, found), daemon=True, name=f"check of {name}").start()
    deadline = time.monotonic() + setup.limit_s
    while True:
        try:
            finding = found.get(timeout=max(deadline - time.monotonic(), 0))
        except Empty:
            mend = "look why that hangs: a file system, a server, a node; --time-limit gives it longer"
            yield wrong(f"check of {name}", f"no end within {setup.limit_s:.0f} s", "an answer", mend)
            return
        if finding is None:
            return
        yield finding


def _check(name: str, setup: Setup, found: Queue[Finding | None]) -> None:
    try:
        for finding in importlib.import_module(f"search.diagnostics.{MODULES[name]}").check(setup):
            found.put(finding)
    except (Exception, SystemExit) as error:  # whatever is broken, here or in a library
        told = f"{type(error).__name__}: {first_line(error)}"
        mend = "the whole story is in the file of --json"
        failed = wrong(f"check of {name}", told, "an answer", mend)
        found.put(replace(failed, details=traceback.format_exc()))
    finally:
        found.put(None)
        setup.over.wait()  # what Ray starts dies with the thread that started it
