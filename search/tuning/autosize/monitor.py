"""Watches what one process takes while it trains: memory of its node, memory and time of its GPU."""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType
from typing import Protocol

import psutil
import torch

from trainables.runtime.gpu_memory import CONTEXT_BYTES

_PAUSE_S = 0.1


class Driver(Protocol):
    """What the driver of one GPU is asked."""

    def total(self) -> int:
        """Bytes in all."""

    def used(self) -> int:
        """Bytes that all processes use now."""

    def used_by(self, pid: int) -> int | None:
        """Bytes that one process uses, its CUDA context included; None where that is not told, as in containers."""

    def busy(self) -> float | None:
        """Share of the last moment in which the GPU computed; None where that is not told."""


class Nvml:
    """NVIDIA's management library, for the GPU that torch calls number 0."""

    def __init__(self) -> None:
        import pynvml

        self._nvml = pynvml
        pynvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(0).uuid).removeprefix("GPU-")
        self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")

    def total(self) -> int:
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).total)

    def used(self) -> int:
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)

    def used_by(self, pid: int) -> int | None:
        try:
            there = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._nvml.NVMLError:
            return None
        return next((process.usedGpuMemory for process in there if process.pid == pid), None)

    def busy(self) -> float | None:
        try:
            return float(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu) / 100
        except self._nvml.NVMLError:  # a part of a GPU (MIG) does not tell
            return None


def find_driver() -> Driver | None:
    """Of the GPU that this process was given; None where its driver tells nothing."""
    try:
        driver = Nvml()
        return driver if driver.total() > driver.used() else None
    except Exception:  # no library, no right to ask, another maker
        return None


class Meter:
    """Looks ten times a second from a thread of its own, while its ``with`` block runs.

    Parameters
    ----------
    gpu : bool
        Whether the process trains on a GPU.
    driver : Driver, optional
        Of that GPU; without it torch alone is asked, which knows neither CUDA's own memory nor the load.
    """

    def __init__(self, gpu: bool, driver: Driver | None = None) -> None:
        self._gpu, self._driver = gpu, driver
        self._others = driver.used() if driver else 0  # on the GPU before we are
        self._busy: list[tuple[float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._started = time.monotonic()
        self.memory = 0  # peak, in bytes, of what no other process shares
        self.gpu_memory = 0  # peak, in bytes, CUDA's own included
        self.gpu_context = CONTEXT_BYTES if gpu else 0  # thereof what torch does not count

    def __enter__(self) -> Meter:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self.look()

    @property
    def free_for_us(self) -> int:
        """Bytes of the GPU less what others use; 0 where its driver does not tell."""
        return self._driver.total() - self._others if self._driver else 0

    @property
    def busy(self) -> float | None:
        """Share of time in which the GPU computed, in the second half: the first one loads and warms up."""
        if not self._busy:
            return None
        middle = (self._started + self._busy[-1][0]) / 2
        late = [share for at, share in self._busy if at >= middle]
        return sum(late) / len(late)

    def look(self) -> None:
        """One look; peaks only grow."""
        self.memory = max(self.memory, private_bytes())
        if not self._gpu:
            return
        of_torch, of_process = torch.cuda.max_memory_reserved(), 0
        if self._driver and of_torch:
            told = self._driver.used_by(os.getpid())
            # else as much as the GPU has become fuller; CUDA's own part may have been there before we looked
            of_process = told or self._driver.used() - self._others
            self.gpu_context = max(of_process - of_torch, 0 if told else CONTEXT_BYTES)
        self.gpu_memory = max(self.gpu_memory, of_process, of_torch + self.gpu_context)
        if self._driver and (busy := self._driver.busy()) is not None:
            self._busy.append((time.monotonic(), busy))

    def _watch(self) -> None:
        while not self._over.wait(_PAUSE_S):
            self.look()


def private_bytes() -> int:
    """Memory of this process but for files and for what it shares: the data in Ray's object store are not its own."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))
