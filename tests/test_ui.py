"""Laws of what a person sees in MLflow's own pages of a real search: trials, curves, figures, table, champion."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import browser
from finished import Finished, run_search
from selenium.webdriver import Chrome
from selenium.webdriver.remote.webelement import WebElement
from server import _Process, free_port
from tiny import make_tiny
from ui_pages import Pages

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
SCREENSHOTS = os.environ.get("SCREENSHOTS")  # a folder: longer trials, and their pictures go there
TRIALS, EPOCHS = (6, 5) if SCREENSHOTS else (2, 2)
PRESETS = ["test26-lr4", "regression-only"]
OBJECTIVE = "mse_high"
CARD = '[data-testid="experiment-view-compare-runs-card"]'  # one chart
RUNS = "?workflowType=machine_learning"  # as the side bar's switch from GenAI to Model training


@pytest.fixture(scope="module")
def opened() -> Iterator[Chrome]:
    with browser(width=1400, height=1000) as chrome:
        yield chrome


@pytest.fixture(scope="module")
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A small search, typed as a user types it."""
    request.getfixturevalue("opened")  # where there is no browser nothing is worth the time
    folder = tmp_path_factory.mktemp("ui")
    about = ["--trials", str(TRIALS), "--epochs", str(EPOCHS), "--presets", ",".join(PRESETS)]
    about += ["--set", "hidden_dim=4", "batch_size=512"]
    text = typed(folder, "search.run", "zdc", "--storage", "results", "--name", "first-look", *about)
    return Finished(0, text, folder / "results", "first-look", "zdc")


def typed(folder: Path, *words: str) -> str:
    """What ``python -m WORDS`` prints in this folder."""
    command = [sys.executable, "-m", *words]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def fates(done: Finished, request: pytest.FixtureRequest) -> Finished:
    """A search in the same storage with a complete and a diverged trial."""
    request.getfixturevalue("ray_here")
    presets = {"good": {"x": 0.3, "y": 0.0}, "bad": {"x": 0.2, "y": 0.0, "diverge_epoch": 2}}
    return run_search(make_tiny(**presets), done.storage, "fates", "--trials", "0")


@pytest.fixture(scope="module")
def champion(done: Finished) -> str:
    """The version of a promotion that has nobody to beat."""
    few = ["--top", "1", "--seeds", "1"]
    typed(done.storage.parent, "search.promote", "zdc", "--search", done.name, "--storage", done.storage.name, *few)
    return str(done.client.get_model_version_by_alias("zdc", "champion").version)


@pytest.fixture(scope="module")
def address(done: Finished) -> Iterator[str]:
    """Of the server that ``make ui`` starts."""
    port = free_port()
    here = [f"STORAGE={done.storage}", f"PORT={port}", f"PYTHON={sys.executable}", "READY="]
    server = _Process(["make", "-C", str(ROOT), "ui", *here], done.storage / "make-ui.log")
    try:
        server.wait_until(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close(), 120)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.end(signal.SIGTERM, port)


@pytest.fixture(scope="module")
def shared(opened: Chrome, address: str, tmp_path_factory: pytest.TempPathFactory) -> Pages:
    screenshots = Path(SCREENSHOTS) if SCREENSHOTS else tmp_path_factory.mktemp("screenshots")
    pages = Pages(opened, address, screenshots)
    pages.open("/experiments")
    pages.close('button[aria-label="Close"]')  # an assistant that nobody asked
    return pages


@pytest.fixture
def pages(shared: Pages) -> Iterator[Pages]:
    """Whatever a page shows, nothing on it may have failed."""
    yield shared
    assert shared.troubles() == []


def best_first(done: Finished) -> list[str]:
    return [row["label"] for row in done.board["rows"] if row["rank"]]


# ---------------------------------------------------------------- ways to the trials


def test_who_opens_mlflow_for_the_first_time_finds_the_trials(pages: Pages, done: Finished) -> None:
    """MLflow 3.17 opens each experiment with chat traces, until somebody says otherwise; its description is there."""
    pages.open("/experiments")
    pages.click('[data-testid="experiment-list-item-link"]', "zdc")
    pages.see("h2, h3, h4", "Overview")
    tabs = set(pages.browser.window_handles)
    (link,) = (one for one in pages.all("a") if one.text == f"best by {OBJECTIVE}")
    pages.script("arguments[0].click()", link)  # another of its own dialogues lies above the page
    (new,) = set(pages.wait(lambda: set(pages.browser.window_handles) - tabs, "no new tab"))
    pages.browser.close()
    pages.browser.switch_to.window(new)
    pages.wait(lambda: pages.run_names() == best_first(done), "not the trials, best first")


def test_the_switch_to_model_training_opens_the_runs(pages: Pages, done: Finished) -> None:
    pages.open("/experiments")
    pages.click("[role=button]", "Model training")
    pages.click('[data-testid="experiment-list-item-link"]', "zdc")
    pages.see('a[href*="/runs/"]', done.name)
    assert pages.run_names() == [done.name]
    pages.see("p", "each run is a search, its child runs are its trials")


def test_a_search_unfolds_to_its_trials(pages: Pages, done: Finished) -> None:
    unfold(pages, done)


def unfold(pages: Pages, done: Finished) -> None:
    pages.open(f"/experiments/{done.parent.info.experiment_id}/runs{RUNS}")
    pages.see('a[href*="/runs/"]', done.name)
    if pages.run_names() == [done.name]:  # else the browser remembers it
        pages.click(f'.ag-row[row-id="{done.parent.info.run_id}"] [col-id*="Run Name"] button')
    pages.wait(lambda: len(pages.run_names()) > 1, "it does not unfold")
    assert set(pages.run_names()) == {done.name, *done.children}


def test_the_view_of_the_objective_is_a_leaderboard(pages: Pages, done: Finished) -> None:
    open_view(pages, done, "TABLE")
    assert pages.run_names() == best_first(done)
    shown = [float(text.rstrip("…")) for text in pages.column(f"metrics.`{OBJECTIVE}`")]
    assert shown == pytest.approx([done.rows[label]["value"] for label in best_first(done)], rel=0.01)
    rates = [float(text.rstrip("…")) for text in pages.column("params.`max_lr_gen`")]
    assert rates == pytest.approx(
        [done.rows[label]["hyperparameters"]["max_lr_gen"] for label in best_first(done)], rel=0.01
    )


def open_view(pages: Pages, done: Finished, mode: str) -> None:
    page = f"/experiments/{done.parent.info.experiment_id}/runs{RUNS}&viewStateShareKey={OBJECTIVE}"
    pages.open(f"{page}&compareRunsMode={mode}")
    pages.see('[data-testid="saved-views-trigger"]', f"best by {OBJECTIVE}")
    pages.wait(lambda: len(pages.run_names()) == len(best_first(done)), "not all complete trials")


# ---------------------------------------------------------------- comparing trials


def test_selected_trials_compare_as_parallel_coordinates_and_as_curves(pages: Pages, done: Finished) -> None:
    unfold(pages, done)
    for run in done.children.values():
        pages.click(f'.ag-row[row-id="{run.info.run_id}"] .ag-checkbox-input-wrapper')
    pages.click('[data-testid="runs-compare-button"]')
    pages.see("h1, h2, h3", f"Comparing {len(done.children)} Runs from 1 Experiment")
    choose_axes(pages, "gan", "max_lr_gen", "pct_start", "normalise")
    assert pages.coloured_share(".js-plotly-plot") > 0.005
    follow_metric(pages, OBJECTIVE)
    pages.wait(lambda: len(pages.plots("scatter")) >= len(done.children), "not all curves")
    assert_one_curve_each(pages, done)


def choose_axes(pages: Pages, *axes: str) -> None:
    """MLflow itself takes the first three hyperparameters by the alphabet that differ."""
    pages.wait(lambda: pages.plots("parcoords"), "no parallel coordinates")
    pages.click('[data-testid="clear-button"]')
    for place, names in enumerate([axes, [OBJECTIVE]]):
        pages.all("[class*=select-selector]")[place].click()
        for name in names:
            pages.click(f'[class*=select-item-option][title="{name}"]')
        pages.click("h1, h2, h3", "Comparing")  # away from the list

    def drawn() -> bool:
        return [[label for label, _ in plot["dimensions"]] for plot in pages.plots("parcoords")] == [[*axes, OBJECTIVE]]

    pages.wait(drawn, f"not the axes {axes}")


def follow_metric(pages: Pages, name: str) -> None:
    """Through the table of metrics, which holds only the lines near the window."""

    def found() -> WebElement | None:
        links = pages.all('a[href*="/metric?"]')
        if named := [link for link in links if link.get_attribute("textContent") == name]:
            return named[0]
        pages.script("arguments[0].scrollIntoView({block: 'nearest'})", links[-1])
        return None

    pages.script("arguments[0].click()", pages.wait(found, f"no line of {name}"))


def assert_one_curve_each(pages: Pages, done: Finished) -> None:
    curves = {trace["name"]: trace for trace in pages.plots("scatter")}
    assert set(curves) == set(done.children)
    for label, curve in curves.items():
        assert list(zip(curve["x"], curve["y"], strict=True)) == done.curve(label, OBJECTIVE)


def test_the_view_has_curves_and_parallel_coordinates_first(pages: Pages, done: Finished) -> None:
    open_view(pages, done, "CHART")
    section = pages.see('[data-testid="experiment-view-compare-runs-section-header"]')
    assert section.text.startswith("Objective")
    pages.wait(lambda: len(pages.plots("scatter")) >= len(best_first(done)), "not all curves")
    pages.see(f"{CARD} canvas")
    pages.wait(lambda: pages.coloured_share(f"{CARD}:has(canvas)") > 0.005, "no parallel coordinates")
    pages.shoot("charts", 760)


def test_trials_of_any_outcome_compare(pages: Pages, fates: Finished) -> None:
    """MLflow 3.17 breaks where one run has files beside its folders and another one has nothing."""
    ids = [fates.children[label].info.run_id for label in ("good", "bad")]
    pages.open(f"/compare-runs?runs={json.dumps(ids)}&experiments={json.dumps([fates.parent.info.experiment_id])}")
    pages.see("h2", "No common artifacts to display")


# ---------------------------------------------------------------- one run


def test_a_search_says_what_came_of_it(pages: Pages, done: Finished) -> None:
    pages.open(f"/experiments/{done.parent.info.experiment_id}/runs/{done.parent.info.run_id}{RUNS}")
    pages.click("button", "Show more")
    table = pages.see("table", "trial")
    cells = [row.text for row in table.find_elements("css selector", "tbody tr")]
    assert len(cells) == len(best_first(done)) + 2  # the naive predictors
    pages.see("pre", "python -m search.run zdc")
    pages.see('[data-testid="key-value-Source"]', "search.run zdc")
    pages.shoot("search", 790)


def test_a_trial_begins_with_its_objective(pages: Pages, done: Finished) -> None:
    best = done.parent.data.tags["best_run"]
    pages.open(f"/experiments/{done.parent.info.experiment_id}/runs/{best}{RUNS}")
    first = pages.see("[role=row] a")
    assert first.text == OBJECTIVE
    pages.open(f"/experiments/{done.parent.info.experiment_id}/runs/{best}/model-metrics{RUNS}")
    pages.see("input[placeholder='Search metric charts']").send_keys(OBJECTIVE)
    own = [name for name in done.children[done.parent.data.tags["best_trial"]].data.metrics if OBJECTIVE in name]
    for css in (CARD, f"{CARD} .js-plotly-plot"):
        pages.wait(lambda css=css: len(pages.all(css)) == len(own), "not the charts of the objective, its error, ...")
    curve = {tuple(zip(trace["x"], trace["y"], strict=True)) for trace in pages.plots("scatter")}
    assert tuple(done.curve(done.parent.data.tags["best_trial"], OBJECTIVE)) in curve


def artifact(name: str) -> str:
    """A file or folder in the tree of a run's artifacts."""
    return f'[data-testid="artifact-tree-node"][artifact-name="{name}"]'


def test_figures_are_drawn(pages: Pages, done: Finished) -> None:
    best = done.parent.data.tags["best_run"]
    pages.open(f"/experiments/{done.parent.info.experiment_id}/runs/{best}/artifacts{RUNS}")
    pages.click(artifact("report"))
    pages.click(artifact("masks.png"))
    figure = 'img[alt="report/masks.png"]'
    pages.wait(lambda: pages.script("return arguments[0].naturalWidth", pages.see(figure)) > 500, "no figure is loaded")


def numbers(row: list[str]) -> list[str | float]:
    """Those of a row: the page writes small ones out."""
    return [float(cell) if cell[:1].isdigit() or cell[:1] == "-" else cell for cell in row]


CELLS = """
return [...document.querySelectorAll('table tr')].map(row =>
    [...row.querySelectorAll('th, td')].map(cell => cell.textContent.trim()))"""


def test_the_leaderboard_is_a_table(pages: Pages, done: Finished) -> None:
    run_id = done.parent.info.run_id
    pages.open(f"/experiments/{done.parent.info.experiment_id}/runs/{run_id}/artifacts{RUNS}")
    pages.click(artifact("leaderboard.csv"))
    pages.see("table", "mean-mask-per-bin")
    shown = [numbers(row) for row in pages.script(CELLS) if any(row)]
    file = io.StringIO(done.artifact(done.parent, "leaderboard.csv"))
    assert shown == [numbers(row) for row in csv.reader(file)]


# ---------------------------------------------------------------- the registry


def test_the_registry_shows_the_champion(pages: Pages, done: Finished, champion: str) -> None:
    pages.open(f"/models{RUNS}")
    pages.close('[role=dialog] button[aria-label="Close"]')  # what is new in it, once for each browser
    pages.see("[role=row]", "champion")
    pages.click("a", "zdc")
    pages.see('[data-testid="model-version-table"]', "champion")
    pages.click("a", f"Version {champion}")
    card = pages.see("[data-testid=note-view-outer-container]")
    assert "mean-mask-per-bin" in card.text
    for text in ("@ champion", done.name, done.parent.data.tags["best_trial"]):
        pages.see("main", text)
    pages.shoot("champion", 750)
