"""Laws of the source search: which one is found, and which notes a promotion makes on it and on its data."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from promotable import PromotableData, make_promotable, of
from written import Fate, WrittenSearch, write_search

from search.errors import UsageError
from search.promotion.candidates import Candidates, Finalist
from search.promotion.compare import HoldoutComparison
from search.promotion.evaluate import ModelScores
from search.promotion.registry import Version
from search.promotion.source_search import SourceSearch, find_search, open_search
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


def test_the_last_search_that_ended_in_good_order_is_found(tmp_path: Path) -> None:
    for hour, name in enumerate(("older", "newer")):
        write(tmp_path, name, hour)
    for hour, status in enumerate(("KILLED", "FAILED", None), start=2):
        write(tmp_path, f"broken{hour}", hour, WrittenSearch(status=status))
    assert find_search(make_promotable(), None, Storage(tmp_path)).path.name == "newer"


def test_an_interrupted_search_is_found_by_its_name(tmp_path: Path) -> None:
    write(tmp_path, "broken", 0, KILLED)
    assert find_search(make_promotable(), "broken", Storage(tmp_path)).path.name == "broken"
    with pytest.raises(UsageError, match=r"broken was interrupted. .* --name broken --resume; or promote what it has"):
        find_search(make_promotable(), None, Storage(tmp_path))


def test_a_search_of_another_objective_version_is_not_promoted(tmp_path: Path) -> None:
    """Its values would stand beside those of the holdout, which mean something else."""
    folder = SearchDir(tmp_path, write_search(tmp_path, "old", [Fate()], WrittenSearch(version="zdc-1 bins=1000")).name)
    experiment = Experiment(client_of(None, tmp_path), "1")  # nothing is asked of it
    with pytest.raises(UsageError, match=r"The objective version of search 'old' is 'zdc-1 bins=1000', here it is"):
        open_search(make_promotable(), folder, tmp_path / "cache", experiment)


# ---------------------------------------------------------------- notes


@dataclass(frozen=True)
class JoinedData(PromotableData):
    fingerprint: str = "tiny-data joined"


def opened(storage: Path, told: WrittenSearch | None = None) -> SourceSearch:
    """A search of a workload that joins its data with the predictions of upstream models."""
    folder = SearchDir(storage, write_search(storage, "searched", [Fate()], told).name)
    about = folder.description()
    (folder.path / DESCRIPTION).write_text(json.dumps(about | {"data": JoinedData().fingerprint}))

    def join(_data: PromotableData, _models: Mapping[str, TrainedModel]) -> JoinedData:
        return JoinedData()

    experiment = Experiment(client_of(None, storage), "1")  # nothing is asked of it
    workload = make_promotable()
    object.__setattr__(workload, "join", join)  # without builds_on, which would look for models
    return open_search(workload, folder, storage / "cache", experiment)


def notes_of(source: SourceSearch, champion: dict[str, str] | None = None) -> tuple[str, ...]:
    """Notes of a promotion of its one trial, against a champion with these tags."""
    holdout = of(0.25)
    model = ModelScores(holdout, {"loss": 0.1, "size": 0.1})
    scores = {"trial.seed1": model} | ({"champion": model} if champion else {})
    tags = {"objective_version": holdout.objective_version, "holdout": holdout.holdout, **(champion or {})}
    version = Version(1, "r", "there", 0, tags) if champion else None
    candidates = Candidates([Finalist("trial", 0.1, {}, 1)], incomplete={}, models={})
    comparison = HoldoutComparison(source, candidates, scores, {}, version, 0.95)
    return comparison.result("promotion", uses=1).notes


def test_an_interrupted_search_is_promoted_with_a_note(tmp_path: Path) -> None:
    (note,) = notes_of(opened(tmp_path, KILLED))
    assert note == "search searched has not ended in good order: with --resume it may find better"


def test_other_upstream_models_are_no_other_data(tmp_path: Path) -> None:
    """A champion of the same events has seen nothing of the holdout, whichever models it builds on."""
    source = opened(tmp_path)
    assert (source.events, source.data.fingerprint) == ("tiny-data", "tiny-data joined")
    assert notes_of(source) == notes_of(source, {"data": "tiny-data"}) == ()
    (note,) = notes_of(source, {"data": "other-data"})
    assert "the champion was trained on other data" in note


def test_a_preset_that_lost_a_seed_is_compared_with_by_the_others(tmp_path: Path) -> None:
    model = ModelScores(of(0.25), {"loss": 0.1, "size": 0.1})
    preset = ["plain.seed1", "plain.seed3"]
    scores = dict.fromkeys(["trial.seed1", *preset], model)
    incomplete = {"plain": "plain.seed2 failed (diverged)"}
    candidates = Candidates([Finalist("trial", 0.1, {}, 1)], incomplete, {}, preset)
    result = HoldoutComparison(opened(tmp_path), candidates, scores, {}, None, 0.95).result("promotion", uses=1)
    assert result.reference == "plain"
    assert [(line.label, line.kind, line.seeds) for line in result.lines] == [
        ("trial", "finalist", 1),
        ("plain", "preset", 2),
    ]
    (note,) = result.notes
    assert note.endswith("its complete trainings alone, plain.seed1, plain.seed3: plain.seed2 failed (diverged)")


def test_a_constraint_on_what_is_not_evaluated_does_not_end_a_promotion(tmp_path: Path) -> None:
    """Evaluations need not have every metric of a trial; finalists were trained for hours when that shows."""
    source = opened(tmp_path, WrittenSearch(limit=("size<=0.4",)))
    models = [ModelScores(of(0.25), {"loss": loss}) for loss in (0.2, 0.1)]
    candidates = Candidates([Finalist(name, 0.1, {}, 1) for name in ("worse", "better")], {}, {})
    scores = dict(zip(("worse.seed1", "better.seed1"), models, strict=True))
    result = HoldoutComparison(source, candidates, scores, {}, None, 0.95).result("promotion", uses=1)
    assert result.candidate == "better.seed1"
    assert any(note.startswith("size is not evaluated here: its constraint does not count") for note in result.notes)


def test_the_directions_of_a_promotion_are_those_of_the_workload(tmp_path: Path) -> None:
    """Leaderboards of searches begun before do not say them."""
    source = replace(opened(tmp_path), workload=replace(make_promotable(), more_is_better=("purity",)))
    assert [source.goal.sign(name) for name in ("loss", "size", "purity")] == [1, 1, -1]


@pytest.mark.parametrize(("mirrored", "beaten"), [(False, True), (True, False)])
def test_a_note_names_the_naive_predictors_that_the_candidate_does_not_beat(
    tmp_path: Path, mirrored: bool, beaten: bool
) -> None:
    """The candidate's loss is the smaller one: where more is better, it is the worse one."""
    source = opened(tmp_path, WrittenSearch(mirrored=mirrored))
    scores = {"trial.seed1": ModelScores(of(0.25), {"loss": 0.1, "size": 0.1})}
    candidates = Candidates([Finalist("trial", 0.1, {}, 1)], incomplete={}, models={})
    result = HoldoutComparison(source, candidates, scores, {"guess": of(-1.0)}, None, 0.95).result("p", uses=1)
    assert any("does not beat guess" in note for note in result.notes) != beaten
    assert result.more_is_better == (("loss",) if mirrored else ())
