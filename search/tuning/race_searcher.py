"""Propose the trainings of a race to Ray Tune, round by round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.storage.trial_record import TrialRecord
from search.tuning.proposer import FINISHED, Proposer
from search.tuning.race_plan import Race


class RaceSearcher(Proposer):
    """Ask the race what comes next.

    Parameters
    ----------
    records : mapping of int to TrialRecord
        Those of the recorder, which change while the race runs.
    first_seed : int
        Seed of the search.
    """

    def __init__(self, race: Race, records: Mapping[int, TrialRecord], first_seed: int) -> None:
        super().__init__()
        self._race, self._records, self._first_seed = race, records, first_seed
        self._open: dict[str, int] = {}  # number of each training that was proposed and has not ended, by Tune's id

    @property
    def left(self) -> int:
        return self._race.trainings

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Propose a training; None, so that Tune asks again, until a round has ended or there is room."""
        waiting = [one for one in self._race.next_repeats(self._records) if one.number not in self._open.values()]
        if not waiting:
            return None if self._open else FINISHED
        if self.limit and len(self._open) >= self.limit.update(len(self._open), len(waiting)):
            return None
        repeat = waiting[0]
        self._open[trial_id] = repeat.number
        config, record = repeat.config(self._first_seed), self._records.get(repeat.number)
        if record is None or record.checkpoint is None:
            return config
        return config | {"continue_from": record.checkpoint.path}  # it was interrupted

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Count the training out; how it ended the records say."""
        self._open.pop(trial_id, None)
