"""Laws of the race at the end of a search: a lucky seed does not win it, and none of it is a trial."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from broken import Alone, kill, wait_until
from finished import Finished, call, run_search
from noisy import make_noisy
from specs import spec_of

from search.config.settings import Budget, Method
from search.engine.race import plan_race
from search.promotion.retrain import FIRST_SEED
from search.reporting.standings import RaceResult, judge_race
from search.storage.event_log import read_entries
from search.storage.search_dir import SearchDir
from search.storage.trial_record import TrialRecord
from search.tuning.race_plan import FIRST_NUMBER, Race, Repeat, affordable, rounds_of
from trainables.base.objectives import Constraint, Goal

LOSS = Goal({"loss": "min"})


def trial(number: int, loss: float, **more: Any) -> TrialRecord:
    usual: dict[str, Any] = {
        "preset": None, "hyperparameters": {"x": number, "seed": number}, "epochs": 4, "epoch": 4, "started": 0.0,
        "outcome": "complete", "seconds": 10.0, "metrics": {"loss": loss},
    }  # fmt: skip
    return TrialRecord(trial_id=f"id{number}", number=number, **usual | more)


def run_race(race: Race, trials: list[TrialRecord], measure: Callable[[Repeat], dict[str, float]]) -> RaceResult:
    """Run a race in which each training has these metrics."""
    records = {one.number: one for one in trials}
    while repeats := race.next_repeats(records):
        for one in repeats:
            found = {"metrics": measure(one), "repeats": one.trial.number, "name": one.label}
            records[one.number] = replace(one.trial, number=one.number, preset=None, **found)
    result = judge_race(race.goal, records.values())
    assert result is not None
    return result


def seeds_of(result: RaceResult) -> dict[int, int]:
    return {number: standing.seeds for number, standing in result.standings.items() if standing.seeds}


# ---------------------------------------------------------------- the plan


@pytest.mark.parametrize(
    ("trainings", "rounds"),
    [
        (1, []),
        (2, [(2, 1)]),
        (3, [(2, 1)]),
        (5, [(3, 1), (2, 1)]),
        (9, [(3, 1), (2, 3)]),
        (10, [(5, 1), (3, 1), (2, 1)]),
        (31, [(5, 3), (3, 3), (2, 3)]),
    ],
)
def test_trainings_are_shared_out_by_halving(trainings: int, rounds: list[tuple[int, int]]) -> None:
    found = [(one.contenders, one.seeds) for one in rounds_of(trainings)]
    assert found == rounds
    assert sum(contenders * seeds for contenders, seeds in found) <= trainings


def test_auto_is_a_tenth_of_the_compute_and_two_contenders_below_fifty_trials() -> None:
    trials = [trial(number, float(number)) for number in range(100)]
    assert affordable(trials, LOSS, sampled=100) == 10
    assert affordable(trials, LOSS, sampled=49) == 2
    assert affordable(trials[:15], LOSS, sampled=15) == 2
    slow_start = [replace(trials[0], seconds=500.0), *trials[1:14]]
    assert affordable(slow_start, LOSS, sampled=14) == 0  # a demo: no race, however long its first trial took
    stopped = [replace(one, outcome="stopped_early", seconds=2.5) for one in trials[20:]]
    assert affordable([*trials[:20], *stopped], LOSS, sampled=100) == 4  # 40 trainings' worth
    dear = [replace(one, seconds=20.0) for one in trials[:5]]
    assert affordable([*dear, *trials[5:]], LOSS, sampled=100) == 5


def test_a_search_without_a_race_says_how_to_get_one() -> None:
    spec = spec_of(make_noisy(), budget=Budget(trials="2"))
    race, reason = plan_race(spec, [trial(0, 1.0), trial(1, 2.0)])
    assert race is None
    assert "--resume --race 10" in reason
    off = spec_of(make_noisy(), budget=Budget(trials="2", race="0"))
    assert plan_race(off, [trial(0, 1.0), trial(1, 2.0)]) == (None, "")


def test_of_several_objectives_there_is_no_race_and_it_is_said() -> None:
    both = Method(objective="loss,size")
    race, reason = plan_race(spec_of(make_noisy(), method=both), [trial(0, 1.0), trial(1, 2.0)])
    assert race is None
    assert "of several objectives no one trial is the best" in reason
    code, text = call(make_noisy(), "tiny", "--objective", "loss,size", "--race", "4")
    assert code == 2
    assert "of several objectives" in text


def test_wrong_numbers_are_refused() -> None:
    code, text = call(make_noisy(), "tiny", "--race", "1")
    assert code == 2
    assert "from 2 on" in " ".join(text.split())


def test_each_training_has_a_number_and_a_seed_of_its_own() -> None:
    """Below those of promotions and of trials none is taken twice, whatever the search's own seed is."""
    repeats = [Repeat(trial(number, 0.0), seed) for number in (0, 1, 999) for seed in (1, 2, 999)]
    assert len({one.number for one in repeats}) == len(repeats)
    assert min(one.number for one in repeats) >= FIRST_NUMBER > FIRST_SEED + 1_000
    config = repeats[4].config(first_seed=7)
    assert config["hyperparameters"] == {"x": 1, "seed": 7 + config["number"]}
    assert (config["repeats"], config["name"], config["preset"]) == (1, "trial-001.seed2", None)


# ---------------------------------------------------------------- who wins


def test_a_lucky_seed_does_not_win() -> None:
    """The best value of a search was luck; its new seeds show it, and the reference stays to the end."""
    random = np.random.default_rng(0)
    truth = {0: 1.0, 1: 0.5, 2: 0.7, 3: 0.8, 4: 0.9, 5: 1.2, 6: 2.0}
    trials = [trial(number, truth[number] - 0.6 * (number == 0)) for number in truth]  # the first looks best: 0.4
    trials[6].preset = "reference"
    result = run_race(
        Race(LOSS, 10, "reference"), trials, lambda one: {"loss": truth[one.trial.number] + 0.05 * random.normal()}
    )
    assert result.summary.winner == "trial-001"
    assert next(iter(result.standings)) == 1
    assert seeds_of(result) == {1: 3, 2: 2, 3: 1, 0: 1, 6: 3}
    assert result.standings[1].chance > 0.9
    assert result.standings[0].chance < 0.05
    assert result.standings[1].mean == pytest.approx(0.5, abs=0.1)
    assert result.standings[1].error == pytest.approx(result.summary.noise / 3**0.5)


def test_reported_values_are_as_good_as_they_say() -> None:
    """Over many searches in which noise is half of the spread: the lucky best, and the winner of the race."""
    random, lucky, raced, chances, best = np.random.default_rng(1), [], [], [], []
    for _ in range(60):
        truth = random.normal(size=60)
        trials = [trial(number, one + 0.5 * random.normal()) for number, one in enumerate(truth)]
        result = run_race(
            Race(LOSS, 10), trials, lambda one, t=truth: {"loss": t[one.trial.number] + 0.5 * random.normal()}
        )
        winner = next(iter(result.standings))
        first = min(trials, key=lambda one: one.metrics["loss"])
        lucky.append((first.metrics["loss"] - truth[first.number], truth[first.number]))
        raced.append((result.standings[winner].estimate - truth[winner], truth[winner]))
        chances.append(result.standings[winner].chance)
        best.append(truth[winner] == truth.min())
    optimism_before, value_before = np.mean(lucky, axis=0)
    optimism, value = np.mean(raced, axis=0)
    assert optimism_before < -0.4
    assert abs(optimism) < abs(optimism_before) / 3
    assert value < value_before
    assert np.mean(chances) == pytest.approx(np.mean(best), abs=0.2)


def test_trials_that_differ_by_chance_alone_are_not_separable() -> None:
    random = np.random.default_rng(2)
    trials = [trial(number, random.normal()) for number in range(40)]
    result = run_race(Race(LOSS, 10), trials, lambda _: {"loss": random.normal()})
    assert len(result.summary.inseparable) > 10
    chances = [result.standings[int(name[-3:])].chance for name in result.summary.inseparable]
    assert chances == sorted(chances, reverse=True)
    assert next(iter(result.standings.values())).chance + sum(chances) >= 0.95
    named = {int(name[-3:]) for name in (result.summary.winner, *result.summary.inseparable)}
    assert {number for number, one in result.standings.items() if one.chance > 0.05} <= named


@pytest.mark.parametrize(("least", "winner"), [(0.0, 0), (0.2, 2)])
def test_a_tie_goes_to_the_cheaper_and_then_to_the_preset(least: float, winner: int) -> None:
    trials = [trial(0, 1.0), trial(1, 1.1, seconds=5.0), trial(2, 1.15, seconds=5.2, preset="known"), trial(3, 5.0)]
    race = Race(LOSS, 10, "known")
    records = {one.number: one for one in trials}
    for one in [Repeat(trial, seed) for trial in trials[:3] for seed in (1, 2)]:
        value = one.trial.metrics["loss"] + 1e-3 * (one.seed - 1.5)
        records[one.number] = replace(
            one.trial, number=one.number, preset=None, repeats=one.trial.number, name=one.label, metrics={"loss": value}
        )
    result = judge_race(race.goal, records.values(), least)
    assert result is not None
    assert next(iter(result.standings)) == winner


def test_constraints_go_before_the_objective() -> None:
    """The best loss breaks the limit with new seeds, so that a worse one that keeps it wins."""
    goal, random = Goal({"loss": "min"}, (Constraint("bias", 0.1),)), np.random.default_rng(3)
    truth = {0: (0.1, 0.2), 1: (0.5, 0.05), 2: (0.6, 0.02), 3: (0.7, 0.01), 4: (0.9, 0.01)}

    def measure(number: int) -> dict[str, float]:
        loss, bias = truth[number]
        return {"loss": loss + 0.01 * random.normal(), "bias": bias + 0.002 * random.normal()}

    trials = [trial(number, 0.0, metrics=measure(number)) for number in truth]
    trials[0].metrics["bias"] = 0.09  # luck
    result = run_race(Race(goal, 10), trials, lambda one: measure(one.trial.number))
    assert result.summary.winner == "trial-001"
    assert result.standings[0].chance < 0.05


def test_what_is_maximised_has_its_greatest_first() -> None:
    random = np.random.default_rng(4)
    trials = [trial(number, 0.0, metrics={"auc": 0.9 - 0.1 * number}) for number in range(5)]
    result = run_race(
        Race(Goal({"auc": "max"}), 10), trials,
        lambda one: {"auc": 0.9 - 0.1 * one.trial.number + 0.01 * random.normal()},
    )  # fmt: skip
    assert list(result.standings) == [0, 1, 2, 3, 4]
    assert result.standings[0].estimate == pytest.approx(0.9, abs=0.03)


def test_a_contender_that_fails_with_a_new_seed_is_out() -> None:
    trials = [trial(number, float(number)) for number in range(4)]
    race, records = Race(LOSS, 10), {one.number: one for one in trials}
    while repeats := race.next_repeats(records):
        for one in repeats:
            fails = one.trial.number == 0 and one.seed == 1
            records[one.number] = replace(
                one.trial, number=one.number, repeats=one.trial.number, name=one.label,
                outcome="diverged" if fails else "complete",
            )  # fmt: skip
    trained = Counter(one.repeats for one in records.values() if one.repeats is not None)
    assert trained[0] == 1
    result = judge_race(LOSS, records.values())
    assert result is not None
    assert result.summary.winner == "trial-001"


# ---------------------------------------------------------------- a real one

SAMPLED, EPOCHS = 6, 3
PRESETS: dict[str, dict[str, Any]] = {
    "lucky": {"x": -0.2, "luck": 0.25},
    "good": {"x": 0.28, "y": 0.0},
    "fair": {"x": -0.05},
    "poor": {"x": -0.5},
}
FLAGS = ("--trials", str(SAMPLED), "--epochs", str(EPOCHS), "--scheduler", "none", "--sampler", "random")


def count_seeds(reports: Mapping[str, Sequence[Path]], folder: Path) -> None:
    """Stand for figures: their names say of what they are."""
    for label, one in reports.items():
        (folder / f"{label} {len(set(one))} reports {all(report.is_dir() for report in one)}.png").write_bytes(b"PNG")


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Finished:  # noqa: ARG001 - it runs
    import noisy
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(noisy)
    workload = replace(make_noisy(**PRESETS), compare_seeds=count_seeds)
    return run_search(workload, tmp_path_factory.mktemp("race"), "raced", *FLAGS, "--race", "10")


def repeats_of(done: Finished) -> list[TrialRecord]:
    return [one for one in SearchDir(done.storage, done.name).history.records() if one.repeats is not None]


@pytest.mark.slow
def test_the_race_ends_with_the_better_one_and_the_board_says_so(raced: Finished) -> None:
    board, rows = raced.board, raced.rows
    assert board["race"]["winner"] == "good"
    assert (rows["good"]["rank"], rows["good"]["race"]["seeds"]) == (1, 3)
    assert rows["lucky"]["race"]["values"] == [one.metrics["loss"] for one in repeats_of(raced) if one.repeats == 0]
    assert "race     good: loss" in raced.text
    assert "10 trainings of the race done" in raced.text
    (line,) = (line for line in raced.table() if line["trial"] == "good")
    assert float(line["race_mean"]) == pytest.approx(rows["good"]["race"]["mean"])
    assert line["race_seeds"] == "3"


@pytest.mark.slow
def test_no_training_of_it_is_a_trial(raced: Finished) -> None:
    trials = len(PRESETS) + SAMPLED
    assert raced.board["outcomes"] == {"complete": trials}
    assert len(raced.study.get_trials()) == trials
    assert len([row for row in raced.board["rows"] if row["number"] is not None]) == trials
    assert f"{trials} of {trials} trials done" in raced.text
    kinds = Counter(run.data.tags["kind"] for run in raced.runs)
    assert kinds == {"search": 1, "trial": trials, "race": 10}


@pytest.mark.slow
def test_the_page_and_mlflow_show_it(raced: Finished) -> None:
    page = (raced.folder / "report.html").read_text()
    assert 'id="race"' in page
    assert "mean of new seeds, 95 %" in page
    assert "good 3 reports True" in page
    assert "Means over new seeds" in page
    won = raced.rows["good"]["race"]
    assert raced.parent.data.metrics["race_mean"] == pytest.approx(won["mean"])
    assert raced.parent.data.metrics["race_seeds"] == won["seeds"]


@pytest.mark.slow
def test_each_training_is_a_run_of_its_own_and_keeps_its_checkpoint(raced: Finished) -> None:
    repeats = repeats_of(raced)
    assert len(repeats) == 10
    for one in repeats:
        run = raced.children[one.label]
        assert run.data.tags["race_of"] == one.label.partition(".")[0]
        assert run.info.status == "FINISHED"
        assert run.data.params["seed"] == str(one.number)
        assert [step for step, _ in raced.curve(one.label, "loss")] == list(range(1, EPOCHS + 1))
        assert one.checkpoint is not None
        assert one.checkpoint.holds("best.pt")


@pytest.mark.slow
def test_a_finished_search_goes_on_with_a_longer_race_and_repeats_nothing(raced: Finished) -> None:
    before = {one.label: one.seconds for one in repeats_of(raced)}
    where = ("--storage", str(raced.storage), "--name", raced.name)
    code, text = call(make_noisy(**PRESETS), "tiny", *where, *FLAGS, "--resume")
    assert code == 0
    assert "all its trials have ended" in text
    code, text = call(make_noisy(**PRESETS), "tiny", *where, *FLAGS, "--resume", "--race", "12")
    assert code == 0, text
    after = {one.label: one.seconds for one in repeats_of(raced)}
    assert len(after) == 12
    assert {label: after[label] for label in before} == before
    assert json.loads((raced.folder / "leaderboard.json").read_text())["rows"][0]["race"]["seeds"] == 4


@pytest.mark.slow
def test_a_search_that_is_killed_in_a_race_goes_on_with_it(tmp_path: Path) -> None:
    alone, flags = Alone(tmp_path, "killed", trials=5, epochs=4), ("--resume", "auto", "--race", "5")
    life = alone.start(*flags, epoch_s=0.4)

    def second_epoch_of_second_training() -> bool:
        assert life.poll() is None, alone.text
        raced = [one.content for one in read_entries(alone.journal) if (one.content.get("number") or 0) >= FIRST_NUMBER]
        return any(one.get("epoch") == 2 for one in raced if one["number"] != raced[0]["number"])

    wait_until(second_epoch_of_second_training, "a second training of the race")
    kill(life)
    done = alone.end(alone.start(*flags))
    assert done.code == 0, done.text
    repeats = repeats_of(done)
    assert Counter(one.outcome for one in repeats) == {"complete": 5}
    assert len({one.number for one in repeats}) == 5
    assert any("resumes after epoch" in line and ".seed1" in line for line in done.text.splitlines())
    assert len(done.study.get_trials()) == 5
    assert all(one.state == optuna.trial.TrialState.COMPLETE for one in done.study.get_trials())
    for one in repeats:
        assert [step for step, _ in done.curve(one.label, "loss")] == [1, 2, 3, 4]
    assert Counter(run.data.tags["kind"] for run in done.runs) == {"search": 1, "trial": 5, "race": 5}
