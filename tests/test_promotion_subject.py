"""Which search a promotion is of, and what its readers must know of that search and of its data."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from promotable import JudgedData, make_promotable, of
from written import Fate, WrittenSearch, write_search

from search.errors import UsageError
from search.promotion.candidates import Contenders
from search.promotion.compare import HoldoutComparison
from search.promotion.evaluate import Judged
from search.promotion.registry import Version
from search.promotion.retrain import Finalist
from search.promotion.source_search import Subject, find_search, open_subject
from search.storage.location import Storage
from search.storage.names import DESCRIPTION, LEADERBOARD
from search.storage.search_dir import SearchDir
from search.tracking.client import Experiment, client_of
from trainables.base.training import TrainedModel

KILLED = WrittenSearch(status="KILLED")


def write(storage: Path, name: str, hour: int, told: WrittenSearch | None = None) -> None:
    """A search that ended at that hour."""
    folder = write_search(storage, name, [Fate()], told)
    os.utime(folder / LEADERBOARD, (3600 * hour, 3600 * hour))


# ---------------------------------------------------------------- which search


def test_the_last_search_that_ended_in_good_order_is_meant(tmp_path: Path) -> None:
    for hour, name in enumerate(("older", "newer")):
        write(tmp_path, name, hour)
    for hour, status in enumerate(("KILLED", "FAILED", None), start=2):
        write(tmp_path, f"broken{hour}", hour, WrittenSearch(status=status))
    assert find_search(make_promotable(), None, Storage(tmp_path)).path.name == "newer"


def test_an_interrupted_search_is_meant_where_it_is_named(tmp_path: Path) -> None:
    write(tmp_path, "broken", 0, KILLED)
    assert find_search(make_promotable(), "broken", Storage(tmp_path)).path.name == "broken"
    with pytest.raises(UsageError, match=r"broken was interrupted. .* --name broken --resume; or promote what it has"):
        find_search(make_promotable(), None, Storage(tmp_path))


# ---------------------------------------------------------------- what is said of it


@dataclass(frozen=True)
class JoinedData(JudgedData):
    fingerprint: str = "tiny-data with branches"


def opened(storage: Path, told: WrittenSearch | None = None) -> Subject:
    """A search of a workload that joins its data with what other models say of them."""
    folder = SearchDir(storage, write_search(storage, "searched", [Fate()], told).name)
    about = folder.description()
    (folder.path / DESCRIPTION).write_text(json.dumps(about | {"data": JoinedData().fingerprint}))

    def join(_data: JudgedData, _models: Mapping[str, TrainedModel]) -> JoinedData:
        return JoinedData()

    experiment = Experiment(client_of(None, storage), "1")  # nothing is asked of it
    return open_subject(replace(make_promotable(), join=join), folder, storage / "cache", experiment)


def notes_of(subject: Subject, champion: dict[str, str] | None = None) -> tuple[str, ...]:
    """What a promotion of its one trial says, against a champion with these tags."""
    seen = of(0.25)
    model = Judged(seen, {"loss": 0.1, "size": 0.1})
    judged = {"trial.seed1": model} | ({"champion": model} if champion else {})
    tags = {"objective_version": seen.objective_version, "holdout": seen.holdout, **(champion or {})}
    version = Version(1, "r", "there", 0, tags) if champion else None
    contenders = Contenders({"trial": {"trial.seed1": None}}, {}, {})  # type: ignore[dict-item]
    hearing = HoldoutComparison(subject, [Finalist("trial", 0.1, {}, 1)], contenders, judged, {}, version, 0.95)
    return hearing.result("promotion", uses=1).notes


def test_an_interrupted_search_is_promoted_with_a_note(tmp_path: Path) -> None:
    (note,) = notes_of(opened(tmp_path, KILLED))
    assert note == "search searched has not ended in good order: with --resume it may find better"


def test_other_branches_are_no_other_data(tmp_path: Path) -> None:
    """A champion of the same events has seen nothing of the holdout, whichever branches it stands on."""
    subject = opened(tmp_path)
    assert (subject.events, subject.data.fingerprint) == ("tiny-data", "tiny-data with branches")
    assert notes_of(subject) == notes_of(subject, {"data": "tiny-data"}) == ()
    (note,) = notes_of(subject, {"data": "other-data"})
    assert "the champion was trained on other data" in note
