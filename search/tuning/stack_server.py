"""The process that holds a device and trains the trials of a stack on it, an epoch of all at a time."""

from __future__ import annotations

import os
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import torch

from search.tuning.stack_groups import StackGroups
from trainables.base.stack_speed import best_slots
from trainables.base.trial_run import TrialKind
from trainables.runtime.gpu_memory import GpuPart, keep_to

T = TypeVar("T")
Files = Mapping[str, bytes]  # of a checkpoint, by their path in it

PATIENCE = 0.5  # of the last epoch's seconds: so long those who are ready wait for the others
_LEAST_S, _MOST_S = 0.02, 10.0


@dataclass(frozen=True)
class _Use:
    """How much of the slots was used."""

    epochs: int = 0  # of trials
    busy_s: float = 0.0  # in which the device trained
    slot_s: float = 0.0  # sum over slots of the seconds in which they trained
    all_s: float = 0.0  # from the first trial's beginning


class StackServer:
    """A Ray actor with one thread that computes; calls wait for it in threads of their own.

    A trial joins, asks for a step, asks for its checkpoint, and so on, and leaves. Between two epochs the thread does
    whatever else is asked; it trains the next epoch once all trials have asked for one, or once those that have
    waited long enough: until a trial's result has gone through the search, its slot would keep all others waiting.

    A trial whose run has raised an error gets it, and goes on from its checkpoint as any trial that failed.
    """

    def __init__(self, kind: TrialKind, device: str, threads: int, gpu_part: GpuPart, slots: int) -> None:
        self._kind, self._device, self._threads = kind, torch.device(device), threads
        keep_to(gpu_part, self._device)
        self._queue: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._slots, self._groups = slots, StackGroups(kind, slots, self._device)
        self._waiting: dict[str, Future[dict[str, Any]]] = {}
        self._since = self._last_s = 0.0
        self._use, self._began = _Use(), 0.0
        threading.Thread(target=self._work, name="stack", daemon=True).start()

    # --- called through Ray, each in a thread of its own

    def measure(self, hyperparameters: Mapping[str, Any]) -> int:
        """Return the number of slots that trains most runs like this one; 1: no stack is worth while."""
        config = self._kind.config(**hyperparameters)
        return self._ask(lambda: best_slots(self._kind.training, config, self._kind.data, self._device))

    def join(self, trial: str, hyperparameters: Mapping[str, Any], before: str = "") -> bool:
        """Begin a trial's run; False: all slots are taken.

        Parameters
        ----------
        before : str
            A trial that leaves for it.
        """

        def do() -> bool:
            self._leave(before)
            if trial not in self._groups and self._groups.full:
                return False
            self._leave(trial)
            self._groups.join(trial, hyperparameters)
            self._began = self._began or time.perf_counter()
            return True

        return self._ask(do)

    def step(self, trial: str) -> dict[str, Any]:
        """Train one epoch of a trial among those of others; return its result."""
        result: Future[dict[str, Any]] = Future()

        def do() -> None:
            self._groups.run(trial)
            if not self._waiting:
                self._since = time.perf_counter()
            self._waiting[trial] = result

        self._ask(do)
        return result.result()

    def save(self, trial: str) -> Files:
        """Return the files of a trial's checkpoint."""

        def do() -> Files:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                self._groups.run(trial).save_checkpoint(folder)
                files = [path for path in folder.rglob("*") if path.is_file()]
                return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

        return self._ask(do)

    def load(self, trial: str, files: Files) -> bool:
        """Let a trial go on from the files of a checkpoint; return whether that was its last one."""

        def do() -> bool:
            run = self._groups.run(trial)
            with tempfile.TemporaryDirectory() as name:
                for path, content in files.items():
                    Path(name, path).write_bytes(content)
                run.load_checkpoint(Path(name))
            return run.training.finished

        return self._ask(do)

    def leave(self, trial: str) -> None:
        """Forget a trial; one that is not here changes nothing."""
        self._queue.put(lambda: self._leave(trial))

    def usage(self) -> dict[str, float]:
        """Return epochs of trials, seconds in which the device trained, and the share of busy slots until now."""

        def do() -> dict[str, float]:
            use, all_s = self._use, self._use.all_s * self._slots
            return {"epochs": use.epochs, "busy_s": use.busy_s, "slots": use.slot_s / all_s if all_s else 0.0}

        return self._ask(do)

    def _ask(self, do: Callable[[], T]) -> T:
        """Have the thread do this between two epochs."""
        done: Future[T] = Future()

        def settle() -> None:
            try:
                done.set_result(do())
            except BaseException as error:
                done.set_exception(error)

        self._queue.put(settle)
        return done.result()

    # --- in the thread that computes

    def _work(self) -> None:
        """Train until the process ends; where that fails the process ends, and Ray starts another one."""
        try:
            self._serve()
        finally:
            traceback.print_exc()
            os._exit(1)  # else all calls would wait for ever

    def _serve(self) -> None:
        torch.set_num_threads(self._threads)
        while True:
            while self._waiting and (left_s := self._left_s()) > 0:
                if not self._do_next(left_s):
                    break
            if not self._waiting:
                self._do_next(None)
                continue
            while self._do_next(0.0):  # who asks now is not to wait for another epoch
                pass
            if self._waiting:
                self._train()

    def _left_s(self) -> float:
        """Return how long to wait for further trials to ask."""
        if len(self._waiting) >= len(self._groups):
            return 0.0
        return self._since + min(max(PATIENCE * self._last_s, _LEAST_S), _MOST_S) - time.perf_counter()

    def _do_next(self, wait_s: float | None) -> bool:
        try:
            do = self._queue.get(timeout=wait_s) if wait_s != 0.0 else self._queue.get_nowait()
        except Empty:
            return False
        do()
        return True

    def _leave(self, trial: str) -> None:
        if trial in self._waiting:
            self._waiting.pop(trial).cancel()
        self._groups.leave(trial)

    def _train(self) -> None:
        asked, self._waiting = self._waiting, {}
        began = time.perf_counter()
        for trial, result in self._groups.train_epoch(list(asked)):
            if isinstance(result, Exception):
                asked[trial].set_exception(result)
            else:
                asked[trial].set_result(result)
        now, trials = time.perf_counter(), len(asked)
        self._last_s, use = now - began, self._use
        self._use = _Use(
            use.epochs + trials, use.busy_s + self._last_s, use.slot_s + trials * self._last_s, now - self._began
        )
