"""The device that a benchmark of training runs on, and the line that names the machine in its result."""

from __future__ import annotations

import os
import platform

import torch


def begin_on(threads: int) -> tuple[torch.device, str]:
    """Choose CUDA where it is, limit PyTorch to threads of the CPU; return the device, and machine and versions."""
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cpu = f"CPU ({platform.machine()}), {os.cpu_count()} cores"
    name = torch.cuda.get_device_name() if device.type == "cuda" else cpu
    return device, f"{name}, {threads} thread(s), torch {torch.__version__}"
