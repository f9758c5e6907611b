"""Makes a model that passed the gate the champion: package, card, version, alias."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from search.config.provenance import git_commit, user, versions
from search.promotion.candidates import CHAMPION, Contenders
from search.promotion.model_card import FIGURE, Facts, description, model_card
from search.promotion.registry import NONE, Registry, Version
from search.promotion.result import Result
from search.promotion.source_search import Subject
from search.storage.trial_record import TrialRecord
from trainables.evaluation.scores import Evaluation
from trainables.export.package import Package

FOLDER = "promotion"  # of the run's artifacts


@dataclass(frozen=True)
class Deployment:
    """What is needed of a promotion whose answer is yes."""

    subject: Subject
    result: Result
    contenders: Contenders
    records: Mapping[str, TrialRecord]
    holdout: Any
    scores: Mapping[str, Evaluation]  # for the figure
    storage: str  # folder or URL of the search

    def carry_out(
        self,
        registry: Registry,
        experiment_id: str,
        champion: Version | None,
        force: str | None,
        say: Callable[[str], None],
    ) -> bool:
        """Register the candidate and give it the alias; False where another promotion has won meanwhile."""
        name = self.result.workload
        version = self._pending(registry) or self._register(registry, experiment_id, champion, force)
        if rival := registry.set_champion(version):
            say(
                f"verdict  no: version {rival.number} ({rival.tags.get('promotion')}) was promoted against the same "
                "champion meanwhile. Promote again: then it is the champion to beat."
            )
            if rival.state == "pending":
                say(f"         if its process has died, repeat that promotion, or delete version {rival.number}")
            return False
        say(f"promoted version {version.number} of {name} is the champion")
        say(f"use      {_load(registry.where, name)}".replace("\n", "\n         "))
        say(f"export   python -m search.promote {name} --export DIR")
        return True

    def _pending(self, registry: Registry) -> Version | None:
        """The version that an earlier process registered and could not crown any more."""
        own = [version for version in registry.versions() if version.tags.get("promotion") == self.result.promotion]
        return next((version for version in own if version.state == "pending"), None)

    def _register(self, registry: Registry, experiment_id: str, champion: Version | None, force: str | None) -> Version:
        run_id = registry.run_of(experiment_id, self.result.promotion, self.result.candidate, self.storage)
        contender, about = self.contenders.all[self.result.candidate], self._about()
        with TemporaryDirectory() as temporary:
            folder, settings = Path(temporary) / "package", self.subject.settings
            package = self.subject.promotion.package(
                contender.model, contender.branches, self.holdout, settings, about, folder
            )
            card = self._write_card(Path(temporary) / FOLDER, package, registry.where)
            registry.log(run_id, Path(temporary) / FOLDER, FOLDER)
            tags = (
                about
                | self._numbers()
                | {
                    "promotion": self.result.promotion,
                    "against": str(champion.number) if champion else NONE,
                    "promoted_at": time.strftime("%Y-%m-%dT%H:%M:%S"),
                    "promoted_by": user(),
                    **({"forced": force} if force is not None and not self.result.verdict.passed else {}),
                }
            )
            return registry.register(package, run_id, tags, description(card))

    def _about(self) -> dict[str, str]:
        """Where the model comes from: in its package, its card and its tags."""
        record = self.records[self.result.candidate]
        return {
            "workload": self.result.workload,
            "search": self.result.search,
            "trial": self.result.candidate.rpartition(".")[0],
            "training": self.result.candidate,
            "seed": str(record.hyperparameters["seed"]),
            "git_commit": git_commit(),
            "data": self.subject.events,
            "holdout": self.result.holdout,
            "objective_version": self.result.objective_version,
            **self.subject.branches.tags,
            **versions(),
        }

    def _numbers(self) -> dict[str, str]:
        """Objectives and watched metrics, and the interval of the first objective's difference to the champion."""
        seen = self.scores[next(iter(self.scores))].numbers()
        tags = {name: f"{seen[name]:.6g}" for name in self.result.metrics}
        objective = self.result.metrics[0]
        if found := self.result.verdict.differences.get(objective):
            tags[f"{objective}_less_champion"] = f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"
        return tags | {"objective": objective, "confidence": f"{self.result.confidence:g}"}

    def _write_card(self, folder: Path, package: Package, where: str) -> str:
        folder.mkdir()
        manifest = package.manifest
        facts = Facts(
            title=self.subject.workload.title,
            about=self._about(),
            hyperparameters=package.model.hyperparameters,
            data=[line for line in self.subject.data.summary if not line.startswith("cache ")],
            inputs=[f"{column.name} ({column.unit})" for column in manifest.inputs],
            rules=manifest.rules,
            load=_load(where, self.result.workload),
        )
        card = model_card(self.result, facts)
        (folder / "card.md").write_text(card)
        (folder / "promotion.json").write_text(json.dumps(self.result.as_dict(), indent=2))
        reference = CHAMPION if CHAMPION in self.scores else None
        self.subject.promotion.draw(self.scores, folder / FIGURE, reference)
        return card


def _load(where: str, name: str) -> str:
    lines = [
        "import mlflow",
        f'mlflow.set_tracking_uri("{where}")',
        f'mlflow.pyfunc.load_model("models:/{name}@champion")',
    ]
    return "\n".join(lines)
