"""Laws of a promotion, from the command line to the registry; only the model is one that trains in no time."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from finished import Finished, registered, run_search
from mlflow import MlflowClient
from promotable import make_promotable
from ray import cloudpickle

import search.promote
from search.promotion.registry import Registry, Version
from search.tracking.client import embedded_uri, open_experiment
from search.workload import Workload

if TYPE_CHECKING:
    from server import MlflowServer

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_here")]

GOOD, BETTER, BEST, WORSE = {"x": 0.1, "y": 0.0}, {"x": 0.25, "y": 0.0}, {"x": 0.28, "y": 0.0}, {"x": -0.1}
NONE_SAMPLED = ("--trials", "0", "--scheduler", "none", "--presets", "all")


class Platform:
    """One storage with its registry."""

    def __init__(self, storage: Path, *where: str) -> None:
        self.storage, self.where = storage, where  # flags that name another MLflow
        self.code, self.text = 0, ""  # of its first promotion

    def search(self, name: str, *flags: str, **presets: dict[str, Any]) -> Finished:
        return run_search(make_promotable(**presets), self.storage, name, *(flags or NONE_SAMPLED), *self.where)

    def promote(self, *flags: str, workload: Workload | None = None) -> tuple[int, str]:
        text = io.StringIO()
        with registered(workload or make_promotable()), redirect_stdout(text):
            code = search.promote.main(["tiny", "--storage", str(self.storage), "--seeds", "2", *self.where, *flags])
        return code, text.getvalue()

    @property
    def registry(self) -> Registry:
        return Registry(open_experiment(None, self.storage, "tiny").client, "tiny")

    @property
    def champion(self) -> Version:
        champion = self.registry.champion()
        assert champion is not None
        return champion


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Platform:  # noqa: ARG001 - it runs
    """With an empty database: making it takes seconds."""
    import evaluations
    import promotable

    for module in (evaluations, promotable):
        cloudpickle.register_pickle_by_value(module)
    storage = tmp_path_factory.mktemp("empty")
    (storage / "mlflow").mkdir()
    MlflowClient(embedded_uri(storage)).search_experiments()
    return Platform(storage)


@pytest.fixture(scope="module")
def promoted(empty: Platform, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """With one search and its champion, ``good``; no test changes it."""
    platform = Platform(Path(shutil.copytree(empty.storage, tmp_path_factory.mktemp("promoted") / "results")))
    platform.search("first", good=GOOD, worse=WORSE)
    platform.code, platform.text = platform.promote("--top", "2")
    return platform


@pytest.fixture
def fresh(empty: Platform, tmp_path: Path) -> Platform:
    return Platform(Path(shutil.copytree(empty.storage, tmp_path / "results")))


@pytest.fixture
def copied(promoted: Platform, tmp_path: Path) -> Platform:
    """A copy of the one with a champion; files of its model are still those of the first."""
    assert promoted.code == 0, promoted.text
    return Platform(Path(shutil.copytree(promoted.storage, tmp_path / "results")))


def test_the_best_complete_trial_becomes_the_first_champion(promoted: Platform) -> None:
    assert promoted.code == 0, promoted.text
    champion = promoted.champion
    assert champion.tags["trial"] == "good"
    assert champion.tags["search"] == "first"
    assert champion.tags["against"] == "none"
    assert champion.state == "champion"
    assert int(champion.tags["seed"]) >= 1_000_000
    assert "there is no champion yet" in promoted.text
    assert "1 promotions have looked at it" in promoted.text


def test_a_better_model_replaces_the_champion_and_a_rollback_brings_it_back(copied: Platform) -> None:
    first = copied.champion
    copied.search("second", better=BETTER)
    code, text = copied.promote()
    assert code == 0, text
    assert "promote  second: better" in text  # the finalists of the first are no newer search
    second = copied.champion
    assert (second.number, second.against, second.tags["trial"]) == (first.number + 1, str(first.number), "better")
    assert copied.promote("--rollback")[0] == 0
    assert copied.champion.number == first.number
    copied.search("third", better=BEST)
    code, text = copied.promote()  # against the champion that came back
    assert code == 0, text
    assert copied.champion.against == str(first.number)


def test_a_model_that_is_no_better_is_refused_unless_it_is_forced_with_a_reason(copied: Platform) -> None:
    before = copied.champion
    copied.search("second", worse=WORSE)
    code, text = copied.promote()
    assert code == 3
    assert "not better beyond the 95% interval" in text
    assert "2 promotions have looked at it" in text
    assert copied.champion == before
    assert len(copied.registry.versions()) == 1
    assert copied.promote("--force", "why")[0] == 2  # that is no reason
    code, text = copied.promote("--force", "the old one fails [/eic/zdc#12] [red]")
    assert code == 0, text
    assert "2 promotions have looked at it" in text  # the same trainings again
    assert copied.champion.tags["forced"] == "the old one fails [/eic/zdc#12] [red]"
    code, text = copied.promote("--list")
    assert code == 0
    assert all(word in text for word in ("fails", "[/eic/zdc#12]", "[red]"))


def test_uses_of_a_holdout_are_counted_over_all_workloads(copied: Platform) -> None:
    client = copied.registry._client
    other = Registry(client, "other")
    assert other.record_use("events-99", "theirs", "today") == 2  # the promotion of tiny looked at the same events
    assert other.record_use("events-99", "theirs", "tomorrow") == 2
    assert copied.registry.record_use("events-99", "ours", "today") == 3
    assert other.record_use("events-1", "theirs", "today") == 1


def test_a_lucky_trial_does_not_pass(copied: Platform) -> None:
    found = copied.search("lucky", lucky={"x": -0.1, "luck": 5.0})
    assert found.rows["lucky"]["rank"] == 1
    code, text = copied.promote("--top", "1")
    assert code == 3, text
    assert copied.champion.tags["trial"] == "good"


def test_a_stopped_trial_is_never_promoted_whatever_its_number(fresh: Platform) -> None:
    found = fresh.search("stopped", "--trials", "12", "--presets", "plain", "--seed", "3")
    assert found.board["outcomes"]["stopped_early"] > 0
    for row in found.board["rows"]:
        if row["outcome"] == "stopped_early":  # as if it had had a splendid number when it was stopped
            row["value"] = -100.0
    (found.folder / "leaderboard.json").write_text(json.dumps(found.board))
    code, text = fresh.promote("--top", "50", "--seeds", "1")
    assert code == 0, text
    stopped = {label for label, row in found.rows.items() if row["outcome"] == "stopped_early"}
    trained = json.loads(next(fresh.storage.glob("searches/*.finalists-*/leaderboard.json")).read_text())
    again = {row["label"].rpartition(".")[0] for row in trained["rows"] if row["number"] is not None}
    assert again
    assert not again & stopped


def test_hyperparameters_that_fail_with_another_seed_are_out(fresh: Platform) -> None:
    fresh.search("fragile", fragile={"x": 0.3, "y": 0.0, "unlucky_seeds": 1}, good=GOOD)
    code, text = fresh.promote("--top", "2")
    assert code == 0, text
    assert fresh.champion.tags["trial"] == "good"
    assert "fragile is out" in text


def test_the_same_promotion_twice_is_one(copied: Platform) -> None:
    code, text = copied.promote("--search", "first", "--top", "2")
    assert code == 0
    assert "is the champion already" in text
    assert len(copied.registry.versions()) == 1


def test_two_promotions_at_once_cannot_both_win(copied: Platform) -> None:
    first, registry = copied.champion, copied.registry
    versions = [pending(registry, first) for _ in range(2)]
    assert registry.set_champion(versions[1]) == versions[0]
    assert registry.set_champion(versions[0]) is None
    assert copied.champion.number == versions[0].number
    assert {version.number: version.state for version in registry.versions()}[versions[1].number] == "lost"


def test_a_winner_that_lost_its_alias_by_hand_is_no_rival(copied: Platform) -> None:
    """As after a rollback that died between the alias and the tag."""
    first, registry = copied.champion, copied.registry
    winner, second, third = (pending(registry, first) for _ in range(3))
    assert registry.set_champion(winner) is None
    registry._client.set_registered_model_alias("tiny", "champion", str(first.number))
    assert registry.set_champion(second) is None
    assert copied.champion.number == second.number
    assert registry.set_champion(third) is not None  # the second has won against the same champion
    assert copied.champion.number == second.number


def pending(registry: Registry, champion: Version) -> Version:
    """A new version that was compared with this champion."""
    tags = {"against": str(champion.number), "state": "pending"}
    made = registry._client.create_model_version("tiny", champion.source, champion.run_id, tags=tags)
    return next(version for version in registry.versions() if version.number == int(made.version))


def test_an_interrupted_registration_is_finished_by_the_next_try(
    copied: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = copied.champion
    copied.search("second", better=BETTER)

    def died(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Registry, "set_champion", died)
        assert copied.promote()[0] == 130
    assert copied.champion == before
    assert copied.promote()[0] == 0
    assert [version.state for version in copied.registry.versions()] == ["champion", "champion"]
    assert copied.champion.number == 2


def test_the_card_says_what_the_model_is(copied: Platform) -> None:
    champion = copied.champion
    card = Path(copied.registry._client.download_artifacts(champion.run_id, "promotion/card.md")).read_text()
    for words in ("good", "models:/tiny@champion", "| plain |", "guess", "hyperparameters".title(), "x_cm"):
        assert words in card
    description = copied.registry._client.get_model_version("tiny", str(champion.number)).description
    assert description.startswith("# tiny")
    assert "holdout.png" not in description


def test_export_writes_the_champions_files_and_nothing_over_others(promoted: Platform, tmp_path: Path) -> None:
    assert promoted.promote("--export", str(tmp_path / "out"))[0] == 0
    assert promoted.promote("--export", str(tmp_path / "out"))[0] == 0  # an earlier export is replaced
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"model.json", "weights.safetensors"}
    (tmp_path / "out" / "notes.txt").write_text("what we found with it")
    code, text = promoted.promote("--export", str(tmp_path / "out"))
    assert code == 2
    assert "notes.txt: this file is not in the manifest" in text
    assert "Name another folder, or delete this one." in text
    assert "Export it again" not in text
    assert (tmp_path / "out" / "notes.txt").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    assert promoted.promote("--export", str(tmp_path / "mine"))[0] == 2
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_a_package_that_was_changed_in_the_store_is_refused(copied: Platform) -> None:
    weights = next(Path(copied.champion.source.removeprefix("file://")).rglob("weights.safetensors"))
    whole = weights.read_bytes()
    copied.search("second", better=BETTER)
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        code, text = copied.promote()
    finally:
        weights.write_bytes(whole)
    assert code == 2
    assert "weights.safetensors" in text
    assert "changed since it was written" in text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--search", "frist"], "Did you mean first?"),
        (["--search", "../../results/searches/first"], "the name of one, not a path"),
        (["--top", "0"], "--top"),
        (["--confidence", "95"], "--confidence"),
        (["--rollback", "--list"], "one at a time"),
        (["--rollback"], "there is none to go back to"),
    ],
)
def test_wrong_flags_are_explained(promoted: Platform, flags: list[str], words: str) -> None:
    code, text = promoted.promote(*flags)
    assert code == 2
    assert words in text
    assert "Traceback" not in text


def test_a_storage_without_searches_is_explained(fresh: Platform) -> None:
    code, text = fresh.promote()
    assert code == 2
    assert "python -m search.run tiny" in text
    for flags in (["--rollback"], ["--export", "files"]):
        code, text = fresh.promote(*flags)
        assert code == 2
        assert "There is no champion of tiny" in text


@pytest.mark.parametrize("presets", ["all", "none"])
def test_the_preset_has_as_many_seeds_as_the_candidate(fresh: Platform, presets: str) -> None:
    """Whatever the search has of it: one run there may have been lucky."""
    fresh.search("first", "--trials", "1", "--scheduler", "none", "--presets", presets, good=GOOD)
    code, text = fresh.promote("--top", "1")
    assert code == 0, text
    label = fresh.champion.tags["trial"]
    words = f"promote  first: {label}, and the preset plain that they are compared with, each with 2 new seeds: 4"
    assert words in " ".join(text.split("\n")[0].split()).replace("promote first", "promote  first")
    (trained,) = fresh.storage.glob("searches/*.finalists-*")
    rows = json.loads((trained / "leaderboard.json").read_text())["rows"]
    seeds = {f"{name}.seed{number}" for name in (label, "plain") for number in (1, 2)}
    assert {row["label"] for row in rows if row["number"] is not None} == seeds
    result = json.loads((trained / "promotion.json").read_text())
    (line,) = (line for line in result["lines"] if line["label"] == "plain")
    assert (line["kind"], line["seeds"], result["reference"]) == ("preset", 2, "plain")
    assert line["difference"]["loss"]["value"] == 0  # of the mean less itself
    assert set(line["spread"]) == set(line["mean"])


@pytest.mark.usefixtures("empty")
def test_a_promotion_on_a_server_is_one_like_any_other(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    """PostgreSQL, artifacts through the server: the registry, the package and the export are there."""
    platform = Platform(tmp_path / "results", "--tracking-uri", mlflow_server.uri)
    platform.search("served", good=GOOD)
    code, text = platform.promote("--top", "1")
    assert code == 0, text
    assert mlflow_server.uri in text
    platform.search("better", better=BETTER)
    code, text = platform.promote("--top", "1")  # the champion comes from the server
    assert code == 0, text
    assert "champion" in text
    code, text = platform.promote("--export", str(tmp_path / "out"))
    assert code == 0, text
    assert (tmp_path / "out" / "weights.safetensors").exists()
    listed = platform.promote("--list")[1]
    assert "better.seed" in listed
    assert "good.seed" in listed


def test_the_trainings_of_a_race_are_not_repeated(fresh: Platform) -> None:
    """The candidate and its reference have been trained with as many new seeds: nothing is left to train."""
    searched = fresh.search(
        "first", "--trials", "0", "--scheduler", "none", "--presets", "all", "--race", "10", good=GOOD, worse=WORSE
    )
    assert searched.code == 0, searched.text
    code, text = fresh.promote("--top", "1", "--search", "first")
    assert code == 0, text
    said = " ".join(text.split())
    label = fresh.champion.tags["trial"]
    seeds = searched.rows[label]["race"]["seeds"]
    assert seeds >= 3
    assert f"each with {seeds} new seeds: {2 * seeds} trainings, {2 * seeds} of them by the race of the search" in said
    (trained,) = fresh.storage.glob("searches/*.finalists-*")
    assert [file.name for file in trained.iterdir()] == ["promotion.json"]
    result = json.loads((trained / "promotion.json").read_text())
    lines = {line["label"]: line["seeds"] for line in result["lines"] if line["kind"] != "naive"}
    assert lines == {label: seeds, "plain": seeds}
    assert fresh.champion.run_id == searched.children[result["candidate"]].info.run_id
