"""Searches from Python: flags as keywords, errors as exceptions, results as tables, a process that is left alone."""

from __future__ import annotations

import builtins
import inspect
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished import registered
from promotable import make_promotable
from tiny import TinyData, TinyTraining, make_chain, make_tiny, make_top

import search
import search.run
from search.config.keywords import search_flags
from search.config.settings import Budget, Method, Site
from search.errors import SearchError, UsageError
from search.reporting.console import open_console
from search.tuning.stopping import StopController
from search.workload import Workload
from search.workloads import CHAINS, WORKLOADS
from trainables.base.errors import DataError
from trainables.data.files import DataSettings

ROOT = Path(__file__).parents[1]
SHORT: dict[str, Any] = {"trials": 2, "epochs": 3, "scheduler": "none"}


# ---------------------------------------------------------------- keywords


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"trails": 3}, ["keyword 'trails'", "Did you mean trials"]),
        ({"keep": 3}, ["keyword 'keep'", "keep_checkpoints"]),
        ({"trials": -1}, ["trials=-1", "expected a number of trials"]),
        ({"epochs": 0}, ["epochs=0", "greater than or equal to 1"]),
        ({"epochs": 2.5}, ["epochs=2.5", "integer"]),
        ({"name": "a/b"}, ["letters, digits, dots, dashes", "'a/b'"]),
        ({"time_limit": "5 minutes"}, ["90s, 30m, 1h30m or 2d", "'5 minutes'"]),
        ({"sampler": "tpi"}, ["sampler='tpi'", "cmaes"]),
        ({"objective": "lost"}, ["objective 'lost'", "Did you mean loss?"]),
        ({"set": {"optionel": 3}}, ["hyperparameter 'optionel'", "Did you mean optional"]),
        ({"set": {"epochs": 3}}, ["--epochs"]),
        ({"free": "optinal"}, ["optional hyperparameter 'optinal'"]),
        ({"presets": ["god"]}, ["preset 'god'", "Did you mean good?"]),
        ({"gpus_per_trial": 1.5}, ["gpus_per_trial=1.5", "a fraction below 1 or a whole number"]),
        ({"resume": "maybe"}, ["resume='maybe'", "auto"]),
        ({"resume": True}, ["--name"]),
        ({"trials": 0, "presets": "none"}, ["nothing to run"]),
        ({"validation": "x.root", "validation_share": 0.3}, ["leave --validation-share out"]),
    ],
    ids=str,
)
def test_wrong_keywords_and_values_are_exceptions_with_the_words_of_the_command(
    tmp_path: Path, keywords: dict[str, Any], told: list[str]
) -> None:
    with pytest.raises(UsageError) as error:
        search.run(make_tiny(good={"x": 0.3}), storage=tmp_path, **keywords)
    for words in told:
        assert words in str(error.value)
    assert not (tmp_path / "searches").exists()


def test_wrong_words_of_load_and_promote_are_exceptions_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"keyword 'storag'\. Did you mean storage"):
        search.load("first", storag=tmp_path)
    with pytest.raises(UsageError, match=r"no search in .* 'first'"):
        search.load("first", storage=tmp_path)
    with pytest.raises(UsageError, match=r"keyword 'sead'\. Did you mean seeds"):
        search.promote("zdc", sead=3, storage=tmp_path)
    with pytest.raises(UsageError, match="expected at least 1"):
        search.promote("zdc", seeds=0, storage=tmp_path)
    with pytest.raises(UsageError, match=r"workload 'pt-energi'\. Did you mean pt-energy"):
        search.run("pt-energi")
    with pytest.raises(UsageError, match="cannot be promoted"):
        search.promote(make_tiny(), storage=tmp_path)


def test_bad_data_is_the_exception_that_it_is(tmp_path: Path) -> None:
    def load_data(*_: Any) -> TinyData:
        raise DataError("a.root: expected [a tree], found 0 bytes. Copy it again.")

    with pytest.raises(DataError, match=r"expected \[a tree\]"):
        search.run(replace(make_tiny(), load_data=load_data), storage=tmp_path)


def test_several_words_are_a_string_a_path_or_a_list() -> None:
    def data(value: Any) -> tuple[str, ...]:
        return search_flags(DataSettings, {"data": value}).data.data

    assert data("shapes/*.parquet") == ("shapes/*.parquet",)
    assert data(Path("a") / "b.root") == ("a/b.root",)
    assert data([Path("a.root"), "b.root"]) == ("a.root", "b.root")
    assert data(None) == ()


def test_values_of_python_become_those_of_the_flags(tmp_path: Path) -> None:
    flags = search_flags(
        DataSettings,
        {
            "set": {"lr": 1e-3, "gan": True},
            "constraint": {"bias": 0.02},
            "objective": ["loss", "size"],
            "presets": ("a", "b"),
            "resume": True,
            "trials": np.int64(4),
            "epochs": np.int64(5),
            "storage": tmp_path,
            "max_concurrent": None,
            "json": str(tmp_path / "board.json"),
        },
    )
    assert flags.method == Method(
        set=("lr=0.001", "gan=True"), constraint=("bias=0.02",), objective="loss,size", presets="a,b"
    )
    assert (flags.site.resume, flags.site.storage) == ("yes", str(tmp_path))
    assert (flags.budget.trials, flags.budget.epochs, flags.budget.max_concurrent) == ("4", 5, None)
    assert flags.json == tmp_path / "board.json"


def test_the_signature_shows_every_flag() -> None:
    from search.api import run

    shown = inspect.signature(run).parameters
    fields = {name for model in (DataSettings, Budget, Method, Site) for name in model.model_fields}
    assert fields <= shown.keys()


def test_the_functions_are_there_whether_the_commands_are_imported_or_not() -> None:
    script = """
from search import run, load
from inspect import isfunction
assert isfunction(run)
import search, search.run, search.promote
assert search.run.main
for called in (search.run, search.promote):
    try:
        called("zcd")
        raise SystemExit("no error")
    except search.UsageError as error:
        assert "zdc" in str(error)
heavy = {"ray", "mlflow"}
import sys
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr


# ---------------------------------------------------------------- results


class Loadable(TinyTraining):
    """Says how a model is made of weights."""

    @classmethod
    def from_weights(cls, config: Any, weights: dict[str, Any], device: Any) -> tuple[Any, ...]:
        return config.x, float(weights["x"]), device.type


def loadable(**presets: dict[str, Any]) -> Workload:
    return replace(make_tiny(**presets), training=Loadable)


@pytest.fixture(scope="module")
def first(ray_here: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:  # noqa: ARG001 - it runs
    """A search of three trials, one of which fails."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    folder = tmp_path_factory.mktemp("first")
    workload = loadable(good={"x": 0.3, "y": 0.0}, bad={"x": 0.2, "y": 0.0, "crash_epoch": 2})
    with registered(workload):
        yield search.run(workload, storage=folder, name="first", retries=0, **SHORT)
    assert ray.is_initialized(), "a Ray of the caller stays"


def board(result: Any) -> dict[str, dict[str, Any]]:
    """Trials of the file leaderboard.json by label."""
    rows = json.loads((result.path / "leaderboard.json").read_text())["rows"]
    return {row["label"]: row for row in rows if row["number"] is not None}


def test_the_table_of_trials_agrees_with_the_leaderboard(first: Any) -> None:
    table, rows = first.trials.set_index("label"), board(first)
    assert list(first.trials.columns[:7]) == ["number", "label", "outcome", "reason", "value", "error", "loss"]
    assert list(table.index) == list(rows)
    for label, row in rows.items():
        line = table.loc[label]
        assert (line["number"], line["outcome"], line["reason"]) == (row["number"], row["outcome"], row["reason"])
        assert {name: line[name] for name in row["hyperparameters"]} == row["hyperparameters"]
        assert line["seconds"] == row["seconds"]
        if row["outcome"] == "complete":
            assert line["value"] == line["loss"] == row["value"]
        else:
            assert np.isnan(line["value"])
    assert table.loc["bad", "outcome"] == "failed"


def test_runs_of_the_table_are_those_of_mlflow(first: Any) -> None:
    from mlflow import MlflowClient

    from search.tracking.client import embedded_uri

    client = MlflowClient(embedded_uri(first.path.parents[1]))
    for label, run_id in zip(first.trials["label"], first.trials["run_id"], strict=True):
        assert client.get_run(run_id).info.run_name == label
    assert client.get_run(first.run_id).info.run_name == "first"
    assert client.get_run(first.run_id).data.tags["command"].startswith("search.run(")


def test_curves_are_epochs_by_trials(first: Any) -> None:
    curves = first.curves("loss")
    assert list(curves.index) == [1, 2, 3]
    assert set(curves.columns) == set(board(first))
    for label, row in board(first).items():
        if row["outcome"] == "complete":
            assert curves[label].iloc[-1] == row["value"]
    assert np.isnan(curves.loc[2, "bad"])  # it crashed in its second epoch
    assert first.curves().equals(curves)
    with pytest.raises(UsageError, match=r"metric 'los'\. Did you mean loss"):
        first.curves("los")


def test_the_best_trial_is_the_first_of_the_leaderboard(first: Any) -> None:
    best, row = first.best, board(first)["good"]
    assert (best.label, best.value, best.outcome) == ("good", row["value"], "complete")
    assert best.hyperparameters == row["hyperparameters"]
    assert best.metrics == row["metrics"]
    assert best.model() == (0.3, pytest.approx(0.3), "cpu")
    assert first.trial(best.number).label == first.trial("good").label == "good"
    with pytest.raises(UsageError, match="trial of search 'first'"):
        first.trial("god")
    with pytest.raises(SearchError, match="keep_checkpoints"):
        first.trial("bad").model()


def test_a_training_that_cannot_be_loaded_says_what_to_add(first: Any) -> None:
    again = search.load("first", replace(first.workload, training=TinyTraining), storage=first.path.parents[1])
    with pytest.raises(SearchError, match=r"TinyTraining .* from_weights\(cls, config, weights, device\)"):
        again.best.model()


def test_the_study_is_that_of_the_search(first: Any) -> None:
    assert first.study.study_name == "first"
    assert len(first.study.get_trials()) == len(first.trials)


def test_a_notebook_shows_the_search(first: Any) -> None:
    html = first._repr_html_()
    assert "<b>first</b>, finished" in html
    assert "good" in html
    assert repr(first) == "<search first, finished: 3 complete, 1 failed>"


def test_what_is_loaded_is_what_was_returned(first: Any) -> None:
    again = search.load("first", first.workload, storage=first.path.parents[1])
    assert again.trials.equals(first.trials)
    assert again.curves().equals(first.curves())
    assert (again.code, again.interrupted, again.run_id) == (0, False, first.run_id)
    assert again.leaderboard == first.leaderboard
    assert again.best.model() == first.best.model()


@pytest.mark.slow
def test_another_process_loads_it_without_the_workload(first: Any) -> None:
    script = """
import os, sys
before = dict(os.environ)
import search
after_import = dict(os.environ)
result = search.load("first", storage=sys.argv[1])
print(result.trials.drop(columns="run_id").to_json(), result.code)
assert "ray" not in sys.modules
assert dict(os.environ) == after_import
try:
    result.best.model()
except search.SearchError as error:
    assert "workload=" in str(error), error
else:
    raise SystemExit("no error")
"""
    command = [sys.executable, "-c", script, str(first.path.parents[1])]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    text, code = ended.stdout.rsplit(maxsplit=1)
    assert (text, code) == (first.trials.drop(columns="run_id").to_json(), "0")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_carried_workload_gives_its_model_figures_and_validation_events(tmp_path: Path) -> None:
    import torch

    result = search.run(
        "pt-energy", storage=tmp_path, trials=1, presets="none", epochs=2, scheduler="none", set={"width": 8}
    )
    assert result.code == 0, result
    network = result.best.model()
    assert sum(one.numel() for one in network.parameters()) > 0
    inputs_N = torch.zeros(3, network.hidden[0].in_features)
    assert network(inputs_N).shape == (3,)
    assert len(result.validation) > 100
    figures = result.figures
    assert any(name.startswith("comparison/") for name in figures)
    assert any("/" not in name for name in figures)
    assert all(one.png.startswith(b"\x89PNG") for one in figures.values())


@pytest.mark.slow
def test_a_search_in_a_bucket_is_loaded_from_there(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bucket import USER

    for name, value in USER.items():
        monkeypatch.setenv(name, value)
    url, flags = bucket.url("far"), ["--trials", "1", "--presets", "none", "--epochs", "2", "--name", "far"]
    command = [sys.executable, "tests/alone.py", "tiny", "--storage", url, "--tracking-uri", "journal", *flags]
    here, there = {"SEARCH_WORK": str(tmp_path / "there")}, tmp_path / "here"
    subprocess.run(command, cwd=ROOT, env=os.environ | here, check=True, timeout=300, stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SEARCH_WORK", str(there))
    found = search.load("far", make_tiny(), storage=url, tracking_uri="journal")
    assert list(found.trials["outcome"]) == ["complete"]
    assert found.curves().iloc[-1, 0] == found.best.value
    assert float(found.best.weights()["x"]) == pytest.approx(found.best.hyperparameters["x"])


# ---------------------------------------------------------------- chains and promotions


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_chain_gives_its_searches_and_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with registered(make_tiny()), registered(make_top()):
        result = search.run(make_chain(), storage=tmp_path, name="links", **SHORT)
        assert (result.code, result.interrupted) == (0, False)
        assert {name: run.name for name, run in result.searches.items()} == {"tiny": "links.tiny", "top": "links.top"}
        assert {"below", "best tiny", "best top"} <= set(result.table.index)
        assert result.table.loc["best top", "loss"] == result.searches["top"].best.value
        monkeypatch.setitem(CHAINS, "both", make_chain())
        assert search.load("links", storage=tmp_path).table.equals(result.table)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_promotion_gives_its_verdict_table_and_version(tmp_path: Path) -> None:
    import evaluations
    import promotable
    import ray

    for module in (evaluations, promotable):
        ray.cloudpickle.register_pickle_by_value(module)
    workload = make_promotable(good={"x": 0.3, "y": 0.0})
    search.run(workload, storage=tmp_path, name="source", trials=0, epochs=2)
    done = search.promote(workload, search="source", top=1, seeds=2, storage=tmp_path)
    assert (done.promoted, done.version, done.code, done.interrupted) == (True, 1, 0, False)
    assert done.verdict.passed
    assert done.candidate.startswith("good.")
    assert {"good", "guess", "plain"} <= {label.partition(" ")[0] for label in done.table["model"]}
    assert done.table.set_index("model").loc["guess", "loss"] > 1
    again = search.promote(workload, search="source", top=1, seeds=2, storage=tmp_path)
    assert (again.promoted, again.version) == (True, 1)


# ---------------------------------------------------------------- the caller's process


def state_of_process() -> dict[str, Any]:
    import mlflow
    import torch

    loggers = [logging.root, *(one for one in logging.root.manager.loggerDict.values())]
    return {
        "environment": dict(os.environ),
        "filters": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "signals": {number: signal.getsignal(number) for number in signal.Signals},
        "threads": torch.get_num_threads(),
        "loggers": {
            one.name: (one.level, list(one.handlers), one.propagate)
            for one in loggers
            if isinstance(one, logging.Logger)
        },
        "mlflow": (mlflow.get_tracking_uri(), mlflow.get_registry_uri()),
        "active run": getattr(mlflow.active_run(), "info", None) and mlflow.active_run().info.run_id,
        "cwd": Path.cwd(),
    }


@pytest.fixture
def callers_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An experiment of the notebook itself, with an active run."""
    import mlflow

    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(name, "")  # so that what is set below is undone
    uri = f"sqlite:///{tmp_path}/own.db"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(f"sqlite:///{tmp_path}/registry.db")
    mlflow.set_experiment("notebook")
    with mlflow.start_run() as run:
        yield mlflow, uri, run
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_two_searches_keep_their_servers_and_the_callers(tmp_path: Path, callers_mlflow: Any) -> None:
    mlflow, uri, run = callers_mlflow
    logging.captureWarnings(True)
    try:
        before = state_of_process()
        found = []
        for name in ("one", "two"):
            server = f"sqlite:///{tmp_path}/{name}.db"
            result = search.run(make_tiny(), storage=tmp_path / name, name=name, tracking_uri=server, **SHORT)
            client = mlflow.MlflowClient(server)
            assert client.get_run(result.run_id).info.run_name == name
            assert all(client.get_run(one).info.status == "FINISHED" for one in result.trials["run_id"])
            found.append(result.run_id)
        after = state_of_process()
    finally:
        logging.captureWarnings(False)
    for part, value in before.items():
        if part == "loggers":
            after["loggers"] = {name: after["loggers"][name] for name in value}
        assert after[part] == value, part
    assert (mlflow.get_tracking_uri(), mlflow.active_run().info.run_id) == (uri, run.info.run_id)
    mlflow.log_metric("mine", 1.0)
    own = mlflow.MlflowClient(uri)
    names = {one.name for one in own.search_experiments()}
    assert "tiny" not in names, "the caller's server has nothing of the searches"
    with pytest.raises(mlflow.MlflowException):
        mlflow.MlflowClient(f"sqlite:///{tmp_path}/two.db").get_run(found[0])


@pytest.mark.slow
def test_a_fresh_process_is_left_as_it_was_by_two_searches(tmp_path: Path) -> None:
    """Its own Ray, libraries that only the search imports; what they need in the environment is there both times."""
    script = """
import logging, os, signal, sys, warnings
from pathlib import Path
sys.path.insert(0, "tests")
import search

def state():
    return (dict(os.environ), warnings.filters[:], list(logging.root.handlers),
            [signal.getsignal(one) for one in signal.Signals])

before, seen = state(), []
from tiny import TinyData, make_tiny
from dataclasses import replace
import cloudpickle

def load_data(*_):
    import ray, tiny
    ray.cloudpickle.register_pickle_by_value(tiny)
    seen.append({name for name in os.environ if name.startswith(("TUNE_", "MLFLOW_"))})
    return TinyData()

workload = replace(make_tiny(), load_data=load_data)
before = state()
for name in ("one", "two"):
    result = search.run(workload, storage=sys.argv[1], name=name, trials=1, epochs=1)
    assert result.code == 0, result
    import ray
    assert not ray.is_initialized()
for one, other in zip(before, state()):
    assert one == other, (one, other)
assert seen[0] == seen[1] and "TUNE_DISABLE_SIGINT_HANDLER" in seen[0], seen
assert logging.getLogger("mlflow").level != logging.WARNING
import matplotlib
assert matplotlib.rcParams._get_backend_or_none() is None
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


# ---------------------------------------------------------------- interrupts and threads


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


SLOW: dict[str, Any] = {"trials": 1, "epochs": 200, "scheduler": "none", "set": {"epoch_seconds": 0.1}}


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_the_stop_button_ends_a_search_in_good_order_and_a_resume_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop() -> None:
        wait_for(lambda: list(tmp_path.glob("searches/cut/*/checkpoint_000003")))
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    threading.Thread(target=stop).start()
    result = search.run(make_tiny(), storage=tmp_path, name="cut", **SLOW)
    assert (result.interrupted, result.code, result.state) == (True, 130, "interrupted")
    assert list(result.trials["outcome"]) == ["interrupted"]
    assert signal.getsignal(signal.SIGINT) == before
    assert "Go on with:\nsearch.run(tiny" in capsys.readouterr().out
    reached = len(result.curves())
    assert 3 <= reached < 200
    done = search.run(make_tiny(), storage=tmp_path, name="cut", resume="yes", **SLOW)
    assert (done.interrupted, done.code) == (False, 0)
    assert list(done.curves().index) == list(range(1, 201))
    went_on_at = set(done.curves("resumed_at").iloc[:, 0])
    assert went_on_at <= {0, reached, reached - 1}
    assert len(went_on_at) == 2


def test_a_first_interrupt_that_is_raised_in_the_middle_ends_the_trials_in_good_order_a_second_one_at_once() -> None:
    controller = StopController(None)
    with controller.resumable():
        raise KeyboardInterrupt
    assert controller.reason == "interrupted"
    with pytest.raises(KeyboardInterrupt), controller.resumable():
        raise KeyboardInterrupt
    with pytest.raises(OSError, match="full"), StopController(None).resumable():
        raise OSError("full")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_search_runs_in_a_thread_alone_is_seen_by_others_and_ends_on_request(tmp_path: Path) -> None:
    found: list[Any] = []
    thread = threading.Thread(
        target=lambda: found.append(search.run(make_tiny(), storage=tmp_path, name="aside", **SLOW))
    )
    thread.start()
    wait_for(lambda: list(tmp_path.glob("searches/aside/*/checkpoint_000003")))
    with pytest.raises(SearchError, match="in another thread"):
        search.run(make_tiny(), storage=tmp_path, name="other")
    now = search.load("aside", make_tiny(), storage=tmp_path)
    assert (now.state, now.code, list(now.trials["outcome"])) == ("running", None, ["running"])
    assert len(now.curves()) >= 3
    with pytest.raises(SearchError, match="no best"):
        _ = now.best
    assert search.interrupt()
    thread.join(60)
    assert [one.interrupted for one in found] == [True]
    assert not search.interrupt()


# ---------------------------------------------------------------- notebooks


class Kernel:
    """What rich and our console know a notebook by."""

    kernel = object()


Kernel.__name__ = "ZMQInteractiveShell"


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Tables that were shown below the cell."""
    from types import ModuleType, SimpleNamespace

    shown: list[Any] = []
    shell, display = ModuleType("IPython"), ModuleType("IPython.display")
    shell.get_ipython = Kernel  # type: ignore[attr-defined]
    display.display = lambda table, display_id: (shown.append(table), SimpleNamespace(update=shown.append))[1]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(builtins, "get_ipython", Kernel, raising=False)
    return shown


def test_in_a_notebook_lines_are_printed_once_and_logged(
    notebook: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)  # as the stream of a kernel says
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = open_console()
    console.log_file.open(tmp_path / "search.log", "python")
    console.print("a line", style="red")
    assert capsys.readouterr().out == "a line\n"
    assert (tmp_path / "search.log").read_text().endswith("a line\n")
    assert not console.is_terminal
    assert notebook == []


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_in_a_notebook_one_table_below_the_cell_shows_the_progress(notebook: list[Any], tmp_path: Path) -> None:
    result = search.run(make_tiny(), storage=tmp_path, name="cell", **SHORT)
    assert result.code == 0
    assert len(notebook) >= 3
    assert "2 of 2 done" in str(notebook[-1].caption)


def test_searches_leave_the_catalogue_as_it_was(tmp_path: Path) -> None:
    before = list(WORKLOADS)
    with pytest.raises(UsageError):
        search.run(make_tiny(), storage=tmp_path, objective="lost")
    assert list(WORKLOADS) == before
