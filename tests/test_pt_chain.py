"""The whole pT chain on the carried sample, small: it ends in one table, and the combined model beats the formulas."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from finished import Finished, call
from packed import quiet

from search.promote import main as promote
from search.promotion.registry import Registry
from search.tracking.client import open_experiment
from search.workloads import CHAINS, WORKLOADS
from trainables.export.mlflow_loader import Served, input_example
from trainables.export.package import read_package

pytestmark = pytest.mark.slow

FLAGS = ("--trials", "1", "--epochs", "12", "--max-concurrent", "2")
GOOD = ("learning_rate=0.003", "final_rate=0.01", "dropout=0", "peak_weight=30")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Path:  # noqa: ARG001
    return tmp_path_factory.mktemp("chain")


@pytest.fixture(scope="module")
def text(place: Path) -> str:
    where = ("--storage", str(place), "--name", "c", "--json", str(place / "c.json"))
    code, text = call(WORKLOADS["pt-energy"], "pt", *where, *FLAGS, "--set", *GOOD)
    assert code == 0, text
    return text


def test_the_combined_model_beats_both_formulas(place: Path, text: str) -> None:
    rows = json.loads((place / "c.json").read_text())["rows"]
    assert list(rows) == [
        "E sin(theta)",
        "C/dphi",
        "pt-energy alone, kept epoch",
        "pt-dphi alone, kept epoch",
        "pt-combined",
        *[name for name in rows if name.endswith("pt-combined, post-correction")],
        "published (full simulation)",
    ]
    best = min(rows["E sin(theta)"]["resolution"], rows["C/dphi"]["resolution"])
    assert rows["pt-combined"]["resolution"] < 0.75 * best
    assert rows["pt-combined"]["bias"] < 0.1  # not bought with a wrong scale
    for name in rows:
        assert name in text


def test_every_search_of_the_chain_scores_the_same_events(place: Path, text: str) -> None:
    assert text
    searches = [Finished(0, "", place, f"c.{name}", name) for name in CHAINS["pt"].workloads]
    formulas = [search.rows["C/dphi"]["metrics"] for search in searches]
    assert formulas[0] == formulas[1] == formulas[2]
    assert len({search.board["objective_version"] for search in searches}) == 1


def test_the_combined_model_stands_on_the_kept_epochs_of_the_two_winners(place: Path, text: str) -> None:
    below = [Finished(0, "", place, f"c.{name}", name) for name in ("pt-energy", "pt-dphi")]
    assert text
    top = Finished(0, "", place, "c.pt-combined", "pt-combined")
    for name, search in zip(("pt-energy", "pt-dphi"), below, strict=True):
        assert top.parent.data.tags[f"builds_on.{name}"] == search.parent.data.tags["best_run"]
    rows = Finished(0, "", place, "c.pt-combined", "pt-combined").rows
    for search, label in zip(below, ("energy branch", "dphi branch"), strict=True):
        best = next(row for row in search.board["rows"] if row["rank"] == 1)
        kept = dict(search.curve(best["label"], "resolution"))[best["best_epoch"]]
        assert rows[label]["value"] == pytest.approx(kept, rel=1e-5)


def test_figures_and_the_published_result_stand_in_mlflow(place: Path, text: str) -> None:
    assert text
    search = Finished(0, "", place, "c.pt-combined", "pt-combined")
    assert search.rows["published (full simulation)"]["kind"] == "reference"
    (best,) = (row["label"] for row in search.board["rows"] if row["rank"] == 1)
    files = {Path(file).name for file in search.files(search.children[best], "report")}
    assert {
        "resolution_vs_pt.png", "bias_vs_pt.png", "efficiency_vs_pt.png", "response_distributions.png",
        "predicted_vs_true.png", "cluster_dphi_vs_pt.png", "losses.png", "response_vs_pt.csv",
    } <= files  # fmt: skip
    assert "error.txt" not in files


def test_the_promoted_chain_loads_in_a_fresh_process_elsewhere(place: Path, text: str, tmp_path: Path) -> None:
    assert text
    said = io.StringIO()
    with redirect_stdout(said):
        code = promote(["pt-combined", "--storage", str(place), "--top", "1", "--seeds", "1"])
    assert code == 0, said.getvalue()
    registry = Registry(open_experiment(None, place, "pt-combined").client, "pt-combined")
    champion = registry.champion()
    assert champion is not None
    searches = {name: Finished(0, "", place, f"c.{name}", name) for name in CHAINS["pt"].workloads}
    for name in ("pt-energy", "pt-dphi"):
        assert champion.tags[f"builds_on.{name}"] == searches[name].parent.data.tags["best_run"]
    described = json.loads((searches["pt-energy"].folder / "search.json").read_text())
    assert champion.tags["data"] == described["data"]  # the events alone, as any branches see them

    script = f"""
import mlflow, numpy
mlflow.set_tracking_uri("{registry.uri}")
model = mlflow.pyfunc.load_model("models:/pt-combined@champion")
numpy.save("pt.npy", model.predict(model.input_example))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path, env=quiet(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    package = read_package(registry.fetch_package(champion, tmp_path), champion.tags["package"])
    assert set(package.branches) == {"pt-energy", "pt-dphi"}
    expected = Served(package).predict(input_example(package))
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(np.load(tmp_path / "pt.npy"), expected, rtol=1e-5)
