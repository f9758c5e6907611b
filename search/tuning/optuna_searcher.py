"""Report each trial's real final state to Optuna, and ask it for the next point.

Complete: its value. Stopped early: PRUNED, with its intermediate values, so that two-epoch losses are never compared
with fifty-epoch ones. Diverged or failed: FAIL, with its reason, never a number. Out of memory: PRUNED and infeasible,
so that TPE avoids that region (the other samplers leave such a trial out). No trial stays RUNNING when the search is
over, but those that a resume can continue.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import optuna
from optuna.trial import TrialState

from search.config.spec import SearchSpec
from search.storage.trial_record import Outcome, TrialListener, TrialRecord
from search.tuning.failures import OUT_OF_MEMORY, cause_of
from search.tuning.proposer import FINISHED, Proposer


class OptunaSearcher(Proposer, TrialListener):
    """Ask the study for points and, as a listener of the records, report to it how the trials ended.

    Parameters
    ----------
    study : optuna.Study
        On storage that only this process writes.
    spec : SearchSpec
        Its presets run before the sampled trials and on top of them. The study receives the metrics of its goal as
        values, and the goal's constraints.
    records : iterable of TrialRecord
        Trials of this study in an earlier process. Those that the study still has as running are resumed first, from
        their checkpoint where they have one.
    """

    def __init__(self, study: optuna.Study, spec: SearchSpec, records: Iterable[TrialRecord] = ()) -> None:
        super().__init__()
        self._study, self._spec, self._goal = study, spec, spec.goal
        self._records = {record.number: record for record in records}
        known = study.get_trials(deepcopy=False)
        self._interrupted = [trial.number for trial in known if trial.state == TrialState.RUNNING]
        self._left = spec.samples - sum(trial.state != TrialState.WAITING for trial in known)
        self._open: dict[int, optuna.Trial] = {}
        self._live: set[str] = set()  # Tune's ids of trials that were proposed and have not ended
        queued = {trial.user_attrs.get("preset") for trial in known}
        for name, point in spec.space.presets.items():
            if name not in queued:
                study.enqueue_trial(dict(point), user_attrs={"preset": name})
        self._catch_up()

    def _catch_up(self) -> None:
        """Report trials whose end was logged just before the process was killed."""
        for number in list(self._interrupted):
            record = self._records.get(number)
            if record is not None and record.outcome != "interrupted":
                self._interrupted.remove(number)
                self._open_again(number)
                self.trial_ended(record)

    def ended(self) -> dict[int, tuple[Outcome, str]]:
        """Return how trials ended whose end only the study has: the event log was damaged."""
        return {
            trial.number: (trial.user_attrs["outcome"], trial.user_attrs["reason"])
            for trial in self._study.get_trials(deepcopy=False)
            if trial.number in self._records
            and self._records[trial.number].outcome == "interrupted"
            and trial.state.is_finished()
            and "outcome" in trial.user_attrs
        }

    def _open_again(self, number: int) -> optuna.Trial:
        """Reopen a trial of an earlier process; report its last epoch, which may have been logged but not reported."""
        trial = optuna.Trial(self._study, self._study.get_trials(deepcopy=False)[number]._trial_id)
        self._open[number] = trial
        if number in self._records and self._records[number].epoch:
            self.epoch_ended(self._records[number])
        return trial

    @property
    def left(self) -> int:
        """Number of trials still to be run, interrupted ones included."""
        return self._left + len(self._interrupted)

    # --- called by Ray Tune

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Propose a point; None, so that Tune asks again, where as many trials run as the cluster holds now."""
        if not self._interrupted and self._left <= 0:
            return FINISHED
        if self.limit and len(self._live) >= self.limit.update(len(self._live), self.left):
            return None
        self._live.add(trial_id)
        if self.limit and self.left == 1:  # Tune does not ask again
            self.limit.close()
        return self._next()

    def _next(self) -> dict[str, Any]:
        if self._interrupted:
            return self._resume(self._interrupted.pop(0))
        self._left -= 1
        trial = self._study.ask()
        self._open[trial.number] = trial
        return self._config(trial)

    def _resume(self, number: int) -> dict[str, Any]:
        trial = self._open_again(number)
        config = self._config(trial)
        record = self._records.get(number)  # none: asked for, and interrupted before it started
        if record is None:
            return config
        checkpoint = record.checkpoint.path if record.checkpoint else None
        return config | {"hyperparameters": record.hyperparameters, "continue_from": checkpoint}

    def _config(self, trial: optuna.Trial) -> dict[str, Any]:
        return {
            "hyperparameters": self._spec.space.point(trial)
            | {"epochs": self._spec.epochs, "seed": self._spec.seed + trial.number},
            "number": trial.number,
            "preset": trial.user_attrs.get("preset"),
        }

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Count the trial out. How it ended the records say: Tune calls this for complete and stopped trials alike."""
        self._live.discard(trial_id)

    # --- called by the recorder

    def epoch_ended(self, trial: TrialRecord) -> None:
        if self._goal.several or trial.repeats is not None:  # Optuna takes intermediate values of one objective only,
            return  # and a training of the race is no point of the study
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it has the epoch already
            self._open[trial.number].report(trial.metrics[self._goal.objective], step=trial.epoch)

    def trial_ended(self, trial: TrialRecord) -> None:
        asked = self._open.pop(trial.number, None)
        if asked is None:  # see ``ended``
            return
        for key in ("outcome", "reason", "epoch"):
            asked.set_user_attr(key, getattr(trial, key))
        if trial.metrics and trial.outcome in ("complete", "stopped_early"):  # else a stopped trial would pass for one
            for name, excess in self._goal.excesses(trial.metrics).items():  # that keeps all constraints
                asked.set_constraint(name, excess)
        match trial.outcome:
            case "complete" if trial.perturbed:  # its value does not belong to the point that was asked for
                self._study.tell(asked, state=TrialState.PRUNED)
            case "complete":
                asked.set_user_attr("hyperparameters", trial.hyperparameters)  # what is held too, for a warm start
                asked.set_user_attr("metrics", trial.metrics)
                self._study.tell(asked, [trial.metrics[name] for name in self._goal.objectives])
            case "stopped_early":
                self._study.tell(asked, state=TrialState.PRUNED)
            case "interrupted":
                pass  # it stays RUNNING for a resume
            case "failed" if cause_of(trial.reason) in OUT_OF_MEMORY:
                if "memory" not in asked.constraints:  # else it was reported just before the process was killed
                    asked.set_constraint("memory", 1.0)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # CMA-ES warns that it ignores constraints
                    self._study.tell(asked, state=TrialState.PRUNED)
            case _:
                self._study.tell(asked, state=TrialState.FAIL)

    def close(self, interrupted: bool) -> None:
        """Mark never-started points as FAIL, unless the search was interrupted: a resume starts them."""
        if self.limit:
            self.limit.close()
        for asked in () if interrupted else self._open.values():
            asked.set_user_attr("reason", "never started")
            self._study.tell(asked, state=TrialState.FAIL)
        self._open.clear()
