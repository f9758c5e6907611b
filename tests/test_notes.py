"""Laws of what people read in MLflow: descriptions that keep what people write, and views of the trials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import RecordedSearch, facts_of, record
from specs import spec_of
from tiny import make_tiny

from search.config.settings import Method, Site
from search.config.spec import SearchSpec
from search.reporting.leaderboard import Leaderboard, LeaderboardSpec
from search.reporting.mlflow_notes import opening_note, record_opening, record_result, result_note, result_views
from search.reporting.ranking import make_leaderboard
from search.storage.trial_record import TrialRecord
from search.tracking.client import Experiment, open_experiment
from search.tracking.mlflow_ui import LONGEST, NOTE, colour, view_tag, with_links, with_result
from trainables.base.objectives import Constraint


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return open_experiment(None, tmp_path_factory.mktemp("notes"), "tiny")


@pytest.fixture
def recorded(experiment: Experiment, tmp_path: Path) -> RecordedSearch:
    return RecordedSearch(experiment, facts_of(experiment, token=tmp_path.name), tmp_path)


def plan_of(objective: str = "loss") -> SearchSpec:
    workload = replace(make_tiny(known={"x": 0.3}), columns=("size",), constraints=(Constraint("size", 0.5),))
    return spec_of(workload, method=Method(objective=objective), site=Site(name="s"))


def ended(number: int, loss: float, preset: str | None = None) -> TrialRecord:
    metrics = {"loss": loss, "loss_error": 0.01, "size": 0.1 * number}
    trial = record(number, outcome="complete", epoch=4, metrics=metrics, best={"epoch": 3, "value": loss}, seconds=60.0)
    trial.preset, trial.hyperparameters = preset, {"x": loss, "epochs": 4, "seed": number}
    return trial


def board_of(*records: TrialRecord, objective: str = "loss") -> Leaderboard:
    plan = plan_of(objective)
    spec = LeaderboardSpec(plan.name, plan.workload.name, plan.goal, plan.workload.columns, "tiny-1")
    return make_leaderboard(spec, records, {"guess": {"loss": 1.0, "size": 1.0}})


def test_trials_need_not_have_the_same_metrics() -> None:
    """As those of a GAN and of a regression alone: only what all have can have an axis."""
    for better, worse in ((0.4, 0.7), (0.7, 0.4)):
        gan, plain = ended(1, better), ended(2, worse)
        gan.metrics = {**gan.metrics, "loss_discriminator": 0.3}
        views = result_views(board_of(gan, plain), 0)
        assert "loss_discriminator" not in str(views)
        assert '"scaleType\\": \\"log' in views[view_tag("loss")]


TWO = (ended(0, 0.7, preset="known"), ended(1, 0.4))


# ---------------------------------------------------------------- words


def test_a_result_begins_with_the_counts_the_best_trial_and_the_way_to_all() -> None:
    failed = record(2, outcome="failed", reason="OSError: gone")
    first, *_ = result_note(board_of(*TWO, failed)).splitlines()
    assert first.startswith("**2 complete, 1 failed** · loss (minimised) · best: [trial-001](trial:1) with 0.4 · ")
    assert first.endswith("(view:loss)")


def test_a_result_holds_the_leaderboard_as_a_table_with_a_link_for_each_trial() -> None:
    lines = [line for line in result_note(board_of(*TWO)).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["", "trial", "loss", "size", "best epoch", "min"]
    assert [row[1] for row in cells[2:]] == ["[trial-001](trial:1)", "[known](trial:0)", "guess"]
    assert cells[2] == ["1", "[trial-001](trial:1)", "0.4 +- 0.01", "0.1", "3 of 4", "1.0"]
    assert "guess: the best trial beats it on loss (0.4 against 1)" in result_note(board_of(*TWO))


def test_a_search_without_a_complete_trial_says_why() -> None:
    failed = [record(number, outcome="failed", reason="OSError: gone") for number in range(3)]
    note = result_note(board_of(*failed, record(3, outcome="diverged", reason="not finite")))
    assert note.splitlines()[0] == "**1 diverged, 3 failed** · loss (minimised) · nothing to rank"
    assert note.splitlines()[2:] == ["- 3 times: OSError: gone", "- 1 times: not finite"]


def test_a_long_command_does_not_make_a_wide_page() -> None:
    note = opening_note("python -m search.run zdc --data " + "a/b.root " * 4 + "--trials 3", "4 events\ncache /here")
    assert "- 4 events" in note
    assert "/here" not in note
    assert "\\\n  --trials 3\n" in note


def test_links_lead_to_pages_of_runs_that_are_known() -> None:
    text = "[a](trial:1) [b](trial:2) [all](view:loss) [searches](searches)"
    runs = "#/experiments/7/runs"
    assert with_links(text, "7", {1: "abc"}) == (
        f"[a]({runs}/abc?workflowType=machine_learning) b "
        f"[all]({runs}?workflowType=machine_learning&viewStateShareKey=loss) "
        f"[searches]({runs}?workflowType=machine_learning)"
    )


def test_what_people_have_written_stays_whatever_comes_above_it() -> None:
    once = with_result("first result", "how it began, and what I think of it")
    assert with_result("second result", once) == once.replace("first", "second")
    assert with_result("first result", once) == once
    filled = with_result("r" * LONGEST, "mine")
    assert len(filled) <= LONGEST
    assert filled.endswith("mine")


# ---------------------------------------------------------------- views


def test_trials_that_are_shown_together_have_different_colours() -> None:
    colours_NC = np.array([[int(colour(trial)[place : place + 2], 16) for place in (1, 3, 5)] for trial in range(20)])
    distances_NN = np.linalg.norm(colours_NC[:, None] - colours_NC[None], axis=-1)
    assert distances_NN[np.triu_indices(20, 1)].min() > 40
    assert distances_NN[np.triu_indices(6, 1)].min() > 65


def state_of(tags: Mapping[str, str], name: str = "loss") -> Mapping[str, Any]:
    state: Mapping[str, Any] = json.loads(json.loads(tags[view_tag(name)])["state"])
    return state


def test_only_complete_trials_are_ranked_and_with_what_the_leaderboard_shows() -> None:
    state = state_of(result_views(board_of(*TWO), 5))
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`loss`", True)
    assert "tags.outcome = 'complete'" in state["searchFilter"]
    metrics = [column for column in state["selectedColumns"] if column.startswith("metrics")]
    assert metrics == ["metrics.`loss`", "metrics.`loss_error`", "metrics.`size`"]
    assert "tags.`keeps_limits`" in state["selectedColumns"]


def test_all_trials_have_curves_that_compare_and_no_plane_of_last_values() -> None:
    """The last value of a stopped trial is not that of a whole one."""
    state = state_of(result_views(board_of(*TWO), 5), "loss-all")
    assert state["searchFilter"] == "tags.kind = 'trial'"
    assert "loss" not in state["orderByKey"]
    assert [chart["type"] for chart in state["compareRunCharts"]] == ["LINE", "LINE"]


def test_axes_are_hyperparameters_that_all_trials_have_and_that_differ() -> None:
    """A trial that lacks one would be missing among the parallel coordinates."""
    first, second = ended(0, 0.7), ended(1, 0.4)
    first.hyperparameters |= {"y": 1}
    second.hyperparameters |= {"y": 2, "only": 3}
    (chart,) = (
        one for one in state_of(result_views(board_of(first, second), 5))["compareRunCharts"] if "selectedParams" in one
    )
    assert chart["selectedParams"] == ["x", "y"]
    assert chart["selectedMetrics"] == ["loss"]


def test_two_objectives_have_a_plane_and_a_curve_each() -> None:
    charts = state_of(result_views(board_of(*TWO, objective="loss,size"), 5))["compareRunCharts"]
    assert [chart["type"] for chart in charts] == ["LINE", "LINE", "SCATTER", "PARALLEL"]
    assert [charts[2][axis]["key"] for axis in ("xaxis", "yaxis")] == ["loss", "size"]
    assert [chart["scaleType"] for chart in charts[:2]] == ["log", "linear"]  # a size is zero


# ---------------------------------------------------------------- what arrives


def note_of(recorded: RecordedSearch) -> str:
    note: str = recorded.experiment.client.get_run(recorded.facts.run_id).data.tags[NOTE]
    return note


def test_a_search_is_described_once_however_often_it_is_exported(recorded: RecordedSearch) -> None:
    assert note_of(recorded) == opening_note(
        recorded.experiment.client.get_run(recorded.facts.run_id).data.tags["command"], recorded.facts.source
    )
    for trial in TWO:
        recorded.event_recorder.trial_started(trial)
    record_result(recorded.event_recorder, board_of(*TWO))
    recorded.writer().write(recorded.events())
    once = note_of(recorded)
    assert once.startswith("**2 complete**")
    for run in recorded.runs():
        assert f"/runs/{run.info.run_id}?" in once
    recorded.experiment.client.set_tag(recorded.facts.run_id, NOTE, once + "\nlooks good to me")
    recorded.writer().write(recorded.events())
    assert note_of(recorded) == once + "\nlooks good to me"
    tags = recorded.experiment.client.get_experiment(recorded.experiment.id).tags
    assert state_of(tags)["orderByKey"] == "metrics.`loss`"


def test_an_experiment_is_described_until_somebody_does_it_better(recorded: RecordedSearch) -> None:
    client, experiment_id = recorded.experiment.client, recorded.experiment.id
    record_opening(recorded.event_recorder, plan_of("size").workload, plan_of("size").goal)
    recorded.export()
    tags = client.get_experiment(experiment_id).tags
    assert "[best by size](#/experiments/" in tags[NOTE]
    assert state_of(tags, "size")["orderByKey"] == "metrics.`size`"
    client.set_experiment_tag(experiment_id, NOTE, "ours")
    client.set_experiment_tag(experiment_id, view_tag("size"), "better")
    record_opening(recorded.event_recorder, plan_of("size").workload, plan_of("size").goal)
    recorded.export()
    tags = client.get_experiment(experiment_id).tags
    assert (tags[NOTE], tags[view_tag("size")]) == ("ours", "better")
