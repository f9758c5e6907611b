"""Count and read files in a process beside this one; this module is both its handle and that process."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trainables.base.errors import DataError
from trainables.data.cache_writer import Column
from trainables.data.file_reader import HASH, Rows
from trainables.data.range_reader import RangeReader
from trainables.data.root_ntuples import Range
from trainables.data.root_trees import files_kept_open
from trainables.data.split import parts_of, positions

_END_S = 5.0


@dataclass(frozen=True)
class Job:
    """What all tasks of a reading have in common."""

    reader: RangeReader[Any]
    columns: Mapping[str, Column]
    split: Mapping[str, float]


class Task(Protocol):
    """One task of a job, which can be pickled, as its result can."""

    @property
    def file(self) -> str: ...

    def do(self, job: Job) -> Any: ...


@dataclass(frozen=True)
class Count:
    """Count the events of a file, and divide it."""

    file: str

    def do(self, job: Job) -> tuple[int, list[Range]]:
        return job.reader.count_entries(self.file), job.reader.ranges(self.file)


@dataclass(frozen=True)
class RowsOnDisk:
    """The rows of one range in a file, as the cache will have them: a block for each chunk and part."""

    path: Path
    blocks: Sequence[tuple[str, int]]  # part and number of rows; each block has all columns one after another
    hashes: NDArray[np.uint64]  # those that lie in a share of their range
    counts: Any

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Read:
    """Read one range of a file into a file of rows."""

    file: str
    part: Range
    to: Path
    sampled: float

    def do(self, job: Job) -> RowsOnDisk:
        try:
            return self._read(job)
        except BaseException:
            self.to.unlink(missing_ok=True)
            raise

    def _read(self, job: Job) -> RowsOnDisk:
        blocks, some_hashes = [], [np.empty(0, np.uint64)]
        job.reader.begin()
        with self.to.open("wb") as stream:
            for rows in job.reader.read_range(self.file, self.part):
                for part, of_part in split_rows(rows, job.split).items():
                    for name, column in job.columns.items():
                        stream.write(column.checked(of_part[name]).data)
                    blocks.append((part, len(of_part[HASH])))
                some_hashes.append(sampled_hashes(rows, self.sampled))
        return RowsOnDisk(self.to, blocks, np.concatenate(some_hashes), job.reader.counts)


def split_rows(rows: Rows, split: Mapping[str, float]) -> dict[str, Rows]:
    """Return the rows of each part."""
    parts = {}
    for part, chosen_N in parts_of(rows[HASH], split).items():
        index = np.flatnonzero(chosen_N)  # quicker than the mask, for each of the columns
        whole = len(index) == len(chosen_N)
        parts[part] = rows if whole else {name: values[index] for name, values in rows.items()}
    return parts


def sampled_hashes(rows: Rows, sampled: float) -> NDArray[np.uint64]:
    """Return the hashes that lie in a share of their range."""
    event_hash_N: NDArray[np.uint64] = rows[HASH]
    return event_hash_N[positions(event_hash_N) < sampled]


class ReadProcess:
    """A process that does tasks one after another, and ends with this one.

    A process of its own, not a pool of the standard library, because such a pool runs the user's script again; and it
    imports nothing but what reads files.
    """

    def __init__(self, job: bytes) -> None:
        places = os.pathsep.join(filter(None, dict.fromkeys([*sys.path, str(Path.cwd())])))
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # a Ctrl-C is for the command, which ends this process
        )
        self._job = job

    def do(self, task: Task) -> Any:
        """Do a task and return its result; raises what it raises there.

        Raises
        ------
        DataError
            The process died.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(self._job + pickle.dumps(task))
            self._process.stdin.flush()
            self._job = b""
            result, error = pickle.load(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError, ValueError) as end:
            raise DataError(f"{task.file}: {self._obituary()}") from end
        if error is not None:
            raise error
        return result

    def _obituary(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        code = self._process.poll()
        how = f"by {Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"
        return (
            f"the process that read it ended {how} in the middle. Expected it to live; one that is killed has often "
            "needed more memory than the machine or the job has. Run the command again, with more memory."
        )

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def main() -> None:
    """Answer one result for each task that is read, until the command ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    tasks = sys.stdin.buffer
    with suppress(EOFError, BrokenPipeError), files_kept_open():
        job: Job = pickle.load(tasks)
        while True:
            task: Task = pickle.load(tasks)
            answers.write(_answer(task, job))
            answers.flush()


def _answer(task: Task, job: Job) -> bytes:
    try:
        return pickle.dumps((task.do(job), None))
    except Exception as error:
        words = traceback.format_exc()
        with suppress(Exception):  # of a library, whose errors may not be made again elsewhere
            answer = pickle.dumps((None, error))
            pickle.loads(answer)
            return answer
        return pickle.dumps((None, RuntimeError(words)))


if __name__ == "__main__":
    from trainables.data.read_process import main as main_of_module  # classes that are pickled have its name

    main_of_module()
