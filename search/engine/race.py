"""Run the race at the end of a search, where there is one, or say why there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from search.config.spec import SearchSpec
from search.engine.context import PreparedSearch, SearchContext
from search.errors import UsageError
from search.storage.trial_record import TrialRecord, study_trials
from search.tuning.race_plan import Race, affordable
from search.tuning.race_searcher import RaceSearcher
from search.tuning.recorder import Recorder
from search.tuning.resources import Share
from search.tuning.tuner import TuneHooks, make_tuner


def settle_race(spec: SearchSpec, method: Mapping[str, Any]) -> SearchSpec:
    """Return the specification of a resumed search with the race that it was begun with, unless a flag names one.

    Parameters
    ----------
    method : mapping of str to object
        As the search's directory has it; a search that an earlier version began has no race.
    """
    if spec.budget.race != "auto":
        return spec
    return replace(spec, budget=spec.budget.model_copy(update={"race": method.get("race", "0")}))


def refuse_race(spec: SearchSpec) -> None:
    """Refuse a race that was asked for and cannot be; raises UsageError with the reason."""
    if spec.budget.race not in ("0", "auto") and (obstacle := _obstacle(spec)):
        raise UsageError(f"--race {spec.budget.race}: {obstacle}. Leave it out.")


def plan_race(spec: SearchSpec, records: Iterable[TrialRecord]) -> tuple[Race | None, str]:
    """Return the race of a search whose trials have ended; or None and the reason, where there is any to tell."""
    trials = study_trials(records)
    asked = spec.budget.race
    if asked == "0" or (obstacle := _obstacle(spec)):
        return None, "" if asked == "0" else obstacle
    trainings = affordable(trials, spec.goal, spec.trials) if asked == "auto" else int(asked)
    race = Race(spec.goal, trainings, _reference(spec, trials))
    if not race.rounds:
        return None, (
            "two trainings would cost more than about a tenth of this search; the same command with "
            f"--name {spec.name} --resume --race 10 trains the best trials and a preset again, with new seeds"
        )
    return (race, "") if race.contenders(trials) else (None, "it takes two complete trials")


def is_left(spec: SearchSpec, records: Iterable[TrialRecord]) -> bool:
    """Whether a race was asked for in numbers, and not all of it has been run."""
    records = list(records)
    race, _ = plan_race(spec, records) if spec.budget.race not in ("0", "auto") else (None, "")
    return race is not None and bool(race.next_repeats({record.number: record for record in records}))


def run_race(
    spec: SearchSpec, prepared: PreparedSearch, share: Share, context: SearchContext, recorder: Recorder
) -> None:
    """Run what is left of the race, once all trials have ended."""
    say, controller = context.reporter.print_line, context.stop_controller
    race, reason = plan_race(spec, recorder.records.values())
    if race is None:
        if reason:
            say(f"race     off: {reason}")
        return
    if not race.next_repeats(recorder.records):
        return
    if controller.reason:
        if not context.interrupted:
            say(f"race     not run ({controller.reason}): --name {spec.name} --resume --race {race.trainings} runs it")
        return
    names = [trial.label for trial in race.contenders(recorder.records.values())]
    say(f"race     {_in_words(race, names)}")
    searcher = RaceSearcher(race, recorder.records, spec.seed)
    hooks = TuneHooks(searcher, recorder, controller, context.stacks)
    make_tuner(replace(spec, scheduler="none"), prepared.data, share, context.directory.storage_path, hooks).fit()


def _in_words(race: Race, names: list[str]) -> str:
    sizes = " -> ".join(str(min(one.contenders, len(names))) for one in race.rounds)
    beside = f", the last of them as the reference: {sizes}" if race.reference in names else f": {sizes}"
    return f"{', '.join(names)} train again with new seeds{beside} in rounds, at most {race.trainings} trainings"


def _obstacle(spec: SearchSpec) -> str:
    if spec.goal.several:
        return "of several objectives no one trial is the best; search.promote compares the first of the front"
    if spec.scheduler == "pbt":
        return "population based training changes hyperparameters on the way, so that no trial can be trained again"
    return ""


def _reference(spec: SearchSpec, trials: Iterable[TrialRecord]) -> str:
    """Return the label of the preset that models are compared with: of promotions, or else the best one."""
    complete = [trial for trial in trials if trial.outcome == "complete" and trial.preset]
    named = spec.workload.promoted_by.preset if spec.workload.promoted_by else ""
    if named in {trial.label for trial in complete}:
        return named
    best = min(complete, key=lambda trial: spec.goal.order(trial.metrics), default=None)
    return best.label if best else ""
