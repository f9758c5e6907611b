"""Compare the scores of all models on the holdout: select the candidate, make the table, decide."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.promotion.candidates import Candidates, Finalist
from search.promotion.evaluate import ModelScores
from search.promotion.gate import Gate
from search.promotion.registry import Version
from search.promotion.result import Line, PromotionResult, make_line, mean_of
from search.promotion.source_search import SourceSearch
from search.reporting.leaderboard import number
from search.tracking.client import CHAMPION
from trainables.evaluation.scores import Evaluation

MANY_USES = 10  # of one holdout


@dataclass(frozen=True)
class HoldoutComparison:
    """The scores of one promotion."""

    source: SourceSearch
    candidates: Candidates
    scores: Mapping[str, ModelScores]  # by name of a training; the champion by this label
    naive: Mapping[str, Evaluation]
    champion: Version | None
    confidence: float

    @property
    def holdout(self) -> str:
        """Fingerprint of the holdout."""
        return next(iter(self.scores.values())).holdout.holdout

    def select_candidate(self) -> tuple[Finalist, str]:
        """Select a finalist and one of its trainings by the validation events alone.

        The finalist is the best one on average over its seeds, and the training is the best of these seeds. So the
        holdout sees one comparison, not the best of many.
        """

        def mean_order(finalist: Finalist) -> list[float]:
            orders = [self._order(training) for training in finalist.trainings]
            return [statistics.fmean(column) for column in zip(*orders, strict=True)]

        finalist = min(self.candidates.finalists, key=mean_order)
        return finalist, min(finalist.trainings, key=self._order)

    def _order(self, training: str) -> tuple[float, ...]:
        metrics = self.scores[training].validation
        return self.source.goal.measured_by(metrics).order(metrics)

    def result(self, promotion: str, uses: int) -> PromotionResult:
        """Decide on the candidate, and return the verdict with all that led to it.

        Parameters
        ----------
        promotion : str
            Name of the search that trained the finalists.
        uses : int
            Promotions of all workloads that used this holdout, this one included.
        """
        goal, watched = self.source.goal, self.source.promotion.watched
        metrics = tuple(dict.fromkeys((*goal.objectives, *goal.constrained, *watched)))
        finalist, training = self.select_candidate()
        reference, reference_scores = self._reference()
        candidate = self.scores[training].holdout
        champion = reference_scores if self.champion else None
        return PromotionResult(
            workload=self.source.workload.name,
            search=self.source.name,
            promotion=promotion,
            candidate=training,
            confidence=self.confidence,
            objective_version=candidate.objective_version,
            holdout=candidate.holdout,
            events=candidate.events,
            uses=uses,
            reference=reference,
            metrics=metrics,
            lines=tuple(self._lines(reference_scores)),
            verdict=Gate(goal, watched, self.confidence).decide(candidate, self._seeds(finalist), champion),
            notes=(
                *self._notes_on_search(),
                *self._notes_on_champion(candidate),
                *self._notes_on_naive(candidate),
                *_notes_on_uses(uses),
            ),
            more_is_better=tuple(name for name in metrics if goal.sign(name) < 0),
        )

    def figure_scores(self, candidate: str) -> dict[str, Evaluation]:
        """Return what a figure of the promotion shows: the candidate, champion, preset and naive predictors."""
        preset = self.source.promotion.preset
        shown = {f"candidate {candidate}": self.scores[candidate].holdout}
        if CHAMPION in self.scores:
            shown[CHAMPION] = self.scores[CHAMPION].holdout
        trainings = self._preset_trainings
        if trainings and candidate not in trainings:
            shown[preset] = mean_of(self._of(trainings))
        return {**shown, **self.naive}

    def _seeds(self, finalist: Finalist) -> list[Evaluation]:
        return self._of(finalist.trainings)

    def _of(self, trainings: Sequence[str]) -> list[Evaluation]:
        return [self.scores[training].holdout for training in trainings]

    @property
    def _preset_trainings(self) -> Sequence[str]:
        """Trainings of the preset, a finalist or not."""
        label = self.source.promotion.preset
        finalists = (one.trainings for one in self.candidates.finalists if one.label == label)
        return next(finalists, self.candidates.preset)

    def _reference(self) -> tuple[str, Evaluation]:
        """Choose what differences are to: the champion, or else the preset, or else the first finalist."""
        if CHAMPION in self.scores:
            return CHAMPION, self.scores[CHAMPION].holdout
        if trainings := self._preset_trainings:
            return self.source.promotion.preset, mean_of(self._of(trainings))
        first = self.candidates.finalists[0]
        return first.label, mean_of(self._seeds(first))

    def _lines(self, reference: Evaluation) -> list[Line]:
        lines = [
            make_line(one.label, "finalist", self._seeds(one), reference, self.confidence, one.value)
            for one in self.candidates.finalists
        ]
        if trainings := self.candidates.preset:
            preset = self.source.promotion.preset
            lines.append(make_line(preset, "preset", self._of(trainings), reference, self.confidence))
        if CHAMPION in self.scores:
            lines.append(make_line(CHAMPION, "champion", [self.scores[CHAMPION].holdout], reference, self.confidence))
        lines += [make_line(name, "naive", [one], reference, self.confidence) for name, one in self.naive.items()]
        return lines

    def _notes_on_search(self) -> list[str]:
        notes = [self._note_on_incomplete(label, reasons) for label, reasons in self.candidates.incomplete.items()]
        measured = next(iter(self.scores.values())).validation
        notes += [
            f"{name} is not evaluated here: its constraint does not count in the choice of the candidate"
            for name in self.source.goal.constrained
            if name not in measured
        ]
        if not self.source.ended_well:
            notes.append(f"search {self.source.name} has not ended in good order: with --resume it may find better")
        return notes

    def _note_on_incomplete(self, label: str, reasons: str) -> str:
        complete = self.candidates.preset
        if label == self.source.promotion.preset and complete:
            return f"{label} is represented by its complete trainings alone, {', '.join(complete)}: {reasons}"
        return f"{label} is out: {reasons}"

    def _notes_on_champion(self, candidate: Evaluation) -> list[str]:
        if self.champion is None:
            return []
        tags, notes = self.champion.tags, []
        for name, now in (("objective_version", candidate.objective_version), ("holdout", candidate.holdout)):
            if tags.get(name) != now:
                notes.append(f"the champion was promoted with another {name.replace('_', ' ')}: evaluated again")
        if tags.get("data") != self.source.events:
            notes.append("the champion was trained on other data: it may have seen events of this holdout")
        return notes

    def _notes_on_naive(self, candidate: Evaluation) -> list[str]:
        goal, notes = self.source.goal, []
        ours = candidate.numbers()[goal.objective]
        for name, naive in self.naive.items():
            theirs = naive.numbers()[goal.objective]
            if not goal.is_better(goal.objective, ours, theirs):
                values = f"{goal.objective} {number(ours)} against {number(theirs)}"
                notes.append(f"the candidate does not beat {name}, a naive predictor: {values}")
        return notes


def _notes_on_uses(uses: int) -> list[str]:
    if uses <= MANY_USES:
        return []
    return [f"{uses} promotions of all workloads have looked at this holdout: it is no longer unseen; take a new one"]
