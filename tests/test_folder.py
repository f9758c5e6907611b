"""Laws of a search's folder: claimed once, and what it keeps for a resume comes back unchanged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from tiny import TinyData, make_tiny

from search.errors import NameTakenError, UsageError
from search.folder import SearchFolder
from search.plan import Plan, make_plan
from search.records import TrialRecord
from search.settings import Budget, Method, Site


def plan_of(epochs: int = 4, **method: Any) -> Plan:
    workload = make_tiny(known={"x": 0.3, "y": 0.0}, other={"x": 0.1, "y": 0.0})
    return make_plan(workload, Budget(epochs=epochs), Method(**method), Site(name="mine"), demo=True)


def record(number: int, **more: Any) -> TrialRecord:
    return TrialRecord(
        trial_id=f"id{number}", number=number, preset=None, hyperparameters={"x": 0.5, "deep": True, "shape": "a"},
        epochs=4, started=1.5, **more,
    )  # fmt: skip


def test_a_folder_is_claimed_by_one(tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path, "mine")
    folder.check(resume=False)
    folder.claim()
    with pytest.raises(NameTakenError, match="'mine' exists already"):
        SearchFolder(tmp_path, "mine").claim()
    with pytest.raises(NameTakenError, match="--resume"):
        SearchFolder(tmp_path, "mine").check(resume=False)


def test_what_was_never_begun_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no interrupted search named 'mine'"):
        SearchFolder(tmp_path, "mine").check(resume=True)


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path, "mine")
    folder.claim()
    kept = [
        record(0, outcome="complete", epoch=4, metrics={"loss": 0.5}, best={"epoch": 2, "value": 0.25}, ended=9.5),
        record(1, outcome="interrupted", epoch=2, checkpoint=tune.Checkpoint(str(tmp_path)), attempts=2),
        record(2, outcome="diverged", reason="not_finite in epoch 1: loss = nan"),
    ]
    folder.save(kept)
    folder.check(resume=True)
    found = SearchFolder(tmp_path, "mine").records()
    assert [replace(one, checkpoint=None) for one in found] == [replace(one, checkpoint=None) for one in kept]
    assert found[1].checkpoint is not None
    assert found[1].checkpoint.path == str(tmp_path)
    assert sorted(path.name for path in folder.path.iterdir()) == ["trials.json"]  # no draft is left


def test_the_same_search_finds_its_run(tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path, "mine")
    folder.claim()
    folder.describe(plan_of(), TinyData("data-1"), "the-run")
    assert folder.run_id(plan_of(), TinyData("data-1")) == "the-run"


@pytest.mark.parametrize(
    ("plan", "data", "told"),
    [
        (plan_of(), "data-2", "data"),
        (plan_of(epochs=5), "data-1", "epochs"),
        (plan_of(set=("x=0.5",)), "data-1", "searched"),
        (plan_of(also=("optional",)), "data-1", "searched"),
        (plan_of(presets="known"), "data-1", "presets"),
    ],
)
def test_another_search_is_refused_with_the_difference(tmp_path: Path, plan: Plan, data: str, told: str) -> None:
    folder = SearchFolder(tmp_path, "mine")
    folder.claim()
    folder.describe(plan_of(), TinyData("data-1"), "the-run")
    with pytest.raises(UsageError, match=f"--resume: .*{told}"):
        folder.run_id(plan, TinyData(data))


def test_another_version_of_the_objective_is_another_search(tmp_path: Path) -> None:
    """Values of different versions are never compared silently."""
    folder = SearchFolder(tmp_path, "mine")
    folder.claim()
    folder.describe(plan_of(), TinyData(), "the-run")
    with pytest.raises(UsageError, match=r"objective version .* was 'tiny-1' and is now 'tiny-2'"):
        folder.run_id(plan_of(), TinyData(objective_version="tiny-2"))
