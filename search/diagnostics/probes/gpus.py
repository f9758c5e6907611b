"""Which GPUs a node has, as torch sees them and as their driver does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

from search.diagnostics.probes.machine import inherited


def gpus() -> dict[str, Any]:
    """GPUs as torch sees them (``torch``, ``names``, ``cuda``: version it was built for) and as their driver does.

    In a process of its own: a worker that has asked keeps a part of the GPU.
    """
    words = "import json, torch; n = torch.cuda.device_count(); print(json.dumps([n, [torch.cuda.get_device_name(i) "
    words += "for i in range(n)], torch.version.cuda or torch.version.hip or '', torch.__version__]))"
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    given = inherited()
    if "CUDA_VISIBLE_DEVICES" in given:
        environment["CUDA_VISIBLE_DEVICES"] = given["CUDA_VISIBLE_DEVICES"]
    done = subprocess.run(
        [sys.executable, "-c", words], env=environment, capture_output=True, text=True, timeout=50, check=False
    )
    if done.returncode:
        raise RuntimeError(f"torch cannot be imported: {done.stderr.strip().splitlines()[-1]}")
    count, kinds, cuda, version = json.loads(done.stdout.splitlines()[-1])
    return {"torch": count, "names": kinds, "cuda": cuda, "version": version, "driver": _gpus_of_driver()}


def _gpus_of_driver() -> int:
    if not shutil.which("nvidia-smi"):
        return 0
    done = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=30, check=False)
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines())
