"""Whether the nodes' clocks agree with this machine's."""

from __future__ import annotations

import time
from collections.abc import Iterator

from search.diagnostics.cluster import Cluster, Node
from search.diagnostics.context import Setup
from search.diagnostics.finding import Finding, fine, warning, wrong
from search.diagnostics.probes.machine import clock

WARN_S = 1.0  # then times in logs, of files and of runs mislead
WRONG_S = 30.0  # then certificates, tokens and time limits fail
_SAMPLES, _WAIT_S = 5, 5
_MEND = "chronyc makestep there (or: timedatectl set-ntp true)"


def check(setup: Setup) -> Iterator[Finding]:
    """The difference is known to half of the time that question and answer take."""
    answers = setup.joined.ask(clock, limit_s=setup.patience_s)  # the first one starts a process
    yield from answers.complaints("clock")
    largest = 0.0
    good = 0
    for node in setup.joined.nodes:
        if node.name not in answers.of:
            continue
        difference = _ahead(setup.joined, node)
        if difference is None:
            yield wrong(
                f"clock of {node.name}", f"no answer within {_WAIT_S} s", "an answer", "ray status; ray logs cluster"
            )
            continue
        ahead_s, unsure_s = difference
        beyond_s = abs(ahead_s) - unsure_s
        if beyond_s > WARN_S:
            way = "ahead of" if ahead_s > 0 else "behind"
            say = wrong if beyond_s > WRONG_S else warning
            found, expected = f"{abs(ahead_s):.1f} s {way} this machine", f"less than {WARN_S:g} s"
            yield say(f"clock of {node.name}", found, expected, _MEND)
        else:
            largest, good = max(largest, abs(ahead_s)), good + 1
    if good:
        yield fine("clocks", f"within {max(largest, 0.01):.2f} s of this machine on {good} of {len(answers.of)} nodes")


def _ahead(cluster: Cluster, node: Node) -> tuple[float, float] | None:
    """Seconds by which a clock is ahead, and their uncertainty: of a few tries the quickest. None: it is silent now."""
    tries = []
    for _ in range(_SAMPLES):
        began = time.time()
        answers = cluster.ask(clock, limit_s=_WAIT_S, nodes=[node])
        ended = time.time()
        if node.name not in answers.of:
            break
        tries.append(((ended - began) / 2, answers.of[node.name] - (began + ended) / 2))
    if not tries:
        return None
    unsure_s, ahead_s = min(tries)
    return ahead_s, unsure_s
