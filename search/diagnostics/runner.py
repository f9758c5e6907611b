"""Run one check after the other, so that none can stop the others by failing or by never ending."""

from __future__ import annotations

import importlib
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from queue import Empty, Queue
from typing import Literal, get_args

from search.config.redaction import first_line
from search.diagnostics.context import DiagnosticContext
from search.diagnostics.finding import Finding, warning, wrong

Check = Literal[  # in their order; each has a module of its name
    "cluster", "machine", "versions", "gpus", "clocks", "storage",
    "disks", "ports", "upload", "data", "tracking", "trial",
]  # fmt: skip
CHECKS: tuple[Check, ...] = get_args(Check)
_OF_NODES = ("gpus", "clocks", "trial")  # skipped without a cluster
_LOCAL = ("upload",)  # need no cluster
_DISCONNECT_S = 30.0


def run_checks(context: DiagnosticContext, only: Sequence[Check] = ()) -> Iterator[tuple[Check, Finding | None]]:
    """Run the checks; yields the name of a check with None when it begins, and then with each of its findings."""
    wanted = [check for check in CHECKS if not only or check in only]
    if "cluster" not in wanted and any(check not in _LOCAL for check in wanted):
        wanted.insert(0, "cluster")
    try:
        for check in wanted:
            if check in _OF_NODES and context.cluster is None:
                continue
            yield check, None
            for finding in findings_of(check, context):
                yield check, finding
        skipped = ", ".join(check for check in wanted if check in _OF_NODES)
        if skipped and context.cluster is None and not (context.address or "").startswith("http"):
            yield "cluster", warning("nodes", f"not checked: {skipped}", "a cluster that can be joined", "see above")
    finally:
        closing = threading.Thread(target=context.session.close, daemon=True)
        closing.start()
        closing.join(_DISCONNECT_S)
        context.closed.set()


def findings_of(check: Check, context: DiagnosticContext) -> Iterator[Finding]:
    """Run one check in a thread; yields its findings, its own failure among them, until it ends or its time is up."""
    findings: Queue[Finding | None] = Queue()
    threading.Thread(target=_run, args=(check, context, findings), daemon=True, name=f"check of {check}").start()
    deadline = time.monotonic() + context.time_limit_s
    while True:
        try:
            finding = findings.get(timeout=max(deadline - time.monotonic(), 0))
        except Empty:
            fix = "look why that hangs: a file system, a server, a node; --time-limit gives it longer"
            yield wrong(f"check of {check}", f"no end within {context.time_limit_s:.0f} s", "an answer", fix)
            return
        if finding is None:
            return
        yield finding


def _run(check: Check, context: DiagnosticContext, findings: Queue[Finding | None]) -> None:
    try:
        # imported here, because an import may be what is wrong
        for finding in importlib.import_module(f"search.diagnostics.{check}").check(context):
            findings.put(finding)
    except (Exception, SystemExit) as error:  # whatever is broken, here or in a library
        found = f"{type(error).__name__}: {first_line(error)}"
        failed = wrong(f"check of {check}", found, "an answer", "the traceback is in the file of --json")
        findings.put(replace(failed, details=traceback.format_exc()))
    finally:
        findings.put(None)
        context.closed.wait()  # processes that Ray starts die with the thread that started them
