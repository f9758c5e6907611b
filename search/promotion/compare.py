"""Puts what every model scores on the holdout together: who the candidate is, the table, the verdict."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.promotion.candidates import CHAMPION, Contenders
from search.promotion.evaluate import Judged
from search.promotion.gate import Gate
from search.promotion.registry import Version
from search.promotion.result import Kind, Line, Result, make_line, mean_of
from search.promotion.retrain import Finalist
from search.promotion.source_search import Subject
from search.reporting.leaderboard import number
from trainables.evaluation.scores import Evaluation

MANY_USES = 10  # of one holdout


@dataclass(frozen=True)
class HoldoutComparison:
    """All scores of one promotion."""

    subject: Subject
    finalists: Sequence[Finalist]
    contenders: Contenders
    judged: Mapping[str, Judged]  # by name of a training, preset, champion
    naive: Mapping[str, Evaluation]
    champion: Version | None
    confidence: float

    def candidate(self) -> tuple[str, str]:
        """Finalist and training that stand for election, chosen by validation alone.

        The finalist that is best on average over its seeds, and of these seeds the best. The holdout then sees one
        comparison, not the best of many.
        """

        def mean_order(finalist: str) -> list[float]:
            orders = [self._order(training) for training in self.contenders.trainings[finalist]]
            return [statistics.fmean(column) for column in zip(*orders, strict=True)]

        finalist = min(self.contenders.trainings, key=mean_order)
        return finalist, min(self.contenders.trainings[finalist], key=self._order)

    @property
    def holdout(self) -> str:
        """Its fingerprint."""
        return next(iter(self.judged.values())).holdout.holdout

    def _order(self, training: str) -> tuple[float, ...]:
        return self.subject.goal.order(self.judged[training].validation)

    def result(self, promotion: str, uses: int) -> Result:
        """The verdict with all that led to it."""
        goal, watched = self.subject.goal, self.subject.promotion.watched
        finalist, training = self.candidate()
        reference, theirs = self._reference()
        seen = self.judged[training].holdout
        champion = theirs if self.champion else None
        verdict = Gate(goal, watched, self.confidence).decide(seen, self._seeds(finalist), champion)
        return Result(
            workload=self.subject.workload.name,
            search=self.subject.name,
            promotion=promotion,
            candidate=training,
            confidence=self.confidence,
            objective_version=seen.objective_version,
            holdout=seen.holdout,
            events=seen.events,
            uses=uses,
            reference=reference,
            metrics=tuple(dict.fromkeys((*goal.objectives, *goal.limits, *watched))),
            lines=tuple(self._lines(reference, theirs)),
            verdict=verdict,
            notes=tuple(self._notes(seen, uses)),
        )

    def scores(self, candidate: str) -> dict[str, Evaluation]:
        """What a figure of the promotion shows, the candidate first."""
        preset, seeds = self.subject.promotion.preset, self.contenders.trainings
        shown = {f"candidate {candidate}": self.judged[candidate].holdout}
        shown |= {name: self.judged[name].holdout for name in (CHAMPION, preset) if name in self.judged}
        if preset in seeds and candidate not in seeds[preset]:
            shown[preset] = mean_of(self._seeds(preset))
        return {**shown, **self.naive}

    def _seeds(self, finalist: str) -> list[Evaluation]:
        return [self.judged[training].holdout for training in self.contenders.trainings[finalist]]

    def _reference(self) -> tuple[str, Evaluation]:
        """Whom differences are to: the champion; else the preset; else, of a preset that failed, the first finalist."""
        preset = self.subject.promotion.preset
        for name in (CHAMPION, preset):
            if name in self.judged:
                return name, self.judged[name].holdout
        name = preset if preset in self.contenders.trainings else next(iter(self.contenders.trainings))
        return name, mean_of(self._seeds(name))

    def _lines(self, reference: str, theirs: Evaluation) -> list[Line]:
        searched = {one.label: one.value for one in self.finalists}
        alone: dict[str, Kind] = dict.fromkeys(self.contenders.preset, "preset")
        alone |= dict.fromkeys(self.contenders.champion, "champion")
        lines = [
            make_line(label, "finalist", self._seeds(label), theirs, self.confidence, searched[label])
            for label in self.contenders.trainings
        ]
        lines += [
            make_line(name, kind, [self.judged[name].holdout], theirs, self.confidence) for name, kind in alone.items()
        ]
        lines += [make_line(name, "naive", [one], theirs, self.confidence) for name, one in self.naive.items()]
        return lines

    def _notes(self, seen: Evaluation, uses: int) -> list[str]:
        """What a reader must know of the comparison."""
        notes = [f"{label} is out: {what}" for label, what in self.contenders.incomplete.items()]
        if not self.subject.whole:
            notes.append(f"search {self.subject.name} has not ended in good order: with --resume it may find better")
        if self.champion:
            tags = self.champion.tags
            for name, now in (("objective_version", seen.objective_version), ("holdout", seen.holdout)):
                if tags.get(name) != now:
                    notes.append(f"the champion was promoted with another {name.replace('_', ' ')}: evaluated again")
            if tags.get("data") != self.subject.events:
                notes.append("the champion was trained on other data: it may have seen events of this holdout")
        goal = self.subject.goal
        ours = seen.numbers()[goal.objective]
        for name, naive in self.naive.items():
            theirs = naive.numbers()[goal.objective]
            if not (ours > theirs if goal.mode == "max" else ours < theirs):
                told = f"{goal.objective} {number(ours)} against {number(theirs)}"
                notes.append(f"the candidate does not beat {name}, which has learnt nothing of an event: {told}")
        if uses > MANY_USES:
            notes.append(
                f"{uses} promotions of all workloads have looked at this holdout: what it says is no longer unseen; "
                "take a new one"
            )
        return notes
