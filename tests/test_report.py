"""Laws of the report page: it opens without a network, says what happened, and costs no search anything."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from browser import browser, console_errors, requested
from finished import Finished, registered, run_search
from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import WebDriverWait
from tiny import make_tiny
from written import Fate, WrittenSearch, write_search

import search.report
from search.reporting.html.agreement_plots import FEWEST, agreement_graph, rank_agreement
from search.reporting.html.load import SearchSnapshot, list_searches, read_search
from search.reporting.html.outcome_plots import compute_by_outcome, generalise, group_by_reason, split_regions
from search.reporting.html.overlay import group_comparable, overlay_graphs
from search.reporting.html.progress_plots import best_so_far, cumulative_seconds, front_graphs
from search.reporting.html.render import render_overlay, render_page
from search.reporting.leaderboard import number
from search.storage.location import Storage
from search.workloads import WORKLOADS

STOPPED = Fate("stopped_early", "scheduler", epochs=2)
DIVERGED = Fate("diverged", "not_finite in epoch 3: loss = inf", epochs=2)
FAILED = Fate("failed", "worker died: node 17", epochs=1)
MIXED = [Fate(), STOPPED, DIVERGED, FAILED, *[Fate()] * 6, STOPPED, FAILED]
EVIL_NAME = "<img src=x onerror=broken()>"
EVIL_TEXT = "</script><script>broken()</script>{{ 7 * 7 }}"


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    with registered(make_tiny()):
        yield


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., SearchSnapshot]:
    """``written(name, fates, objective=..., ...)``: the search, read back from its folder."""

    def write(name: str, fates: list[Fate], **told: Any) -> SearchSnapshot:
        write_search(tmp_path, name, fates, WrittenSearch(**told))
        return read_search(Storage(tmp_path), name)

    return write


def figures(page: str) -> list[dict[str, Any]]:
    """Data and layout of every figure of a page."""
    return [json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)]


def words(page: str) -> str:
    """What a page says, without its scripts, its styles and its tags."""
    bare = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", bare)))


def without_libraries(page: str) -> str:
    """A page without plotly.js."""
    before, _, after = page.partition("<script>/**\n* plotly.js")
    assert after, "plotly.js is not where it is looked for"
    return before + after.partition("</script>")[2]


# ---------------------------------------------------------------- searches of every kind


CASES: dict[str, tuple[list[Fate], dict[str, Any], list[str]]] = {
    "nothing has started": ([], {"leaderboard": False}, ["No trial has started yet", "No trial is complete"]),
    "one trial": (
        [Fate()],
        {},
        ["1 of 1 trials complete", "at least 5 complete trials; there is 1", "need two complete trials; there is 1"],
    ),
    "none complete": (
        [DIVERGED, FAILED, STOPPED],
        {},
        ["No trial is complete: nothing is ranked", "there is none", "0 of 3 trials complete"],
    ),
    "none has a value": ([DIVERGED, FAILED], {}, ["No trial has a value of loss yet"]),
    "only presets": (
        [Fate()] * 5,
        {"presets": {f"preset-{n}": {"x": n / 10, "y": 0.0} for n in range(5)}},
        ["Only presets are complete", "5 of 5 trials complete"],
    ),
    "a parameter without variance": (
        [Fate()] * 6,
        {"presets": {f"preset-{n}": {"x": 0.1 * n, "y": 0.5} for n in range(5)}},
        ["6 of 6 trials complete", "From 6 complete trials only: a hint, no more"],
    ),
    "the same value again and again": (
        [Fate()] * 5,
        {"objective": "size", "presets": {f"preset-{n}": {"x": n / 8, "y": 0.75 - n / 8} for n in range(1, 6)}},
        ["All complete trials have the same value: no parameter matters"],
    ),
    "the same point again and again": (
        [Fate()] * 5,
        {"presets": {f"preset-{n}": {"x": 0.1, "y": 0.5, "slope": 0.1 * n} for n in range(5)}},
        ["Only presets are complete", "All complete trials have the same parameters"],
    ),
    "several objectives, none complete": (
        [STOPPED, FAILED],
        {"objective": "loss,size"},
        ["there is no front", "loss (minimised) and size (minimised)"],
    ),
    "beyond the limits": ([Fate()] * 6, {"limit": ("size=0.000001",)}, ["0 of 6 complete trials keep it"]),
    "interrupted": (
        [Fate(), Fate("interrupted", epochs=2)],
        {"status": "KILLED"},
        ["This search is not whole: it was interrupted", "--resume", "1 interrupted"],
    ),
    "it failed": ([Fate()], {"status": "FAILED", "leaderboard": False}, ["ended by an error", "Made for this page"]),
    "died": ([Fate(), Fate(None, epochs=1)], {"status": None, "leaderboard": False}, ["1 interrupted", "--resume"]),
}


@pytest.mark.parametrize("case", CASES)
def test_every_search_has_a_page_that_says_how_it_stands(written: Callable[..., SearchSnapshot], case: str) -> None:
    fates, told, said = CASES[case]
    page = render_page(written("any", fates, **told))
    for sentence in said:
        assert sentence in words(page), sentence
    for figure in figures(page):
        assert figure["data"]


def test_a_search_that_runs_has_a_page_that_says_so(tmp_path: Path) -> None:
    told = WrittenSearch(status=None, leaderboard=False)
    folder = write_search(tmp_path, "now", [Fate(), Fate(None, epochs=1)], told)
    owner = {"host": os.uname().nodename, "pid": os.getpid()}
    (folder / "owner.json").write_text(json.dumps(owner))
    searched = read_search(Storage(tmp_path), "now")
    assert searched.state == "running"
    assert [searched.outcome_of(record) for record in searched.records] == ["complete", "running"]
    assert "This search is running" in words(render_page(searched))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (folder / "owner.json").write_text(json.dumps({**owner, "pid": dead.pid}))
    assert read_search(Storage(tmp_path), "now").state == "interrupted"


def test_a_search_that_goes_on_is_shown_as_it_is_now_with_the_naive_predictors_of_before(tmp_path: Path) -> None:
    """The leaderboard in the folder is of its last end."""
    folder = write_search(tmp_path, "more", [Fate()] * 3, WrittenSearch(status=None))
    board = json.loads((folder / "leaderboard.json").read_text())
    board["rows"] = [row for row in board["rows"] if row["number"] != 2]
    (folder / "leaderboard.json").write_text(json.dumps(board))
    searched = read_search(Storage(tmp_path), "more")
    assert not searched.leaderboard_is_stored
    assert {row.number for row in searched.leaderboard.rows} == {0, 1, 2, None}
    assert [row.metrics for row in searched.leaderboard.rows if row.kind == "naive"] == [{"loss": 1.0, "size": 1.0}]


def test_reading_a_search_changes_nothing_of_it(tmp_path: Path) -> None:
    folder = write_search(tmp_path, "still", MIXED)

    def state() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before = state()
    render_page(read_search(Storage(tmp_path), "still"))
    assert state() == before


# ---------------------------------------------------------------- what its figures say


def test_only_complete_trials_are_the_best_so_far(written: Callable[..., SearchSnapshot]) -> None:
    """Pitfall 3: the stopped trials have the least values here, after two epochs."""
    flattered = {"slope": 5.0}
    presets = {f"steep-{n}": {"x": 0.3, "y": 0.0, **flattered} for n in range(2)} | {"flat": {"x": 0.9, "y": 0.9}}
    searched = written("traps", [Fate(), STOPPED, Fate(), *[Fate()] * 2], presets=presets)
    steps = best_so_far(searched, "loss", {record.number: record.number for record in searched.records})
    complete = {row.number: row.value for row in searched.leaderboard.rows if row.rank}
    assert searched.records[1].metrics["loss"] < complete[0]
    assert steps.y == [min(value for n, value in complete.items() if n <= place) for place in steps.x]
    assert steps.y[-1] == searched.leaderboard.best.value  # type: ignore[union-attr]


def test_the_best_so_far_heeds_the_limits(written: Callable[..., SearchSnapshot]) -> None:
    presets = {"large": {"x": 0.3, "y": 0.0}, "small": {"x": 0.1, "y": 0.0}}
    searched = written("limited", [Fate()] * 2, presets=presets, limit=("size=0.2",))
    steps = best_so_far(searched, "loss", {0: 0.0, 1: 1.0})
    assert steps.labels == ["large", "small", "small"]
    assert steps.y[0] < steps.y[1]


def crossing(count: int) -> dict[str, dict[str, Any]]:
    """Presets whose curves cross between epoch 2 and 3: at epoch 1 their order is the reverse of the last one."""
    return {f"crossing-{n}": {"x": 0.3, "y": (0.1 * n) ** 0.5, "slope": -0.04 * n} for n in range(count)}


@pytest.mark.parametrize("mirrored", [False, True])
def test_rank_agreement_is_of_the_curves_of_complete_trials(
    written: Callable[..., SearchSnapshot], mirrored: bool
) -> None:
    fates = [Fate()] * FEWEST + [STOPPED, STOPPED, replace(STOPPED, reason="time limit"), DIVERGED]
    searched = written("crossing", fates, presets=crossing(FEWEST), mirrored=mirrored)
    curve = rank_agreement(searched)
    assert [one.epoch for one in curve] == list(range(1, searched.description["epochs"]))
    assert [one.rho for one in curve] == pytest.approx([-1 if one.epoch < 3 else 1 for one in curve])
    assert {one.trials for one in curve} == {FEWEST}
    drawn = agreement_graph(searched)
    assert drawn is not None
    (bars,) = (trace for trace in drawn.content["data"] if trace["type"] == "bar")
    assert (bars["x"], bars["y"]) == ([2], [2]), "what a time limit stopped says nothing of rungs"


def test_the_interval_of_a_rank_agreement_holds_it_and_narrows_with_more_trials(
    written: Callable[..., SearchSnapshot],
) -> None:
    slopes = {f"mixed-{n}": {"x": 0.3, "y": 0.1 * (7 * n % 10), "slope": 0.01 * n} for n in range(10)}
    few, many = (rank_agreement(written(f"of-{n}", [Fate()] * n, presets=slopes))[0] for n in (FEWEST, 40))
    for one in (few, many):
        assert -1 < one.low < one.rho < one.high < 1
    assert many.high - many.low < few.high - few.low


def test_rank_agreement_needs_trials_enough_and_one_objective(written: Callable[..., SearchSnapshot]) -> None:
    few = agreement_graph(written("few", [Fate()] * (FEWEST - 1) + [STOPPED]))
    assert few is not None
    assert few.figure is None
    assert few.note == "Needs 8 complete trials with their points unchanged; there are 7."
    assert agreement_graph(written("two", [Fate()] * FEWEST, objective="loss,size")) is None


def test_compute_adds_up(written: Callable[..., SearchSnapshot]) -> None:
    searched = written("adds", MIXED)
    places, total = cumulative_seconds(searched.records)
    assert total == pytest.approx(searched.leaderboard.compute_hours * 3600)
    assert max(places.values()) == total == sum(one.seconds for one in compute_by_outcome(searched))
    ends = {record.number: (record.ended, record.seconds) for record in searched.records}
    for place, (ended, _) in ends.items():
        assert places[place] == pytest.approx(sum(seconds for other, seconds in ends.values() if other <= ended))
    assert sorted(places, key=places.__getitem__) != sorted(places), "they end in order: the test shows nothing"
    assert sum(one.saved_seconds for one in compute_by_outcome(searched)) == pytest.approx(
        searched.leaderboard.saved_hours * 3600
    )
    assert sum(one.saved_seconds for one in compute_by_outcome(searched)) == pytest.approx(
        2 * 8.0
    )  # two trials, two epochs of 4 s


def test_every_trial_is_in_one_region_of_each_parameter(written: Callable[..., SearchSnapshot]) -> None:
    searched = written("regions", MIXED * 3)
    for name in ("x", "y"):
        regions = split_regions(searched, name)
        numbers = [record.number for region in regions for record in region.records]
        assert sorted(numbers) == [record.number for record in searched.records]
        assert len({region.label for region in regions}) == len(regions)
    quarters = [region.records for region in split_regions(searched, "x")]
    assert len(quarters) == 4
    assert all(abs(len(records) - len(searched.records) / 4) <= 2 for records in quarters)
    for low, high in pairwise(quarters):
        assert max(r.hyperparameters["x"] for r in low) <= min(r.hyperparameters["x"] for r in high)
    unset = split_regions(searched, "y")[-1]
    assert unset.label == "not set"
    assert all(record.hyperparameters["x"] <= 0 for record in unset.records)


def test_reasons_are_grouped_without_their_numbers(written: Callable[..., SearchSnapshot]) -> None:
    fates = [Fate(), replace(FAILED, reason="worker died: node 18"), FAILED, DIVERGED]
    groups = {(one.outcome, one.reason): one for one in group_by_reason(written("why", fates))}
    assert set(groups) == {("complete", ""), ("failed", "worker died: node …"), ("diverged", "not_finite")}
    assert groups["failed", "worker died: node …"].labels == ["trial-001", "trial-002"]
    assert generalise("not_finite in epoch 12: loss = nan") == "not_finite"


def test_the_front_is_marked_as_the_leaderboard_has_it(written: Callable[..., SearchSnapshot]) -> None:
    presets = {"small": {"x": 0.02, "y": 0.0}, "sharp": {"x": 0.3, "y": 0.0}, "worse": {"x": 0.6, "y": 0.5}}
    searched = written("front", [Fate()] * 8, presets=presets, objective="loss,size")
    (graph,) = front_graphs(searched)
    traces = {trace["name"]: trace for trace in graph.content["data"]}
    shown = set(zip(traces["Pareto front"]["x"], traces["Pareto front"]["y"], strict=True))
    assert shown == {(row.metrics["loss"], row.metrics["size"]) for row in searched.leaderboard.front}
    assert len(traces["not in the front"]["x"]) == 8 - len(shown) > 0
    assert len(traces["naive predictors"]["x"]) == 1


def test_optunas_figures_show_the_searched_parameters_of_complete_trials(
    written: Callable[..., SearchSnapshot],
) -> None:
    searched = written("many", MIXED * 2)
    drawn = figures(render_page(searched))
    (importance,) = (
        one for one in drawn if one["layout"]["xaxis"].get("title", {}).get("text") == "share of importance"
    )
    assert set(importance["data"][0]["y"]) == {"x", "y"}
    assert sum(importance["data"][0]["x"]) == pytest.approx(1)
    (parallel,) = (one for one in drawn if one["layout"]["xaxis"].get("ticktext", [])[:1] == ["loss"])
    assert parallel["layout"]["xaxis"]["ticktext"] == ["loss", "x", "y"]
    assert sum(trace["mode"] == "lines" for trace in parallel["data"]) == len(searched.complete) == 14
    slices = [one for one in drawn if one["layout"]["xaxis"].get("title", {}).get("text") in ("x", "y")]
    values = {record.metrics["loss"] for record in searched.complete}
    assert {value for one in slices for value in one["data"][0]["y"]} == values
    numbers = {number for one in slices for number in one["data"][0]["marker"]["color"]}
    assert numbers == {record.number for record in searched.complete}


def test_slices_show_trials_beyond_a_limit_too(written: Callable[..., SearchSnapshot]) -> None:
    page = render_page(written("beyond", [Fate()] * 6, limit=("size=0.5",)))
    (one,) = (one for one in figures(page) if one["layout"]["xaxis"].get("title", {}).get("text") == "x")
    assert len(one["data"][0]["x"]) == 6
    assert set(one["data"][0]["marker"]["symbol"]) == {"circle", "circle-open"}


# ---------------------------------------------------------------- several searches


def test_values_of_different_versions_share_no_figure(written: Callable[..., SearchSnapshot]) -> None:
    searches = [
        written(name, MIXED, version=v) for name, v in (("one", "tiny-1"), ("two", "tiny-2"), ("six", "tiny-1"))
    ]
    page = render_overlay(searches)
    assert "These searches are of 2 kinds" in words(page)
    assert [[searched.name for searched in group.searches] for group in group_comparable(searches)] == [
        ["one", "six"],
        ["two"],
    ]
    *of_values, _compute = figures(page)
    shown = [{trace.get("name") for trace in figure["data"]} - {None} for figure in of_values]
    assert shown == [{"one", "six"}] * 3 + [{"two"}] * 3


def test_other_differences_are_told(written: Callable[..., SearchSnapshot]) -> None:
    searches = [written("free", MIXED), written("bound", MIXED, limit=("size=0.3",))]
    assert "They have different limits" in words(render_overlay(searches))
    searches = [written("alike", MIXED), written("same", MIXED)]
    assert "different" not in words(render_overlay(searches))


def test_fronts_of_searches_with_different_limits_heed_none(written: Callable[..., SearchSnapshot]) -> None:
    told = {"objective": "loss,size", "presets": {"small": {"x": 0.02, "y": 0.0}, "sharp": {"x": 0.3, "y": 0.0}}}
    bound = written("bound", [Fate()] * 2, limit=("size=0.1",), **told)
    assert [row.label for row in bound.leaderboard.front] == ["small"]
    for other, shown in (("free", 2), ("bound-too", 1)):
        searches = [bound, written(other, [Fate()] * 2, limit=("size=0.1",) * (other != "free"), **told)]
        *_, fronts = overlay_graphs(group_comparable(searches)[0])
        assert [len(trace["x"]) for trace in fronts.content["data"]] == [shown, shown]


def test_an_overlay_ends_each_line_at_the_best_of_its_search(written: Callable[..., SearchSnapshot]) -> None:
    searches = [written("a", MIXED), written("b", MIXED[::-1])]
    (group,) = group_comparable(searches)
    against_trials, against_compute, _ = overlay_graphs(group)
    for graph in (against_trials, against_compute):
        lines = {trace["name"]: trace for trace in graph.content["data"] if trace["mode"] == "lines"}
        for searched in searches:
            assert lines[searched.name]["y"][-1] == searched.leaderboard.best.value  # type: ignore[union-attr]


def test_an_overlay_of_searches_without_a_complete_trial_says_so(written: Callable[..., SearchSnapshot]) -> None:
    page = render_overlay([written("a", [DIVERGED], objective="loss,size"), written("b", [], objective="loss,size")])
    assert "No trial is complete yet" in words(page)


# ---------------------------------------------------------------- the command


def call(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str]:
    code = search.report.main([str(flag) for flag in flags])
    return code, re.sub(r"\s+", " ", capsys.readouterr().out)


@pytest.mark.parametrize("flags", [["--help"], ["a", "--otu", "x"], []])
def test_help_and_a_wrong_flag_load_nothing_heavy(flags: list[str]) -> None:
    heavy = ["torch", "ray", "mlflow", "matplotlib", "optuna", "plotly", "pyarrow", "pandas"]
    script = f"""
import contextlib, sys
import search.report
with contextlib.suppress(SystemExit):
    search.report.main({flags})
loaded = set({heavy}) & sys.modules.keys()
assert not loaded, loaded
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr


def test_an_unknown_name_is_told_with_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("zdc-first", "zdc-second"):
        write_search(tmp_path, name, [Fate()])
    code, text = call(capsys, "zdc-frist", "--storage", tmp_path)
    assert code == 2
    assert "'zdc-frist'. Did you mean zdc-first or zdc-second? There are: zdc-first, zdc-second." in text
    code, text = call(capsys, "../searches/zdc-first", "--storage", tmp_path)
    assert code == 2


def test_a_damaged_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_search(tmp_path, "broken", [Fate()])
    text = (folder / "search.journal").read_text()
    (folder / "search.journal").write_text(text.replace("trial_started", 'trial"started', 1))
    code, said = call(capsys, "broken", "--storage", tmp_path)
    assert code == 2
    assert "damaged" in said
    assert str(folder) in said
    (folder / "search.json").write_text("{}")
    assert call(capsys, "broken", "--storage", tmp_path)[0] == 2


def test_pages_lie_in_the_folders_and_the_overlay_beside_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        write_search(tmp_path, name, MIXED)
    assert list_searches(Storage(tmp_path)) == ["b", "a"]
    code, text = call(capsys, "a", "b", "--storage", tmp_path)
    assert code == 0
    pages = [tmp_path / "searches" / name / "report.html" for name in ("a", "b")]
    pages += [tmp_path / "reports" / "a--b.html"]
    assert all(str(page) in text for page in pages)
    assert [re.search("<title>(.*)</title>", page.read_text()).group(1) for page in pages] == [  # type: ignore[union-attr]
        "a",
        "b",
        "a and b",
    ]
    code, text = call(capsys, "a", "--storage", tmp_path, "--out", tmp_path / "new" / "mine.html")
    assert (code, (tmp_path / "new" / "mine.html").exists()) == (0, True)
    (tmp_path / "file").write_text("")
    code, text = call(capsys, "a", "--storage", tmp_path, "--out", tmp_path / "file" / "mine.html")
    assert code == 2
    assert "cannot be written" in text


def test_a_page_names_no_other_place(written: Callable[..., SearchSnapshot]) -> None:
    searches = [written("a", MIXED), written("b", MIXED)]
    for page in (render_page(searches[0]), render_overlay(searches)):
        own = without_libraries(page)
        assert not re.findall(r"\w+://|@import|url\(", own)
        assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*', own)
        assert "default-src 'none'" in own
        assert page.count("* plotly.js v") == 1


# ---------------------------------------------------------------- in a browser, on real searches


@pytest.fixture(scope="module")
def showers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The real ZDC workload with two objectives: figures in its reports, a front."""
    request.getfixturevalue("ray_here")
    storage = tmp_path_factory.mktemp("showers")
    flags = ("--objective", "mse_high,brier", "--trials", "2", "--epochs", "1", "--presets", "regression-only")
    held = ("--set", "hidden_dim=4", "batch_size=512", "gan=false")
    return run_search(WORKLOADS["zdc"], storage, "two-scores", *flags, *held)


@pytest.fixture(scope="module")
def fates(run_tiny: Callable[..., Finished]) -> Finished:
    """All outcomes, and names and texts that would break a page which does not escape them."""
    presets = {
        EVIL_NAME: {"x": 0.3, "y": 0.0, "crash_marker": EVIL_TEXT},
        "good": {"x": 0.31, "y": 0.0},
        "diverges": {"x": 0.2, "y": 0.0, "diverge_epoch": 3},
        "fails": {"x": 0.1, "y": 0.0, "crash_epoch": 2, "crash_marker": f"no/such/folder/{EVIL_TEXT}"},
    }
    flags = ("--trials", "5", "--scheduler", "asha", "--max-concurrent", "2", "--retries", "0")
    return run_tiny("page-of-fates", *flags, presets=presets)


@pytest.fixture(scope="module")
def offline() -> Iterator[Chrome]:
    with browser(offline=True) as opened:
        yield opened


def opened(page: Path, chrome: Chrome) -> None:
    """Open it and wait until all is drawn; then nothing may have gone wrong."""
    console_errors(chrome), requested(chrome)
    chrome.get(page.as_uri())
    WebDriverWait(chrome, 60).until(lambda _: chrome.execute_script("return document.body.dataset.drawn") == "true")
    assert console_errors(chrome) == []
    assert requested(chrome) == [page.as_uri()]


def looks_right(chrome: Chrome) -> None:
    """Every figure is drawn inside its place, every picture is there, the page is not wider than the screen."""
    graphs = chrome.execute_script(
        "return [...document.querySelectorAll('.graph')].map(place => ({"
        "  traces: (place._fullData || []).length,"
        "  shapes: place.querySelectorAll('.main-svg path, .main-svg .point').length,"
        "  width: place.querySelector('.main-svg')?.getBoundingClientRect().width,"
        "  room: place.getBoundingClientRect().width}))"
    )
    assert len(graphs) > 5
    for graph in graphs:
        assert graph["traces"] > 0
        assert graph["shapes"] > 0
        assert 150 < graph["width"] <= graph["room"] + 1
    script = "return [...document.querySelectorAll('.picture img')].map(image => image.naturalWidth)"
    assert all(width > 100 for width in chrome.execute_script(script))
    assert chrome.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def table(chrome: Chrome) -> list[list[str]]:
    script = (
        "return [...document.querySelectorAll('#board tbody tr')].map(r => [...r.cells].map(c => c.innerText.trim()))"
    )
    rows: list[list[str]] = chrome.execute_script(script)
    return rows


@pytest.mark.slow
def test_the_page_of_a_real_search_opens_without_a_network(showers: Finished, offline: Chrome) -> None:
    assert showers.code == 0, showers.text
    opened(showers.folder / "report.html", offline)
    looks_right(offline)
    pictures = offline.execute_script("return [...document.querySelectorAll('.picture')].map(p => p.innerText.trim())")
    assert {"mse vs energy", "losses", "input distributions"} <= set(pictures)
    best = [row["label"] for row in showers.board["rows"] if row["rank"]][:3]
    assert all(pictures.count(label) == 4 for label in best), pictures  # masks, mse against energy, by epoch, losses
    assert "Pareto front" in offline.execute_script("return document.querySelector('#front').innerText")


@pytest.mark.slow
def test_it_fits_a_narrow_screen(showers: Finished) -> None:
    with browser(offline=True, width=800) as narrow:
        opened(showers.folder / "report.html", narrow)
        looks_right(narrow)


@pytest.mark.slow
def test_its_leaderboard_is_that_of_the_search(showers: Finished, fates: Finished, offline: Chrome) -> None:
    for done in (showers, fates):
        opened(done.folder / "report.html", offline)
        rows = done.board["rows"]
        shown = table(offline)
        assert len(shown) == len(rows)
        for cells, row in zip(shown, rows, strict=True):
            assert cells[1].startswith(row["label"])
            assert cells[1].removeprefix(row["label"]).strip() == ("" if row["kind"] == "trial" else row["kind"])
            assert cells[2].startswith(row["outcome"].replace("_", " "))
            assert cells[3].split(" ")[0] == number(row["value"])
            rank = "★" if row["front"] else ""
            assert cells[0] == (rank if len(done.board["objectives"]) > 1 else str(row["rank"] or ""))


@pytest.mark.slow
def test_nothing_in_a_search_can_break_its_page(fates: Finished, offline: Chrome) -> None:
    assert EVIL_TEXT in fates.rows["fails"]["reason"]
    assert fates.rows[EVIL_NAME]["hyperparameters"]["crash_marker"] == EVIL_TEXT
    opened(fates.folder / "report.html", offline)
    looks_right(offline)
    assert any(cells[1].startswith(EVIL_NAME) for cells in table(offline))
    assert offline.execute_script("return document.querySelectorAll('img[src=x]').length") == 0
    hover = offline.execute_script(
        "return [...document.querySelectorAll('.graph')].flatMap(g => g.data).flatMap(t => t.hovertext || [])"
    )
    assert any("&lt;img" in text for text in hover)
    assert not any("<img" in text or "<script" in text for text in hover)


@pytest.mark.slow
def test_a_click_sorts_the_leaderboard_and_enlarges_a_picture(showers: Finished, offline: Chrome) -> None:
    opened(showers.folder / "report.html", offline)
    heading = offline.find_elements("css selector", "#board thead th")[3]
    values = [row["value"] for row in showers.board["rows"] if row["value"] is not None]
    for expected in (sorted(values), sorted(values, reverse=True)):
        offline.execute_script("arguments[0].click()", heading)
        assert [cells[3].split(" ")[0] for cells in table(offline)][: len(values)] == [number(v) for v in expected]
    offline.execute_script("document.querySelector('.picture img').click()")
    assert offline.execute_script("return document.querySelector('dialog[open] img').naturalWidth") > 100


@pytest.mark.slow
def test_the_overlay_opens_without_a_network(
    showers: Finished, fates: Finished, offline: Chrome, tmp_path: Path
) -> None:
    searches = [read_search(Storage(done.storage), done.name) for done in (showers, fates)]
    page = tmp_path / "overlay.html"
    page.write_text(render_overlay(searches))
    opened(page, offline)
    looks_right(offline)
    assert offline.execute_script("return document.querySelectorAll('.picture img').length") >= 2


@pytest.mark.slow
def test_mlflow_has_the_page(fates: Finished) -> None:
    assert "report.html" in fates.files(fates.parent)
    assert fates.artifact(fates.parent, "report.html") == (fates.folder / "report.html").read_text()
    assert f"report   {fates.folder / 'report.html'}" in fates.text


@pytest.mark.slow
def test_more_trials_renew_the_page(run_tiny: Callable[..., Finished]) -> None:
    def run(*flags: str) -> Finished:
        return run_tiny("renewed", "--scheduler", "none", *flags)  # ASHA may stop the later trials early

    run("--trials", "1")
    assert "1 of 1 trials complete" in words((run("--resume").folder / "report.html").read_text())
    more = run("--trials", "+2")
    for page in ((more.folder / "report.html").read_text(), more.artifact(more.parent, "report.html")):
        assert "3 of 3 trials complete" in words(page)


@pytest.mark.slow
def test_a_page_that_cannot_be_written_costs_the_search_nothing(
    run_tiny: Callable[..., Finished], storage: Path
) -> None:
    (storage / "searches" / "pageless" / "report.html").mkdir(parents=True)
    done = run_tiny("pageless", "--trials", "1")
    assert done.code == 0
    assert "warning  report page not written: IsADirectoryError" in done.text
    assert done.parent.info.status == "FINISHED"
