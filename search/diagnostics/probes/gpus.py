"""The GPUs of a node, as torch and as their driver see them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

from search.diagnostics.probes.machine import inherited_environment

_SCRIPT = """
import json, torch
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(json.dumps([names, torch.version.cuda or torch.version.hip or "", torch.__version__]))
"""


def gpus() -> dict[str, Any]:
    """List the GPUs in a new process, because a worker that asks torch keeps a part of the GPU.

    Returns
    -------
    dict
        ``torch``: the number that torch sees; ``names``; ``cuda``: version that torch was built for; ``version`` of
        torch; ``driver``: the number that nvidia-smi sees.
    """
    variables = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    inherited = inherited_environment()
    if "CUDA_VISIBLE_DEVICES" in inherited:
        variables["CUDA_VISIBLE_DEVICES"] = inherited["CUDA_VISIBLE_DEVICES"]
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], env=variables, capture_output=True, text=True, timeout=50, check=False
    )
    if done.returncode:
        raise RuntimeError(f"torch cannot be imported: {done.stderr.strip().splitlines()[-1]}")
    names, cuda, version = json.loads(done.stdout.splitlines()[-1])
    return {"torch": len(names), "names": names, "cuda": cuda, "version": version, "driver": _gpus_of_driver()}


def _gpus_of_driver() -> int:
    if not shutil.which("nvidia-smi"):
        return 0
    done = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=30, check=False)
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines())
