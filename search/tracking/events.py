"""Writes what happens in a search into its journal, and stages the files that belong to it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.config.spec import Plan
from search.reporting.leaderboard import Leaderboard
from search.storage.event_log import Journal
from search.storage.trial_record import TrialListener, TrialRecord
from search.tracking.mlflow_ui import experiment_note, first_views, result_note, result_views
from search.tracking.outbox import Outbox


class EventRecorder(TrialListener):
    """The listener that comes before all others: what it has not written has not happened."""

    def __init__(self, journal: Journal, outbox: Outbox) -> None:
        self._journal, self._outbox = journal, outbox

    # --- trials, as the records tell

    def trial_started(self, trial: TrialRecord) -> None:
        self._journal.append_trial("trial_started", _now_ms(), trial)

    def trial_resumed(self, trial: TrialRecord) -> None:
        self._journal.append_trial("trial_resumed", _now_ms(), trial)

    def trial_retried(self, trial: TrialRecord) -> None:
        self._journal.append_trial("trial_retried", _now_ms(), trial)

    def epoch_ended(self, trial: TrialRecord) -> None:
        self._journal.append_trial("epoch_ended", _now_ms(), trial)

    def checkpoint_saved(self, trial: TrialRecord) -> None:
        self._journal.append_trial("checkpoint_saved", _now_ms(), trial)

    def trial_ended(self, trial: TrialRecord) -> None:
        if trial.outcome == "complete":  # first: an entry without its files could never be made good
            self._journal.append("files", _now_ms(), number=trial.number, parcel=self._outbox.stage_trial(trial))
        self._journal.append_trial("trial_ended", _now_ms(), trial)

    # --- the search itself

    def opened(self, plan: Plan) -> None:
        """What the search is about, for whoever looks at its pages while it runs."""
        at_ms, goal = _now_ms(), plan.goal
        views = first_views(goal, plan.workload.columns, at_ms)
        note = experiment_note(plan.workload.title, goal.objective)
        self._journal.append("search_opened", at_ms, note=note, views=views)

    def resumed(self) -> None:
        self._journal.append("search_resumed", _now_ms())

    def text(self, text: str, file: str) -> None:
        """A text file of the search's own run."""
        self._journal.append("files", _now_ms(), number=None, parcel=self._outbox.stage_text(text, file))

    def comparison(self, trial: TrialRecord | None, folder: Path) -> None:
        """Figures of one trial among others, or, without a trial, of the whole search."""
        parcel = self._outbox.stage_folder(folder, "comparison")
        self._journal.append("files", _now_ms(), number=trial.number if trial else None, parcel=parcel)

    def result(self, leaderboard: Leaderboard) -> None:
        """What people read of it; the best trial's name, number and scores, and the numbers of a front."""
        at_ms, best = _now_ms(), leaderboard.best
        views = result_views(leaderboard, at_ms)
        self._journal.append("search_described", at_ms, note=result_note(leaderboard), views=views)
        if best is None:
            return
        names = [*leaderboard.objectives, *(name for name in best.extra_metrics if name in best.metrics)]
        metrics: Mapping[str, Any] = {name: best.metrics[name] for name in names}
        complete = [row for row in leaderboard.rows if row.rank] if leaderboard.goal.several else []
        front = {row.number: row.front for row in complete}
        self._journal.append(
            "search_result", _now_ms(), metrics=metrics, label=best.label, number=best.number, front=list(front.items())
        )

    def end(self, status: str) -> None:
        self._journal.append("search_ended", _now_ms(), status=status)
        self._journal.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
