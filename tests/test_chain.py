"""Laws of chains and of models built on models: which ones are taken, and that a chain goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from finished import Finished, call, run_search
from mlflow import MlflowClient
from tiny import make_chain, make_tiny, make_top

import search.workloads
from search.tracking.client import embedded_uri

pytestmark = pytest.mark.slow

TRIALS = ("--trials", "2", "--epochs", "2", "--scheduler", "none")


@pytest.fixture(autouse=True)
def both(request: pytest.FixtureRequest) -> Iterator[None]:
    request.getfixturevalue("ray_here")
    search.workloads.CHAINS["both"] = make_chain()
    yield
    del search.workloads.CHAINS["both"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


def run_chain(place: Path, *flags: str) -> tuple[int, str]:
    return call(make_tiny(), "both", "--storage", str(place), *TRIALS, *flags, others=(make_top(),))


def test_each_search_builds_on_the_winner_of_the_one_before(place: Path) -> None:
    code, text = run_chain(place, "--name", "c", "--json", str(place / "c.json"))
    assert code == 0, text
    below, top = Finished(0, "", place, "c.tiny"), Finished(0, "", place, "c.top", "top")
    winner = below.board["rows"][0]
    assert top.rows["below"]["value"] == 0.5
    assert top.rows["below"]["metrics"]["size"] == pytest.approx(abs(winner["hyperparameters"]["x"]))
    content = json.loads((place / "c.json").read_text())
    assert set(content["rows"]) == {"below", "best tiny", "best top"}
    assert content["rows"]["best tiny"]["loss"] == winner["value"]
    assert content == json.loads(top.artifact(top.parent, "chain.json"))
    for found in (below, top):
        assert {run.data.tags["chain"] for run in found.runs} == {"c"}
    assert "(named)" in text
    assert "best tiny" in text


def test_a_chain_goes_on_after_its_last_finished_search(place: Path) -> None:
    assert run_chain(place, "--name", "c")[0] == 0
    before = Finished(0, "", place, "c.tiny").runs
    code, text = run_chain(place, "--name", "c")
    assert code == 2
    assert "exists already" in text
    code, text = run_chain(place, "--name", "d", "--resume")
    assert code == 2
    assert "no chain named 'd'" in text
    for file in sorted((place / "searches" / "c.top").rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    (place / "searches" / "c.top").rmdir()  # as if it had been interrupted between the searches
    code, text = run_chain(place, "--name", "c", "--resume")
    assert code == 0, text
    assert [run.info.run_id for run in Finished(0, "", place, "c.tiny").runs] == [run.info.run_id for run in before]
    assert "best top" in text


def test_words_that_no_search_of_the_chain_knows_are_refused_before_the_first(place: Path) -> None:
    for flags in (("--set", "z=1"), ("--also", "z"), ("--presets", "z"), ("--branches", "z"), ("--objective", "z")):
        code, text = run_chain(place, "--name", "c", *flags)
        assert code == 2, text
    assert not (place / "searches").exists()


def test_a_time_limit_is_that_of_the_whole_chain(place: Path) -> None:
    code, text = run_chain(place, "--name", "c", "--time-limit", "2h")
    assert code == 0, text
    limits = [Finished(0, "", place, f"c.{name}", name).parent.data.params["time_limit"] for name in ("tiny", "top")]
    assert 3500 < float(limits[0].rstrip("s")) <= 3600
    assert 6900 < float(limits[1].rstrip("s")) < 7200


def run_top(place: Path, *flags: str) -> tuple[int, str]:
    return call(make_top(), "top", "--storage", str(place), "--trials", "1", "--epochs", "1", *flags,
                others=(make_tiny(),))  # fmt: skip


def test_without_any_model_the_commands_to_run_are_told(place: Path) -> None:
    code, text = run_top(place)
    assert code == 2
    assert "python -m search.run tiny" in text


def test_the_newest_search_is_the_default_and_a_champion_goes_before_it(place: Path) -> None:
    first, second = (run_search(make_tiny(), place, name, *TRIALS) for name in ("first", "second"))
    code, text = run_top(place, "--name", "on-newest")
    assert (code, "search second (best of the newest search)" in text) == (0, True), text
    run_id = first.parent.data.tags["best_run"]
    client = MlflowClient(embedded_uri(place))
    client.create_registered_model("tiny")
    client.create_model_version("tiny", source=f"runs:/{run_id}/checkpoint", run_id=run_id)
    client.set_registered_model_alias("tiny", "champion", "1")
    code, text = run_top(place, "--name", "on-champion")
    assert (code, "search first (champion, version 1)" in text) == (0, True), text
    assert second.code == 0


def test_runs_can_be_named_by_id_by_name_and_by_their_search(place: Path) -> None:
    first = run_search(make_tiny(), place, "first", *TRIALS)
    run_search(make_tiny(), place, "second", *TRIALS)
    worst = max((row for row in first.board["rows"] if row["rank"]), key=lambda row: row["rank"])
    for name in (first.children[worst["label"]].info.run_id, "first"):
        code, text = run_top(place, "--branches", name)
        assert code == 0, text
        assert "search first (named)" in text
    assert first.parent.data.tags["best_trial"] in text


@pytest.mark.parametrize("name", ["nobody", "0" * 32, "on-top"])
def test_a_named_run_that_is_of_no_use_is_refused(place: Path, name: str) -> None:
    run_search(make_tiny(), place, "first", *TRIALS)
    code, text = run_top(place, "--branches", name)
    assert code == 2, text
    assert "--upstream" in text


def test_a_run_that_is_not_complete_is_refused(place: Path) -> None:
    failed = run_search(make_tiny(fails={"x": 0.2, "y": 0.0, "diverge_epoch": 1}), place, "first", "--trials", "0")
    for name in ("first", failed.children["fails"].info.run_id):
        code, text = run_top(place, "--branches", name)
        assert code == 2, text
        assert "complete" in text


def test_a_workload_that_builds_on_nothing_takes_no_branches(place: Path) -> None:
    code, text = call(make_tiny(), "tiny", "--storage", str(place), "--branches", "x")
    assert code == 2
    assert "builds on no other model" in text


def test_models_of_other_data_are_taken_only_where_they_are_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is holdout here they may have been trained on."""
    run_search(make_tiny(), place, "first", *TRIALS)
    monkeypatch.setattr("tiny.TinyData.__init__.__defaults__", ("other", "tiny-1", ("nothing at all",)))
    code, text = run_top(place, "--name", "on-others")
    assert (code, "search first saw other data" in text) == (2, True), text
    code, text = run_top(place, "--name", "on-others", "--branches", "first")
    assert (code, "was trained on other data" in text) == (0, True), text


def test_a_name_that_several_trials_have_is_not_guessed(place: Path) -> None:
    for name in ("first", "second"):
        run_search(make_tiny(), place, name, *TRIALS)
    code, text = run_top(place, "--branches", "trial-000")
    assert (code, "first/trial-000" in text, "second/trial-000" in text) == (2, True, True), text
    code, text = run_top(place, "--branches", "first/trial-000")
    assert (code, "search first (named)" in text) == (0, True), text
