"""Study of the pT chain: penalties, post-correction, the limit on the branches' bias, resolution against bias.

    python -m benchmarks.studies.pt --events 100000 --out FOLDER

A repetition of the command goes on where it was. Events are simulated, or read from the files of ``--data``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

import spaces.pt
from benchmarks.studies.steps import Study, Trained, settings_of
from trainables.pt.simulate import simulate_batches, write_file

METRICS = ("resolution", "bias", "core_sigma", "tail")
PENALTIES = ("monotonic_violation", "boundary_error")


@dataclass(frozen=True)
class PtStudy:
    """Options of the study."""

    out: Path = Path("results/studies")
    """folder of files, searches, tables and figures"""
    data: tuple[str, ...] = ()
    """files of events; none: simulated ones"""
    events: int = 100_000
    """simulated electrons"""
    preset: str = "small-sample"
    """preset of all three models whose parts are changed one by one"""
    seeds: int = 3
    """trainings of each point"""
    epochs: int = 100
    """epochs of a training"""
    trials: int = 40
    """sampled trials of each branch, and of the front; 0: no search"""


def files_of(asked: PtStudy) -> str | list[str]:
    """Return the files of events; simulate one unless it is there."""
    if asked.data:
        return list(asked.data)
    file = asked.out / "files" / f"electrons-{asked.events}.root"
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        draft = file.with_suffix(".draft.root")
        write_file(draft, simulate_batches(asked.events, 1))
        draft.rename(file)
    return str(file)


def without(point: dict[str, Any], *names: str, **changed: Any) -> dict[str, Any]:
    """Return a point without some hyperparameters and with others changed."""
    return {name: value for name, value in point.items() if name not in names} | changed


def penalties(asked: PtStudy, study: Study) -> Trained:
    """Train pt-dphi with both penalties, with one of them, and with none."""
    full = dict(spaces.pt.PRESETS_DPHI[asked.preset])
    points = {
        "dphi-both": full,
        "dphi-no-monotonic": without(full, "lambda_mono", monotonic=False),
        "dphi-no-boundary": without(full, "boundary_ramp", "boundary_cap", boundary=False),
    }
    points["dphi-none"] = without(points["dphi-no-monotonic"], "boundary_ramp", "boundary_cap", boundary=False)
    both, *others = [study.train("pt-dphi", label, point) for label, point in points.items()]
    study.tabulate("Penalties", [both, *others], (*METRICS, *PENALTIES))
    for other in others:
        for metric in ("resolution", "bias", *PENALTIES):
            study.compare(f"What are the penalties worth ({other.label}, {metric})?", metric, other, both)
    study.draw([both, *others], asked.out / "figures" / "pt-dphi")
    return both


def corrections(asked: PtStudy, study: Study, upstream: list[str]) -> None:
    """Train pt-combined with each post-correction."""
    none = without(dict(spaces.pt.PRESETS_COMBINED[asked.preset]), "post_start", post_correction="none")
    given = {"post_start": 8.8, "post_offset": 0.02, "post_slope": 0.08}
    points = {
        "combined-none": none,
        "combined-fitted": none | {"post_correction": "fitted", "post_start": 8.8},
        "combined-given": none | {"post_correction": "given"} | given,
    }
    plain, *others = [study.train("pt-combined", label, point, upstream=upstream) for label, point in points.items()]
    study.tabulate("Post-correction", [plain, *others], METRICS)
    for other in others:
        for metric in ("resolution", "bias"):
            study.compare(f"What is the post-correction worth ({other.label}, {metric})?", metric, other, plain)
    study.draw([plain, *others], asked.out / "figures" / "pt-combined")


def branches(asked: PtStudy, study: Study) -> list[str]:
    """Search both branches; compare the combined model on the least biased branches and on the sharpest ones."""
    limited, free = [], []
    for workload in ("pt-energy", "pt-dphi"):
        name = f"{study.name}.search-{workload}"
        done = study.search(workload, name, trials=asked.trials, race="0", keep_checkpoints=asked.trials + 5)
        complete = done.trials[done.trials.outcome == "complete"]
        limited.append(f"{name}/{complete.iloc[0].label}")
        free.append(f"{name}/{complete.sort_values('resolution').iloc[0].label}")
    if free != limited:
        point = dict(spaces.pt.PRESETS_COMBINED[asked.preset])
        on_limited = study.train("pt-combined", "combined-on-limited", point, upstream=limited)
        on_free = study.train("pt-combined", "combined-on-sharpest", point, upstream=free)
        study.tabulate("Choice of branches", [on_limited, on_free], METRICS)
        for metric in ("resolution", "bias"):
            study.compare(f"Does the limit on the branches help ({metric})?", metric, on_limited, on_free)
    return limited


def front(asked: PtStudy, study: Study, upstream: list[str]) -> None:
    """Search resolution and bias of pt-combined together."""
    flags = {"objective": "resolution,bias", "trials": asked.trials, "upstream": upstream}
    done = study.search("pt-combined", f"{study.name}.front", **flags)
    rows = [{"trial": one.label} | {name: f"{one.metrics[name]:.4g}" for name in METRICS} for one in done.front]
    study.tables["Pareto front of resolution and bias"] = rows
    least = min(done.front, key=lambda one: one.metrics["bias"])
    study.answers["Which limit of bias is reachable?"] = (
        f"{least.metrics['bias']:.3g} +- {least.metrics['bias_error']:.1g} (1 sigma, one training), at a resolution of "
        f"{least.metrics['resolution']:.3g}"
    )


def main(asked: PtStudy) -> None:
    """Run what is left of the study, then write its answers."""
    study = Study("pt", asked.out, asked.seeds, asked.epochs, {"data": files_of(asked)})
    penalties(asked, study)
    study.write(asked.out, settings_of(asked))
    if asked.trials:
        upstream = branches(asked, study)
    else:
        energy = study.train("pt-energy", "energy", dict(spaces.pt.PRESETS_ENERGY[asked.preset]))
        upstream = [energy.search, f"{study.name}.dphi-both"]
    corrections(asked, study, upstream)
    if asked.trials:
        front(asked, study, upstream)
    study.write(asked.out, settings_of(asked))
    print((asked.out / "pt.md").read_text())


if __name__ == "__main__":
    main(tyro.cli(PtStudy, description=__doc__))
