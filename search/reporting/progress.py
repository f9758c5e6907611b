"""Show the progress of a running search: a live table in a terminal or a notebook, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.reporting.console import SafeConsole, in_notebook
from search.reporting.leaderboard import number
from search.reporting.outlook import look_ahead
from search.storage.trial_record import TrialListener, TrialRecord, study_trials

if TYPE_CHECKING:
    from search.config.spec import SearchSpec
    from search.tracking.exporter import MlflowExporter, NullExporter

_NOTEBOOK_S = 0.5  # between two changes of the table
_STYLE = {"complete": "green", "stopped_early": "yellow", "diverged": "red", "failed": "red"}


class Progress(TrialListener):
    """A listener that shows trials as they run; used as a context around the search.

    The search needs none of it: a fault of the view is kept in the log, and the search goes on.

    Parameters
    ----------
    concurrent : int
        Trials that run at a time, for the estimate of the time left.
    exporter : optional
        Its backlog is shown while MLflow is away.
    known : iterable of TrialRecord
        Trials of an earlier process; interrupted ones appear when they resume.
    """

    def __init__(
        self,
        console: SafeConsole,
        spec: SearchSpec,
        concurrent: int,
        exporter: MlflowExporter | NullExporter | None = None,
        known: Iterable[TrialRecord] = (),
    ) -> None:
        self._console, self._spec, self._concurrent, self._exporter = console, spec, concurrent, exporter
        self._started = time.monotonic()
        self._trials = {trial.number: trial for trial in known if trial.outcome != "interrupted"}
        self._in_notebook: Any = None  # the table below the cell
        self._shown_at = 0.0
        self._word: tuple[int, str] = 0, ""  # on going on, and how many trials had ended then
        self._live = Live(console=console, get_renderable=self._renderable, refresh_per_second=2, transient=True)

    def __enter__(self) -> Progress:
        with self._console.never_failing():
            if self._console.is_terminal:
                self._live.start()
            elif in_notebook():
                self._in_notebook = import_module("IPython.display").display(self._table(), display_id=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._console.never_failing():
            if self._console.is_terminal:
                self._live.stop()
            self._refresh()

    # --- a listener of the trial records

    def trial_started(self, trial: TrialRecord) -> None:
        self._trials[trial.number] = trial
        self._refresh()

    def trial_resumed(self, trial: TrialRecord) -> None:
        self._trials[trial.number] = trial
        self._print(lambda: f"{trial.label}: resumes after epoch {trial.epoch}")

    def trial_retried(self, trial: TrialRecord) -> None:
        self._print(lambda: f"{trial.label}: failed, starts again from its checkpoint (attempt {trial.attempts})")

    def epoch_ended(self, trial: TrialRecord) -> None:
        if self._in_notebook:
            self._refresh(_NOTEBOOK_S)
        elif not self._console.is_terminal and (trial.epoch == 1 or trial.epoch * 4 // trial.epochs
                                              > (trial.epoch - 1) * 4 // trial.epochs):  # fmt: skip
            self._print(lambda: f"{trial.label}: epoch {trial.epoch} of {trial.epochs}, {self._value(trial)}")

    def trial_ended(self, trial: TrialRecord) -> None:
        self._print(lambda: self._end(trial))
        self._refresh()

    def _refresh(self, pause_s: float = 0.0) -> None:
        """Show the table of a notebook as it is now, unless it was shown that short a time ago."""
        if self._in_notebook and time.monotonic() - self._shown_at >= pause_s:
            self._shown_at = time.monotonic()
            with self._console.never_failing():
                self._in_notebook.update(self._table())

    def _end(self, trial: TrialRecord) -> str:
        reason = f" ({trial.reason})" if trial.reason else ""
        end = f"{trial.label}: {str(trial.outcome).replace('_', ' ')}{reason} after epoch {trial.epoch}"
        left = self._time_left()
        if trial.repeats is not None:
            return f"{end}, {self._value(trial)}; {self._raced()} trainings of the race done"
        return f"{end}, {self._value(trial)}; {self._done()} of {self._spec.samples} trials done{left}"

    def _print(self, line: Callable[[], str]) -> None:
        with self._console.never_failing():
            self._console.print(Text(line()), soft_wrap=True)

    def _value(self, trial: TrialRecord) -> str:
        if not trial.metrics:
            return f"no {self._spec.goal.objective} yet"
        return f"{self._spec.goal.objective} {number(trial.metrics[self._spec.goal.objective])}"

    def _done(self) -> int:
        return sum(trial.outcome not in (None, "interrupted") for trial in self._own())

    def _raced(self) -> int:
        """Return the number of trainings of the race that have ended: none of them is a trial of the search."""
        return sum(trial.outcome is not None and trial.repeats is not None for trial in self._trials.values())

    def _own(self) -> list[TrialRecord]:
        return study_trials(self._trials.values())

    def _time_left(self) -> str:
        """Estimate the time left from the pace so far; trials that run at a time share the epochs that are left."""
        epochs = sum(trial.epoch for trial in self._trials.values())
        seconds = sum(trial.seconds for trial in self._trials.values())
        running = [trial for trial in self._trials.values() if trial.outcome is None]
        epochs_left = sum(trial.epochs - trial.epoch for trial in running)
        epochs_left += (self._spec.samples - len(self._own())) * self._spec.epochs
        if not epochs or not epochs_left:
            return ""
        minutes = seconds / epochs * epochs_left / min(self._concurrent, self._spec.samples) / 60
        return f", about {minutes:.0f} min left" if minutes >= 1 else ", less than a minute left"

    def _on_going_on(self) -> str:
        """Return what more trials are expected to gain, as the leaderboard says at the end; empty: too early."""
        ended = self._done()
        if ended != self._word[0]:
            outlook = look_ahead(self._spec.goal, self._trials.values(), min_effect=self._spec.budget.min_effect)
            self._word = ended, str(outlook or "")
        return self._word[1]

    def _renderable(self) -> Table:
        with self._console.never_failing():
            return self._table()
        return Table()

    def _table(self) -> Table:
        minutes = (time.monotonic() - self._started) / 60
        caption = f"{self._done()} of {self._spec.samples} done, {minutes:.1f} min{self._time_left()}"
        if self._exporter and self._exporter.trouble:
            caption += f"; {self._exporter.trouble}, {self._exporter.behind} entries behind"
        if word := self._on_going_on():
            caption += f"\n{word}"
        table = Table(title=self._spec.name, caption=caption)
        for name in ("trial", "state", "epoch", self._spec.goal.objective, "best so far", "min"):
            table.add_column(name, justify="left" if name in ("trial", "state") else "right", no_wrap=True)
        for trial in self._shown():
            state = trial.outcome.replace("_", " ") if trial.outcome else "running"
            table.add_row(
                trial.label, Text(state, style=_STYLE.get(str(trial.outcome), "")),
                f"{trial.epoch}/{trial.epochs}",
                number(trial.metrics.get(self._spec.goal.objective)), number(trial.best.get("value")),
                f"{trial.seconds / 60:.1f}",
            )  # fmt: skip
        return table

    def _shown(self) -> list[TrialRecord]:
        """Return the running trials, and the best ended ones, as many as the screen holds."""
        room = max(5, self._console.height - 10)
        goal = self._spec.goal
        running = [trial for trial in self._trials.values() if trial.outcome is None][:room]
        ended = [trial for trial in self._trials.values() if trial.outcome]
        ended.sort(key=lambda trial: (
            trial.outcome != "complete", goal.order(trial.metrics) if trial.metrics else (float("inf"),),
        ))  # fmt: skip
        return running + ended[: room - len(running)]
