"""A short benchmark of one trial: train it for some seconds in this process, and measure what it takes."""

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

from search.tuning.autosize.monitor import ResourceMonitor, find_driver
from trainables.base.errors import TrainingDiverged
from trainables.base.training import Training

_MIN_RATE_PER_THREAD = 0.8  # of the best one; below, larger numbers of threads are not tried
_REPEAT_S = 0.2
_MIN_UPDATES = 6  # where updates are slow, unless that takes longer than LIMIT_FACTOR allows
LIMIT_FACTOR = 5  # a measurement ends after so many times the seconds that it should take


@dataclass(frozen=True)
class Measurement:
    """What one trial took in its benchmark. The names of the fields stand in sizing.json."""

    device: str  # name of the GPU, or cpu
    seconds: float
    memory: int  # peak of its node's memory in bytes, without what it shares with other processes
    rates: dict[int, float]  # number of threads -> updates per second; epochs, if a training makes no updates
    gpu_memory: int = 0  # peak of the GPU's memory in bytes, with CUDA's own part
    gpu_context: int = 0  # CUDA's own part
    gpu_free: int = 0  # bytes of the GPU that a search can use
    busy: float | None = None  # share of time in which the GPU computed; None: its driver does not report it

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Measurement:
        """Restore what ``as_dict`` returned, also from JSON, in which numbers of threads are text."""
        rates = {int(threads): rate for threads, rate in content["rates"].items()}
        return cls(**{**content, "rates": rates})


class _TimeUp(BaseException):
    """Ends the training. Not an ``Exception``, because a workload might catch that."""


def run_benchmark(
    training: type[Training], config: Any, data: Any, device: str, threads: Sequence[int], seconds: float
) -> Measurement:
    """Train with each number of threads for some seconds, then validate and copy the state as for a checkpoint.

    The training ends in the middle of an epoch if an epoch takes longer. Must be called in a main thread.

    Raises
    ------
    Exception
        Whatever the training raises except ``TrainingDiverged``, after which it begins again.
    """
    started, torch_device = time.perf_counter(), torch.device(device)
    on_gpu = torch_device.type == "cuda"
    if on_gpu:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    driver = find_driver() if on_gpu else None
    loop = _TrainingLoop(lambda: training(config, data, torch_device))
    rates: dict[int, float] = {}
    with ResourceMonitor(on_gpu, driver) as monitor:
        for number in threads:
            torch.set_num_threads(number)
            rates[number] = loop.train(seconds)
            if rates[number] / number < _MIN_RATE_PER_THREAD * max(rate / count for count, rate in rates.items()):
                break
        loop.validate(seconds)
    total = torch.cuda.get_device_properties(torch_device).total_memory if on_gpu else 0
    return Measurement(
        device=torch.cuda.get_device_name(torch_device) if on_gpu else "cpu",
        seconds=time.perf_counter() - started,
        memory=monitor.memory,
        rates=rates,
        gpu_memory=monitor.gpu_memory,
        gpu_context=monitor.gpu_context,
        gpu_free=min(total, monitor.gpu_free) if monitor.gpu_free else total,
        busy=monitor.gpu_busy,
    )


class _TrainingLoop:
    """Train a trial, from its beginning again when it ends, and count updates."""

    def __init__(self, build: Callable[[], Training]) -> None:
        self._build = build
        self._training: Training | None = None
        self._updates: list[float] = []  # times at which they were made

    def train(self, seconds: float) -> float:
        """Return updates per second, without the first one, which warms up; epochs per second if there are none."""
        self._updates.clear()
        started, epochs = time.perf_counter(), 0

        def time_is_up() -> bool:
            return time.perf_counter() - started >= seconds and (epochs > 0 or len(self._updates) >= _MIN_UPDATES)

        def count_update(*_: object) -> None:
            self._updates.append(time.perf_counter())
            if time_is_up():
                raise _TimeUp

        hook = register_optimizer_step_post_hook(count_update)
        try:
            with _time_limit(LIMIT_FACTOR * seconds):
                while not time_is_up():
                    self._train_epoch()
                    epochs += 1
        finally:
            hook.remove()
        if len(self._updates) > 1:
            return (len(self._updates) - 1) / (self._updates[-1] - self._updates[0])
        return epochs / (time.perf_counter() - started)

    def _train_epoch(self) -> None:
        training = self._current()
        try:
            training.train_epoch()
            training.validate()
        except TrainingDiverged:
            self._training = None
        if training.finished:
            self._training = None

    def validate(self, seconds: float) -> None:
        """Do what a trial does between its epochs, because the training may have ended before that."""
        with _time_limit(LIMIT_FACTOR * seconds), suppress(TrainingDiverged):
            training = self._current()
            training.validate()
            training.state()
            training.weights()

    def _current(self) -> Training:
        if self._training is None:  # then the memory of the one before is free
            self._training = self._build()
        return self._training


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Leave the block after some seconds, wherever it is, or with ``_TimeUp`` from inside."""
    running, grad = True, torch.is_grad_enabled()

    def interrupt(_number: int, frame: FrameType | None) -> None:
        if running and not _is_importing(frame):
            raise _TimeUp

    before = signal.signal(signal.SIGALRM, interrupt)
    # repeated, because Python drops an exception that is raised in a destructor
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, _REPEAT_S)
    try:
        yield
    except _TimeUp:
        pass
    finally:
        running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)
        torch.set_grad_enabled(grad)  # because an interrupt at the border of a no_grad block leaves it off


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported: interrupted, it could not be imported again. Torch imports some late."""
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib."):
        frame = frame.f_back
    return frame is not None
