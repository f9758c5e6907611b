"""The record of one trial, and the base class of everything that receives the events of trials."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from search.storage.location import StoragePath

Outcome = Literal["complete", "stopped_early", "diverged", "failed", "interrupted"]


@dataclass
class TrialRecord:
    """What happened to one trial in its whole life, retries and resumes included."""

    trial_id: str  # Ray Tune's, a new one after a resume
    number: int  # Optuna's, for its whole life
    preset: str | None
    hyperparameters: dict[str, Any]
    epochs: int  # of a whole trial
    started: float  # seconds since 1970
    ended: float | None = None
    outcome: Outcome | None = None  # None: running
    reason: str = ""
    epoch: int = 0  # last finished one
    metrics: dict[str, float] = field(default_factory=dict)  # of that epoch
    best: dict[str, float] = field(default_factory=dict)  # epoch, value
    seconds: float = 0.0  # of computing, repeated epochs included
    attempts: int = 1
    perturbed: bool = False  # population based training changed its hyperparameters
    host: str = ""
    device: str = ""
    checkpoint: StoragePath | None = None  # folder of the last one
    commit: str = ""  # of the code that began it
    repeats: int | None = None  # number of the trial that a race trains again here; None: a trial of the study
    name: str = ""  # of such a training

    @property
    def label(self) -> str:
        """Name of the trial in tables, figures and MLflow."""
        return self.name or self.preset or f"trial-{self.number:03d}"

    @property
    def saved_seconds(self) -> float:
        """Estimate the computing time that ending before the last epoch saved, at this trial's own pace."""
        return self.seconds / self.epoch * (self.epochs - self.epoch) if self.epoch else 0.0


def study_trials(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the records of trials, without those of the trainings of a race."""
    return [record for record in records if record.repeats is None]


class TrialListener:
    """Base class of the receivers of trial events; a subclass overrides the events that it needs.

    ``Recorder`` calls the methods from the thread that runs the search, so none of them may block.
    """

    def trial_started(self, trial: TrialRecord) -> None: ...
    def trial_resumed(self, trial: TrialRecord) -> None: ...
    def trial_retried(self, trial: TrialRecord) -> None: ...
    def epoch_ended(self, trial: TrialRecord) -> None: ...
    def checkpoint_saved(self, trial: TrialRecord) -> None: ...
    def trial_ended(self, trial: TrialRecord) -> None: ...
