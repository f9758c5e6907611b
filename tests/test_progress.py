"""Laws of the view: a live table in a terminal, a few plain lines elsewhere, both with the time that is left."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from specs import spec_of
from tiny import make_tiny

from search.config.settings import Budget, Site
from search.reporting.console import SafeConsole
from search.reporting.progress import Progress
from search.storage.trial_record import Outcome, TrialRecord


def view(*, terminal: bool, height: int = 40, trials: int = 5, epochs: int = 8) -> tuple[Progress, io.StringIO]:
    text = io.StringIO()
    console = SafeConsole(text, force_terminal=terminal, width=120, height=height, highlight=False)
    plan = spec_of(make_tiny(known={"x": 0.1}), budget=Budget(trials=trials, epochs=epochs), site=Site(name="mine"))
    return Progress(console, plan, concurrent=2), text


def trial(
    number: int, *, epoch: int = 0, loss: float = 0.5, outcome: Outcome | None = None, **more: Any
) -> TrialRecord:
    return TrialRecord(
        trial_id=str(number), number=number, preset=None, hyperparameters={}, epochs=8, started=time.time(),
        epoch=epoch, outcome=outcome, metrics={"loss": loss} if epoch else {},
        best={"epoch": 1, "value": loss} if epoch else {}, seconds=60.0 * epoch, **more,
    )  # fmt: skip


def live(progress: Progress, one: TrialRecord, epochs: int, outcome: Outcome, reason: str = "") -> None:
    progress.trial_started(one)
    for one.epoch in range(1, epochs + 1):
        one.metrics = {"loss": 1 / one.epoch}
        progress.epoch_ended(one)
    one.outcome, one.reason = outcome, reason
    progress.trial_ended(one)


def test_a_terminal_gets_a_live_table() -> None:
    progress, text = view(terminal=True)
    with progress:
        for number in range(3):
            live(progress, trial(number), 8, "complete")
        running = trial(3, epoch=4, loss=0.25)
        progress.trial_started(running)
        progress._live.refresh()
        drawn = text.getvalue()
    assert "mine" in drawn
    for words in ("trial-003", "running", "4/8", "best so far", "trial-002", "complete", "3 of 6 done", "min left"):
        assert words in drawn, words
    assert "epoch 4 of 8" not in drawn  # no line per epoch beside the table
    assert "\x1b[2K" in text.getvalue()  # it is wiped when the search ends


def test_other_output_gets_plain_lines_at_the_quarters() -> None:
    progress, text = view(terminal=False)
    with progress:
        live(progress, trial(2), 8, "complete")
    lines = text.getvalue().splitlines()
    assert "\x1b" not in text.getvalue()
    assert [line.split(",")[0] for line in lines[:-1]] == [
        f"trial-002: epoch {epoch} of 8" for epoch in (1, 2, 4, 6, 8)
    ]
    assert lines[-1].startswith("trial-002: complete after epoch 8, loss 0.125; 1 of 6 trials done")


@pytest.mark.parametrize("terminal", [True, False])
def test_every_end_is_told_with_its_reason(terminal: bool) -> None:
    progress, text = view(terminal=terminal)
    with progress:
        live(progress, trial(0), 0, "diverged", "not_finite in epoch 1: loss = nan")
        live(progress, trial(1), 2, "stopped_early", "scheduler")
        failed = trial(2)
        progress.trial_started(failed)
        failed.attempts = 2
        progress.trial_retried(failed)
        live(progress, failed, 0, "failed", "OSError: [red]gone[/red] [/nothing]")
    said = text.getvalue()
    assert "trial-000: diverged (not_finite in epoch 1: loss = nan) after epoch 0, no loss yet" in said
    assert "trial-001: stopped early (scheduler) after epoch 2, loss 0.5" in said
    assert "trial-002: failed, starts again from its checkpoint (attempt 2)" in said
    assert "OSError: [red]gone[/red] [/nothing]" in said  # words of others are not markup


def test_the_time_left_follows_the_pace_so_far() -> None:
    progress, _ = view(terminal=False)
    progress.trial_started(trial(0, epoch=8, outcome="complete"))
    progress.trial_started(trial(1, epoch=4))
    # 12 epochs took 12 trial-minutes; 4 + 4 * 8 = 36 are owed by two at a time
    assert progress._time_left() == ", about 18 min left"


def test_nothing_is_left_when_all_is_done_and_nothing_is_known_at_the_start() -> None:
    progress, _ = view(terminal=False, trials=0)
    assert progress._time_left() == ""
    progress.trial_started(trial(0, epoch=8, outcome="complete"))
    assert progress._time_left() == ""


def test_a_small_screen_shows_the_running_trials_and_the_best_of_the_others() -> None:
    progress, _ = view(terminal=True, height=18, trials=60)
    for number in range(30):
        progress.trial_started(trial(number, epoch=8, loss=number / 10, outcome="complete"))
    progress.trial_started(trial(99, epoch=1))
    shown = [one.label for one in progress._shown()]
    assert shown == ["trial-099", *[f"trial-{number:03d}" for number in range(7)]]


def test_trials_without_a_number_are_shown_last() -> None:
    progress, _ = view(terminal=True)
    progress.trial_started(trial(0, outcome="diverged"))
    progress.trial_started(trial(1, epoch=8, loss=3.0, outcome="complete"))
    progress.trial_started(trial(2, epoch=2, loss=0.1, outcome="stopped_early"))
    assert [one.number for one in progress._shown()] == [1, 2, 0]
