"""Run the checks of the contract in their order; one that fails hides those that build on it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches

from search.diagnostics.contract import blame, data, hyperparameters, presets, sizing, space, state, training, trial
from search.diagnostics.contract.law import Check, LawBroken, NotGiven, Outcome
from search.diagnostics.contract.points import optuna_quiet
from search.diagnostics.contract.subject import Subject, process_left_as_it_was
from search.errors import SearchError, UsageError

CHECKS: tuple[Check, ...] = (
    space.sampled_points_build_a_configuration,
    space.a_misspelt_hyperparameter_is_refused,
    space.what_is_optional_or_mutable_is_searched,
    presets.a_preset_is_a_point_of_the_space,
    presets.presets_differ_and_exist,
    data.the_data_describe_themselves,
    data.the_fingerprint_is_that_of_the_data,
    data.all_can_be_sent_to_another_process,
    data.an_absent_file_is_a_data_error,
    data.naive_predictors_are_scored_like_trials,
    training.a_run_trains_and_validates,
    training.each_epoch_is_counted,
    training.a_run_ends_with_its_last_epoch,
    training.metrics_are_numbers,
    training.metrics_are_finite,
    training.what_is_declared_is_reported,
    training.the_seed_decides_all,
    training.another_seed_is_another_run,
    training.validating_changes_nothing,
    state.a_state_can_be_stored,
    state.a_state_is_a_copy,
    state.weights_are_copies_on_the_cpu,
    state.a_state_is_taken_over,
    trial.a_resumed_trial_goes_on_bit_for_bit,
    trial.a_reused_process_keeps_nothing_of_the_last_trial,
    trial.the_last_checkpoint_holds_the_best_weights,
    trial.a_report_can_be_written,
    trial.trials_can_be_compared,
    hyperparameters.what_is_searched_acts,
    hyperparameters.what_is_mutable_acts_within_a_run,
    sizing.the_largest_trial_is_the_largest,
    sizing.what_takes_memory_changes_in_no_run,
    sizing.a_larger_trial_takes_more,
)
_BY_NAME = {check.name: check for check in CHECKS}


def run_checks(subject: Subject, only: Sequence[str] = ()) -> Iterator[Check | Outcome]:
    """Run the checks; yields each when it begins, and then what came of it.

    Raises
    ------
    UsageError
        ``only`` names a check that does not exist, or the files cannot be read.
    """
    wanted = _with_those_before(only) if only else set(_BY_NAME)
    roots: dict[str, str] = {}  # check that failed or was skipped for it -> the one that failed
    for check in CHECKS:
        if check.name not in wanted:
            continue
        if root := next((roots[name] for name in check.after if name in roots), None):
            roots[check.name] = root
            yield Outcome(check, "skipped", f"it needs {root}, which failed")
            continue
        yield check
        outcome = examine(check, subject)
        if outcome.result == "failed":
            roots[check.name] = check.name
        yield outcome


def _with_those_before(names: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for name in names:
        if name not in _BY_NAME:
            near = get_close_matches(name, list(_BY_NAME), n=1)
            hint = f" Did you mean {near[0]}?" if near else f" There are: {', '.join(_BY_NAME)}."
            raise UsageError(f"--only {name}: there is no check of that name.{hint}")
        found |= {name} | _with_those_before(_BY_NAME[name].after)
    return found


def examine(check: Check, subject: Subject) -> Outcome:
    """Run one check. Whatever the user's code raises is a failure that names the line in it."""
    outcome = Outcome(check, "failed", cause=check.cause, remedy=check.remedy)
    try:
        with optuna_quiet(), process_left_as_it_was():
            check.examine(subject)
    except NotGiven as reason:
        return Outcome(check, "skipped", str(reason))
    except LawBroken as broken:
        cause, remedy = broken.cause or check.cause, broken.remedy or check.remedy
        return replace(outcome, found=broken.found, cause=cause, remedy=remedy, details=traceback.format_exc())
    except SearchError:
        raise
    except (Exception, SystemExit) as error:
        return replace(
            outcome,
            found=blame.describe(error, subject.workload),
            cause="an error in the workload's own code",
            remedy="correct that line; --verbose shows the whole traceback",
            details=traceback.format_exc(),
        )
    return Outcome(check, "passed")
