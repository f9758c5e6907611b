"""One epoch of one trial."""

from __future__ import annotations

import tempfile
import time
from typing import Any


def train_one_epoch(training: Any, config: Any, data: Any, device: str, threads: int) -> dict[str, Any]:
    """Train and validate one epoch, and save and load the state. Raises whatever goes wrong.

    Returns
    -------
    dict
        ``seconds``, ``device``, ``metrics``.
    """
    import torch

    torch.set_num_threads(threads)
    started = time.monotonic()
    run = training(config, data, torch.device(device))
    metrics = run.train_epoch() | run.validate()
    with tempfile.TemporaryDirectory() as folder:
        torch.save(run.state(), f"{folder}/state.pt")
        run.load_state(torch.load(f"{folder}/state.pt", map_location=device, weights_only=True))
    name = torch.cuda.get_device_name(torch.device(device)) if device == "cuda" else "CPU"
    return {"seconds": time.monotonic() - started, "device": name, "metrics": metrics}
