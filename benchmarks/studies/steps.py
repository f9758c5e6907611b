"""One step of a study: points that are trained with several seeds, or a search, which a repetition resumes."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import search
from benchmarks.studies.statistics import Interval, difference, mean_of
from search.config.provenance import git_commit
from search.reporting.html.load import read_search
from search.reporting.html.physics_images import open_reports
from search.storage.location import Storage
from search.workloads import WORKLOADS


@dataclass(frozen=True)
class Trained:
    """One point, trained with several seeds; the seed of a place is the same for all points of a study."""

    workload: str
    label: str
    search: str  # its name
    metrics: Sequence[Mapping[str, float]]  # of the last epoch, by seed
    curves: Mapping[str, Sequence[Sequence[float]]]  # metric -> by seed its values after each epoch
    seeds: Sequence[int] = (0, 1, 2)  # of the trainings that are complete
    asked: int = 3  # trainings that were begun; of those that did not end nothing is known

    def values(self, metric: str) -> list[float]:
        return [one[metric] for one in self.metrics]


@dataclass
class Study:
    """Where a study is kept, and what it has found so far."""

    name: str
    storage: Path
    seeds: int
    epochs: int
    data: Mapping[str, Any]  # flags of all its searches that name events
    answers: dict[str, str] = field(default_factory=dict)  # question -> one sentence
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def train(self, workload: str, label: str, point: Mapping[str, Any], **flags: Any) -> Trained:
        """Train one point with each seed: a search in which every hyperparameter is fixed."""
        name = f"{self.name}.{label}"
        every = {"trials": self.seeds, "presets": "none", "scheduler": "none", "sampler": "random", "race": "0"}
        done = self.search(workload, name, **every | {"set": dict(point), "keep_checkpoints": self.seeds} | flags)
        rows = done.trials[done.trials.outcome == "complete"].sort_values("number")
        if done.interrupted or rows.empty:
            raise SystemExit(f"{name}: {len(rows)} of {self.seeds} trainings are complete; see {done.path}")
        metrics = [done.trial(label).metrics for label in rows.label]
        objective = done.leaderboard.objective
        columns = {name for name in (objective, f"{objective}_excess") if name in metrics[0]}
        curves = {one: [done.curves(one)[label].tolist() for label in rows.label] for one in columns}
        return Trained(workload, label, name, metrics, curves, rows.number.tolist(), self.seeds)

    def search(self, workload: str, name: str, **flags: Any) -> Any:
        """Run one search, or resume it, or read it where it has ended."""
        usual = {"epochs": self.epochs, "storage": str(self.storage), "tracking_uri": "journal", "resume": "auto"}
        return search.run(workload, name=name, **usual | dict(self.data) | flags)

    def compare(self, question: str, metric: str, of: Trained, to: Trained) -> Interval:
        """Answer a question by the paired difference of a metric of which less is better."""
        both = sorted(set(of.seeds) & set(to.seeds))
        if not both:
            raise SystemExit(f"{of.search}, {to.search}: no seed is complete at both points")
        of_seed, to_seed = (dict(zip(one.seeds, one.values(metric), strict=True)) for one in (of, to))
        found = difference([of_seed[seed] for seed in both], [to_seed[seed] for seed in both])
        lost = "".join(
            f"; {one.asked - len(one.seeds)} of {one.asked} trainings of {one.label} did not end"
            for one in (of, to)
            if len(one.seeds) < one.asked
        )
        verdict = "is lower" if found.mean < 0 else "is higher"
        verdict = verdict if found.excludes_zero else "does not differ measurably"
        self.answers[question] = f"{metric} of {of.label} {verdict}: {of.label} - {to.label} = {found}, 95 %{lost}"
        return found

    def tabulate(self, title: str, trained: Sequence[Trained], metrics: Sequence[str]) -> None:
        """Add a table: a line for each point, means over seeds with intervals."""
        self.tables[title] = [
            {"point": one.label, "seeds": len(one.metrics)} | {name: str(mean_of(one.values(name))) for name in metrics}
            for one in trained
        ]

    def draw(self, trained: Sequence[Trained], folder: Path) -> None:
        """Draw means over seeds with bands, as the report page does for a race."""
        reports: dict[str, list[Path]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for one in trained:
            found = read_search(Storage(str(self.storage)), one.search)
            with open_reports(found, found.complete) as kept:
                reports[one.label] = list(kept.values())
        shown = {label: folders for label, folders in reports.items() if folders}
        if shown:
            WORKLOADS[trained[0].workload].compare_seeds(shown, folder)

    def write(self, out: Path, settings: Mapping[str, Any]) -> None:
        """Write answers and tables as JSON and as markdown."""
        facts = {"date": time.strftime("%Y-%m-%d"), "commit": git_commit(), "machine": platform.machine(), **settings}
        content = {"facts": facts, "answers": self.answers, "tables": self.tables}
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{self.name}.json").write_text(json.dumps(content, indent=2, default=str))
        (out / f"{self.name}.md").write_text(markdown(content))


def markdown(content: Mapping[str, Any]) -> str:
    """Write what a study has found for people: answers, facts, tables."""
    lines = [f"- **{question}** {answer}." for question, answer in content["answers"].items()]
    lines += ["", ", ".join(f"{name} {value}" for name, value in content["facts"].items())]
    for title, rows in content["tables"].items():
        names = list(rows[0])
        lines += ["", f"{title}:", "", "| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
        lines += ["| " + " | ".join(str(row[name]) for name in names) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def settings_of(study: Any) -> dict[str, Any]:
    """Return the options of a study's command as JSON values."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(study).items()}
