"""Read what happened in a search so far from its event log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from search.storage.event_log import read_entries, replay
from search.storage.location import StoragePath
from search.storage.trial_record import TrialRecord, study_trials


@dataclass(frozen=True)
class SearchHistory:
    """Trials and end of one search, as its event log has them now."""

    log: Path
    place: StoragePath  # folder of the trials' checkpoints

    def records(self) -> list[TrialRecord]:
        """Return the record of each trial, and of each training of a race; one without an end was interrupted."""
        records = list(replay(read_entries(self.log), self.place.files).values())
        for record in records:
            record.outcome = record.outcome or "interrupted"
        return records

    def status(self) -> str | None:
        """Return how the search ended last, in MLflow's words; None: it runs, or its process died."""
        last = None
        for entry in read_entries(self.log):
            last = entry
        return last.content["status"] if last is not None and last.event == "search_ended" else None

    def finished(self) -> bool:
        """Return whether the search ended by itself: not interrupted, not failed; a time limit may have ended it."""
        return self.status() == "FINISHED"

    def complete(self, samples: int) -> bool:
        """Return whether the search finished with this many trials, none of them interrupted."""
        records = self.records()
        return (
            self.finished()
            and len(study_trials(records)) >= samples
            and not any(record.outcome == "interrupted" for record in records)
        )
