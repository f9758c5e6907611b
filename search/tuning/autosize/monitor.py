"""Monitor what one process takes while it trains: memory of its node, memory and time of its GPU."""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType
from typing import Protocol

import psutil
import torch

from trainables.runtime.gpu_memory import CONTEXT_BYTES

_INTERVAL_S = 0.1


class GpuDriver(Protocol):
    """What the driver of one GPU reports."""

    def total(self) -> int:
        """Bytes of memory."""

    def used(self) -> int:
        """Bytes that all processes use now."""

    def used_by(self, pid: int) -> int | None:
        """Bytes that one process uses, with its CUDA context; None where that is not reported, as in containers."""

    def busy(self) -> float | None:
        """Share of the last sampling period in which the GPU computed; None where that is not reported."""


class NvmlDriver:
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
            processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._nvml.NVMLError:
            return None
        return next((process.usedGpuMemory for process in processes if process.pid == pid), None)

    def busy(self) -> float | None:
        try:
            return float(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu) / 100
        except self._nvml.NVMLError:  # a part of a GPU (MIG) does not report it
            return None


def find_driver() -> GpuDriver | None:
    """Find the driver of this process's GPU; None where it cannot be asked."""
    try:
        driver = NvmlDriver()
        return driver if driver.total() > driver.used() else None
    except Exception:  # no library, no permission, another manufacturer
        return None


class ResourceMonitor:
    """Sample ten times a second in a thread, during a ``with`` block.

    Parameters
    ----------
    on_gpu : bool
        Whether the process trains on a GPU.
    driver : GpuDriver, optional
        Driver of that GPU. Without it the values are torch's, which counts neither CUDA's own memory nor the load.
    """

    def __init__(self, on_gpu: bool, driver: GpuDriver | None = None) -> None:
        self._on_gpu, self._driver = on_gpu, driver
        self._used_before = driver.used() if driver else 0  # bytes of the GPU that other processes use
        self._loads: list[tuple[float, float]] = []  # time, share
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = time.monotonic()
        self.memory = 0  # peak in bytes, without what other processes share
        self.gpu_memory = 0  # peak in bytes, with CUDA's own part
        self.gpu_context = CONTEXT_BYTES if on_gpu else 0  # CUDA's own part, which torch does not count

    def __enter__(self) -> ResourceMonitor:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.sample()

    @property
    def gpu_free(self) -> int:
        """Bytes of the GPU that no other process uses; 0 without a driver."""
        return self._driver.total() - self._used_before if self._driver else 0

    @property
    def gpu_busy(self) -> float | None:
        """Share of time in which the GPU computed, of the second half, because the first half loads and warms up."""
        if not self._loads:
            return None
        middle = (self._started + self._loads[-1][0]) / 2
        late = [load for at, load in self._loads if at >= middle]
        return sum(late) / len(late)

    def sample(self) -> None:
        """Measure once, and raise the peaks."""
        self.memory = max(self.memory, private_bytes())
        if not self._on_gpu:
            return
        of_torch, of_process = torch.cuda.max_memory_reserved(), 0
        if self._driver and of_torch:
            reported = self._driver.used_by(os.getpid())
            # otherwise what the GPU has more than before; CUDA's own part may have been there before
            of_process = reported or self._driver.used() - self._used_before
            self.gpu_context = max(of_process - of_torch, 0 if reported else CONTEXT_BYTES)
        self.gpu_memory = max(self.gpu_memory, of_process, of_torch + self.gpu_context)
        if self._driver and (load := self._driver.busy()) is not None:
            self._loads.append((time.monotonic(), load))

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            self.sample()


def private_bytes() -> int:
    """Memory of this process without files and shared memory, in which Ray's object store has the data."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))
