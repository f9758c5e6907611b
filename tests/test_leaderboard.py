"""Laws of the leaderboard: complete trials by the value of their last epoch, naive predictors among them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import fields

import pytest
from rich.console import Console

from search.reporting.leaderboard import Leaderboard, LeaderboardSpec, Row
from search.reporting.ranking import make_leaderboard
from search.reporting.verdicts import against_naive
from search.storage.trial_record import Outcome, TrialRecord
from trainables.base.objectives import Constraint, Goal, Mode


def spec_of(mode: Mode = "min") -> LeaderboardSpec:
    return LeaderboardSpec("s", "tiny", Goal({"loss": mode}), columns=("brier", "loss"), objective_version="tiny-1")


def trial(number: int, outcome: Outcome, *losses: float, reason: str = "", preset: str | None = None) -> TrialRecord:
    """A trial that had these losses, and 10 s an epoch."""
    record = TrialRecord(
        trial_id=f"id{number}", number=number, preset=preset, hyperparameters={"x": number}, epochs=4, started=0.0,
        outcome=outcome, reason=reason, epoch=len(losses), seconds=10.0 * len(losses),
    )  # fmt: skip
    if losses:
        last = losses[-1]
        companions = {"loss_floor": 0.1, "loss_error": 0.02, "loss_excess": last - 0.1}
        record.metrics = {"loss": last, **companions, "brier": last / 2, "lr": 1e-3}
        record.best = {"value": min(losses), "epoch": losses.index(min(losses)) + 1}
    return record


NAIVE: Mapping[str, Mapping[str, float]] = {"constant": {"loss": 0.5, "brier": 0.05, "loss_floor": 0.1}}
RECORDS = [
    trial(3, "stopped_early", 0.9, reason="scheduler"),
    trial(2, "complete", 0.8, 0.1, 0.3, 0.4),
    trial(1, "diverged", 0.2, reason="not_finite in epoch 2: loss = inf"),
    trial(0, "complete", 0.9, 0.8, 0.7, 0.6, preset="known"),
    trial(4, "stopped_early", 0.9, 0.9, 0.9, reason="time limit"),
    trial(5, "failed", reason="OSError: gone"),
]


def board_of(records: list[TrialRecord] = RECORDS, mode: Mode = "min") -> Leaderboard:
    return make_leaderboard(spec_of(mode), records, NAIVE)


def shown(board: Leaderboard, width: int = 200) -> str:
    text = io.StringIO()
    Console(file=text, width=width).print(board.as_table())
    return text.getvalue()


def test_complete_trials_are_ranked_by_their_last_epoch_with_the_naive_between() -> None:
    """Trial 2 was best in an epoch on the way; the least of many noisy epochs is luck."""
    board = board_of()
    assert [(row.rank, row.label, row.value) for row in board.rows] == [
        (1, "trial-002", 0.4),
        (None, "constant", 0.5),
        (2, "known", 0.6),
        (None, "trial-001", None),
        (None, "trial-003", None),
        (None, "trial-004", None),
        (None, "trial-005", None),
    ]
    assert board.best is not None
    assert (board.best.label, board.best.best_epoch, board.best.epoch) == ("trial-002", 2, 4)


def test_what_is_maximised_has_its_greatest_first() -> None:
    assert [row.label for row in board_of(mode="max").rows][:3] == ["known", "constant", "trial-002"]


def test_early_losses_never_stand_in_the_table() -> None:
    """Pitfall 3: the diverged trial had the least loss of all."""
    board = board_of()
    for row in board.rows:
        if row.outcome not in ("complete", ""):
            assert row.value is None
            assert row.extra_metrics == {}
            assert row.reason


def test_floor_error_excess_and_the_columns_accompany_the_value() -> None:
    best = board_of().best
    assert best is not None
    assert best.extra_metrics == pytest.approx({"floor": 0.1, "excess": 0.3, "error": 0.02, "brier": 0.2})


EXCESS = LeaderboardSpec("s", "zdc", Goal({"mse_excess": "min"}), columns=("brier",), objective_version="zdc-2")


def scored(number: int, mse: float, error: float = 0.02) -> TrialRecord:
    record = trial(number, "complete", mse)
    record.metrics = {"mse": mse, "mse_floor": 0.1, "mse_excess": mse - 0.1, "mse_excess_error": error, "brier": 0.3}
    return record


def test_an_excess_is_shown_with_its_score_and_floor_and_no_floor_is_compared() -> None:
    naive = {"constant": {"mse": 0.5, "mse_floor": 0.1, "mse_excess": 0.4, "mse_excess_error": 0.03, "brier": 0.2}}
    board = make_leaderboard(EXCESS, [scored(0, 0.3), scored(1, 0.2)], naive)
    assert board.best is not None
    assert board.best.extra_metrics == {"error": 0.02, "mse": 0.2, "mse_floor": 0.1, "brier": 0.3}
    assert "0.1 +- 0.02" in shown(board)
    assert board.verdicts() == [
        "constant: the best trial beats it on mse_excess (0.1 against 0.4), and beats it on mse (0.2 against 0.5), "
        "and DOES NOT BEAT it on brier (0.3 against 0.2)"
    ]


def test_the_excess_beside_a_score_has_its_error() -> None:
    spec = LeaderboardSpec("s", "zdc", Goal({"mse": "min"}), columns=("brier",), objective_version="zdc-2")
    text = shown(make_leaderboard(spec, [scored(0, 0.45)], {}))
    assert "0.35 +- 0.02" in text
    assert "floor" in text


def test_a_column_that_accompanies_the_objective_stands_there_once() -> None:
    for objective, expected in (
        ("mse", ["floor", "excess", "excess_error", "error", "brier"]),
        ("mse_excess", ["error", "mse", "mse_floor", "brier"]),
        ("brier", ["mse", "mse_excess", "mse_excess_error"]),
    ):
        columns = ("mse", "mse_excess", "mse_excess_error", "brier")
        spec = LeaderboardSpec("s", "zdc", Goal({objective: "min"}), columns, objective_version="zdc-2")
        record = scored(0, 0.45)
        record.metrics["mse_error"] = 0.02
        board = make_leaderboard(spec, [record], {})
        assert list(board.rows[0].extra_metrics) == expected
        assert "0.35 +- 0.02" in shown(board)


def test_it_says_where_the_error_hides_the_order_of_the_best() -> None:
    board = make_leaderboard(EXCESS, [scored(number, 0.2 + 0.001 * number) for number in range(4)], {})
    (line,) = board.verdicts()
    assert line.startswith("spread   mse_excess of the best 3 of 4 trials differs by 0.001, less than its statistical")
    assert make_leaderboard(EXCESS, [scored(number, 0.2 + number) for number in range(4)], {}).verdicts() == []


def test_only_stopping_by_the_scheduler_saves() -> None:
    board = board_of()
    assert board.saved_hours == pytest.approx(3 * 10 / 3600)
    assert board.compute_hours == pytest.approx(130 / 3600)
    assert board.outcomes == {"complete": 2, "diverged": 1, "stopped_early": 2, "failed": 1}


def test_a_search_in_which_nothing_completed_has_no_best_and_no_verdict() -> None:
    board = board_of([trial(0, "failed", reason="x")])
    assert board.best is None
    assert against_naive(board) == []
    assert "constant" in shown(board)
    assert make_leaderboard(spec_of(), [], {}).rows == ()


def test_json_and_csv_hold_every_row() -> None:
    board = board_of()
    again = json.loads(json.dumps(board.as_dict()))
    assert [row["label"] for row in again["rows"]] == [row.label for row in board.rows]
    assert again["objective_version"] == "tiny-1"
    table = list(csv.DictReader(io.StringIO(board.as_csv())))
    assert [row["trial"] for row in table] == [row.label for row in board.rows]
    assert table[0]["loss"] == "0.4"
    assert table[0]["rank"] == "1"
    assert table[0]["brier"] == "0.2"
    assert table[3]["loss"] == ""
    assert table[3]["reason"] == "not_finite in epoch 2: loss = inf"


OLD_LEADERBOARD = """{
 "search": "s", "workload": "tiny", "objective": "loss", "mode": "min", "objectives": {"loss": "min"}, "limits": {},
 "objective_version": "tiny-1", "rows": [{
  "rank": 1, "number": 2, "label": "trial-002", "kind": "trial", "outcome": "complete", "reason": "", "value": 0.4,
  "beside": {"error": 0.02, "brier": 0.2}, "keeps_limits": true, "front": true, "epoch": 4, "best_epoch": 2,
  "seconds": 40.0, "hyperparameters": {"x": 2}, "metrics": {"loss": 0.4, "loss_error": 0.02, "brier": 0.2}}],
 "outcomes": {"complete": 1}, "compute_hours": 0.011, "saved_hours": 0.0, "share": {"cpus": 1.0}}"""


def test_a_leaderboard_json_of_an_earlier_release_is_read_and_written_with_the_same_keys() -> None:
    """A search that resumes, its page and its promotion read the file that its first process wrote."""
    old = json.loads(OLD_LEADERBOARD)
    board = Leaderboard.from_dict(old)
    assert board.rows[0].extra_metrics == {"error": 0.02, "brier": 0.2}
    written = json.loads(json.dumps(board.as_dict()))
    assert written == old
    assert list(written) == list(old)
    assert list(written["rows"][0]) == list(old["rows"][0])
    assert len(written["rows"][0]) == len(fields(Row)) - 1  # there was no race


def test_the_table_shows_value_error_and_best_epoch() -> None:
    text = shown(board_of())
    assert "0.4 +- 0.02" in text
    assert "2 of 4" in text
    assert "trial-005" not in text  # no value


def test_a_long_table_is_cut_but_presets_and_naive_stay() -> None:
    many = [trial(number, "complete", number / 100) for number in range(40)]
    many += [trial(50, "complete", 0.45, preset="known")]
    text = shown(board_of(many))
    assert "trial-019" in text
    assert "trial-020" not in text
    assert "known" in text
    assert "constant" in text


def test_the_verdict_says_on_what_the_best_trial_beats_the_naive_and_on_what_not() -> None:
    (verdict,) = against_naive(board_of())
    assert verdict.startswith("constant: the best trial beats it on loss (0.4 against 0.5)")
    assert "DOES NOT BEAT it on brier (0.2 against 0.05)" in verdict
    assert "floor" not in verdict


def test_the_order_of_the_records_does_not_matter() -> None:
    assert board_of(RECORDS[::-1]) == board_of()


def test_a_naive_predictor_need_not_have_a_metric_that_is_constrained() -> None:
    """As a penalty of the training, which only models have; it is compared on what it has."""
    goal = Goal({"loss": "min"}, (Constraint("brier", 0.25),))
    spec = LeaderboardSpec("s", "tiny", goal, columns=("brier",), objective_version="tiny-1")
    board = make_leaderboard(spec, RECORDS, {"constant": {"loss": 0.5}})
    (naive,) = (row for row in board.rows if row.kind == "naive")
    assert (naive.value, naive.keeps_limits) == (0.5, False)
    assert against_naive(board) == ["constant: the best trial beats it on loss (0.4 against 0.5)"]
