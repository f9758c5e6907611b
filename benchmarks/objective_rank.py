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
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

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
    """Spearman's, without ties."""
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
        pairs = np.array([of_seeds[:2] for of_seeds in by_point.values() if len(of_seeds) >= 2])
        return rank_correlation(*pairs.T)

    yield f"{len(good)} models scored, {len(runs) - len(good)} diverged: "
    yield ", ".join(f"{run['point']} seed {run['seed']} ({run['reason']})" for run in runs if not run["scores"])
    yield "\n| Spearman's rank correlation | " + " | ".join(OBJECTIVES) + " |\n|---|" + "---|" * len(OBJECTIVES)
    rows = {
        "two halves of the validation sample": lambda name: rank_correlation(
            values("half a", name), values("half b", name)
        ),
        "validation against holdout": lambda name: rank_correlation(
            values("validation", name), values("holdout", name)
        ),
        "seed against seed, on the holdout": seeds,
        "small validation samples among each other": lambda name: np.mean(
            [rank_correlation(values(a, name), values(b, name)) for a, b in combinations(small, 2)]
        ),
        "small validation sample against itself on the holdout": lambda name: np.mean(
            [rank_correlation(values(one, name), values("holdout", name)) for one in small]
        ),
        "small validation sample against mse_high_excess on the holdout": lambda name: np.mean(
            [rank_correlation(values(one, name), values("holdout", "mse_high_excess")) for one in small]
        ),
        "small validation sample against brier on the holdout": lambda name: np.mean(
            [rank_correlation(values(one, name), values("holdout", "brier")) for one in small]
        ),
    }
    for title, row in rows.items():
        yield f"| {title} | " + " | ".join(f"{row(name):.3f}" for name in OBJECTIVES) + " |"
    yield "\n| best quarter | " + " | ".join(OBJECTIVES) + " |\n|---|" + "---|" * len(OBJECTIVES)
    for sample in ("holdout", small[0]):
        spread, error = [], []
        for name in OBJECTIVES:
            best = np.argsort(values(sample, name))[: max(len(good) // 4, 2)]
            spread.append(f"{values(sample, name)[best].std(ddof=1):.2e}")
            error.append(f"{np.median(values(sample, name + '_error')[best]):.2e}")
        yield f"| spread, {sample} | " + " | ".join(spread) + " |"
        yield f"| error, {sample} | " + " | ".join(error) + " |"


def each_model(runs: list[dict[str, Any]]) -> Iterator[str]:
    yield "\n| model | seed | mse_high | floor | excess | error | brier |\n|---|---|---|---|---|---|---|"
    names = ("mse_high", "mse_high_floor", "mse_high_excess", "mse_high_excess_error", "brier")
    for run in sorted(runs, key=lambda run: run["scores"].get("holdout", {}).get("mse_high_excess", np.inf)):
        if run["scores"]:
            numbers = " | ".join(f"{run['scores']['holdout'][name]:.3g}" for name in names)
            yield f"| {run['point']} | {run['seed']} | {numbers} |"


def main(
    sample: Annotated[Path, tyro.conf.Positional],
    out: Path = Path("objective_rank.jsonl"),
    train: int = 12_800,
    validation: int = 60_000,
    holdout: int = 60_000,
    small: int = 3_200,
    epochs: int = 4,
    random: int = 8,
    seeds: int = 2,
) -> None:
    """Train, score, and print the tables.

    Parameters
    ----------
    sample : Path
        Events; at least train + validation + holdout.
    out : Path
        One line of JSON for each model; existing lines are kept and not computed again.
    train, validation, holdout, small : int
        Events of each part; the small validation samples are slices of the validation sample.
    epochs : int
        Of each training.
    random : int
        Points of the search space beside the presets.
    seeds : int
        Trainings of each point.
    """
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    events = read_events(sample, seed=0)
    scored = part(events, train, validation + holdout)
    slices = {
        "half a": (0, validation // 2, NARROW),
        "half b": (validation // 2, validation, NARROW),
        "validation": (0, validation, NARROW),
        "holdout": (validation, validation + holdout, NARROW),
    }
    small_ones = {f"{small} events, {number}": number * small for number in range(min(8, validation // small))}
    slices |= {name: (first, first + small, WIDE) for name, first in small_ones.items()}
    data = ZDCData(part(events, 0, train), part(events, train, small), WIDE, str(sample), ())
    done = {(run["point"], run["seed"]) for run in runs_of(out)}
    for seed in range(seeds):
        for name, point in points(random).items():
            if (name, seed) in done:
                continue
            started = time.process_time()
            scores, reason = {}, ""
            training = ZDCTraining(ZDCConfig(**point, epochs=epochs, seed=seed), data, torch.device("cpu"))
            try:
                while not training.finished:
                    training.train_epoch()
                training.validate()
                scores = score(training, slices, scored)
            except TrainingDiverged as diverged:
                reason = diverged.reason
            run = {"point": name, "seed": seed, "scores": scores, "reason": reason}
            with out.open("a") as file:
                file.write(json.dumps(run | {"cpu_s": time.process_time() - started}) + "\n")
    runs = runs_of(out)
    cpu_s = sum(run["cpu_s"] for run in runs)
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}; {cpu_s:.0f} s of CPU")
    print(*table(runs, list(small_ones)), *each_model(runs), sep="\n")


if __name__ == "__main__":
    tyro.cli(main)
