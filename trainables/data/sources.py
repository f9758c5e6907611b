"""Where the rows of files come from: this process reads them, or several do, in the same order and alike."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock, local
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from trainables.data.cache_writer import CacheWriter, Column
from trainables.data.file_reader import HASH, FileReader
from trainables.data.files import UnreadableFile
from trainables.data.range_reader import RangeReader
from trainables.data.read_process import Count, Job, Read, ReadProcess, RowsOnDisk, Task, sampled_hashes, split_rows
from trainables.data.root_ntuples import Range
from trainables.runtime.machine_limits import machine_limits

if TYPE_CHECKING:
    from trainables.data.ingest import Request

# One process reads so much in two (zdc) to five seconds (pT). To start others costs each of them a second or two of
# imports, so that smaller inputs are read sooner by one.
LARGE_BYTES = 256 << 20
PROCESS_BYTES = 1 << 30  # that a process may need: where the job has less memory, fewer are started
MOST_PROCESSES = 16  # this process writes and checks what they read, at some ten times the pace of one
_AHEAD = 2  # tasks of each process that are begun or done before their turn: what they read waits on the disk

Advance = Callable[[int], None]  # told how many events of a file were read


class Source(Protocol):
    """Counts files, then reads the same or fewer of them, in their order."""

    def count(self, files: Sequence[str]) -> Iterator[tuple[str, Callable[[], int]]]:
        """Yield each file and a function that returns its number of events; raises as ``FileReader`` does."""

    def expect(self, files: Sequence[str], sampled: float) -> None:
        """Announce which files ``append`` will be asked for, one after another; ``sampled``: the share of hashes."""

    def append(self, file: str, writer: CacheWriter, advance: Advance) -> NDArray[np.uint64]:
        """Append the rows of a file; return the hashes that are in the sample. Raises as ``FileReader.read`` does."""


class Here:
    """This process reads."""

    def __init__(self, reader: FileReader, split: Mapping[str, float]) -> None:
        self._reader, self._split, self._sampled = reader, split, 1.0

    def count(self, files: Sequence[str]) -> Iterator[tuple[str, Callable[[], int]]]:
        for file in files:
            yield file, partial(self._reader.count_entries, file)

    def expect(self, files: Sequence[str], sampled: float) -> None:
        self._sampled = sampled

    def append(self, file: str, writer: CacheWriter, advance: Advance) -> NDArray[np.uint64]:
        some_hashes, done = [np.empty(0, np.uint64)], 0
        for rows in self._reader.read(file):
            for part, of_part in split_rows(rows, self._split).items():
                writer.append(part, of_part)
            some_hashes.append(sampled_hashes(rows, self._sampled))
            done += len(rows[HASH])
            advance(self._reader.counts.events if isinstance(self._reader, RangeReader) else done)
        return np.concatenate(some_hashes)


class Processes:
    """Several processes read, each one range of a file at a time; this one appends them in their order."""

    def __init__(self, pool: _Pool, job: Job) -> None:
        self._pool, self._job = pool, job
        self._ranges: dict[str, list[Range]] = {}
        self._reads: Iterator[Future[RowsOnDisk]] = iter(())
        self._sampled = 1.0

    def count(self, files: Sequence[str]) -> Iterator[tuple[str, Callable[[], int]]]:
        for file, future in zip(files, self._pool.in_order(Count(file) for file in files), strict=True):
            yield file, partial(self._counted, file, future)

    def _counted(self, file: str, future: Future[tuple[int, list[Range]]]) -> int:
        entries, self._ranges[file] = future.result()
        return entries

    def expect(self, files: Sequence[str], sampled: float) -> None:
        self._sampled = sampled
        self._reads = self._pool.in_order(
            Read(file, part, self._pool.folder / f"rows-{number}-{part[0]}", sampled)
            for number, file in enumerate(files)
            for part in self._ranges[file]
        )

    def append(self, file: str, writer: CacheWriter, advance: Advance) -> NDArray[np.uint64]:
        reader, problem = self._job.reader, None
        some_hashes = [np.empty(0, np.uint64)]
        reader.begin()
        for _, stop in self._ranges[file]:
            try:
                done = next(self._reads).result()
            except UnreadableFile as error:
                problem = problem or error
                continue
            try:
                if problem is None:
                    _append(done, self._job.columns, writer)
                    reader.counts.add(done.counts)
                    some_hashes.append(done.hashes)
                    advance(stop)
            finally:
                done.remove()
        if problem is not None:
            raise problem
        reader.check(file)
        return np.concatenate(some_hashes)


def _append(done: RowsOnDisk, columns: Mapping[str, Column], writer: CacheWriter) -> None:
    with done.path.open("rb") as stream:
        for part, count in done.blocks:
            writer.append(part, {name: _block(stream, column, count) for name, column in columns.items()})


def _block(stream: BinaryIO, column: Column, count: int) -> NDArray[Any]:
    data = stream.read(count * column.row_bytes)
    return np.frombuffer(data, column.dtype).reshape(count, *column.row_shape)


class _Pool:
    """Processes, and a thread for each that waits for it."""

    def __init__(self, job: Job, processes: int, folder: Path) -> None:
        self.folder = folder
        self._job, self._count = pickle.dumps(job), processes
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="read")
        self._own = local()
        self._lock, self._started, self._closed = Lock(), list[ReadProcess](), False

    def in_order(self, tasks: Iterable[Task]) -> Iterator[Future[Any]]:
        """Yield what comes of each task, in the order of the tasks; only some are begun before their turn."""
        ahead: deque[Future[Any]] = deque()
        for task in tasks:
            ahead.append(self._threads.submit(self._do, task))
            if len(ahead) > _AHEAD * self._count:
                yield ahead.popleft()
        yield from ahead

    def _do(self, task: Task) -> Any:
        if not hasattr(self._own, "process"):
            with self._lock:
                if self._closed:
                    raise CancelledError
                self._own.process = ReadProcess(self._job)
                self._started.append(self._own.process)
        return self._own.process.do(task)

    def close(self) -> None:
        """End all processes, whatever they are doing."""
        with self._lock:
            self._closed = True
        for process in self._started:
            process.close()
        self._threads.shutdown(wait=True, cancel_futures=True)


@contextmanager
def source_of(reader: FileReader, request: Request, size: int, folder: Path) -> Iterator[Source]:
    """Choose by the size of the input who reads it.

    Parameters
    ----------
    reader : FileReader
    request : Request
    size : int
        Bytes of all files.
    folder : Path
        For rows on their way.
    """
    count = processes_for(size) if isinstance(reader, RangeReader) else 1
    if count < 2 or not isinstance(reader, RangeReader):
        yield Here(reader, request.split)
        return
    job = Job(reader, request.columns, request.split)
    pool = _Pool(job, count, folder)
    try:
        yield Processes(pool, job)
    finally:
        pool.close()


def processes_for(size: int) -> int:
    """Return how many processes read files of so many bytes, with the CPUs and the memory that the job may use."""
    if size < LARGE_BYTES:
        return 1
    limits = machine_limits()
    of_memory = MOST_PROCESSES if limits.memory is None else limits.memory // PROCESS_BYTES
    return max(1, min(limits.cpus, of_memory, MOST_PROCESSES))
