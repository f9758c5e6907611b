"""Searches whose trials train in stacks leave what other searches leave, whatever dies on the way."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from broken import (
    Alone,
    entries,
    kill,
    lives,
    require_nothing_lost,
    require_points,
    wait_until,
    when,
)
from finished import TRIAL_FACTS, Finished, call, run_search
from tiny import make_tiny

from search.storage.event_log import read_entries
from search.storage.search_dir import SearchDir

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_here")]

EPOCHS = 4
RANDOM = ("--sampler", "random", "--scheduler", "none", "--presets", "none", "--epochs", str(EPOCHS))
ONE_STACK = ("--stack", "3", "--cpus-per-trial", "2", "--max-concurrent", "3")


@pytest.fixture(scope="module")
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A search of six trials, each in its own process."""
    request.getfixturevalue("ray_here")
    flags = (*RANDOM, "--trials", "6", "--free", "optional")
    return run_search(make_tiny(), tmp_path_factory.mktemp("alone"), "alone", *flags)


@pytest.fixture
def stacked(tmp_path: Path) -> Callable[..., Finished]:
    """``stacked(*flags, epoch_s=...)``: a search of the same six trials in one stack, or as the flags say."""

    def run(*flags: str, epoch_s: float = 0.0, **presets: dict[str, Any]) -> Finished:
        budget = ("--trials", "6", "--set", f"epoch_seconds={epoch_s}")
        return run_search(make_tiny(**presets), tmp_path, tmp_path.name, *RANDOM, *budget, *ONE_STACK, *flags)

    return run


def journal_in(folder: Path) -> Path:
    return SearchDir(folder, folder.name).event_log


def pids(journal: Path) -> list[int]:
    """Processes that trained the epochs of a search."""
    return [int(entry.content["metrics"]["pid"]) for entry in read_entries(journal) if entry.event == "epoch_ended"]


def waits(process: psutil.Process) -> bool:
    return lives(process) and ".train" in " ".join(process.cmdline())


def events(done: Finished) -> Counter[tuple[str, Any]]:
    """What was logged of each trial, and how often; staged files have no names of their own."""
    return Counter(
        (entry.event, entry.content.get("number"), entry.content.get("epoch"))
        for entry in read_entries(done.folder / "search.journal")
        if entry.content.get("number") is not None
    )


def shown(done: Finished) -> dict[str, dict[str, Any]]:
    """Rows of the leaderboard without what no formula gives."""
    return {
        label: {name: value for name, value in row.items() if name not in ("minutes", "seconds", "run_id", "trial_id")}
        for label, row in done.rows.items()
    }


def test_a_stacked_search_leaves_what_an_unstacked_one_leaves(alone: Finished, tmp_path: Path) -> None:
    """Two stacks, of several shapes, and trials that no stack takes."""
    flags = (*RANDOM, "--trials", "6", "--free", "optional", "--stack", "4")
    done = run_search(make_tiny(), tmp_path, "stacked", *flags)
    assert (done.code, alone.code) == (0, 0), done.text
    assert "6 trials at a time in 2 stacks, each 1 CPU and no GPU" in done.text
    assert re.search(r"^stack +\d+ % of all slots were busy, 24 epochs$", done.text, re.MULTILINE)
    assert len(set(pids(done.folder / "search.journal"))) == 2
    require_nothing_lost(done, trials=6, epochs=EPOCHS)
    require_points(done, alone)
    assert events(done) == events(alone)
    assert shown(done).keys() == shown(alone).keys()
    assert [row["rank"] for row in shown(done).values()] == [row["rank"] for row in shown(alone).values()]
    for label, run in alone.children.items():
        other = done.children[label]
        assert other.data.params == run.data.params
        assert other.data.metrics.keys() == run.data.metrics.keys()
        same = run.data.metrics.keys() - TRIAL_FACTS - {"pid"}
        assert {name: other.data.metrics[name] for name in same} == {name: run.data.metrics[name] for name in same}
        assert set(done.files(other)) == set(alone.files(run))
    kept = {file.name for file in done.folder.glob("*/checkpoint_*/*")}
    assert kept == {file.name for file in alone.folder.glob("*/checkpoint_*/*")}


def test_asha_stops_trials_whose_slots_others_take(stacked: Callable[..., Finished]) -> None:
    done = stacked("--scheduler", "asha", "--trials", "9")
    assert done.code == 0, done.text
    outcomes = Counter(row["outcome"] for row in done.board["rows"] if row["number"] is not None)
    assert outcomes.total() == 9
    assert outcomes.keys() == {"complete", "stopped_early"}
    assert len(set(pids(done.folder / "search.journal"))) == 1


def test_a_server_that_is_killed_costs_its_trials_nothing_but_an_epoch(
    stacked: Callable[..., Finished], tmp_path: Path
) -> None:
    journal = journal_in(tmp_path)
    with when(journal, 12, lambda: psutil.Process(pids(journal)[-1]).kill()):
        done = stacked("--retries", "2", epoch_s=0.2)
    assert done.code == 0, done.text
    assert len(set(pids(journal))) == 2
    require_nothing_lost(done, trials=6, epochs=EPOCHS)
    assert {"2", "1"} >= {run.data.tags["attempts"] for run in done.children.values()} > {"1"}


def test_a_proxy_that_is_killed_costs_its_trial_alone_an_epoch(
    stacked: Callable[..., Finished], tmp_path: Path
) -> None:
    def kill_proxy() -> None:
        """One that waits for its epoch: Ray shows in a process's title what it does."""
        family = psutil.Process(os.getpid()).children(recursive=True)
        waiting: list[psutil.Process] = []
        wait_until(lambda: waiting.extend(filter(waits, family)) or waiting, "a trial waits for its epoch")
        waiting[0].kill()

    with when(journal_in(tmp_path), 12, kill_proxy):
        done = stacked("--retries", "2", epoch_s=0.2)
    assert done.code == 0, done.text
    assert len(set(pids(journal_in(tmp_path)))) == 1
    require_nothing_lost(done, trials=6, epochs=EPOCHS)
    assert Counter(run.data.tags["attempts"] for run in done.children.values()) == {"1": 5, "2": 1}


def test_a_trial_that_is_poisoned_diverges_alone(stacked: Callable[..., Finished]) -> None:
    done = stacked("--presets", "all", "--trials", "3", bad={"x": 0.2, "y": 0.0, "nan_epoch": 3})
    assert done.code == 0, done.text
    assert done.rows["bad"]["outcome"] == "diverged"
    assert {row["outcome"] for label, row in done.rows.items() if label.startswith("trial-")} == {"complete"}
    assert len(set(pids(done.folder / "search.journal"))) == 1


def test_a_driver_that_is_killed_goes_on_with_stacks_and_without(tmp_path: Path) -> None:
    """The checkpoint of a stacked trial resumes alone, and the other way round."""
    search = Alone(tmp_path, "killed", trials=6, epochs=EPOCHS)
    for flags in (("--stack", "3"), ()):
        life = search.start("--resume", "auto", "--max-concurrent", "3", *flags, epoch_s=0.4)
        search.lines(life, entries(search.journal) + 9)
        assert kill(life) == []
    done = search.end(search.start("--resume", "auto", "--max-concurrent", "3", "--stack", "3"))
    assert done.code == 0, done.text
    require_nothing_lost(done, trials=6, epochs=EPOCHS)


@pytest.mark.parametrize("flags", [("zdc", "--stack", "8"), ("tiny", "--stack", "8", "--scheduler", "pbt")])
def test_a_stack_that_cannot_be_is_refused_before_anything_begins(flags: tuple[str, ...], tmp_path: Path) -> None:
    code, text = call(make_tiny(), *flags, "--storage", str(tmp_path))
    assert code == 2
    assert "--stack 8: " in text
    assert list(tmp_path.iterdir()) == []
