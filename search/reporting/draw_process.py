"""Draw the figures of trials in a process beside the search; this module is both its handle and that process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from search.workload import Workload

_NICE = 10  # while trials run: they have the cores, figures the rest
_END_S = 2.0


class Artist(Protocol):
    """What draws; both methods return why it failed, or nothing."""

    def draw_report(self, folder: Path) -> str:
        """Draw the figures of a report into its folder."""

    def compare(self, reports: Mapping[str, Path], folder: Path) -> str:
        """Draw the figures that compare trials into a folder."""


class Here:
    """An artist that draws in this process: of a workload that no other process finds."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload

    def draw_report(self, folder: Path) -> str:
        return _attempt(lambda: self._workload.training.draw_report(folder))

    def compare(self, reports: Mapping[str, Path], folder: Path) -> str:
        return _attempt(lambda: self._workload.compare(reports, folder))


class DrawProcess:
    """An artist in a process of its own, which imports the workload once and ends with this one.

    A process of its own, not a pool of the standard library, because such a pool runs the user's script again.
    """

    def __init__(self, word: str, beside_trials: bool) -> None:
        command = [sys.executable, "-m", __name__, word, str(_NICE if beside_trials else 0)]
        places = os.pathsep.join(filter(None, dict.fromkeys([*sys.path, str(Path.cwd())])))
        environment = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            start_new_session=True,  # a Ctrl-C is for the search, which ends this process
        )

    def wait_until_ready(self) -> None:
        """Return when it can draw.

        Raises
        ------
        LookupError
            It does not find the workload.
        """
        if problem := self._answer():
            raise LookupError(problem)

    def draw_report(self, folder: Path) -> str:
        return self._ask({"report": str(folder)})

    def compare(self, reports: Mapping[str, Path], folder: Path) -> str:
        return self._ask({"reports": {label: str(report) for label, report in reports.items()}, "to": str(folder)})

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait(_END_S)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _ask(self, task: Mapping[str, object]) -> str:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(task) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            return "the process that draws figures has ended"
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        with suppress(OSError, ValueError):
            if line := self._process.stdout.readline():
                return str(json.loads(line))
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        return f"the process that draws figures died (exit code {self._process.poll()})"


def _attempt(draw: Callable[[], object]) -> str:
    try:
        draw()
    except Exception:  # a plotting library may raise anything
        return traceback.format_exc()
    return ""


def main(word: str, nice: int) -> None:
    """Answer one line for each that is read, until the search ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a workload prints is no answer

    def answer(text: str) -> None:
        answers.write(json.dumps(text) + "\n")
        answers.flush()

    with suppress(OSError):
        os.nice(nice)
    try:
        from search.config.catalogue import find_workload

        artist = Here(find_workload(word))
    except Exception:
        answer(traceback.format_exc())
        return
    answer("")
    for line in sys.stdin:
        task = json.loads(line)
        if "report" in task:
            answer(artist.draw_report(Path(task["report"])))
        else:
            reports = {label: Path(report) for label, report in task["reports"].items()}
            answer(artist.compare(reports, Path(task["to"])))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
