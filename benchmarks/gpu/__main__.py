"""Check every CUDA path of this project on this machine, and measure its speed, in one command.

    python -m benchmarks.gpu --out gpu.json

Builds nothing and needs no network and no files. Every result is written when it is known, so that a run that is cut
off still tells; what the minutes do not allow is named. Ends with 1 where a check fails. ``--device cpu`` tries the
command itself on a machine without a GPU.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.gpu.checks import checks, run
from benchmarks.gpu.rates import MODES, REPORT_EVENTS, SIZES, epoch_seconds, photons, update_rate
from benchmarks.gpu.sharing import run_search

SHARES = ("1", "0.5", "0.25", "0.125", "auto")
LEAST_S = 30.0  # that must be left for a search
Step = Callable[[], dict[str, Any]]


class Results:
    """What is known so far, in a JSON file that is whole at any time."""

    def __init__(self, file: Path, device: torch.device, minutes: float) -> None:
        self._file, self._deadline = file, time.monotonic() + 60 * minutes
        self.content: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "checks": {},
            "rates": {},
            "epoch": {},
            "trials_per_hour": {},
            "left_out": [],
        }
        self._write()

    @property
    def left_s(self) -> float:
        return self._deadline - time.monotonic()

    @property
    def failed(self) -> list[str]:
        return [name for name, result in self.content["checks"].items() if not result["works"]]

    def add(self, section: str, name: str, step: Step, least_s: float = 0.0) -> None:
        """Take one step, unless too little time is left for it; a step that fails is named with its reason."""
        if self.left_s < least_s:
            self.content["left_out"].append(f"{section}: {name}")
        else:
            try:
                result = step()
            except Exception as error:
                result = {"error": f"{type(error).__name__}: {error}"[-2000:]}
            self.content[section][name] = result
            print(f"{section}, {name}: {_words(result)}", flush=True)
        self._write()

    def _write(self) -> None:
        whole = self._file.with_name(f".{self._file.name}.part")
        whole.write_text(json.dumps(self.content, indent=1) + "\n")
        whole.replace(self._file)


def main(
    out: Annotated[Path, tyro.conf.arg(help="JSON file of all results")] = Path("gpu.json"),
    minutes: Annotated[float, tyro.conf.arg(help="after which nothing more is begun")] = 7.0,
    device: Annotated[Literal["cuda", "cpu"], tyro.conf.arg(help="cpu: to try this command")] = "cuda",
    seconds: Annotated[float, tyro.conf.arg(help="of each measurement of a rate")] = 2.0,
    sizes: Annotated[int, tyro.conf.arg(help="of width and batch, the first so many")] = len(SIZES),
    events: Annotated[int, tyro.conf.arg(help="training events of the epoch")] = REPORT_EVENTS,
    trials: Annotated[int, tyro.conf.arg(help="of each search; 0: no searches")] = 16,
    epochs: Annotated[int, tyro.conf.arg(help="of each of their trials")] = 10,
) -> None:
    """Check, measure, print, and write the file."""
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"error: torch {torch.__version__} sees no GPU here. --device cpu tries the command without one.")
    on = torch.device(device)
    results = Results(out, on, minutes)
    for name, check in checks(on).items():
        results.add("checks", name, partial(run, check))
    _measure_rates(results, on, seconds, SIZES[:sizes])
    for precision in ("fp32", "bf16") if device == "cuda" else ("fp32",):
        results.add("epoch", precision, partial(_epoch, events, on, precision), least_s=20)
    _count_trials(results, on, trials, epochs)
    _print(results)
    if results.failed:
        sys.exit(f"error: {len(results.failed)} of {len(results.content['checks'])} checks failed: see {out}")


def _measure_rates(results: Results, device: torch.device, seconds: float, sizes: tuple[tuple[int, int], ...]) -> None:
    data = photons(max((batch for _, batch in sizes), default=1024) * 2)
    modes = MODES if device.type == "cuda" else ("fp32",)
    for width, batch in sizes:
        for mode in modes:
            for gan in (False,) if mode == "graph" else (False, True):
                name = f"h {width}, batch {batch}, {'GAN 1:1' if gan else 'regression'}, {mode}"
                step = partial(update_rate, data, device, width, batch, gan, mode, seconds)
                results.add("rates", name, step, least_s=5 * seconds)


def _epoch(events: int, device: torch.device, precision: Literal["fp32", "bf16"]) -> dict[str, Any]:
    return epoch_seconds(photons(events), device, precision)


def _count_trials(results: Results, device: torch.device, trials: int, epochs: int) -> None:
    """Count trials per hour for each share of a GPU; on a CPU there is nothing to share."""
    for workload in ("zdc", "pt-dphi") if trials else ():
        for share in SHARES if device.type == "cuda" else ("0",):

            def step(workload: str = workload, share: str = share) -> dict[str, Any]:
                found = run_search(workload, share, trials, epochs, (), limit_s=max(results.left_s, LEAST_S))
                return {"trials_per_hour": round(found.per_hour), "complete": found.complete, "share": found.share}

            results.add("trials_per_hour", f"{workload}, --gpus-per-trial {share}", step, least_s=LEAST_S)


def _words(result: dict[str, Any]) -> str:
    if "works" in result:
        return f"{'works' if result['works'] else 'FAILS'}: {result['seen']}"
    return ", ".join(f"{key} {value}" for key, value in result.items() if value is not None)


def _print(results: Results) -> None:
    content = results.content
    console = Console(width=140)
    for section in ("checks", "rates", "epoch", "trials_per_hour"):
        table = Table(title=f"{section.replace('_', ' ')}: {content['device']}", show_header=False)
        for name, result in content[section].items():
            table.add_row(name, _words(result))
        if content[section]:
            console.print(table)
    for name in content["left_out"]:
        console.print(f"no time was left for {name}", markup=False)


if __name__ == "__main__":
    tyro.cli(main)
