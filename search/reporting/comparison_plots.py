"""Figures over several trials at the end of a search: each trial beside the presets, and the best of all together."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from search.config.spec import Plan
from search.reporting.front import draw_front
from search.reporting.leaderboard import Leaderboard
from search.storage.trial_record import TrialRecord
from search.tracking.events import EventRecorder
from trainables.base.trainable import REPORT_ERROR, REPORT_FOLDER

_TOGETHER = 5  # best trials in the comparison of the whole search, beside all presets
_EACH = 25  # best trials that get a comparison of their own; drawing one takes about a second


def draw_gallery(
    plan: Plan, leaderboard: Leaderboard, records: Iterable[TrialRecord], event_recorder: EventRecorder
) -> None:
    """Draw the comparison of the search and, for each of the best trials, itself among the presets."""
    complete = {record.label: record for record in records if record.outcome == "complete"}
    ranked = [row.label for row in leaderboard.rows if row.rank]
    presets = [label for label in ranked if complete[label].preset]
    with ExitStack() as held, TemporaryDirectory() as temporary:
        wanted = dict.fromkeys([*ranked[:_EACH], *presets])
        reports = {label: report for label in wanted if (report := _report(complete[label], held))}

        def draw(record: TrialRecord | None, labels: list[str]) -> None:
            folder = Path(temporary) / (record.label if record else "search")
            folder.mkdir()
            shown = {label: reports[label] for label in dict.fromkeys(labels) if label in reports}
            plan.workload.compare(shown, folder)
            event_recorder.log_comparison(record, folder)

        for label in reports:
            draw(complete[label], [label, *presets])
        if reports:
            draw(None, [*ranked[:_TOGETHER], *presets])
        if leaderboard.goal.several and ranked:
            folder = Path(temporary) / "front"
            folder.mkdir()
            draw_front(folder / "pareto_front.png", leaderboard)
            event_recorder.log_comparison(None, folder)


def _report(record: TrialRecord, held: ExitStack) -> Path | None:
    """Folder of a trial's report; None where it could not be drawn, or the search ended before it was kept."""
    if record.checkpoint is None:
        return None
    folder = held.enter_context(record.checkpoint.as_folder()) / REPORT_FOLDER
    return folder if folder.exists() and not (folder / REPORT_ERROR).exists() else None
