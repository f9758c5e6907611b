"""Which objective ranks ZDC models best: rank agreement between event samples and between seeds.

    python -m benchmarks.objective_rank SAMPLE --out runs.jsonl

SAMPLE is a ROOT file as ``python -m search.run zdc --data`` takes it, or an ``.npz`` with ``e_px_py_pz_gev`` (N, 4) and
``mask_packed`` (N, 50). Trains the presets and random points of the search space with several seeds on one part of it.
Scores each model on two halves of a large validation sample, on a holdout, and on validation samples of the size that
the carried sample has. Runs in OUT are not repeated: the command continues where it was stopped. Prints Markdown.
"""

# N events

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
import tyro
from numpy.typing import NDArray

import spaces.zdc
from trainables.base.errors import TrainingDiverged
from trainables.zdc.binning import Binning
from trainables.zdc.config import ZDCConfig
from trainables.zdc.data import ZDCData, ZDCDataSettings, load_data
from trainables.zdc.events import Events
from trainables.zdc.metrics import CHUNK, ScoreSums
from trainables.zdc.resident import ResidentEvents
from trainables.zdc.showers import condition_columns
from trainables.zdc.train import ZDCTraining

HELD = {"hidden_dim": 8, "batch_size": 128}  # those of the demo
NARROW, WIDE = Binning(), Binning(bin_width_mev=1000.0)  # of large samples, and of the carried one
OBJECTIVES = ("mse_high", "mse_high_excess", "brier")
Score = dict[str, float]
Index = slice | NDArray[np.int64]
ALL = slice(None)


def read_events(sample: Path, seed: int) -> Events:
    """Read all events in a random order."""
    if sample.suffix == ".npz":
        with np.load(sample) as content:
            energy_momentum_N4, mask_N50 = content["e_px_py_pz_gev"].astype(np.float64), content["mask_packed"]
        condition_N6 = condition_columns(energy_momentum_N4[:, 0], energy_momentum_N4[:, 1:]).astype(np.float32)
    else:
        data = load_data(ZDCDataSettings(data=(str(sample),)), sample.parent / "cache")
        condition_N6 = np.concatenate((data.train.condition_N6, data.validation.condition_N6))
        mask_N50 = np.concatenate((data.train.mask_packed_N50, data.validation.mask_packed_N50))
    order_N = np.random.default_rng(seed).permutation(len(condition_N6))
    return Events(condition_N6[order_N], mask_N50[order_N])


def part(events: Events, first: int, count: int) -> Events:
    if first + count > len(events):
        raise SystemExit(f"the sample has {len(events)} events, {first + count} are needed")
    return Events(events.condition_N6[first : first + count], events.mask_packed_N50[first : first + count])


def points(random: int) -> dict[str, dict[str, Any]]:
    """The presets, and random points of the search space."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    sampled = {f"random-{number:02d}": spaces.zdc.suggest(study.ask()) for number in range(random)}
    return {name: {**point, **HELD} for name, point in {**spaces.zdc.PRESETS, **sampled}.items()}


def score(training: ZDCTraining, samples: Mapping[str, tuple[int, int, Binning]], events: Events) -> dict[str, Score]:
    """Score one model on slices (first, end) of the events, with one forward pass."""
    resident, device = ResidentEvents(events, training.device), training.device
    sums = {name: ScoreSums(binning, device) for name, (_, _, binning) in samples.items()}
    place = 0
    for condition_B6, hit_BHW in resident.in_order(CHUNK):
        prob_BHW = training.mask_prob(condition_B6)
        for name, (first, end, _) in samples.items():
            chosen = slice(max(first - place, 0), max(end - place, 0))
            if chosen.start < min(chosen.stop, len(prob_BHW)):
                sums[name].add(condition_B6[chosen, 0], prob_BHW[chosen], hit_BHW[chosen])
        place += len(condition_B6)
    return {name: one.scores().numbers() for name, one in sums.items()}


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's, without ties; NaN for fewer than two values."""
    if len(a) < 2:
        return float("nan")
    ranks = [np.argsort(np.argsort(one)) for one in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def runs_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def table(runs: list[dict[str, Any]], small: list[str]) -> Iterator[str]:
    """Rank agreement of each objective over the runs that scored."""
    good = [run for run in runs if run["scores"]]

    def values(sample: str, objective: str) -> NDArray[np.float64]:
        return np.array([run["scores"][sample][objective] for run in good])

    def seeds(objective: str) -> float:
        by_point: dict[str, list[float]] = {}
        for run in good:
            by_point.setdefault(run["point"], []).append(run["scores"]["holdout"][objective])
        pairs = np.array([of_seeds[:2] for of_seeds in by_point.values() if len(of_seeds) >= 2]).reshape(-1, 2)
        return rank_correlation(pairs[:, 0], pairs[:, 1])

    bad = [f"{run['point']} seed {run['seed']} ({run['reason']})" for run in runs if not run["scores"]]
    yield f"{len(good)} models scored, {len(bad)} diverged {', '.join(bad)}".rstrip()
    yield "\n| Spearman's rank correlation | " + " | ".join(OBJECTIVES) + " |\n|---|" + "---|" * len(OBJECTIVES)

    def agreement(objective: str, pairs: Iterable[tuple[str, str]], other: str = "", among: Index = ALL) -> float:
        """Mean over pairs of samples; ``other``: the objective on the second of them."""
        scores = [(values(a, objective)[among], values(b, other or objective)[among]) for a, b in pairs]
        return float(np.mean([rank_correlation(*pair) for pair in scores]))

    best = np.argsort(values("holdout", OBJECTIVES[1]))[: max(len(good) // 4, 2)]
    on_holdout, among_small = [(one, "holdout") for one in small], list(combinations(small, 2))
    rows: dict[str, Callable[[str], float]] = {
        "two halves of the validation sample": lambda name: agreement(name, [("half a", "half b")]),
        "validation against holdout": lambda name: agreement(name, [("validation", "holdout")]),
        "seed against seed, on the holdout": seeds,
        "small samples against each other": lambda name: agreement(name, among_small),
        "small sample against the holdout": lambda name: agreement(name, on_holdout),
        "small sample against mse_high_excess on the holdout": lambda name: agreement(name, on_holdout, OBJECTIVES[1]),
        "small sample against brier on the holdout": lambda name: agreement(name, on_holdout, OBJECTIVES[2]),
        "two halves, best quarter alone": lambda name: agreement(name, [("half a", "half b")], among=best),
        "small samples against each other, best quarter alone": lambda name: agreement(name, among_small, among=best),
    }
    for title, row in rows.items():
        yield f"| {title} | " + " | ".join(f"{row(name):.3f}" for name in OBJECTIVES) + " |"
    yield "\n| best quarter of the holdout | " + " | ".join(OBJECTIVES) + " |\n|---|" + "---|" * len(OBJECTIVES)
    per_small = {name: np.array([values(one, name)[best] for one in small]) for name in OBJECTIVES}
    differences = {name: [a - b for a, b in combinations(value.T, 2)] for name, value in per_small.items()}
    lines = {
        "spread of the models, holdout": lambda name: values("holdout", name)[best].std(ddof=1),
        "error of each, holdout": lambda name: np.median(values("holdout", name + "_error")[best]),
        "spread of the models, small samples": lambda name: per_small[name].std(axis=1, ddof=1).mean(),
        "error of each, small samples": lambda name: np.mean([values(one, name + "_error")[best] for one in small]),
        "spread of a model over small samples": lambda name: per_small[name].std(axis=0, ddof=1).mean(),
        "that of differences of two models": lambda name: np.mean([one.std(ddof=1) for one in differences[name]]),
    }
    for title, line in lines.items():
        yield f"| {title} | " + " | ".join(f"{line(name):.2e}" for name in OBJECTIVES) + " |"


def each_model(runs: list[dict[str, Any]]) -> Iterator[str]:
    yield "\n| model | seed | mse_high | floor | excess | error | brier |\n|---|---|---|---|---|---|---|"
    names = ("mse_high", "mse_high_floor", "mse_high_excess", "mse_high_excess_error", "brier")
    for run in sorted(runs, key=lambda run: run["scores"].get("holdout", {}).get("mse_high_excess", np.inf)):
        if run["scores"]:
            numbers = " | ".join(f"{run['scores']['holdout'][name]:.3g}" for name in names)
            yield f"| {run['point']} | {run['seed']} | {numbers} |"


@dataclass(frozen=True)
class Study:
    """Which objective ranks ZDC models best: rank agreement between event samples and between seeds."""

    sample: tyro.conf.Positional[Path]
    """events; at least train + validation + holdout"""
    out: Path = Path("objective_rank.jsonl")
    """one line of JSON for each model; existing lines are kept and not computed again"""
    train: int = 20_000
    """training events"""
    validation: int = 40_000
    """validation events, whose halves are compared"""
    holdout: int = 40_000
    """events of the holdout"""
    small: int = 3_200
    """events of each small validation sample; slices of the validation sample"""
    epochs: int = 3
    """epochs of each training"""
    random: int = 6
    """points of the search space beside the presets"""
    seeds: int = 2
    """trainings of each point"""

    @property
    def small_samples(self) -> dict[str, int]:
        """Name and first event of each."""
        return {
            f"{self.small} events, {number}": number * self.small
            for number in range(min(8, self.validation // self.small))
        }

    @property
    def slices(self) -> dict[str, tuple[int, int, Binning]]:
        """First event, end and bins of each sample, among validation and holdout events one after another."""
        half, end = self.validation // 2, self.validation + self.holdout
        large = {"half a": (0, half), "half b": (half, self.validation)}
        large |= {"validation": (0, self.validation), "holdout": (self.validation, end)}
        small = {name: (first, first + self.small, WIDE) for name, first in self.small_samples.items()}
        return {name: (*ends, NARROW) for name, ends in large.items()} | small

    def run(self) -> None:
        """Train and score what is missing."""
        events = read_events(self.sample, seed=0)
        scored = part(events, self.train, self.validation + self.holdout)
        data = ZDCData(part(events, 0, self.train), part(events, self.train, self.small), WIDE, str(self.sample), ())
        done = {(run["point"], run["seed"]) for run in runs_of(self.out)}
        for seed in range(self.seeds):
            for name, point in points(self.random).items():
                if (name, seed) not in done:
                    run = self.train_and_score(ZDCConfig(**point, epochs=self.epochs, seed=seed), data, scored)
                    with self.out.open("a") as file:
                        file.write(json.dumps({"point": name, "seed": seed, **run}) + "\n")

    def train_and_score(self, config: ZDCConfig, data: ZDCData, scored: Events) -> dict[str, Any]:
        started, scores, reason = time.process_time(), dict[str, Score](), ""
        training = ZDCTraining(config, data, torch.device("cpu"))
        try:
            while not training.finished:
                training.train_epoch()
            training.validate()
            scores = score(training, self.slices, scored)
        except TrainingDiverged as diverged:
            reason = diverged.reason
        return {"scores": scores, "reason": reason, "cpu_s": time.process_time() - started}


def main() -> None:
    study = tyro.cli(Study)
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study.run()
    runs = runs_of(study.out)
    cpu_s = sum(run["cpu_s"] for run in runs)
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}; {cpu_s:.0f} s of CPU\n")
    print(*table(runs, list(study.small_samples)), *each_model(runs), sep="\n")


if __name__ == "__main__":
    main()
