"""Share what is to be drawn among processes: one of low priority beside the trials, one a core at their end."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait

from search.config.catalogue import word_of
from search.reporting.draw_process import Artist, DrawProcess, Here
from search.workload import Workload

_MOST_PROCESSES = 4
_TASKS_PER_PROCESS = 3  # a process needs some seconds to start: fewer tasks are not worth it

Task = Callable[[Artist], None]


class DrawPool:
    """Tasks in their order, and the processes that do them; the first task starts the first process."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._waiting: deque[tuple[Task, Future[None]]] = deque()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._processes: list[DrawProcess] = []
        self._closed = False
        self._nobody_finds = False  # the workload: this process must draw itself

    def submit(self, task: Task) -> Future[None]:
        """Do a task when its turn comes."""
        future: Future[None] = Future()
        with self._changed:
            self._waiting.append((task, future))
            if not self._threads:
                self._start_thread(beside_trials=True)
            self._changed.notify()
        return future

    @property
    def started(self) -> bool:
        """Return whether there are processes that draw, or soon will be."""
        return bool(self._threads) and not self._nobody_finds

    def draw_here(self, task: Task) -> Future[None]:
        """Do a task at once in this process, for which no other needs to start."""
        future: Future[None] = Future()
        _do(task, Here(self._workload), future)
        return future

    def hurry(self) -> None:
        """Use all cores: the trials have ended."""
        cores = len(os.sched_getaffinity(0))
        with self._changed:
            if not self._waiting:
                return
            wanted = min(cores, _MOST_PROCESSES, 1 + len(self._waiting) // _TASKS_PER_PROCESS)
            for _ in range(wanted - (1 if self._threads else 0)):
                self._start_thread(beside_trials=False)

    def finish(self, futures: Iterable[Future[None]]) -> None:
        """Return when these are done; none of them raises here."""
        futures = list(futures)
        while wait(futures, 0.05).not_done and not self._closed:
            if self._nobody_finds:
                self._draw_here()

    def close(self) -> None:
        """Leave what is not done, and end the processes."""
        with self._changed:
            self._closed = True
            while self._waiting:
                self._waiting.popleft()[1].cancel()
            processes = list(self._processes)
            self._changed.notify_all()
        for process in processes:
            process.close()
        for thread in self._threads:
            thread.join()

    def _start_thread(self, beside_trials: bool) -> None:
        thread = threading.Thread(target=self._work, args=(beside_trials,), name="figures", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self, beside_trials: bool) -> None:
        process: DrawProcess | None = None
        while not self._nobody_finds and (taken := self._take()) is not None:
            task, future = taken
            if process is None or not process.alive:
                process = self._start_process(beside_trials)
            if process is None:
                with self._changed:
                    self._waiting.appendleft((task, future))
                return
            _do(task, process, future)

    def _start_process(self, beside_trials: bool) -> DrawProcess | None:
        try:
            with self._changed:
                if self._closed:
                    return None
                process = DrawProcess(word_of(self._workload), beside_trials)
                self._processes.append(process)
            process.wait_until_ready()
        except (LookupError, OSError):
            self._nobody_finds = True
            return None
        return process

    def _take(self) -> tuple[Task, Future[None]] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return None if self._closed else self._waiting.popleft()

    def _draw_here(self) -> None:
        while self._waiting:
            task, future = self._waiting.popleft()
            _do(task, Here(self._workload), future)


def _do(task: Task, artist: Artist, future: Future[None]) -> None:
    try:
        task(artist)
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(None)
