"""Register the candidate of a promotion, with its package and model card, and make it the champion."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from typing import Any

from search.config.provenance import git_commit, user, versions
from search.promotion.evaluate import LoadedModel
from search.promotion.model_card import FIGURE, CardFacts, model_card, registry_description
from search.promotion.registry import NO_VERSION, Registry, Version
from search.promotion.result import RESULT, PromotionResult
from search.promotion.source_search import SourceSearch
from search.tracking.client import CHAMPION
from trainables.evaluation.scores import Evaluation
from trainables.export.manifest import Array, Column
from trainables.export.package import Package

FOLDER = "promotion"  # of the artifacts of the training's run


@dataclass(frozen=True)
class Registration:
    """A candidate that is to become the champion, with what its package and its card need."""

    source: SourceSearch
    result: PromotionResult
    model: LoadedModel
    holdout: Any
    scores: Mapping[str, Evaluation]  # of the figure, the candidate first
    champion: Version | None  # that the candidate was compared with
    forced: str | None  # reason to promote against the verdict

    def carry_out(self, registry: Registry, run_id: str, say: Callable[[str], None]) -> bool:
        """Register the candidate and make it the champion; False where another promotion did so meanwhile.

        Parameters
        ----------
        run_id : str
            MLflow run of the candidate's training, which gets the model, the card and the figure as artifacts.
        """
        name = self.result.workload
        version = self._pending(registry) or self._register(registry, run_id)
        if rival := registry.set_champion(version):
            say(
                f"verdict  no: version {rival.number} ({rival.tags.get('promotion')}) was promoted against the same "
                "champion meanwhile. Promote again: then it is the champion to beat."
            )
            if rival.state == "pending":
                say(f"         if its process has died, repeat that promotion, or delete version {rival.number}")
            return False
        say(f"promoted version {version.number} of {name} is the champion")
        say(f"use      {_code_to_load(registry.uri, name)}".replace("\n", "\n         "))
        say(f"export   python -m search.promote {quote(self.source.workload.word)} --export DIR")
        return True

    def _pending(self, registry: Registry) -> Version | None:
        """Find the version that an earlier process of this promotion registered before it died."""
        own = [version for version in registry.versions() if version.tags.get("promotion") == self.result.promotion]
        return next((version for version in own if version.state == "pending"), None)

    def _register(self, registry: Registry, run_id: str) -> Version:
        origin = self._origin()
        with TemporaryDirectory() as temporary:
            package = self.source.promotion.package(
                self.model.trained,
                self.model.upstream,
                self.holdout,
                self.source.data_settings,
                origin,
                Path(temporary) / "package",
            )
            files = Path(temporary) / FOLDER
            card = self._write_card(files, package, registry.uri)
            registry.log_files(run_id, files, FOLDER)
            tags = {
                **origin,
                **self._score_tags(),
                "promotion": self.result.promotion,
                "against": str(self.champion.number) if self.champion else NO_VERSION,
                "promoted_at": time.strftime("%Y-%m-%dT%H:%M:%S"),
                "promoted_by": user(),
                **({"forced": self.forced} if self.forced is not None and not self.result.verdict.passed else {}),
            }
            return registry.register(package, run_id, tags, registry_description(card))

    def _origin(self) -> dict[str, str]:
        """Say where the model comes from, for its package, its card and its tags."""
        return {
            "workload": self.result.workload,
            "search": self.result.search,
            "trial": self.result.candidate.rpartition(".")[0],
            "training": self.result.candidate,
            "seed": str(self.model.trained.hyperparameters["seed"]),
            "git_commit": git_commit(),
            "data": self.source.events,
            "holdout": self.result.holdout,
            "objective_version": self.result.objective_version,
            **self.source.upstream.tags,
            **versions(),
        }

    def _score_tags(self) -> dict[str, str]:
        """Return the candidate's scores, and the difference of the first objective to the champion's."""
        candidate = next(iter(self.scores.values())).numbers()
        tags = {name: f"{candidate[name]:.6g}" for name in self.result.metrics}
        objective = self.result.metrics[0]
        if found := self.result.verdict.differences.get(objective):
            tags[f"{objective}_less_champion"] = f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"
        return {**tags, "objective": objective, "confidence": f"{self.result.confidence:g}"}

    def _write_card(self, folder: Path, package: Package, uri: str) -> str:
        """Write the card, its figure and the result into a new folder, and return the card."""
        folder.mkdir()
        manifest = package.manifest
        facts = CardFacts(
            title=self.source.workload.title,
            origin=self._origin(),
            hyperparameters=package.model.hyperparameters,
            data=[line for line in self.source.data.summary if not line.startswith("cache ")],
            inputs=[_described(one) for one in manifest.inputs],
            rules=manifest.rules,
            load=_code_to_load(uri, self.result.workload),
        )
        card = model_card(self.result, facts)
        (folder / "card.md").write_text(card)
        (folder / RESULT).write_text(self.result.as_json())
        reference = CHAMPION if CHAMPION in self.scores else None
        self.source.promotion.draw(self.scores, folder / FIGURE, reference)
        return card


def _described(one: Column | Array) -> str:
    """Describe an input of a model: its name, with the shape and unit that it has."""
    shape = f"{one.shape} {one.type}" if isinstance(one, Array) else ""
    more = " ".join(word for word in (shape, one.unit) if word)
    return f"{one.name} ({more})" if more else one.name


def _code_to_load(uri: str, name: str) -> str:
    lines = [
        "import mlflow",
        f'mlflow.set_tracking_uri("{uri}")',
        f'mlflow.pyfunc.load_model("models:/{name}@{CHAMPION}")',
    ]
    return "\n".join(lines)
