"""Show the results of a comparison: tables in Markdown, any-time curves as a figure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.methods.statistics import Regrets, compare, holm, share_to_reach

Runs = Sequence[dict[str, Any]]


def of(runs: Runs, method: str, field: str = "regret") -> dict[str, Any]:
    """Return a field of all replicates, by table."""
    found: dict[str, list[Any]] = {}
    for run in sorted(runs, key=lambda run: run["replicate"]):
        if run["method"] == method:
            found.setdefault(run["table"], []).append(run[field])
    return {table: np.array(values, dtype=float) for table, values in found.items()}


def markdown(runs: Runs, methods: Sequence[str]) -> Iterator[str]:
    """Yield tables of all methods: over all problems, for each problem, and for each family of problems."""
    families = {run["table"]: run["family"] for run in runs}
    first = methods[0]
    settings = {(run["budget"], run["workers"], run["noise"], run["presets"], run["by_trials"]) for run in runs}
    replicates = len({run["replicate"] for run in runs})
    for budget, workers, noise, presets, by_trials in sorted(settings):
        unit = "trials" if by_trials else "trainings"
        yield f"{budget:g} {unit}, {workers} workers, noise {noise:g}, {presets} presets; {replicates} replicates"
    yield ""
    heads = ("method", "mean regret", f"{first} / it", "95 %", "p (Holm)", "budget for its final median", "optimism")
    yield "| " + " | ".join((*heads, "trials", "CPU s")) + " |\n|" + "---|" * (len(heads) + 2)
    ratios = {name: compare(of(runs, first), of(runs, name), families) for name in methods[1:]}
    p = dict(zip(ratios, holm([one.p for one in ratios.values()]), strict=True))
    for name in methods:
        regrets: Regrets = of(runs, name)
        mean = np.mean([values.mean() for values in regrets.values()])
        optimism = np.mean([values.mean() for values in of(runs, name, "optimism").values()])
        trials = np.mean([values.mean() for values in of(runs, name, "trials").values()])
        cpu = np.mean([values.mean() for values in of(runs, name, "cpu_s").values()])
        words = " | | | "
        if name in ratios:
            one, reach = ratios[name], _reach(runs, first, name)
            interval, tested = f"{one.low:.2f} to {one.high:.2f}", "" if math.isnan(p[name]) else f"{p[name]:.3f}"
            words = f"{one.ratio:.2f} | {interval} | {tested} | {reach}"
        yield f"| {name} | {mean:.4f} | {words} | {optimism:.3f} | {trials:.0f} | {cpu:.1f} |"
    yield ""
    yield "| mean regret on | " + " | ".join(methods) + " |\n|---|" + "---|" * len(methods)
    for table in sorted(families):
        values = [of(runs, name).get(table) for name in methods]
        yield f"| {table} | " + " | ".join("" if one is None else f"{one.mean():.4f}" for one in values) + " |"
    yield ""
    yield f"| {first} / it (95 %) on | tables | " + " | ".join(ratios) + " |\n|---|---|" + "---|" * len(ratios)
    for family in sorted(set(families.values())):
        own = {table: family for table, other in families.items() if other == family}
        alone = [compare(_only(own, of(runs, first)), _only(own, of(runs, name)), own) for name in ratios]
        words = [f"{one.ratio:.2f} ({one.low:.2f} to {one.high:.2f})" for one in alone]
        yield f"| {family} | {len(own)} | " + " | ".join(words) + " |"


def _only(tables: Collection[str], regrets: Regrets) -> Regrets:
    return {table: values for table, values in regrets.items() if table in tables}


def _reach(runs: Runs, first: str, other: str) -> str:
    """Return the median over tables of the share of the budget in which the first reaches the other's final value."""
    ours, theirs = of(runs, first, "regret_at"), of(runs, other, "regret_at")
    shares = [share_to_reach(ours[table], theirs[table]) for table in sorted(ours.keys() & theirs.keys())]
    middle = float(np.median(shares))
    return f"{middle:.2f}" if math.isfinite(middle) else "not reached"


def figure(runs: Runs, methods: Sequence[str], file: Path) -> None:
    """Draw mean regret against the share of the budget, geometric mean over tables."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    axes = plt.figure(figsize=(7, 4.5), layout="constrained").add_subplot()
    for name in methods:
        curves = [values.mean(axis=0) for values in of(runs, name, "regret_at").values()]
        mean_H = np.exp(np.mean(np.log(np.maximum(curves, 1e-3)), axis=0))
        axes.plot(np.arange(1, len(mean_H) + 1), mean_H, label=name)
    axes.set(xlabel="share of the budget (%)", ylabel="regret of the recommended point (best 0, median 1)")
    axes.set_yscale("log")
    axes.legend()
    axes.grid(alpha=0.3)
    plt.gcf().savefig(file, dpi=110)
    plt.close("all")
