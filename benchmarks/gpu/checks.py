"""Check that each path of a training which differs on a GPU works there. Every check returns what it saw, or raises."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from search.tuning.autosize.benchmark import run_benchmark
from trainables.base.training import TrainedModel, Training, TrainingConfig
from trainables.export.onnx import Graph, export_graph
from trainables.pt.config import PtDphiConfig
from trainables.pt.simulate import simulate_data as simulate_electrons
from trainables.pt.train import PtDphiTraining
from trainables.runtime.gpu_memory import GpuPart, keep_to
from trainables.zdc.config import ZDCConfig
from trainables.zdc.events import CONDITIONS
from trainables.zdc.export import ONNX, SMALL_PROBABILITY
from trainables.zdc.inference import build_mask
from trainables.zdc.simulate import simulate_data as simulate_photons
from trainables.zdc.train import ZDCTraining

EVENTS = 4000
EXPORT_LIMIT = 1e-3  # of a probability, between a GPU with TF32 off and the graph on a CPU


class CheckError(Exception):
    """A path that does not do what it should."""


@dataclass(frozen=True)
class Subject:
    """A small training of one workload."""

    training: type[Training]
    config: TrainingConfig
    data: Any

    def on(self, device: torch.device, **changes: Any) -> Training:
        return self.training(self.config.model_copy(update=changes), self.data, device)


def subjects() -> dict[str, Subject]:
    """Return a GAN with noise and a network with dropout and both penalties, on simulated events."""
    gan = ZDCConfig(epochs=3, hidden_dim=8, batch_size=256, dis_gen_ratio="1:2")
    network = PtDphiConfig(epochs=3, width=64, batch_size=256, dropout=0.2, monotonic=True, boundary=True)
    return {
        "zdc": Subject(ZDCTraining, gan, simulate_photons(EVENTS, 0)),
        "pt-dphi": Subject(PtDphiTraining, network, simulate_electrons(EVENTS, 0)),
    }


def is_repeatable(subject: Subject, device: torch.device) -> str:
    """Train twice from one seed: weights must be the same bit for bit."""
    first, second = subject.on(device), subject.on(device)
    for training in (first, second):
        _train(training, epochs=2)
    _require_equal(first.weights(), second.weights(), "two trainings of one seed")
    return "the same bit for bit"


def resumes(subject: Subject, device: torch.device) -> str:
    """Continue from a checkpoint in another training: weights must be those of the training that went on."""
    whole, resumed = subject.on(device), subject.on(device)
    _train(whole, epochs=1)
    saved = io.BytesIO()
    torch.save(whole.state(), saved)
    saved.seek(0)
    resumed.load_state(torch.load(saved, map_location=device, weights_only=True))
    for training in (whole, resumed):
        _train(training, epochs=1)
    _require_equal(whole.weights(), resumed.weights(), "a training and the one resumed from its checkpoint")
    return "the same bit for bit"


def trains_in_bf16(subject: Subject, device: torch.device) -> str:
    """Train in bf16: scores must be numbers, near those of fp32."""
    scores = {}
    for precision in ("fp32", "bf16"):
        training = subject.on(device, precision=precision)
        _train(training, epochs=2)
        scores[precision] = training.validate()["mse_all"]
    ratio = scores["bf16"] / scores["fp32"]
    if not 0.5 < ratio < 2:
        raise CheckError(f"mse_all {scores['bf16']:.3g} in bf16, {scores['fp32']:.3g} in fp32")
    return f"mse_all {ratio:.3f} times that of fp32"


def is_sized(subject: Subject, device: torch.device) -> str:
    """Measure a trial as ``--gpus-per-trial auto`` does: memory and updates must be seen."""
    found = run_benchmark(subject.training, subject.config, subject.data, device.type, (1,), seconds=2.0)
    if device.type == "cuda" and not 0 < found.gpu_memory < found.gpu_free:
        raise CheckError(f"{found.gpu_memory} bytes of {found.gpu_free} taken")
    busy = "not reported" if found.busy is None else f"{found.busy:.0%}"
    return f"{found.gpu_memory / 2**20:.0f} MiB, {found.rates[1]:.0f} updates/s, busy {busy}"


def is_kept_to_its_part(device: torch.device) -> str:
    """Take more memory than a trial's part: torch must refuse it, and nothing less."""
    total = torch.cuda.get_device_properties(device).total_memory
    try:
        keep_to(GpuPart(0.25), device)
        torch.empty(total // 8, dtype=torch.uint8, device=device)
        try:
            torch.empty(total // 3, dtype=torch.uint8, device=device)
        except torch.OutOfMemoryError:
            return "a third is refused to a quarter, an eighth is given"
        raise CheckError("a third of the memory was given to a trial with a quarter")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
        torch.cuda.empty_cache()


def is_exported(subject: Subject, device: torch.device) -> str:
    """Export a model that was trained there to ONNX: its probabilities on the CPU must be those of the device."""
    training = subject.on(device)
    assert isinstance(training, ZDCTraining)
    _train(training, epochs=1)
    model = TrainedModel("zdc", "", training.config.model_dump(), training.weights())
    condition_N6 = np.asarray(subject.data.validation.condition_N6)
    graph = Graph(ONNX, build_mask(model), "condition", CONDITIONS, "hit_probability", SMALL_PROBABILITY)
    _, exported = export_graph(graph, condition_N6)
    there = training.mask_prob(torch.from_numpy(condition_N6).to(device)).cpu()
    with torch.no_grad():
        here = build_mask(model)(torch.from_numpy(condition_N6))
    off = float((there - here).abs().max())
    if off > EXPORT_LIMIT:
        raise CheckError(f"a probability differs by {off:.2g} between {device} and the exported model")
    return f"largest difference of a probability {off:.1e}; ONNX to torch {exported.largest_difference:.1e}"


def checks(device: torch.device) -> dict[str, Callable[[], str]]:
    """Return every check by name; what needs CUDA itself only where the device is one."""
    known = subjects()
    found: dict[str, Callable[[], str]] = {}
    for name, subject in known.items():
        found[f"{name}: repeatable"] = partial(is_repeatable, subject, device)
        found[f"{name}: resumes"] = partial(resumes, subject, device)
        found[f"{name}: sized"] = partial(is_sized, subject, device)
    found["zdc: exported"] = partial(is_exported, known["zdc"], device)
    if device.type == "cuda":
        found["zdc: bf16"] = partial(trains_in_bf16, known["zdc"], device)
        found["memory of a part"] = partial(is_kept_to_its_part, device)
    return found


def run(check: Callable[[], str]) -> dict[str, Any]:
    """Run one check; whatever it raises is its result."""
    started = time.perf_counter()
    try:
        seen, works = check(), True
    except Exception as error:
        seen, works = f"{type(error).__name__}: {error}", False
    return {"works": works, "seen": seen, "seconds": round(time.perf_counter() - started, 2)}


def _train(training: Training, epochs: int) -> None:
    for _ in range(epochs):
        training.train_epoch()


def _require_equal(first: dict[str, Tensor], second: dict[str, Tensor], words: str) -> None:
    differ = [name for name in first if not torch.equal(first[name], second[name])]
    if differ:
        largest = max(float((first[name] - second[name]).abs().max()) for name in differ)
        raise CheckError(f"{words} differ in {len(differ)} of {len(first)} tensors, by {largest:.2g} at most")
