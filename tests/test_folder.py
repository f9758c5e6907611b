"""Laws of a search directory: one process at a time locks it, and what it keeps comes back unchanged."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from finished import call
from specs import spec_of
from tiny import TinyData, make_tiny

from search.config.settings import Budget, Method, Site
from search.config.spec import SearchSpec
from search.errors import NameTakenError, UsageError
from search.storage.event_log import EventLog
from search.storage.names import EVENT_LOG, STUDY
from search.storage.search_dir import SearchDir
from search.storage.trial_record import TrialRecord

FACTS = {"run_id": "the-run", "experiment_id": "1", "tags": {}, "fingerprint": "tiny-data", "source": "nothing"}


def plan_of(epochs: int = 4, **method: Any) -> SearchSpec:
    workload = make_tiny(known={"x": 0.3, "y": 0.0}, other={"x": 0.1, "y": 0.0})
    return spec_of(workload, budget=Budget(epochs=epochs), method=Method(**method), site=Site(name="mine"))


def record(number: int, **more: Any) -> TrialRecord:
    return TrialRecord(
        trial_id=f"id{number}", number=number, preset=None, hyperparameters={"x": 0.5, "deep": True, "shape": "a"},
        epochs=4, started=1.5, **more,
    )  # fmt: skip


def begun(storage: Path, data: TinyData | None = None) -> SearchDir:
    """The folder of a search that is described."""
    folder = SearchDir(storage, "mine")
    with folder.locked():
        folder.describe(plan_of(), data or TinyData(), facts=FACTS, branches=["below"])
    return folder


# ---------------------------------------------------------------- one at a time


def test_a_directory_is_locked_by_one_process(tmp_path: Path) -> None:
    with (
        SearchDir(tmp_path, "mine").locked(),
        pytest.raises(NameTakenError, match=f"process {os.getpid()} on {platform.node()}"),
        SearchDir(tmp_path, "mine").locked(),
    ):
        pass


@pytest.mark.slow
def test_a_process_that_died_locks_nothing(tmp_path: Path) -> None:
    """What it wrote down as the owner stays behind; the lock itself does not."""
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom search.storage.search_dir import SearchDir\n"
        "with SearchDir(Path(sys.argv[1]), 'mine').locked():\n    os.kill(os.getpid(), 9)"
    )
    died = subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=120, check=False)
    assert died.returncode == -9
    folder = SearchDir(tmp_path, "mine")
    assert json.loads((folder.path / "owner.json").read_text())["pid"] != os.getpid()
    with folder.locked():
        assert json.loads((folder.path / "owner.json").read_text())["pid"] == os.getpid()


def test_a_name_under_which_nothing_was_begun_is_free_again(tmp_path: Path) -> None:
    with SearchDir(tmp_path, "mine").locked():
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_search_that_was_begun_stays_and_its_name_is_taken(tmp_path: Path) -> None:
    folder = SearchDir(tmp_path, "mine")
    folder.refuse_if_taken()
    begun(tmp_path)
    with pytest.raises(NameTakenError, match=r"'mine' exists already.*--resume.*another --name"):
        folder.refuse_if_taken()


def test_the_word_for_mlflow_is_the_same_after_a_death(tmp_path: Path) -> None:
    """Its run may have been created just before: another process finds it by this word."""
    folder = SearchDir(tmp_path, "mine")
    with folder.locked():
        token = folder.token()
    with SearchDir(tmp_path, "mine").locked():
        assert SearchDir(tmp_path, "mine").token() == token
    assert len(token) == 32


def test_a_storage_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UsageError, match=r"--storage: cannot write to .*Name another"),
        SearchDir(tmp_path / "file", "mine").locked(),
    ):
        pass


# ---------------------------------------------------------------- what comes back


def test_records_come_back_as_the_journal_left_them(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    complete = record(
        0, outcome="complete", epoch=4, metrics={"loss": 0.5}, best={"epoch": 2, "value": 0.25}, ended=9.5
    )
    journal = EventLog(folder.event_log)
    for trial in (complete, record(2, outcome="diverged", reason="not_finite in epoch 1: loss = nan")):
        journal.append_trial("trial_ended", 1, trial)
    assert folder.history.records()[0] == complete
    assert folder.history.records()[1].reason == "not_finite in epoch 1: loss = nan"


def test_a_trial_without_an_end_was_interrupted(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    EventLog(folder.event_log).append_trial("epoch_ended", 1, record(1, epoch=2, metrics={"loss": 1.0}))
    (found,) = folder.history.records()
    assert (found.outcome, found.epoch) == ("interrupted", 2)


def test_the_description_holds_the_runs_and_the_number_of_trials(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    folder.set(trials=9)
    about = SearchDir(tmp_path, "mine").description()
    assert (about["facts"], about["branches"], about["trials"]) == (FACTS, ["below"], 9)
    folder.require_same(plan_of(), TinyData())  # the number of trials may differ


def test_no_draft_is_left_beside_the_description(tmp_path: Path) -> None:
    assert {path.name for path in begun(tmp_path).path.iterdir()} <= {"search.json", "lock"}


@pytest.mark.parametrize("name", [EVENT_LOG, STUDY])
def test_half_a_line_is_cut_off_both_journals(tmp_path: Path, name: str) -> None:
    folder = begun(tmp_path)
    (folder.path / name).write_text('{"a": 1}\n{"b": ')
    folder.repair()
    assert (folder.path / name).read_text() == '{"a": 1}\n'
    assert (folder.path / f"{name}.damaged").read_text() == '{"b": '


@pytest.mark.parametrize("name", ["../mine", "..", ".", "", "a/b", "/tmp/mine", "mine/"])
def test_a_name_does_not_lead_out_of_the_storage(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="the name of one, not a path"):
        SearchDir(tmp_path, name)


def test_sync_of_a_path_is_refused(tmp_path: Path) -> None:
    begun(tmp_path)
    path = "../searches/mine"
    code, text = call(make_tiny(), "--sync", path, "--storage", str(tmp_path))
    assert code == 2
    assert f"There is no search '{path}'" in text


# ---------------------------------------------------------------- whether it has ended


def test_a_search_has_ended_when_all_its_trials_and_it_itself_have(tmp_path: Path) -> None:
    folder, journal = begun(tmp_path), EventLog(SearchDir(tmp_path, "mine").event_log)
    journal.append_trial("trial_ended", 1, record(0, outcome="complete"))
    assert not folder.history.complete(1)  # its end is not recorded
    journal.append("search_ended", 2, status="FINISHED")
    assert folder.history.complete(1)
    assert not folder.history.complete(2)  # one that was never begun
    journal.append("search_resumed", 3)
    assert not folder.history.complete(1)


@pytest.mark.parametrize("status", ["KILLED", "FAILED"])
def test_a_search_that_ended_badly_may_go_on(tmp_path: Path, status: str) -> None:
    folder, journal = begun(tmp_path), EventLog(SearchDir(tmp_path, "mine").event_log)
    journal.append_trial("trial_ended", 1, record(0, outcome="complete"))
    journal.append("search_ended", 2, status=status)
    assert not folder.history.complete(1)


def test_a_search_with_an_interrupted_trial_has_not_ended(tmp_path: Path) -> None:
    folder, journal = begun(tmp_path), EventLog(SearchDir(tmp_path, "mine").event_log)
    journal.append_trial("trial_ended", 1, record(0, outcome="interrupted"))
    journal.append("search_ended", 2, status="FINISHED")
    assert not folder.history.complete(1)


# ---------------------------------------------------------------- the same search


@pytest.mark.parametrize(
    ("plan", "data", "difference"),
    [
        (plan_of(), "data-2", "data"),
        (plan_of(epochs=5), "data-1", "epochs"),
        (plan_of(set=("x=0.5",)), "data-1", "searched"),
        (plan_of(free=("optional",)), "data-1", "searched"),
        (plan_of(presets="known"), "data-1", "presets"),
        (plan_of(objective="size"), "data-1", "objectives"),
        (plan_of(constraint=("size=1",)), "data-1", "limits"),
        (plan_of(constraint=("size>=1",)), "data-1", "limits"),
    ],
)
def test_another_search_is_refused_with_the_difference(
    tmp_path: Path, plan: SearchSpec, data: str, difference: str
) -> None:
    folder = begun(tmp_path, TinyData("data-1"))
    with pytest.raises(UsageError, match=f"--resume: .*{difference}"):
        folder.require_same(plan, TinyData(data))


def test_another_version_of_the_objective_is_another_search(tmp_path: Path) -> None:
    """Values of different versions are never compared silently."""
    folder = begun(tmp_path)
    with pytest.raises(UsageError, match=r"objective version .* was 'tiny-1' and is now 'tiny-2'"):
        folder.require_same(plan_of(), TinyData(objective_version="tiny-2"))


def test_without_the_data_only_the_flags_are_compared(tmp_path: Path) -> None:
    begun(tmp_path, TinyData("data-1")).require_same(plan_of())
