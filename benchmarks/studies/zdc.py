"""Study of zdc: adversarial part, size of the sample, iterations, and the best of a search against LR4.

    python -m benchmarks.studies.zdc PACKED.npz --out FOLDER

A repetition of the command goes on where it was. PACKED.npz holds ``e_px_py_pz_gev`` (N, 4) and ``mask_packed``
(N, 50), packbits of the hit crystals at 20 ix + iy; its events become ROOT files in the folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray

import spaces.zdc
from benchmarks.studies.statistics import difference
from benchmarks.studies.steps import Study, Trained, settings_of
from trainables.zdc.simulate import CHUNK_EVENTS, Showers, write_file

LR4, REGRESSION = "test26-lr4", "regression-only"
EXCESS = "mse_high_excess"
NEW_SEED = 100_000  # first seed of what a search has chosen: none of its own trainings had it
HIT_GEV = 1e-3  # of each hit crystal: a packed sample knows only which are hit


@dataclass(frozen=True)
class ZdcStudy:
    """Options of the study."""

    packed: tyro.conf.Positional[Path]
    """events as a packed npz"""
    out: Path = Path("results/studies")
    """folder of files, searches, tables and figures"""
    sizes: tuple[int, ...] = (30_000, 100_000, 200_000)
    """training events, nested; the last is the size of all other questions"""
    validation: int = 30_000
    """validation events, the same for all sizes"""
    holdout: int = 20_000
    """events that no trial sees"""
    presets: tuple[str, ...] = tuple(spaces.zdc.PRESETS)
    """presets that are trained with each seed"""
    seeds: int = 3
    """trainings of each point"""
    epochs: int = 50
    """epochs of a training"""
    trials: int = 30
    """sampled trials of the search; 0: no search"""
    hidden_dim: int = 16
    """width of the networks"""
    batch_size: int = 1024
    """events per update"""


def showers_of(momentum_N4: NDArray[Any], packed_N50: NDArray[np.uint8]) -> Iterator[Showers]:
    """Make batches, which the project's writer takes, of packed events."""
    for first in range(0, len(momentum_N4), CHUNK_EVENTS):
        chosen = slice(first, first + CHUNK_EVENTS)
        event_H, crystal_H = np.nonzero(np.unpackbits(packed_N50[chosen], axis=1))
        momentum_N3 = momentum_N4[chosen, 1:].astype(np.float64)
        yield Showers(momentum_N3, np.zeros(len(momentum_N3)), event_H, crystal_H, np.full(len(event_H), HIT_GEV))


def write_sample(study: ZdcStudy) -> dict[str, Path]:
    """Write holdout, validation and training files of each size, unless they are there; return them by name."""
    with np.load(study.packed) as content:
        momentum_N4, packed_N50 = content["e_px_py_pz_gev"], content["mask_packed"]
    order_N = np.random.default_rng(0).permutation(len(momentum_N4))
    aside = study.holdout + study.validation
    if aside + max(study.sizes) > len(order_N):
        raise SystemExit(f"{study.packed} has {len(order_N)} events, {aside + max(study.sizes)} are asked for")
    parts = {"holdout": order_N[: study.holdout], "validation": order_N[study.holdout : aside]}
    parts |= {f"train-{size}": order_N[aside : aside + size] for size in study.sizes}
    folder = study.out / "files"
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, chosen_N in parts.items():
        files[name] = folder / f"zdc-{name}-{study.holdout}-{study.validation}.root"
        if not files[name].exists():
            draft = files[name].with_suffix(".draft.root")
            write_file(draft, "mytree", showers_of(momentum_N4[chosen_N], packed_N50[chosen_N]))
            draft.rename(files[name])
    return files


def presets(asked: ZdcStudy, study: Study) -> dict[str, Trained]:
    """Compare presets with and without the adversarial part, and the middle of a training with its end."""
    cost = {"hidden_dim": asked.hidden_dim, "batch_size": asked.batch_size}
    trained = {name: study.train("zdc", name, spaces.zdc.PRESETS[name] | cost) for name in asked.presets}
    study.tabulate("Presets", list(trained.values()), (EXCESS, "mse_high", "mse_low_excess", "brier"))
    regression = trained.get(REGRESSION)
    for name, one in trained.items():
        if regression is not None and name != REGRESSION:
            study.compare(f"GAN against regression ({name}): does it help?", EXCESS, one, regression)
            study.compare(f"GAN against regression ({name}), single events?", "brier", one, regression)
    for name, one in trained.items():
        middle = [curve[len(curve) // 2 - 1] for curve in one.curves[EXCESS]]
        found = difference([curve[-1] for curve in one.curves[EXCESS]], middle)
        word = "falls" if found.mean < 0 else "rises"
        word = word if found.excludes_zero else "does not change measurably"
        study.answers[f"Does the high end get worse with more iterations ({name})?"] = (
            f"{EXCESS} {word} from the middle of {asked.epochs} epochs to their end: {found}, 95 %"
        )
    study.draw(list(trained.values()), asked.out / "figures" / "zdc")
    return trained


def sizes(asked: ZdcStudy, study: Study, files: dict[str, Path], largest: dict[str, Trained]) -> None:
    """Compare samples of several sizes on the same validation events."""
    cost = {"hidden_dim": asked.hidden_dim, "batch_size": asked.batch_size}
    for name in [name for name in (REGRESSION, LR4) if name in largest]:
        found = []
        for size in asked.sizes[:-1]:
            point = spaces.zdc.PRESETS[name] | cost
            found.append(study.train("zdc", f"{name}-{size}", point, data=str(files[f"train-{size}"])))
            question = f"Does a sample of {asked.sizes[-1]} help over {size} ({name})?"
            study.compare(question, EXCESS, largest[name], found[-1])
        study.tabulate(f"Sizes, {name}", [*found, largest[name]], (EXCESS, "brier"))


def search_and_best(asked: ZdcStudy, study: Study) -> None:
    """Search, then train the best four and LR4 with the same new seeds."""
    cost = {"hidden_dim": asked.hidden_dim, "batch_size": asked.batch_size}
    fixed = {"set": cost, "race": "0", "objective": EXCESS}
    done = study.search("zdc", f"{study.name}.search", trials=asked.trials, presets="none", **fixed)
    rows = done.trials[done.trials.outcome == "complete"].head(4)
    lr4 = study.train("zdc", f"{LR4}-new-seeds", spaces.zdc.PRESETS[LR4] | cost, seed=NEW_SEED)
    best = []
    for place, label in enumerate(rows.label, start=1):
        point = {name: value for name, value in done.trial(label).hyperparameters.items() if name != "seed"}
        point.pop("epochs", None)
        best.append(study.train("zdc", f"best-{place}", point, seed=NEW_SEED))
        study.compare(f"Best of the search, place {place} ({label}), against LR4?", EXCESS, best[-1], lr4)
    study.tabulate("Best of the search, new seeds", [*best, lr4], (EXCESS, "brier"))


def main(asked: ZdcStudy) -> None:
    """Run what is left of the study, then write its answers."""
    files = write_sample(asked)
    data = {"data": str(files[f"train-{asked.sizes[-1]}"]), "validation": str(files["validation"])}
    data["holdout"] = str(files["holdout"])
    study = Study("zdc", asked.out, asked.seeds, asked.epochs, data)
    trained = presets(asked, study)
    study.write(asked.out, settings_of(asked))
    sizes(asked, study, files, trained)
    study.write(asked.out, settings_of(asked))
    if asked.trials:
        search_and_best(asked, study)
        study.write(asked.out, settings_of(asked))
    print((asked.out / "zdc.md").read_text())


if __name__ == "__main__":
    main(tyro.cli(ZdcStudy, description=__doc__))
