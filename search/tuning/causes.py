"""Why a trial failed: a few fixed words, and one line for people, out of what Ray and torch wrote."""

# Each pattern was met on Ray 2.60 and torch 2.13, on a worker that was killed, ran out of memory, or lost its node.

from __future__ import annotations

import re
from typing import Literal, get_args

from search.config.redaction import without_passwords

Cause = Literal["out_of_gpu_memory", "out_of_memory", "node_died", "worker_died", "error"]

# In this order: a worker that ran out of memory died, too. Ray's word on any dead worker names the OOM killer among
# the "common causes", so that "OOM" alone says nothing.
_PATTERNS: dict[Cause, re.Pattern[str]] = {
    "out_of_gpu_memory": re.compile(
        r"^out of GPU memory|(CUDA|HIP|XPU|MPS)\b.{0,40}out of memory|torch(\.cuda)?\.OutOfMemoryError"
        r"|(CUBLAS|CUDNN|CUFFT)_STATUS_ALLOC_FAILED"
    ),
    "out_of_memory": re.compile(
        r"^out of memory|killed due to the node running low on memory|ray\.exceptions\.OutOfMemoryError"
        r"|^[\w.]*MemoryError\b|can't allocate memory|Cannot allocate memory"
    ),
    "node_died": re.compile(r"^node died|its node has died|NodeDiedError|[Rr]aylet died"),
    "worker_died": re.compile(
        r"^worker died|worker process has died|worker died unexpectedly|ActorUnavailableError"
        r"|actor died unexpectedly before finishing"
    ),
}
_WORDS: dict[Cause, str] = {
    "out_of_gpu_memory": "out of GPU memory",
    "out_of_memory": "out of memory",
    "node_died": "node died",
    "worker_died": "worker died",
}
OUT_OF_MEMORY: frozenset[Cause] = frozenset({"out_of_gpu_memory", "out_of_memory"})
_LONGEST = 400


def cause_of(text: str) -> Cause:
    """The cause of the last failure that a text tells of: Tune's error file, or one line of ``reason_of``."""
    return _found(text)[0]


def reason_of(text: str) -> str:
    """One line: the cause in words, and the sentence that shows it; of any other error the exception itself.

    It holds no password. Its cause is that of the whole text.
    """
    cause, line = _found(text)
    words = _WORDS.get(cause, "")
    told = line if not words or line.startswith(words) else f"{words}: {line}"
    return without_passwords(told)[:_LONGEST]


def _found(text: str) -> tuple[Cause, str]:
    lines = _of_last_failure(text)
    plain = [line for line in lines if not line[0].isspace()]  # the others are source lines of a traceback
    for cause in get_args(Cause):
        if cause in _PATTERNS:
            matching = [line for line in plain if _PATTERNS[cause].search(line)]
            if matching:
                return cause, matching[-1].strip()
    return "error", lines[-1].strip() if lines else "unknown"


def _of_last_failure(text: str) -> list[str]:
    """Tune's error file has one failure after the other."""
    lines = [line for line in text.splitlines() if line.strip()]
    starts = [number for number, line in enumerate(lines) if re.match(r"Failure # \d+", line)]
    return lines[starts[-1] :] if starts else lines
