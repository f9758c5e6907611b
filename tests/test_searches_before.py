"""Searches that an earlier version wrote are resumed, extended, reported, promoted and exported by this one.

``tests/data/searches_before.tar.xz`` was written on 2026-11-29 by the version of commit c1e0c61, before search/ was
divided into packages: searches of pt-dphi and zdc that finished, others whose driver was killed with SIGKILL in the
middle, and one of pt-energy without any server. Caches, pictures and artifacts that are not read here were left out.
"""

from __future__ import annotations

import json
import sqlite3
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from finished import Finished, call

import search.promote
import search.report
from search.workloads import WORKLOADS

pytestmark = pytest.mark.slow

ARCHIVE = Path(__file__).parent / "data" / "searches_before.tar.xz"
WRITTEN_IN = "/tmp/fix/small/results"
PT_FLAGS = ("--set", "width=8", "batch_size=256", "--presets", "none", "--epochs", "3", "--keep", "1")
ZDC_FLAGS = ("--set", "hidden_dim=4", "batch_size=256", "--presets", "none", "--keep", "1")


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of before, unpacked elsewhere: MLflow's database holds absolute paths of its artifacts."""
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    with sqlite3.connect(folder / "mlflow" / "mlflow.db") as database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (WRITTEN_IN, str(folder)))
    return folder


def run(storage: Path, workload: str, name: str, *flags: str) -> tuple[Finished, str]:
    code, text = call(WORKLOADS[workload], workload, "--storage", str(storage), "--name", name, *flags)
    return Finished(code, text, storage, name, workload), text


def test_a_finished_search_has_nothing_left_to_do(storage: Path) -> None:
    found, text = run(storage, "pt-dphi", "before-finished", *PT_FLAGS, "--resume")
    assert found.code == 0, text
    assert "all its trials have ended" in text
    assert found.board["outcomes"] == {"complete": 2}


def test_a_finished_search_is_extended(storage: Path) -> None:
    before = json.loads((storage / "searches" / "before-finished" / "leaderboard.json").read_text())
    found, text = run(storage, "pt-dphi", "before-finished", *PT_FLAGS, "--trials", "+1", "--scheduler", "none")
    assert found.code == 0, text
    assert found.board["outcomes"] == {"complete": 3}
    values = {row["label"]: row["value"] for row in found.board["rows"]}
    for row in before["rows"]:
        assert values[row["label"]] == row["value"]
    assert len(found.children) == 3


def test_a_search_whose_driver_was_killed_is_resumed_with_every_epoch_once(storage: Path) -> None:
    found, text = run(storage, "pt-dphi", "before-killed", *PT_FLAGS, "--scheduler", "none", "--resume")
    assert found.code == 0, text
    assert found.board["outcomes"] == {"complete": 3}
    for label in found.children:
        steps = Counter(step for step, _ in found.curve(label, "resolution"))
        assert steps == {1: 1, 2: 1, 3: 1}


def test_a_report_page_is_made_of_it(storage: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert search.report.main(["before-finished", "--storage", str(storage), "--out", str(page)]) == 0
    assert "trial-001" in page.read_text()


def test_its_best_trial_is_promoted(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = (
        "--storage",
        str(storage),
        "--search",
        "before-finished",
        "--top",
        "1",
        "--seeds",
        "1",
        "--force",
        "a test",
    )
    assert search.promote.main(["pt-dphi", *flags, "--force", "a test"]) == 0, capsys.readouterr().out


def test_a_search_that_was_never_exported_is(storage: Path) -> None:
    code, text = call(WORKLOADS["pt-energy"], "--sync", "before-journal", "--storage", str(storage))
    assert code == 0, text
    found = Finished(code, text, storage, "before-journal", "pt-energy")
    (trial,) = found.children
    assert [step for step, _ in found.curve(trial, "resolution")] == [1, 2, 3]
    assert found.parent.data.tags["best_run"] == found.children[trial].info.run_id


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("before-zdc-finished", ("--trials", "+1")),
        ("before-zdc-killed", ("--resume",)),
        ("before-zdc-killed", ("--trials", "+1")),
    ],
)
def test_a_search_of_another_objective_version_is_refused_and_stays_as_it_was(
    storage: Path, name: str, more: tuple[str, ...]
) -> None:
    """``zdc-1`` had another floor and excess: its values are never compared with those of today."""
    epochs = "1" if name == "before-zdc-finished" else "3"
    before = (storage / "searches" / name / "search.journal").read_bytes()
    found, text = run(storage, "zdc", name, *ZDC_FLAGS, "--epochs", epochs, *more)
    assert found.code == 2
    assert "objective version" in text
    assert "zdc-1" in text
    assert (storage / "searches" / name / "search.journal").read_bytes() == before
