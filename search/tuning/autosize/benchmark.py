"""Trains one trial for a moment, in a worker of its own on a node, and says what it took and how fast it was."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from search.tuning.autosize.monitor import Meter, find_driver
from trainables.base.errors import TrainingDiverged
from trainables.base.training import Training

_WORTH = 0.8  # of the best rate per thread: with fewer, more threads are not tried
_REPEAT_S = 0.2
_UPDATES = 6  # at least, where they are slow, unless that takes
LONGER = 5  # times the moment


@dataclass(frozen=True)
class Measured:
    """What one trial took in its moment."""

    device: str  # name of the GPU, or cpu
    seconds: float
    memory: int  # bytes of its node's memory that it shared with nobody, at its peak
    rates: dict[int, float]  # threads -> updates per second; epochs of a training that makes no updates
    gpu_memory: int = 0  # bytes of the GPU at its peak, CUDA's own included
    gpu_context: int = 0  # thereof CUDA's own
    gpu_free: int = 0  # bytes of the GPU that a search can use
    busy: float | None = None  # share of time in which the GPU computed; None: its driver does not tell

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Measured:
        """What ``as_dict`` gave, after its way through JSON."""
        rates = {int(threads): rate for threads, rate in content["rates"].items()}
        return cls(**{**content, "rates": rates})


class _Over(BaseException):
    """The moment is over; no ``except Exception`` of a workload may take it."""


def measure(
    training: type[Training], config: Any, data: Any, device: str, threads: Sequence[int], seconds: float
) -> Measured:
    """Train with each number of threads for so long, then validate once and copy the state as a checkpoint does.

    It ends in the middle of an epoch where that takes longer. To be called in a main thread.

    Raises
    ------
    Exception
        Whatever the training itself raises, but for ``TrainingDiverged``: then it begins anew.
    """
    started, where = time.perf_counter(), torch.device(device)
    gpu = where.type == "cuda"
    if gpu:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    driver = find_driver() if gpu else None
    trial = _Trial(lambda: training(config, data, where))
    rates: dict[int, float] = {}
    with Meter(gpu, driver) as meter:
        for number in threads:
            torch.set_num_threads(number)
            rates[number] = trial.train(seconds)
            if rates[number] / number < _WORTH * max(rate / count for count, rate in rates.items()):
                break
        trial.finish(seconds)
    total = torch.cuda.get_device_properties(where).total_memory if gpu else 0
    return Measured(
        device=torch.cuda.get_device_name(where) if gpu else "cpu",
        seconds=time.perf_counter() - started,
        memory=meter.memory,
        rates=rates,
        gpu_memory=meter.gpu_memory,
        gpu_context=meter.gpu_context,
        gpu_free=min(total, meter.free_for_us) if meter.free_for_us else total,
        busy=meter.busy,
    )


class _Trial:
    """Trains again and again, and counts."""

    def __init__(self, build: Callable[[], Training]) -> None:
        self._build = build
        self._training: Training | None = None
        self._updates: list[float] = []  # when each of them was made

    def train(self, seconds: float) -> float:
        """Updates per second, from the first one on, which warms up; or epochs, where there are none."""
        self._updates.clear()
        started, epochs = time.perf_counter(), 0

        def over() -> bool:
            return time.perf_counter() - started >= seconds and (epochs > 0 or len(self._updates) >= _UPDATES)

        def count(*_: object) -> None:
            self._updates.append(time.perf_counter())
            if over():
                raise _Over

        hook = register_optimizer_step_post_hook(count)
        try:
            with _at_most(LONGER * seconds):
                while not over():
                    self._epoch()
                    epochs += 1
        finally:
            hook.remove()
        if len(self._updates) > 1:
            return (len(self._updates) - 1) / (self._updates[-1] - self._updates[0])
        return epochs / (time.perf_counter() - started)

    def _epoch(self) -> None:
        training = self._begun()
        try:
            training.train_epoch()
            training.validate()
        except TrainingDiverged:
            self._training = None
        if training.finished:
            self._training = None

    def finish(self, seconds: float) -> None:
        """What a trial does between its epochs, if it was not got so far."""
        with _at_most(LONGER * seconds), suppress(TrainingDiverged):
            training = self._begun()
            training.validate()
            training.state()
            training.weights()

    def _begun(self) -> Training:
        if self._training is None:  # and its memory given back before more is taken
            self._training = self._build()
        return self._training


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Leaves the block after so long, wherever it is; an update of the weights may leave it before."""
    running, grad = True, torch.is_grad_enabled()

    def strike(_number: int, frame: FrameType | None) -> None:
        if running and not _importing(frame):
            raise _Over

    before = signal.signal(signal.SIGALRM, strike)
    # again and again: Python drops what strikes in a destructor
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, _REPEAT_S)
    try:
        yield
    except _Over:
        pass
    finally:
        running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)
        torch.set_grad_enabled(grad)  # struck at the border of a no_grad block, it stays as it is inside


def _importing(frame: FrameType | None) -> bool:
    """A module that is cut off while it loads cannot be imported again; torch loads some when it first trains."""
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib."):
        frame = frame.f_back
    return frame is not None
